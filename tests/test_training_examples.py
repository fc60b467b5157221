"""Reading what training needs: bad files are left out and said, data that do not fit together are refused."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile

from conftest import disc_dataset
from ushape.data.dataset import Dataset, Sample, Spacing
from ushape.errors import DataError
from ushape.training.examples import make_preparation, read_examples, summarise, usual_spacing
from ushape.training.planning import make_plan
from ushape.training.rules import class_weights, plan_recipe


def sample(name, image, mask):
    return Sample(name, lambda: image, lambda: mask)


def grey(*size):
    return np.zeros((1, *size), np.uint8)


def colour(*size):
    return np.random.default_rng(0).integers(0, 255, (3, *size)).astype(np.uint8)


def one_object(*size):
    mask = np.zeros(size, np.int32)
    mask[tuple(slice(1, 4) for _ in size)] = 1
    return mask


def dataset_of(*pairs, task="instances"):
    samples = tuple(sample(f"s{i}", image, mask) for i, (image, mask) in enumerate(pairs))
    return Dataset("data", samples, task, ("background", "object"))


def summary_of(*pairs, **options):
    dataset = dataset_of(*pairs, **options)
    return summarise(dataset, read_examples(dataset.samples)[0])


def test_a_sample_that_cannot_be_used_is_left_out_and_said():
    data = dataset_of((grey(9, 9), one_object(9, 9)), (grey(9, 9), one_object(9, 8)))
    examples, problems = read_examples(data.samples)
    assert [example.sample.name for example in examples] == ["s0"]
    assert problems == [
        "s1: expected a mask of the image's size 9 x 9, found 9 x 8; export the mask again at full size (left out)"
    ]


def test_grey_stored_as_colour_is_grey_and_one_colour_image_makes_all_colour():
    grey_as_colour = np.repeat(colour(9, 9)[:1], 3, axis=0)
    assert summary_of((grey_as_colour, one_object(9, 9))).channels == 1
    assert summary_of((grey_as_colour, one_object(9, 9)), (colour(9, 9), one_object(9, 9))).channels == 3
    assert summary_of((grey(9, 9), one_object(9, 9)), (colour(9, 9), one_object(9, 9))).channels == 3


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], r"^data: expected annotated images to train on, found none that could be used; add masks$"),
        (
            [(grey(9, 9), one_object(9, 9)), (grey(5, 9, 9), one_object(5, 9, 9))],
            r"^data: expected only images or only volumes, found both",
        ),
        (
            [(colour(9, 9), one_object(9, 9)), (np.concatenate([colour(9, 9)] * 2), one_object(9, 9))],
            r"^data: expected images with the same number of channels, found 3 and 6 \(s0 unlike the others\); put",
        ),
        ([(grey(9, 9), 0 * one_object(9, 9))], r"^data: expected something annotated in the masks, found only backg"),
    ],
)
def test_data_that_cannot_be_trained_on_together(pairs, message):
    with pytest.raises(DataError, match=message):
        summary_of(*pairs)


def test_the_statistics_are_those_of_all_pixels_together():
    data = disc_dataset(3)
    examples, _ = read_examples(data.samples)
    summary = summarise(data, examples)
    recipe = replace(plan_recipe(summary), normalisation="dataset")
    preparation = make_preparation(recipe, summary, examples)
    pixels = np.concatenate([example.image.ravel() for example in examples])
    assert preparation.mean == pytest.approx((pixels.mean(),))
    assert preparation.std == pytest.approx((pixels.std(),))


def test_the_values_of_classes_come_from_the_data_and_go_with_the_numbering():
    data = dataset_of((grey(64, 64), one_object(64, 64)), task="semantic")
    data = replace(data, classes=("background", "a", "b"), values=(0, 128, 255))
    assert summarise(data, read_examples(data.samples)[0]).values == (0, 128, 255)
    assert data.with_classes(("background", "a", "b")).values == (0, 128, 255)
    assert data.with_classes(("background", "b", "a")).values == ()


def test_validation_data_of_another_kind_are_refused():
    with pytest.raises(DataError, match=r"^other: expected validation data for instances like the training data, f"):
        make_plan(disc_dataset(3), validation=replace(disc_dataset(2), name="other", task="semantic"))


def test_a_held_out_file_that_cannot_be_used_does_not_stop_training():
    data = disc_dataset(5)
    held = {e.sample.name for e in make_plan(data).validation}
    bad = tuple(replace(s, mask=lambda: np.zeros((3, 3), np.int32)) if s.name in held else s for s in data.samples)
    planned = make_plan(replace(data, samples=bad))
    assert len(planned.training) + len(planned.validation) == 5 - len(held)
    assert planned.validation
    assert len(planned.problems) == len(held)


def test_a_held_out_image_with_other_channels_is_left_out_and_said():
    data = disc_dataset(2, seed=50)
    colourful = replace(data.samples[0], image=lambda: colour(64, 64))
    planned = make_plan(disc_dataset(3), validation=replace(data, samples=(colourful, data.samples[1])))
    assert len(planned.validation) == 1
    assert planned.problems[0].startswith("disc50: expected an image with 1 channel")


def test_the_share_held_out_is_the_recipes():
    planned = make_plan(disc_dataset(10), settings=["validation=0.5"])
    assert len(planned.validation) == 5


def semantic(*masks, spacings=None):
    """A data set of three classes with these masks."""
    spacings = spacings or [None] * len(masks)
    samples = tuple(
        Sample(str(i), lambda m=mask: np.zeros((1, *m.shape), np.uint8), lambda m=mask: m, spacing=spacing)
        for i, (mask, spacing) in enumerate(zip(masks, spacings, strict=True))
    )
    return Dataset("three", samples, "semantic", ("background", "cell", "nucleus"))


def test_shares_of_classes_are_of_the_labelled_pixels():
    data = semantic(np.array([[0, 0, 1, -1]]), np.array([[0, 2, 1, -1]]))
    summary = summarise(data, read_examples(data.samples)[0])
    assert summary.shares == pytest.approx((3 / 6, 2 / 6, 1 / 6))
    assert summarise(disc_dataset(2), read_examples(disc_dataset(2).samples)[0]).shares == ()


def test_rare_classes_weigh_more_and_the_mean_weight_stays_1():
    shares = (0.9, 0.09, 0.01)
    weights = class_weights(shares, 0.5)
    assert sum(s * w for s, w in zip(shares, weights, strict=True)) == pytest.approx(1, abs=1e-3)
    assert weights[2] / weights[1] == pytest.approx(3, rel=1e-3)
    assert class_weights((0.9, 0.05, 0.05), 0.5) == ()
    assert class_weights((0.99, 0.01, 0.0), 0.5)[2] == 1


def test_the_plan_says_which_class_is_rare():
    masks = [np.zeros((64, 64), np.int32) for _ in range(3)]
    for mask in masks:
        mask[:16], mask[30, 30:34] = 1, 2
    recipe = make_plan(semantic(*masks)).recipe
    assert recipe.encoding.class_weights[2] > recipe.encoding.class_weights[1] > recipe.encoding.class_weights[0]
    assert any("; rare ones weigh more (nucleus, 0.0977 % of the pixels, " in reason for reason in recipe.reasons)


def test_the_papers_classes_weigh_the_same_together():
    masks = [np.zeros((64, 64), np.int32) for _ in range(3)]
    for mask in masks:
        mask[:16], mask[32:48] = 1, 2
    weights = make_plan(semantic(*masks), recipe="paper").recipe.encoding.class_weights
    assert [w * s for w, s in zip(weights, (0.5, 0.25, 0.25), strict=True)] == pytest.approx([1 / 3] * 3)


def test_the_usual_spacing_is_the_middle_one():
    mask = np.array([[0, 1]])
    spacings = [Spacing((2, 2)), None, Spacing((0.5, 0.5)), Spacing((1, 1))]
    data = semantic(mask, mask, mask, mask, spacings=spacings)
    assert summarise(data, read_examples(data.samples)[0]).spacing == Spacing((1, 1))
    assert summarise(semantic(mask), read_examples(semantic(mask).samples)[0]).spacing is None


def test_the_files_tell_the_spacing_where_the_data_set_does_not(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((4, 4), np.uint8), metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25})
    mask = np.zeros((4, 4), np.int32)
    sample = Sample("a", lambda: np.zeros((1, 4, 4), np.uint8), lambda: mask, files=(path,))
    assert usual_spacing([sample], 2) == Spacing((0.25, 0.5))
    assert usual_spacing([sample], 3) is None
    assert usual_spacing([replace(sample, spacing=Spacing((3, 2, 2), "nm"))], 2) == Spacing((2, 2), "nm")


def test_the_files_tell_the_spacing_where_the_data_set_tells_no_depth(tmp_path):
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    stack = np.zeros((9, 4, 4), np.uint8)
    tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "ZYX", **sizes})
    sample = Sample("a", lambda: np.zeros((1, 9, 4, 4), np.uint8), files=(path,), spacing=Spacing((0.4, 0.4)))
    assert usual_spacing([sample], 3) == Spacing((2.0, 0.5, 0.5))
    assert usual_spacing([sample], 2) == Spacing((0.4, 0.4))


def test_masks_of_one_class_only_teach_nothing():
    ones = np.ones((8, 8), np.int32)
    data = semantic(ones, ones)
    with pytest.raises(
        DataError, match=r"^three: expected at least 2 classes in the masks, found one and the same in e"
    ):
        summarise(data, read_examples(data.samples)[0])
