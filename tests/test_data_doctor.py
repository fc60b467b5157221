"""The data doctor: drawn data with one thing wrong each, and healthy data about which it has nothing to say."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from ushape.data.catalog import open_dataset
from ushape.data.dataset import Dataset, Sample
from ushape.data.doctor import Finding, examine, inspect_arrays, inspect_sample, judge
from ushape.data.doctor_facts import _annotation, _count
from ushape.data.doctor_findings import told
from ushape.data.doctor_masks import WIDEST_VIEW
from ushape.data.images import write_image, write_labels
from ushape.data.phantom import phantom_dataset
from ushape.errors import DataError
from ushape.training.rules import LARGEST_SCALE

SIZE = (48, 48)


def noise(seed=0, size=SIZE, channels=1, dtype=np.uint8, high=200):
    return np.random.default_rng(seed).integers(20, high, (channels, *size)).astype(dtype)


def blobs(ids=(1, 2, 3), size=SIZE, side=9):
    """Squares of these ids in a row, 3 px apart."""
    mask = np.zeros(size, np.int32)
    for place, number in enumerate(ids):
        mask[5 : 5 + side, 2 + place * (side + 3) : 2 + place * (side + 3) + side] = number
    return mask


def reader(array):
    def read():
        if isinstance(array, Exception):
            raise array
        return array

    return read


def made(images, masks, task="instances", classes=("background", "object"), groups=(), **more):
    """A dataset of arrays; samples are called a, b, c, ..."""
    samples = [
        Sample(
            name="abcdefghijklmnopqrstuvwxyz"[i],
            image=reader(image),
            mask=None if mask is None else reader(mask),
            group=groups[i] if groups else "",
        )
        for i, (image, mask) in enumerate(zip(images, masks, strict=True))
    ]
    return Dataset("cells", tuple(samples), task, classes, **more)


def healthy(n=6, **changed):
    """n images with three objects each, and what is to be another than that."""
    images = [changed.get(f"image{i}", noise(i)) for i in range(n)]
    masks = [changed.get(f"mask{i}", blobs()) for i in range(n)]
    return made(images, masks)


def semantic(masks, classes=("background", "foreground"), **more):
    return made([noise(i, np.shape(mask)) for i, mask in enumerate(masks)], masks, "semantic", classes, **more)


def labelled(images, labels, classes=("cat", "dog")):
    samples = [
        Sample(f"p{i}", reader(image), label=label) for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    return Dataset("pets", tuple(samples), "classification", classes)


def said(dataset):
    """The findings as ('severity', 'where: sentence; action'), without the note that counts objects."""
    return [(f.severity, str(f)) for f in examine(dataset) if "px across" not in f.sentence or f.severity != "note"]


# What is kept of a mask


@given(arrays.arrays(np.int32, (7, 9), elements=st.sampled_from([-1, 0, 1, 2, 5])))
@settings(max_examples=60, deadline=None)
def test_facts_of_a_mask_are_those_of_counting_by_hand(mask):
    found, _ = _annotation(mask)
    values = sorted(set(mask[mask >= 0].tolist()))
    assert list(found.values) == values
    assert list(found.areas) == [int((mask == v).sum()) for v in values]
    assert found.n_ignored == (mask == -1).sum()
    specks = 0
    for value, n_pieces, spare in zip(found.values, found.n_pieces, found.spares, strict=True):
        pieces, n = ndimage.label(mask == value, np.ones((3, 3)))
        areas = sorted(np.bincount(pieces.ravel())[1:], reverse=True) if value > 0 else []
        assert n_pieces == (n if value > 0 else 0)
        assert spare == (areas[1] if len(areas) > 1 else 0)
        specks += sum(area < 3 for area in areas)
    assert found.n_specks == specks
    touching = set()
    for a, b in [
        *zip(mask[1:].flat, mask[:-1].flat, strict=True),
        *zip(mask[:, 1:].flat, mask[:, :-1].flat, strict=True),
    ]:
        if a != b and a > 0 and b > 0:
            touching |= {a, b}
    assert found.n_touching == len(touching)


def test_huge_ids_cost_no_more_than_small_ones():
    small = np.array([[0, 1, 1], [-1, 2, 2], [3, 3, 0]], np.int32)
    huge = np.where(small > 0, small + 2_000_000_000, small)
    found, places = _annotation(huge)
    expected, expected_places = _annotation(small)
    assert found.values == (0, 2_000_000_001, 2_000_000_002, 2_000_000_003)
    assert (found.areas, found.n_pieces, found.n_ignored) == (expected.areas, expected.n_pieces, 1)
    assert (places == expected_places).all()


def test_a_mask_without_background_counts_its_first_object_too():
    found, _ = _annotation(np.array([[1, 1, 3], [1, 3, 1]], np.int32))
    assert (found.values, found.areas, found.n_pieces, found.n_touching) == ((1, 3), (4, 2), (1, 1), 2)


def test_counting_in_parts_is_counting():
    values = np.random.default_rng(0).integers(-3, 4, 5_000_000).astype(np.int16)
    assert (_count(values, -3, 7) == np.bincount(values.astype(int) + 3)).all()


def test_facts_of_an_image():
    image = np.array([[[5, 7], [255, 255]], [[0, 0], [255, 3]]], np.uint8)
    facts = inspect_arrays(Sample("x", reader(image), group="g", label=1), image, None)
    assert (facts.size, facts.channels, facts.dtype, facts.grey) == ((2, 2), 2, "uint8", False)
    assert (facts.ranges, facts.low, facts.high) == (((5, 255), (0, 255)), 0, 255)
    assert (facts.n_levels, facts.saturated) == (5, 3 / 8)
    assert (facts.group, facts.label, facts.annotated, facts.usable) == ("g", 1, True, True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_levels_are_counted_in_every_type_of_integers(dtype):
    image = np.array([[[3, 3, 9, 100]]], dtype)
    assert inspect_sample(Sample("x", reader(image))).n_levels == 3


@pytest.mark.parametrize("low, high, n_levels", [(-40000, 20000, 3), (-40000, 40000, None), (0, 70000, None)])
def test_levels_of_a_wide_range_are_not_counted(low, high, n_levels):
    image = np.array([[[low, high, high, 7]]], np.int32)
    facts = inspect_sample(Sample("x", reader(image)))
    assert (facts.n_levels, facts.saturated) == (n_levels, 0.5)


def test_levels_high_above_zero_are_counted():
    assert inspect_sample(Sample("x", reader(np.array([[[70000, 70001]]], np.int32)))).n_levels == 2


def test_a_sample_is_read_once():
    read = Counter()

    def image():
        read["image"] += 1
        return noise()

    def mask():
        read["mask"] += 1
        return blobs()

    examine(Dataset("cells", (Sample("a", image, mask),), "instances", ("background", "object")))
    assert read == {"image": 1, "mask": 1}


# How it is said


def test_a_finding_in_words():
    assert str(Finding("note", "a.png", "it is dark", "do it again")) == "a.png: it is dark; do it again"
    assert str(Finding("note", "a.png", "it is dark")) == "a.png: it is dark"


def test_a_few_names_are_told_and_the_rest_counted():
    assert told(["a", "b", "c"]) == "a, b, c"
    assert told(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert told(["x" * 40]) == "x" * 32 + "..."


def test_the_worst_comes_first_and_readers_findings_are_notes():
    dataset = healthy(image0=np.full((1, *SIZE), 7, np.uint8), mask1=np.zeros((9, 9), np.int32))
    dataset = Dataset(**{**vars(dataset), "findings": ("The masks hold ids.",)})
    severities = [f.severity for f in examine(dataset)]
    assert severities == ["error", "warning", "note", "note"]
    assert ("note", "cells: The masks hold ids") in said(dataset)


def test_problems_alike_are_one_finding():
    problems = [f"d/cell_{i}.png: expected an image called cell_{i}, found none; add it" for i in range(5)]
    problems += ["d/x.png: expected a mask called x, found none; kept for prediction", "no colon in this one"]
    dataset = Dataset(**{**vars(healthy()), "problems": tuple(problems)})
    assert said(dataset) == [
        (
            "error",
            "cell_0.png, cell_1.png, cell_2.png and 2 more: expected an image called cell_0, found none (the first; "
            "the others alike); add it",
        ),
        ("error", "cells: no colon in this one; left out"),
        ("warning", "d/x.png: expected a mask called x, found none; kept for prediction"),
    ]


def test_one_problem_of_many_files_is_told_once():
    problems = tuple(f"{name}.png: expected a picture, found text; save it again" for name in "abcd")
    dataset = Dataset(**{**vars(healthy()), "problems": problems})
    assert said(dataset) == [("error", "a.png, b.png, c.png and 1 more: expected a picture, found text; save it again")]


def test_the_file_is_named_with_the_page_where_it_holds_several(tmp_path):
    file = tmp_path / "stack.tif"
    sample = Sample("other_3", reader(noise()), files=(file, tmp_path / "other_3.tif"))
    assert inspect_sample(sample).where == f"{file} (other_3)"
    assert inspect_sample(Sample("stack", reader(noise()), files=(file,))).where == str(file)


# Healthy data


def test_nothing_to_say_about_healthy_objects():
    assert said(healthy()) == []
    assert [str(f) for f in examine(healthy())] == [
        "cells: 18 objects in 6 images, about 10 px across (nine in ten 10 to 10 px); none touches another"
    ]


def test_touching_objects_are_counted():
    mask = blobs()
    mask[5:14, 11:14] = 1  # the gap between 1 and 2
    (finding,) = examine(made([noise(i) for i in range(5)], [mask] * 5))
    assert finding.sentence.endswith("; 67% touch another")


def test_nothing_to_say_about_healthy_classes():
    masks = [np.maximum(np.roll(blobs(ids=(1, 2)), i, 0), 0) for i in range(6)]
    assert said(semantic(masks, ("background", "nucleus", "cell"))) == []


def test_nothing_to_say_about_healthy_labels():
    assert said(labelled([noise(i) for i in range(6)], [0, 1, 0, 1, 0, 1])) == []


def test_no_warning_about_the_phantom():
    findings = examine(phantom_dataset(6))
    assert {f.severity for f in findings} == {"note"}
    assert len(findings) == 2


@pytest.mark.parametrize("name", ["isbi2012:train", "dic-hela:01", "phc-u373:01"])
def test_no_warning_about_real_data(real_data, name):
    dataset = open_dataset(name)
    assert [str(f) for f in examine(dataset.subset(dataset.samples[::4])) if f.severity != "note"] == []


def test_real_nuclei_of_many_kinds_are_understood(real_data):
    dataset = open_dataset("dsb2018")
    findings = examine(dataset.subset([s for s in dataset.samples if len(s.files) < 40][::8]))
    assert {f.severity for f in findings} == {"note"}
    assert any("grey and " in f.sentence and "colour images" in f.sentence for f in findings)


# What cannot be used


def test_a_mask_of_another_size_is_left_out():
    assert said(healthy(mask2=np.zeros((20, 30), np.int32))) == [
        (
            "error",
            "c: the mask has another size than the image (image 48 x 48 px, mask 20 x 30 px); left out; export the "
            "mask again at the image's size",
        )
    ]


def test_a_mask_of_another_size_is_not_compared_with_the_image():
    facts = inspect_sample(Sample("x", reader((noise() > 100).astype(np.uint8)), reader(np.eye(3, dtype=np.int32))))
    assert (facts.same_size, facts.usable, facts.copy) == (False, False, False)


def test_several_masks_of_another_size_are_one_finding():
    ((severity, text),) = said(healthy(n=9, **{f"mask{i}": np.ones((20, 30), np.int32) for i in range(4)}))
    assert severity == "error"
    assert text.startswith("a, b, c and 1 more: the mask has another size than the image (a: image 48 x 48 px, mask 20")


def test_invalid_values_are_counted_and_left_out():
    image = noise(dtype=np.float32)
    image[0, 0, :3] = np.nan, np.inf, -np.inf
    others = {f"image{i}": noise(i, dtype=np.float32) for i in range(1, 6)}
    assert said(healthy(image0=image, **others)) == [
        (
            "error",
            "a: expected finite pixel values, found NaN or infinite ones (3 of them); left out; replace them (for "
            "example with numpy.nan_to_num) to use the image",
        )
    ]


def test_a_file_that_cannot_be_read_is_a_finding():
    error = DataError("c.png: expected a picture, found text; save it again")
    assert said(healthy(image2=error)) == [("error", "c.png: expected a picture, found text; save it again")]
    assert said(healthy(mask2=OSError("disk"))) == [("error", "cells: disk; left out")]


def test_an_image_without_pixels_is_a_finding():
    assert said(healthy(image2=np.zeros((1, 0, 5), np.uint8))) == [
        ("error", "c: expected at least one pixel, found an empty image or mask; left out")
    ]


@pytest.mark.parametrize("value", [255, 65535])
def test_the_highest_number_of_a_file_may_mean_not_annotated(value):
    part = blobs((4, 7, 9))
    part[20:] = value
    whole = blobs((4, 7, value))
    assert said(made([noise(i) for i in range(6)], [part, part, part, part, whole, blobs()])) == [
        (
            "warning",
            f"a, b, c and 1 more: id {value} is by far the largest object; trained on as an object; if it means not "
            f"annotated, write ignore = {value} in dataset.toml",
        )
    ]


def test_the_highest_number_of_a_file_may_be_an_object():
    giant = np.where(np.arange(48)[:, None] >= 20, 200, blobs())
    for masks in ([blobs((4, 7, 255))] * 6, [giant] * 6, [np.where(giant == 200, 255, giant), *[blobs()] * 5]):
        assert "by far the largest" not in str(said(made([noise(i) for i in range(6)], masks)))


def test_nothing_to_train_on():
    assert said(made([noise(i) for i in range(6)], [None] * 6)) == [
        ("warning", "cells: none of 6 images has a mask; nothing to train on")
    ]
    errors = said(made([noise()], [np.zeros((5, 5), np.int32)]))
    assert ("error", "cells: none of the 1 images with a mask can be used; nothing to train on") in errors


def test_unannotated_images_are_counted():
    dataset = made([noise(i) for i in range(8)], [blobs()] * 6 + [None] * 2)
    assert said(dataset) == [("note", "cells: 2 of 8 images have no mask (g, h); not used in training")]


def test_images_and_volumes_together():
    dataset = healthy(image0=noise(size=(10, 48, 48)), mask0=np.stack([blobs()] * 10))
    assert said(dataset)[0] == (
        "error",
        "cells: there are images (b, c, d and 2 more) and volumes (a); they cannot be trained on together; put them "
        "into separate folders",
    )


@pytest.mark.parametrize("others", [(2, 3), (1, 2), (3, 5)])
def test_channels_that_do_not_go_together(others):
    images = [noise(i, channels=others[i % 2]) for i in range(6)]
    assert said(made(images, [blobs()] * 6)) == [
        (
            "error",
            f"cells: the images have different numbers of channels ({others[0]}, {others[1]}); they cannot be trained "
            "on together; convert them, or put them into separate folders",
        )
    ]


def test_grey_and_colour_go_together():
    images = [noise(i, channels=3 if i < 2 else 1) for i in range(6)]
    assert said(made(images, [blobs()] * 6)) == [
        ("note", "cells: 4 grey and 2 colour images (a, b); trained on together; grey is repeated in three channels")
    ]


def test_grey_stored_as_colour_is_grey():
    images = [np.repeat(noise(i), 3 if i < 2 else 1, axis=0) for i in range(6)]
    assert said(made(images, [blobs()] * 6)) == []


# Images


def test_a_constant_image():
    assert said(healthy(image3=np.full((1, *SIZE), 12, np.uint8))) == [
        (
            "warning",
            "d: all pixels of the image have the same value (12); trained on as it is, though nothing can be learned "
            "from it; export it again or leave it out",
        )
    ]


def test_an_image_of_two_values_may_be_a_mask():
    ((severity, text),) = said(healthy(image3=(noise(3) > 100).astype(np.uint8) * 255))
    assert severity == "warning"
    assert text.startswith("d: the image has hardly more than one value (2 values from 0 to 255); trained on as it is;")


def test_real_numbers_that_hardly_differ():
    images = [noise(i, dtype=np.float64) for i in range(6)]
    images[1] = 5000 + 1e-3 * images[1]
    ((_, text),) = said(made(images, [blobs()] * 6))
    assert text.startswith("b: the image has hardly more than one value (5000.02 to 5000.2);")


@pytest.mark.parametrize("image", [blobs()[None], (blobs()[None] > 0) * np.uint8(255)])
def test_an_image_that_is_its_mask(image):
    assert said(healthy(image2=image.astype(np.uint8))) == [
        (
            "warning",
            "c: the image shows nothing but its mask; trained on as it is, but the network learns to copy; put the "
            "picture itself there",
        )
    ]


def test_saturated_images():
    image = noise()
    image[0, :12] = 255
    assert said(healthy(image0=image)) == [
        (
            "note",
            "a: more than 20% of the pixels have the image's highest value (25% at 255); trained on as it is; detail "
            "that overexposure has cut off cannot be learned",
        )
    ]


@pytest.mark.parametrize("high, bits", [(200, 8), (4000, 12)])
def test_few_bits_in_16(high, bits):
    images = [noise(i, dtype=np.uint16, high=high) for i in range(6)]
    ((severity, text),) = said(made(images, [blobs()] * 6))
    assert severity == "note"
    assert text.startswith(f"cells: the images are of type uint16 and use {bits} bits (their highest value is ")


def test_all_16_bits_are_no_finding():
    assert said(made([noise(i, dtype=np.uint16, high=60000) for i in range(6)], [blobs()] * 6)) == []


def test_mixed_types():
    dataset = healthy(image4=noise(4, dtype=np.uint16, high=60000), image5=noise(5) / 255)
    assert said(dataset) == [
        (
            "warning",
            "cells: the images have values of different types: uint8 (a and 3 more), uint16 (e), real numbers from 0 "
            "to 1 (f); each image is normalised by itself, so training works; make sure that they show the same thing",
        )
    ]


def test_real_numbers_of_two_scales():
    images = [noise(i) / (255 if i else 1) for i in range(6)]
    ((severity, text),) = said(made(images, [blobs()] * 6))
    assert severity == "warning"
    assert "different types: real numbers (a), real numbers from 0 to 1 (b and 4 more);" in text


def test_a_channel_that_is_empty_everywhere():
    images = [noise(i, channels=4) for i in range(6)]
    for image in images:
        image[2] = 0
    assert said(made(images, [blobs()] * 6)) == [
        (
            "note",
            "cells: channel 2 of 4 (counted from 0) is constant in every image; it carries nothing and does no harm",
        )
    ]


def test_very_different_sizes():
    large = (200, 100)
    dataset = healthy(image5=noise(5, large), mask5=blobs(size=large))
    assert said(dataset) == [
        (
            "note",
            "cells: the images' sizes differ much, from 48 x 48 px (a) to 200 x 100 px (f); nothing is rescaled; the "
            "same things should have about the same size in pixels in all of them",
        )
    ]


@pytest.mark.parametrize("size, tiny", [((31, 48), True), ((32, 48), False), ((7, 48, 48), True), ((8, 48, 48), False)])
def test_tiny_images(size, tiny):
    mask = np.broadcast_to(blobs(size=size[-2:]), size)
    found = said(made([noise(i, size) for i in range(6)], [mask] * 6))
    words = " x ".join(map(str, size))
    assert found == (
        [
            (
                "warning",
                "a, b, c and 3 more: the image is smaller than what the network looks at (a: "
                f"{words} px); trained on as it is, continued by mirroring; larger images give more to learn from",
            )
        ]
        if tiny
        else []
    )


def test_the_same_image_with_different_masks():
    assert said(healthy(image4=noise(0), mask4=blobs((1, 2)))) == [
        (
            "warning",
            "cells: the same image occurs with different masks (a = e); all are trained on; keep one",
        )
    ]


def test_the_same_image_twice():
    leak = "one may be trained on and another validated on, which makes validation scores too good; keep one"
    assert said(healthy(image4=noise(0), image5=noise(1))) == [
        ("note", f"cells: the same image occurs more than once (a = e, b = f); {leak}")
    ]
    images = [noise(0), noise(0), *[noise(i) for i in range(2, 6)]]
    assert said(made(images, [blobs()] * 6, groups=["g"] * 6)) == [
        ("note", "cells: the same image occurs more than once in a group (a = b); each counts; keep one")
    ]


def test_few_images():
    assert said(healthy(n=1)) == [
        (
            "note",
            "cells: there is one annotated image; a quarter of it is kept for validation; a second image would show "
            "how well others will do",
        )
    ]
    assert said(healthy(n=4)) == [
        (
            "note",
            "cells: there are only 4 annotated images; trained on all the same, but validation scores are uncertain",
        )
    ]


# Masks


def test_some_empty_masks_are_fine():
    empty = np.zeros(SIZE, np.int32)
    assert said(healthy(mask1=empty, mask4=empty)) == [
        (
            "note",
            "b, e: nothing is annotated (2 of 6 masks are empty); trained on as background; right if nothing is there, "
            "otherwise annotate it",
        )
    ]


def test_all_masks_empty():
    assert said(semantic([np.zeros(SIZE, np.int32)] * 6)) == [
        (
            "error",
            "cells: all 6 masks hold background only; nothing can be learned from them; annotate some objects, and "
            "check that the right masks were saved",
        )
    ]


def test_masks_of_one_value():
    full = np.ones(SIZE, np.int32)
    assert said(healthy(mask1=full)) == [
        ("note", "b: the mask has one value all over; trained on as it is; right if nothing else is there")
    ]
    assert said(semantic([full] * 6))[0] == (
        "error",
        "cells: the masks have one value all over, and no background; there is nothing to tell apart; annotate the "
        "background too, or check that the right masks were saved",
    )


def test_scribbles_are_not_one_value_all_over():
    scribbled = np.where(np.arange(48)[:, None] % 6 == 0, np.ones(SIZE, np.int32), -1).astype(np.int32)
    masks = [scribbled] * 3 + [np.where(scribbled > 0, 0, -1).astype(np.int32)] * 3
    assert [text for _, text in said(semantic(masks))] == [
        "d, e, f: nothing is annotated (3 of 6 masks are empty); trained on as background; right if nothing is there, "
        "otherwise annotate it",
        "cells: 83% of all pixels are marked as ignored; only the others are trained on and scored",
    ]


def test_a_mask_that_is_ignored_altogether():
    assert said(healthy(mask1=np.full(SIZE, -1, np.int32)))[0] == (
        "warning",
        "b: all pixels of the mask are ignored; nothing is learned from it; annotate it",
    )


def test_classes_that_are_missing_rare_or_in_one_image():
    masks = [blobs((1,), side=20) for _ in range(6)]
    masks[0][40:44, 40:44] = 2
    masks[1][47, 47] = masks[2][47, 47] = 4
    found = said(semantic(masks, ("background", "cell", "vessel", "nerve", "mite")))
    assert found == [
        (
            "warning",
            "cells: the class vessel occurs in one of 6 images; either training or validation goes without it; "
            "annotate it in others too",
        ),
        (
            "warning",
            "cells: the class nerve does not occur in any mask; it cannot be learned; annotate some of it, or leave "
            "the class out",
        ),
        ("warning", "cells: the class mite is in 0.014 % of the pixels; it is easily missed; annotate more of it"),
    ]


def test_no_background_is_no_harm():
    masks = [np.where(blobs() > 0, 2, 1).astype(np.int32) for _ in range(6)]
    assert said(semantic(masks, ("background", "stroma", "tumour"))) == [
        ("note", "cells: the class background does not occur in any mask; no harm")
    ]


def test_ids_taken_for_classes():
    # Tracked ids: other ones in each image, each of them one square.
    masks = [blobs((1 + 3 * i, 2 + 3 * i, 3 + 3 * i)) for i in range(6)]
    generic = ("background", *(f"class {i}" for i in range(1, 19)))
    objects = (
        "warning",
        "cells: the masks are read as 18 classes, but nearly every value is one connected object; if they are ids of "
        "objects, use --task instances; as they are, each id would be a class of its own",
    )
    assert objects in said(semantic(masks, generic))
    named = ("background", *(f"organ {'abcdefghijklmnopqr'[i]}" for i in range(18)))
    assert objects not in said(semantic(masks, named))


def test_regions_that_are_in_every_image_are_classes():
    masks = [blobs((1, 2, 3, 4, 5), side=5) for _ in range(6)]
    assert said(semantic(masks, ("background", *(f"class {i}" for i in range(1, 6))))) == []


def test_classes_taken_for_objects():
    mask = np.zeros(SIZE, np.int32)
    mask[2:44:8, 2:44] = 1
    mask[5:44:8, 2:44] = 2
    assert said(made([noise(i) for i in range(6)], [mask] * 6)) == [
        (
            "warning",
            "cells: the masks are read as objects, but hold the same few values (1, 2), each in many pieces; if they "
            "are classes, use --task semantic; as they are, all pieces of a value count as one object",
        )
    ]


def test_ids_in_several_pieces():
    twice = blobs((1, 2, 3, 1))  # the first and the last square share an id
    dataset = made([noise(i) for i in range(6)], [twice] * 6)
    assert said(dataset)[0] == (
        "warning",
        "a, b, c and 3 more: ids in two or more large pieces: 6 of 18; trained on as one object each; give each object "
        "its own id",
    )
    assert said(healthy(mask0=twice))[0] == (
        "note",
        "a: ids in two or more large pieces: 1 of 18; trained on as one object each",
    )


def test_stray_pixels():
    mask = blobs()
    mask[40, 40] = 2
    assert said(healthy(mask1=mask)) == [
        ("note", "b: objects with stray pixels beside them: 1 of 18; no harm in training")
    ]


def test_objects_smaller_than_the_network_resolves():
    masks = [blobs(range(1, 8), side=4)] * 6
    assert said(made([noise(i) for i in range(6)], masks)) == [
        (
            "warning",
            "cells: half of the objects are less than 4.5 px across; trained on, but hardly resolved; use images of a "
            "higher resolution, or enlarge images and masks",
        )
    ]
    assert said(made([noise(i) for i in range(6)], [blobs(range(1, 8), side=5)] * 6)) == []


def test_objects_of_a_pixel_or_two():
    mask = blobs()
    mask[40, 40:42], mask[44, 40:43] = 4, 5
    assert said(healthy(mask2=mask)) == [
        (
            "warning",
            "c: objects of fewer than 3 pixels: 1 of 20; trained on and scored as objects; remove them if they are "
            "slips of the brush",
        )
    ]


def test_the_view_is_that_of_the_default_network():
    # Depth 5 looks 92 px to each side (P5), depth 4 44 px; at the largest working scale.
    assert WIDEST_VIEW == {2: 2 * LARGEST_SCALE * 92, 3: 2 * LARGEST_SCALE * 44}


@pytest.mark.parametrize("side, large", [(2600, False), (2620, True)])
def test_objects_larger_than_the_network_sees(side, large):
    size = (3000, 2800)
    mask = blobs((1,), size=size, side=side)
    found = said(healthy(image0=noise(0, size), mask0=mask))
    warning = (
        "warning",
        f"a: objects of up to {round(side * (4 / np.pi) ** 0.5)} px across are more than the network sees at once; "
        "trained on, but they may fall into pieces; reduce images and masks in size",
    )
    assert (warning in found) == large


def test_a_background_with_an_id():
    mask = blobs()
    mask[mask == 0] = 9
    assert said(healthy(mask3=mask)) == [
        (
            "warning",
            "d: one object covers most of the image and lies on all of its sides; trained on as an object; if it is "
            "the background, give it the value 0",
        )
    ]


def test_masks_of_crumbs():
    crumbs = blobs((1,))
    crumbs[20::3, ::3] = 1
    found = said(semantic([crumbs] + [blobs((1, 1))] * 5))
    assert found == [
        (
            "warning",
            "a: most of the annotated pieces have fewer than 3 pixels; trained on as they are; if they are traces of "
            "compression or of a threshold, clean the masks",
        )
    ]


# Labels


def test_labels_that_are_rare_or_missing():
    dataset = labelled([noise(i) for i in range(14)], [0] * 12 + [1, 5], ("cat", "dog", "eel", "fly"))
    assert said(dataset) == [
        ("error", "p13: the label is none of the 4 classes 0 to 3 (5); correct it, or name the class"),
        (
            "warning",
            "pets: no image of the class eel, fly; it cannot be learned and validated; add images, or leave the class "
            "out",
        ),
        (
            "warning",
            "pets: one image only of the class dog; it cannot be learned and validated; add images, or leave the class "
            "out",
        ),
        (
            "note",
            "pets: the classes are unequal, from 1 images of dog to 12 of cat; rare classes are easily missed; look at "
            "the score of each",
        ),
    ]


def test_the_same_picture_in_two_classes():
    images = [noise(i) for i in (0, 1, 2, 0)]
    assert said(labelled(images, [0, 0, 1, 1])) == [
        ("warning", "pets: the same image occurs with different labels (p0 = p3); all are trained on; keep one")
    ]


def test_pictures_of_different_sizes():
    images = [noise(0), noise(1), noise(2), noise(3, (50, 60))]
    assert said(labelled(images, [0, 0, 1, 1])) == [
        (
            "note",
            "pets: the images have 2 sizes, from 48 x 48 px to 50 x 60 px; make sure that no class has a size of its "
            "own",
        )
    ]


# From files


def test_what_the_reader_left_out_is_said(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for i in range(6):
        write_image(tmp_path / "images" / f"x{i}.png", noise(i))
        write_labels(tmp_path / "masks" / f"x{i}.png", blobs(range(1, 4 - i % 2)))
    write_labels(tmp_path / "masks" / "alone.png", blobs())
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.png")}
    findings = examine(open_dataset(tmp_path))
    assert findings[0].severity == "error"
    assert findings[0].where == str(tmp_path / "masks" / "alone.png")
    assert {f.severity for f in findings[1:]} == {"note"}
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.png")} == before


def test_judging_what_was_read_is_examining():
    dataset = phantom_dataset(3, size=(64, 64))
    facts = [inspect_arrays(s, s.read_image(), s.read_mask()) for s in dataset.samples]
    assert judge(facts, dataset) == examine(dataset)


def test_a_foreground_around_everything_may_be_the_background():
    inverted = [1 - np.minimum(blobs(), 1) for _ in range(6)]
    told = [str(finding) for finding in examine(semantic(inverted)) if "lies on all" in str(finding)]
    assert len(told) == 1
    assert told[0].endswith(
        "the foreground covers most of the image and lies on all of its sides; read as it is; if it is the background, "
        "say in dataset.toml which value is the background"
    )
    named = semantic(inverted, classes=("membrane", "cell"))
    mixed = semantic([*inverted[:5], np.minimum(blobs(), 1)])
    assert not any("lies on all" in str(finding) for dataset in (named, mixed) for finding in examine(dataset))
