"""Values that stand only between others: masks of classes resized with and without mixing, and masks of objects."""

import numpy as np
import pytest
from PIL import Image

from ushape.data.colours import pack_colours
from ushape.data.evidence import seam_values
from ushape.data.masks import mask_facts, recognise_masks
from ushape.data.seams import solid_and_seams
from ushape.errors import DataError

# A ramp of two pixels between the regions 0 and 9.
RAMP = np.array([[0, 0, 0, 3, 6, 9, 9, 9]] * 5, np.int32)


def rectangles(values, seed, size=96):
    """One rectangle of each value, somewhere."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), np.uint8)
    for i, value in enumerate(values):
        top, left = 4 + rng.integers(20) + 30 * i, rng.integers(4, 50)
        mask[top : top + rng.integers(18, 26), left : left + rng.integers(18, 40)] = value
    return mask


def resized(mask, factor, how=Image.Resampling.BILINEAR):
    side = round(len(mask) * factor)
    return np.asarray(Image.fromarray(mask).resize((side, side), how)).astype(np.int32)


def rule_of(masks, **said):
    return recognise_masks([mask_facts(mask) for mask in masks], "cells", **said)


def test_lines_between_regions_are_seams_and_small_objects_are_not():
    assert solid_and_seams(RAMP) == ((0, 9), (3, 6))
    lone = RAMP.copy()
    lone[2, 1] = 7
    assert solid_and_seams(lone) == ((0, 9), (3, 6))  # above its surroundings
    lone[2, 1] = -1
    assert solid_and_seams(lone) == ((0, 9), (3, 6))
    wide = RAMP.copy()
    wide[:, 2] = 3
    assert solid_and_seams(wide) == ((0, 9), (6,))  # two columns of 3 are no region, and no seam either
    wide[:, 2:7] = 3
    assert solid_and_seams(wide) == ((0, 3), ())


def test_seams_of_volumes_and_of_colours():
    assert solid_and_seams(np.stack([RAMP] * 3)) == ((0, 9), (3, 6))
    planes = np.zeros((3, 5, 8), np.uint8)
    planes[0], planes[1] = 28 * RAMP, 28 * (9 - RAMP)  # green to red
    colours = pack_colours(planes)
    _, seams = solid_and_seams(colours)
    assert seams == tuple(sorted({int(colours[0, 3]), int(colours[0, 4])}))


@pytest.mark.parametrize(
    "values, factor", [((100, 200), 1.25), ((127, 255), 2), ((20, 40), 2), ((10, 20, 30), 1.25), ((100, 200), 0.5)]
)
@pytest.mark.parametrize("task", [None, "instances", "semantic"])
def test_classes_resized_with_mixing_are_refused(values, factor, task):
    plain = [rectangles(values, seed) for seed in range(6)]
    message = (
        rf"^cells: expected masks of a few values \(0, .*{values[-1]}\), found \d+ others between them \(.*\) as "
        r"smoothing or resizing leaves them; save the masks without smoothing and resize them with nearest neighbour, "
        r"or say in dataset\.toml what the values mean$"
    )
    with pytest.raises(DataError, match=message):
        rule_of([resized(mask, factor) for mask in plain], task=task)
    nearest = [resized(mask, factor, Image.Resampling.NEAREST) for mask in plain]
    assert seam_values([mask_facts(mask) for mask in nearest]) == ([], [])
    rule_of(nearest, task=task)


def test_objects_small_or_close_together_are_no_seams():
    rng = np.random.default_rng(0)
    small = np.zeros((40, 40), np.int32)
    for i, place in enumerate(rng.permutation(100)):
        row, column = 4 * (place // 10), 4 * (place % 10)
        small[row : row + 1 + i % 3, column : column + 1 + i // 3 % 3] = i + 1
    close = 1 + np.arange(144, dtype=np.int32).reshape(12, 12).repeat(3, 0).repeat(3, 1)
    close[:, ::9] = 0
    for masks in ([small], [close], [small, close]):
        assert rule_of(masks).task == "instances"


def test_a_contour_is_one_value_and_no_seam():
    contour = rectangles((1, 2), 0).astype(np.int32)
    edge = (np.diff(contour, axis=0, prepend=0) != 0) | (np.diff(contour, axis=1, prepend=0) != 0)
    contour[edge] = 255
    assert seam_values([mask_facts(contour)]) == ([], [])


def test_the_file_with_most_of_them_is_named(tmp_path):
    from ushape.data.masks import read_facts

    for name, factor in (("a", 1), ("b", 1.25)):
        Image.fromarray(resized(rectangles((100, 200), 1), factor).astype(np.uint8)).save(tmp_path / f"{name}.png")
    facts = [read_facts(tmp_path / f"{name}.png") for name in "ab"]
    with pytest.raises(DataError, match=r"between them \(.*, as in .*b\.png\) as smoothing"):
        recognise_masks(facts, "cells")
