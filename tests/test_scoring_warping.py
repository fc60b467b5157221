"""The warping error: drawn by hand, against a loop over pixels, and by what a warping must keep."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ushape.data.catalog import open_dataset
from ushape.errors import DataError
from ushape.scoring.warping import warp, warping_error, warping_errors

ALL_NEIGHBOURS = np.ones((3, 3), bool)


def drawn(*rows):
    """Labels from text: '.' is cell, '#' membrane, '?' ignore."""
    return np.array([[{".": 1, "#": 0, "?": -1}[c] for c in row] for row in rows], np.int32)


def touching(region, structure):
    """Connected pieces of a 3x3 region without its centre that touch the centre."""
    region = region.copy()
    region[1, 1] = False
    pieces, _ = ndimage.label(region, structure)
    around = np.array(ALL_NEIGHBOURS if structure is not None else ndimage.generate_binary_structure(2, 1))
    return np.unique(pieces[around & (pieces > 0)]).size


def is_simple(window):
    """By the definition: one 4-connected piece of cell by a side, one 8-connected piece of membrane."""
    return touching(window, None) == 1 and touching(~window, ALL_NEIGHBOURS) == 1


def slow_warp(reference, estimate):
    """The order that the module promises, one pixel after the other."""
    now, wanted = np.pad(reference > 0, 1), np.pad(estimate > 0, 1)

    def settle(label):
        before = now.copy()
        flipped = True
        while flipped:
            flipped = False
            for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
                for i in range(1 + row, now.shape[0] - 1, 2):
                    for j in range(1 + column, now.shape[1] - 1, 2):
                        ought = now[i, j] != label and wanted[i, j] == label
                        if ought and is_simple(now[i - 1 : i + 2, j - 1 : j + 2]):
                            now[i, j] = label
                            flipped = True
        return (now != before).any()

    while settle(False) | settle(True):
        pass
    return now[1:-1, 1:-1]


def topology(cells):
    """(cells, membranes): connected pieces of each, the world beyond the frame being membrane."""
    cells = np.pad(np.asarray(cells) > 0, 1)
    return ndimage.label(cells)[1], ndimage.label(~cells, ALL_NEIGHBOURS)[1]


def every_way(reference, estimate):
    """The smallest disagreement that any order of flips of differing pixels can end with."""
    reference, estimate = np.pad(reference > 0, 1), np.pad(estimate > 0, 1)
    seen, todo = {reference.tobytes()}, [reference]
    best = reference.size
    while todo:
        now = todo.pop()
        best = min(best, int((now != estimate).sum()))
        for i, j in np.argwhere(now != estimate):
            if is_simple(now[i - 1 : i + 2, j - 1 : j + 2]):
                after = now.copy()
                after[i, j] = estimate[i, j]
                if after.tobytes() not in seen:
                    seen.add(after.tobytes())
                    todo.append(after)
    return best


def n_errors(reference, estimate):
    """The warping error in pixels."""
    return round(warping_error(reference, estimate) * reference.size)


# Drawn by hand.

WALL = drawn(".....##.....", ".....##.....", ".....##.....", ".....##.....", ".....##.....")


def test_a_border_that_is_shifted_costs_nothing():
    assert n_errors(WALL, np.roll(WALL, 2, axis=1)) == 0
    assert n_errors(WALL, np.roll(WALL, -2, axis=1)) == 0


def test_a_border_of_another_width_costs_nothing():
    assert n_errors(WALL, drawn(*["....####...."] * 5)) == 0
    assert n_errors(WALL, drawn(*["......#....."] * 5)) == 0


def test_a_bent_border_costs_nothing():
    assert n_errors(WALL, drawn("....##......", "...##.......", "....##......", "......##....", ".....##.....")) == 0


def test_a_border_that_runs_diagonally_separates():
    assert n_errors(WALL, drawn(".....#......", ".....#......", "......#.....", ".....#......", "......#.....")) == 0


def test_a_split_costs_the_last_pixel_of_the_border_that_was_made():
    whole = drawn(*["....."] * 4)
    split = drawn("..#..", "..#..", "..#..", "..#..")
    assert n_errors(whole, split) == 1


def test_a_merger_costs_as_much_as_the_gap_is_long():
    gap = WALL.copy()
    gap[1:4] = 1
    assert n_errors(WALL, gap) == 3
    assert warping_error(WALL, gap) == 3 / WALL.size


def test_a_hole_in_a_cell_costs_the_pixel_that_would_begin_it():
    whole = np.ones((7, 7), np.int32)
    hole = whole.copy()
    hole[2:5, 2:5] = 0
    # A hole cannot be begun, so all of it differs.
    assert n_errors(whole, hole) == 9
    # It can be filled up to its last pixel.
    assert n_errors(hole, whole) == 1


def test_a_cell_that_only_one_side_has_costs_as_a_hole_does():
    empty = np.zeros((7, 7), np.int32)
    cell = empty.copy()
    cell[2:5, 2:5] = 1
    assert n_errors(empty, cell) == 9
    assert n_errors(cell, empty) == 1


def test_a_notch_from_the_frame_costs_nothing():
    assert n_errors(np.ones((4, 5), np.int32), drawn("..#..", "..#..", ".....", ".....")) == 0
    assert n_errors(np.ones((4, 5), np.int32), drawn("#####", "#...#", "#...#", "#####")) == 0


def test_a_thin_border_has_no_way_through_pixels_that_agree():
    thin, far = drawn(*["..#......"] * 3), drawn(*["......#.."] * 3)
    # The new one grows from the frame up to its last pixel; the old one would join two cells where it went away.
    assert n_errors(thin, far) == 3 + 1


def test_ignored_pixels_are_as_the_estimate_says_and_not_counted():
    reference = drawn("..?..", "..?..", "..?..", "..?..")
    for estimate in (drawn(*["....."] * 4), drawn(*["..#.."] * 4)):
        assert warping_error(reference, estimate) == 0
    partly = drawn("..?..", "..?..", "..?..", ".....")
    assert warping_error(partly, drawn(*["..#.."] * 4)) == 1 / 17
    assert warping_error(drawn("???", "?..", "..."), drawn("...", "..#", "##.")) == 1 / 5


def test_the_order_is_as_promised():
    # Columns 0; 1 and 5; 2 and 4 in turn, and then the last pixel has no way left.
    assert warp(drawn("......"), drawn("######")).astype(int).tolist() == drawn("###.##").tolist()
    # Where membrane and cell trade places, the membrane grows before it shrinks, and so the cells stay apart.
    assert warp(drawn("..#.."), drawn("...#.")).astype(int).tolist() == drawn("...#.").tolist()


def n_splits_and_mergers(reference, estimate):
    """The part of the warping error that is splits and mergers, in pixels."""
    return round(warping_errors(reference, estimate)[1] * reference.size)


def test_splits_and_mergers_are_counted_and_holes_are_not():
    gap = WALL.copy()
    gap[1:4] = 1
    assert n_splits_and_mergers(WALL, gap) == 3
    whole = np.ones((7, 7), np.int32)
    assert n_splits_and_mergers(whole, drawn(*["...#..."] * 7)) == 1
    hole = whole.copy()
    hole[2:5, 2:5] = 0
    island = 1 - hole
    for reference, estimate in ((whole, hole), (hole, whole), (0 * whole, island), (island, 0 * whole)):
        assert n_errors(reference, estimate) > 0
        assert n_splits_and_mergers(reference, estimate) == 0


def test_a_membrane_that_ends_in_a_cell_is_neither_split_nor_merger():
    spur = drawn(".......", "..###..", ".......")
    assert n_errors(np.ones((3, 7), np.int32), spur) == 3
    assert n_splits_and_mergers(np.ones((3, 7), np.int32), spur) == 0


def test_a_split_counts_where_it_meets_a_hole_that_does_not():
    whole = np.ones((7, 9), np.int32)
    both = drawn("....#....", "....#....", "....#....", "....#....", "....#....", "....#..#.", "....#....")
    assert n_errors(whole, both) == 2
    assert n_splits_and_mergers(whole, both) == 1


def test_cells_that_meet_at_a_corner_are_two_and_a_split_by_a_diagonal_is_one():
    diagonal = drawn("#....", ".#...", "..#..", "...#.", "....#")
    whole = np.ones((5, 5), np.int32)
    assert n_splits_and_mergers(whole, diagonal) == n_errors(whole, diagonal) > 0
    # A gap of a pixel that touches the second cell by a corner only joins nothing.
    corner = drawn("..#..", "..#..", "..#..")
    assert n_splits_and_mergers(corner, drawn("..#..", ".....", "..#..")) == 1


def test_ignored_pixels_are_neither_split_nor_merger_and_not_counted():
    partly = drawn("..?..", "..?..", "..?..", ".....")
    assert warping_errors(partly, drawn(*["..#.."] * 4)) == (1 / 17, 1 / 17)
    assert all(map(math.isnan, warping_errors(drawn("??"), drawn(".."))))


@settings(max_examples=60, deadline=None)
@given(arrays(np.int8, (8, 8), elements=st.integers(0, 1)), arrays(np.int8, (8, 8), elements=st.integers(0, 1)))
def test_splits_and_mergers_are_a_part_of_the_warping_error(reference, estimate):
    every, part = warping_errors(reference, estimate)
    assert 0 <= part <= every == warping_error(reference, estimate)


# Against the loop over pixels, and by what a warping keeps.

labelled = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda size: st.tuples(
        arrays(np.int8, size, elements=st.integers(0, 1)), arrays(np.int8, size, elements=st.integers(0, 1))
    )
)


@settings(max_examples=60, deadline=None)
@given(labelled)
def test_a_loop_over_pixels_gives_the_same(pair):
    reference, estimate = pair
    warped = warp(reference, estimate)
    assert np.array_equal(warped, slow_warp(reference, estimate))
    assert topology(warped) == topology(reference)
    agreed = reference == estimate
    assert np.array_equal(warped[agreed], estimate[agreed] > 0)


@pytest.mark.parametrize("seed", range(4))
def test_a_loop_over_pixels_gives_the_same_on_smooth_shapes(seed):
    rng = np.random.default_rng(seed)
    ground = ndimage.gaussian_filter(rng.normal(size=(40, 37)), 2)
    other = ground + 0.5 * ndimage.gaussian_filter(rng.normal(size=ground.shape), 2)
    reference, estimate = (abs(ground) > 0.03).astype(np.int32), (abs(other) > 0.03).astype(np.int32)
    warped = warp(reference, estimate)
    assert np.array_equal(warped, slow_warp(reference, estimate))
    assert topology(warped) == topology(reference)
    assert 0 < (warped != estimate).sum() < (reference != estimate).sum() / 2


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(arrays(np.int8, (3, 4), elements=st.integers(0, 1)), arrays(np.int8, (3, 4), elements=st.integers(0, 1)))
)
def test_no_order_of_flips_ends_lower_than_allowed_and_ours_is_one_of_them(pair):
    reference, estimate = pair
    least = every_way(reference, estimate)
    ours = n_errors(reference, estimate)
    assert least <= ours <= (reference != estimate).sum()


@given(arrays(np.int8, (6, 7), elements=st.integers(0, 1)))
def test_the_same_labels_cost_nothing(labels):
    assert warping_error(labels, labels) == 0


@settings(max_examples=30, deadline=None)
@given(arrays(np.int8, (6, 7), elements=st.integers(0, 1)), st.data())
def test_any_deformation_of_the_estimate_by_simple_flips_that_can_be_undone_costs_nothing(labels, data):
    """One simple flip is undone by one simple flip."""
    cells = np.pad(labels > 0, 1)
    simple = [(i, j) for i, j in np.ndindex(labels.shape) if is_simple(cells[i : i + 3, j : j + 3])]
    if not simple:
        return
    moved = labels.copy()
    place = data.draw(st.sampled_from(simple))
    moved[place] = 1 - moved[place]
    assert warping_error(labels, moved) == 0


def test_real_slices(real_data):
    if not (real_data / "isbi2012").is_dir():
        pytest.skip("no isbi2012 under USHAPE_DATA")
    sample = open_dataset("isbi2012").samples[0]
    reference = sample.read_mask()
    assert set(np.unique(reference)) == {0, 1}
    assert warping_error(reference, reference) == 0
    wider = ndimage.binary_dilation(reference == 0)
    n_different = (wider == reference).sum()
    # Membranes one pixel wider differ in thousands of pixels, and cut or close no more than a few narrow places.
    assert n_different > 10000
    assert n_errors(reference, ~wider) < 100


# What is refused.


@pytest.mark.parametrize(
    "reference, estimate, sentence",
    [
        (
            np.ones((2, 3), int),
            np.ones((3, 2), int),
            "expected an estimate of the reference's size (2, 3), found (3, 2); score",
        ),
        (
            np.ones((2, 3), int),
            np.full((2, 3), 0.5),
            "expected the estimate as (height, width) of membrane (0) and cell (1), found float64",
        ),
        (np.ones((2, 3, 4), int), np.ones((2, 3, 4), int), "found int64 of shape (2, 3, 4); decide probabilities by"),
        (
            np.full((2, 3), 7),
            np.ones((2, 3), int),
            "expected membrane (0) and cell (1) in the reference, found 7; score classes",
        ),
        (
            np.ones((2, 3), int),
            np.full((2, 3), -1),
            "expected membrane (0) and cell (1) in the estimate, found -1; score",
        ),
    ],
)
def test_messages_say_what_was_found(reference, estimate, sentence):
    with pytest.raises(DataError, match=re.escape(sentence)):
        warping_error(reference, estimate)


def test_without_a_pixel_there_is_no_error():
    assert math.isnan(warping_error(np.full((2, 2), -1), np.ones((2, 2), int)))
    assert math.isnan(warping_error(np.ones((0, 3), int), np.ones((0, 3), int)))
