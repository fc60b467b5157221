from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from conftest import disc_dataset, disc_image
from ushape.data.dataset import Sample
from ushape.errors import DataError
from ushape.preparation import Preparation
from ushape.training.examples import Example, read_examples
from ushape.training.holdout import cut_image, hold_out, representative_window
from ushape.training.planning import make_plan
from ushape.training.rules import ONE_IMAGE, fewer_levels


def example(mask: np.ndarray) -> Example:
    image = np.arange(mask.size, dtype=np.float32).reshape(1, *mask.shape)
    return Example(Sample("a", lambda: image, lambda: mask), image, mask)


def test_a_single_image_is_cut_along_its_longest_side_behind_a_gap():
    mask = np.ones((4, 16), np.int32)
    training, validation, sentence = cut_image(example(mask), margin=3)
    assert training.image.shape == (1, 4, 12)
    assert validation.image.shape == (1, 4, 4)
    assert (validation.image == example(mask).image[..., 12:]).all()
    assert (training.mask == np.array([1] * 9 + [-1] * 3)).all()
    assert (validation.mask == 1).all()
    assert sentence == (
        "One annotated image: the last quarter of its width is held out to choose weights and thresholds by, behind a "
        "gap of 3 px; a second image would serve better."
    )


def test_the_gap_takes_no_more_than_a_quarter():
    training, _, sentence = cut_image(example(np.ones((16, 4), np.int32)), margin=94)
    assert (training.mask[:8] == 1).all()
    assert (training.mask[8:] == -1).all()
    assert "its height" in sentence
    assert "a gap of 4 px" in sentence


@pytest.mark.parametrize(
    ("annotated", "side"), [((0, 12), "first quarter of its width"), ((0, 1), "first quarter of its width")]
)
def test_the_end_is_held_out_where_both_parts_have_objects(annotated, side):
    mask = np.zeros((8, 16), np.int32)
    mask[:, slice(*annotated)] = 5
    # Without background in the quarter, all of it as object would be right there: it is not the one at the front.
    mask[0, 0] = 0
    if annotated == (0, 1):
        mask[:, 15] = 3
    training, validation, sentence = cut_image(example(mask), margin=2)
    assert (training.mask > 0).any()
    assert (validation.mask > 0).any()
    assert (side in sentence) == (annotated == (0, 12))


def test_both_parts_have_the_background_where_it_was_drawn_on_one_side():
    mask = np.full((16, 24), -1, np.int32)
    mask[2::4, 2:22] = 1
    mask[3::10, 18:22] = 0  # strokes of background on the right alone
    training, validation, sentence = cut_image(example(mask), margin=1)
    for part in (training, validation):
        assert {0, 1} <= set(np.unique(part.mask).tolist())
    assert "last quarter of its height" in sentence


def test_a_quarter_with_every_class_is_preferred():
    mask = np.zeros((8, 32), np.int32)
    mask[2:4, 1:31:3] = 1
    mask[5:7, 1:20:3] = 2
    _, validation, sentence = cut_image(example(mask), 1, n_classes=3)
    assert "first quarter of its width" in sentence
    assert set(np.unique(validation.mask).tolist()) == {0, 1, 2}
    # What objects are called makes no difference.
    assert "last quarter of its width" in cut_image(example(mask), 1)[2]


def test_another_axis_is_tried_before_giving_up():
    mask = np.zeros((8, 16), np.int32)
    mask[0, 6], mask[7, 6] = 1, 2
    _, validation, sentence = cut_image(example(mask), margin=2)
    assert "quarter of its height" in sentence
    assert validation.mask.shape == (2, 16)


def test_an_image_with_one_object_in_a_corner_cannot_be_cut():
    mask = np.zeros((16, 16), np.int32)
    mask[8, 8] = 1
    with pytest.raises(DataError, match=r"^a: expected an image with objects both in a quarter of it and in the rest"):
        cut_image(example(mask), margin=2)


def test_no_pixel_that_is_learnt_from_sees_into_the_quarter():
    image, mask = disc_image(0, size=256)
    mask = np.tile(disc_image(0)[1], (4, 4))
    plan = make_plan(disc_dataset(2))
    margin = plan.recipe.geometry.margin
    whole = Example(Sample("a", lambda: image, lambda: mask), image, mask)
    training, _, _ = cut_image(whole, min(margin, 64))
    labelled = np.flatnonzero((training.mask >= 0).any(axis=1))
    assert labelled.max() + min(margin, 64) < 192


def test_several_images_are_held_out_whole():
    data = disc_dataset(3)
    examples, _ = read_examples(data.samples)
    training, validation, sentence = hold_out(data, examples, share=0.2, margin=100)
    assert [e.sample.name for e in training] == ["disc0", "disc1"]
    assert [e.sample.name for e in validation] == ["disc2"]
    assert sentence == ""


def test_the_plan_says_that_one_image_was_cut():
    planned = make_plan(disc_dataset(1))
    assert len(planned.training) == len(planned.validation) == 1
    assert planned.findings[-1].startswith("One annotated image: ")
    assert planned.training[0].image.shape[1:] != planned.validation[0].image.shape[1:]


def test_one_image_gets_a_network_whose_margin_leaves_enough_of_it():
    assert [fewer_levels(5, 1, side) for side in (100, 300, 600)] == [3, 4, 5]
    recipe = make_plan(disc_dataset(1)).recipe
    assert recipe.network.depth == 3
    assert replace(recipe.augmentation, elastic=ONE_IMAGE.elastic) == ONE_IMAGE
    assert any(reason.startswith("one annotated image: 3 levels") for reason in recipe.reasons)
    assert make_plan(disc_dataset(2)).recipe.network.depth == 5


def filled(*kept):
    """Discs, of which only the images with these numbers keep their mask; the others are background."""
    data = disc_dataset(6)
    samples = tuple(
        s if i in kept else replace(s, mask=lambda: np.zeros((64, 64), np.int32)) for i, s in enumerate(data.samples)
    )
    return replace(data, samples=samples)


@pytest.mark.parametrize("kept", [(2, 5), (0, 2), (1, 2, 3)])
def test_both_parts_have_something_to_find_wherever_it_lies(kept):
    planned = make_plan(filled(*kept))
    for part in (planned.training, planned.validation):
        assert any((example.mask > 0).any() for example in part)
    assert len(planned.training) + len(planned.validation) == 6


@pytest.mark.parametrize("rare", [(2,), (7,), (2, 7), (2, 3)])
def test_a_class_that_few_images_have_is_learnt(rare):
    def masks(i):
        mask = np.zeros((64, 64), np.int32)
        mask[:20, :20], mask[40:50, 40:50] = 1, 2 * (i in rare)
        return mask

    data = disc_dataset(10)
    samples = tuple(replace(s, mask=partial(masks, i)) for i, s in enumerate(data.samples))
    data = replace(data, samples=samples, task="semantic", classes=("background", "organ", "tumour"))
    training, validation, _ = hold_out(data, read_examples(data.samples)[0], share=0.2, margin=10)
    assert any((e.mask == 2).any() for e in training)
    assert len(training) + len(validation) == 10
    assert validation


def test_the_only_image_with_objects_is_cut_and_the_empty_ones_are_trained_on():
    planned = make_plan(filled(2))
    assert len(planned.training) == 6
    assert [e.sample.name for e in planned.validation] == ["disc2, held out"]


def test_one_image_among_empty_ones_is_planned_for_as_one_image():
    recipe, full = make_plan(filled(2)).recipe, make_plan(filled(2, 3)).recipe
    assert (recipe.network.depth, full.network.depth) == (3, 5)
    assert (recipe.augmentation.zoom, full.augmentation.zoom) == (1.5, 1.25)


def test_a_window_is_as_large_as_asked_and_like_the_whole():
    mask = np.zeros((400, 1000), np.int32)
    mask[:, 500:750:2] = 1
    mask[:, 750:] = 1
    whole, prepare = example(mask), Preparation()
    assert representative_window(whole, mask.size, prepare) is whole
    part = representative_window(whole, 200 * 400, prepare)
    assert part.mask.shape == part.image.shape[1:]
    assert part.mask.size <= 200 * 400 < 1.02 * part.mask.size
    # 37.5 % of all is foreground; the most of it, or none, would be as easy to find.
    assert (part.mask > 0).mean() == pytest.approx(0.375, abs=0.13)
    # Long sides first: a stack keeps its slices.
    stack = example(np.ones((8, 300, 300), np.int32))
    assert representative_window(stack, 8 * 100 * 100, Preparation(dims=3)).mask.shape == (8, 100, 100)


def test_a_window_holds_something_to_find_wherever_it_lies():
    mask = np.full((4000, 4000), -1, np.int32)
    mask[2000:2800, 200:1000] = 0
    mask[2310:2340, 510:540] = 3
    part = representative_window(example(mask), 100 * 100, Preparation())
    assert (part.mask == 3).any()


def test_a_window_is_prepared_as_a_part_of_the_whole():
    image, mask = (np.tile(each, (4, 5)) for each in disc_image(0))
    image = image * np.linspace(1, 3, image.shape[2])
    whole = Example(Sample("a", lambda: image, lambda: mask), image, mask)
    prepare = Preparation()
    part = representative_window(whole, 100 * 100, prepare)
    assert part.prepared is not None
    assert part.prepared.shape == part.image.shape
    # One linear map for the whole image, and not that of the part alone.
    low, high = part.image.min(), part.image.max()
    scale = (part.prepared.max() - part.prepared.min()) / (high - low)
    assert scale == pytest.approx(1 / image.std(), rel=1e-3)
    assert abs(float(part.prepared.mean())) > 0.1 > abs(float(prepare(part.image).mean()))


def test_validation_data_that_were_trained_on_are_told():
    data = disc_dataset(4)
    concerns = make_plan(data, validation=data.subset(data.samples[2:])).concerns
    assert any("the validation data hold 2 of the training images" in concern for concern in concerns)
    assert not any("validation data hold" in concern for concern in make_plan(data).concerns)


def test_the_parts_of_a_single_image_are_prepared_as_parts_of_the_whole():
    mask = np.ones((4, 16), np.int32)
    whole = Preparation()(example(mask).image)
    training, validation, _ = cut_image(example(mask), margin=3)
    assert (training.prepare(Preparation()) == whole[..., :12]).all()
    assert (validation.prepare(Preparation()) == whole[..., 12:]).all()
    window = representative_window(validation, 4, Preparation())
    image = example(mask).image
    np.testing.assert_allclose(window.prepare(Preparation()), (window.image - image.mean()) / image.std(), atol=1e-6)


def test_a_window_does_not_keep_the_large_image_in_memory():
    _, quarter, _ = cut_image(example(np.ones((64, 64), np.int32)), margin=3)
    window = representative_window(quarter, 256, Preparation())
    assert window.whole is None
    assert all(array.base is None for array in (window.image, window.mask, window.prepared))


@pytest.mark.parametrize("colour", range(5))
def test_colours_are_known_wherever_the_colour_image_falls(colour):
    data = disc_dataset(5)
    coloured = [
        replace(sample, image=lambda read=sample.image: np.stack([read()[0], read()[0] // 2, read()[0] // 3]))
        if index == colour
        else sample
        for index, sample in enumerate(data.samples)
    ]
    planned = make_plan(data.subset(coloured))
    assert planned.summary.channels == 3
    assert len(planned.validation) == 1
    assert len(planned.whole) == 5
