"""Scores of membranes: by hand, against scikit-image, and by what must make no difference."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information

from ushape.data.catalog import open_dataset
from ushape.errors import DataError
from ushape.scoring.membranes import (
    MEMBRANE_THRESHOLDS,
    MembraneCurve,
    cells,
    count_membranes,
    count_overlap,
    membrane_scores,
    thinned,
    v_info,
    v_rand,
)


def drawn(*rows):
    """Digits are ids, '#' is membrane."""
    return np.array([[0 if c == "#" else int(c) for c in row] for row in rows], np.int32)


def with_singletons(instances):
    """Each 0 as an object of its own."""
    alone = instances == 0
    lone = instances.astype(np.int64)
    lone[alone] = instances.max(initial=0) + 1 + np.arange(alone.sum())
    return lone


def both_scores(reference, estimate):
    overlap = count_overlap(reference, estimate)
    return v_rand(overlap), v_info(overlap)


pairs_of_masks = st.tuples(
    arrays(np.int32, (6, 7), elements=st.integers(0, 4)), arrays(np.int32, (6, 7), elements=st.integers(0, 4))
)


def test_diagonal_membranes_separate():
    assert cells(np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]])).tolist() == drawn("11#", "1#2", "#22").tolist()
    assert cells(np.array([[1, -1, 1]])).tolist() == [[1, 0, 2]]


def test_thinning_lets_cells_grow_until_they_meet():
    grown = thinned(drawn("1####2", "1####2", "#####2"))
    assert grown.tolist() == drawn("111222", "111222", "111222").tolist()
    nothing = drawn("###", "###")
    assert thinned(nothing).tolist() == nothing.tolist()


def test_overlaps_by_hand():
    overlap = count_overlap(drawn("111#22", "111#22"), drawn("11##55", "333355"))
    assert sorted(overlap.shared.tolist()) == [2, 3, 4]
    assert overlap.reference.tolist() == [6, 4]
    assert overlap.estimate.tolist() == [2, 3, 4]
    assert overlap.alone == 1


def test_a_split_and_a_merger_by_hand():
    two, one = drawn("1122"), drawn("1111")
    # Six pairs are joined on one side, two on the other, and these two on both.
    assert v_rand(count_overlap(two, one)) == v_rand(count_overlap(one, two)) == pytest.approx(2 * 2 / (6 + 2))
    # One side has one bit, the other none, so they share none.
    assert v_info(count_overlap(two, one)) == 0
    # Halves against halves of other pixels: one bit each, and none in common.
    assert both_scores(two, drawn("1212")) == (0, 0)
    assert both_scores(two, drawn("7755")) == (1, 1)


@settings(max_examples=60, deadline=None)
@given(pairs_of_masks)
def test_scikit_image_gives_the_same(pair):
    reference, estimate = pair
    inside = reference > 0
    lone = with_singletons(np.where(inside, estimate, 1))
    rand, info = both_scores(reference, estimate)
    if not inside.any():
        assert math.isnan(rand)
        assert math.isnan(info)
        return
    with np.errstate(invalid="ignore"):
        error, _, _ = adapted_rand_error(reference, lone, ignore_labels=(0,))
    assert rand == pytest.approx(1.0 if np.isnan(error) else 1 - error, abs=1e-12)
    splits, mergers = variation_of_information(reference, lone, ignore_labels=(0,))
    entropies = [
        -(p * np.log2(p)).sum()
        for side in (reference, lone)
        for p in [np.unique(side[inside], return_counts=True)[1] / inside.sum()]
    ]
    whole = sum(entropies)
    assert info == pytest.approx(1 - (splits + mergers) / whole if whole > 0 else 1.0, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(pairs_of_masks)
def test_what_the_estimate_says_on_the_references_membranes_makes_no_difference(pair):
    reference, estimate = pair
    other = np.where(reference > 0, estimate, 9)
    np.testing.assert_equal(both_scores(reference, estimate), both_scores(reference, other))


@settings(max_examples=40, deadline=None)
@given(pairs_of_masks)
def test_the_sides_may_be_exchanged_where_neither_has_membranes(pair):
    reference, estimate = (side + 1 for side in pair)
    assert both_scores(reference, estimate) == pytest.approx(both_scores(estimate, reference), abs=1e-12)


def test_nothing_to_join_is_agreement():
    assert both_scores(drawn("12"), drawn("##")) == (1, 1)
    assert both_scores(drawn("111"), drawn("222")) == (1, 1)
    assert both_scores(drawn("111"), drawn("###")) == (0, 0)


def test_one_cell_is_agreement_whatever_its_size():
    for n in range(1, 100):
        assert both_scores(np.ones((1, n), np.int32), np.full((1, n), 5, np.int32)) == (1, 1)


def test_ids_of_any_size_and_type_are_told_apart():
    reference, estimate = drawn("1122", "1122"), drawn("1112", "1#12")
    plain = both_scores(reference, estimate)
    for kind, step in ((np.uint8, 1), (np.uint64, 2**40), (np.int64, 3 * 10**8)):
        assert both_scores(reference.astype(kind) * kind(step), estimate.astype(kind) * kind(step)) == plain
        assert both_scores(reference, estimate.astype(kind) * kind(step)) == plain
    assert count_overlap(reference, estimate.astype(np.int64) * 10**9).alone == 1
    assert count_overlap(reference, np.full((2, 4), 10**12)).alone == 0


def test_negative_labels_are_no_cells():
    overlap = count_overlap(np.array([-1, -1, 2, 2, 2]), np.array([1, 3, 3, -1, -7]))
    assert (overlap.shared.tolist(), overlap.reference.tolist(), overlap.estimate.tolist()) == ([1], [3], [1])
    assert overlap.alone == 2


LABELS = drawn("11#11", "11#11", "11#11", "11#11")


def test_a_slice_by_hand():
    gap = LABELS.copy()
    gap[1, 2] = 1
    curve = count_membranes(LABELS, gap.astype(float), (0.5,))
    assert curve.thresholds == (0.5,)
    rand = 2 * 2 * 28 / (2 * 28 + 120)
    assert {name: value for name, (value,) in curve.scores.items()} == pytest.approx(
        {
            "pixel error": 1 / 20,
            "pixel F error": 1 / 33,
            "Rand error": 1 - rand,
            "warping error": 1 / 20,
            "split and merger error": 1 / 20,
            "V_rand thinned": rand,
            "V_info thinned": 0,
        }
    )


def test_thick_membranes_cost_pixels_and_nothing_after_thinning():
    labels = np.ones((12, 21), np.int32)
    labels[:, 10] = 0
    thick = labels.copy()
    thick[:, 7:14] = 0
    (scores,) = [membrane_scores([count_membranes(labels, thick.astype(float), (0.5,))])]
    assert scores["V_rand thinned"] == scores["V_info thinned"] == 1
    assert scores["warping error"] == 0
    assert scores["pixel error"] == pytest.approx(6 / 21)
    assert scores["Rand error"] > 0.1


def test_each_score_takes_its_best_threshold_of_the_means():
    first = MembraneCurve((0.2, 0.5, 0.8), {"pixel error": (0.3, 0.1, 0.2), "V_rand thinned": (0.5, 0.6, 0.9)})
    second = MembraneCurve((0.2, 0.5, 0.8), {"pixel error": (0.1, 0.4, 0.2), "V_rand thinned": (0.5, 0.8, 0.1)})
    scores = membrane_scores([first, second])
    assert scores == pytest.approx(
        {
            "pixel error": 0.2,
            "threshold of pixel error": 0.2,
            "V_rand thinned": 0.7,
            "threshold of V_rand thinned": 0.5,
            "n_slices": 2,
        }
    )
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_a_slice_without_cells_is_left_out_of_the_means():
    full = count_membranes(LABELS, LABELS.astype(float), (0.5,))
    empty = count_membranes(np.zeros((3, 3), int), np.ones((3, 3)), (0.5,))
    scores = membrane_scores([full, empty])
    assert scores["Rand error"] == 0
    assert scores["V_info thinned"] == 1
    assert scores["pixel error"] == 0.5
    assert "Rand error" not in membrane_scores([empty])


def test_a_score_that_one_slice_lacks_is_left_out():
    older = MembraneCurve((0.5,), {"pixel error": (0.1,)})
    newer = MembraneCurve((0.5,), {"pixel error": (0.3,), "split and merger error": (0.2,)})
    for curves in ([older, newer], [newer, older]):
        scores = membrane_scores(curves)
        assert scores["pixel error"] == 0.2
        assert "split and merger error" not in scores


def test_the_thresholds_are_ten_and_strict():
    assert tuple(i / 10 for i in range(10)) == MEMBRANE_THRESHOLDS
    probability = np.where(LABELS > 0, 0.7, 0.4)
    curve = count_membranes(LABELS, probability)
    right = [t for t, error in zip(curve.thresholds, curve.scores["pixel error"], strict=True) if error == 0]
    assert right == [0.4, 0.5, 0.6]
    assert membrane_scores([curve])["threshold of V_rand thinned"] == 0.4


def test_ignored_pixels_are_not_counted():
    reference = LABELS.copy()
    reference[0] = -1
    wrong = LABELS.copy()
    wrong[0] = 0
    scores = membrane_scores([count_membranes(reference, wrong.astype(float), (0.5,))])
    assert scores["pixel error"] == scores["warping error"] == scores["Rand error"] == 0


def test_real_slices(real_data):
    if not (real_data / "isbi2012").is_dir():
        pytest.skip("no isbi2012 under USHAPE_DATA")
    dataset = open_dataset("isbi2012")
    assert dataset.classes == ("membrane", "cell")
    reference = dataset.samples[3].read_mask()
    same = membrane_scores([count_membranes(reference, reference.astype(float), (0.5,))])
    for name in ("pixel error", "Rand error", "warping error"):
        assert same[name] == 0
    assert same["V_rand thinned"] == same["V_info thinned"] == 1
    # Membranes one pixel wider on each side: many pixels, hardly any cell.
    wider = 1 - ndimage.binary_dilation(reference == 0)
    scores = membrane_scores([count_membranes(reference, wider.astype(float), (0.5,))])
    assert 0.04 < scores["pixel error"] < 0.15
    assert scores["warping error"] < 0.001
    assert scores["V_rand thinned"] > 0.99
    assert scores["V_info thinned"] > 0.99
    # A gap in every twentieth row merges nearly everything.
    gaps = reference.copy()
    gaps[::20] = 1
    scores = membrane_scores([count_membranes(reference, gaps.astype(float), (0.5,))])
    assert scores["pixel error"] < 0.03
    assert scores["V_rand thinned"] < 0.2
    assert 0.0005 < scores["warping error"] < scores["pixel error"]


@pytest.mark.parametrize(
    "call, sentence",
    [
        (
            lambda: count_overlap(np.ones((2, 2), np.int32), np.ones((2, 3), np.int32)),
            "expected an estimate of the reference's size (2, 2), found (2, 3); score each estimate",
        ),
        (
            lambda: count_membranes(np.ones((2, 2), int), np.ones((2, 2, 2))),
            "expected probabilities of the reference's size (2, 2), found (2, 2, 2); score the map of one class",
        ),
        (
            lambda: count_membranes(np.full((2, 2), 3), np.ones((2, 2))),
            "expected classes 0 to 1 in the reference, found 3",
        ),
        (
            lambda: membrane_scores([]),
            "expected slices that were all scored at the same thresholds, found 0 kinds among 0",
        ),
        (
            lambda: membrane_scores([MembraneCurve((0.1,), {}), MembraneCurve((0.2,), {})]),
            "found 2 kinds among 2 slices; score them together",
        ),
    ],
)
def test_messages_say_what_was_found(call, sentence):
    with pytest.raises(DataError, match=re.escape(sentence)):
        call()
