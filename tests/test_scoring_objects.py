"""Object scores: drawn by hand, against a slow double loop and an optimal assignment, and the empty case."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from ushape.errors import DataError
from ushape.scoring.objects import (
    THRESHOLDS,
    average_precision,
    count_objects,
    f1,
    mean_average_precision,
    mean_over_images,
    object_scores,
    panoptic_quality,
    precision,
    recall,
    score_of_choices,
    seg_score,
)


def drawn(*rows):
    """A mask from text: digits are ids, '.' is background, '#' is ignore."""
    return np.array([[{".": 0, "#": -1}.get(c, ord(c) - ord("0")) for c in row] for row in rows], np.int32)


def blobs(seed, size=(48, 48), n=12):
    """Overlapping rectangles with ids that have gaps."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.int32)
    for _ in range(n):
        corner = [rng.integers(0, s - 4) for s in size]
        box = tuple(slice(c, c + rng.integers(3, 14)) for c in corner)
        mask[box] = rng.integers(1, 60)
    return mask


def nudged(mask, seed):
    """An estimate that resembles the mask: shifted by a pixel, other ids, some objects lost, some invented."""
    rng = np.random.default_rng(seed + 1000)
    estimate = np.roll(mask, rng.integers(-1, 2, mask.ndim), range(mask.ndim))
    estimate = np.where(estimate > 0, 1000 - 7 * estimate, 0)
    ids = np.unique(estimate[estimate > 0])
    estimate[np.isin(estimate, ids[rng.random(len(ids)) < 0.15])] = 0
    estimate[:4, :5] = 2000
    return estimate


def slow_iou(reference, estimate):
    """(reference ids, estimate ids, IoU table, share of each reference object covered) by a double loop."""
    valid = reference != -1
    reference_ids = [i for i in np.unique(reference) if i > 0]
    estimate_ids = [i for i in np.unique(estimate) if i > 0]
    iou = np.zeros((len(reference_ids), len(estimate_ids)))
    cover = np.zeros_like(iou)
    for a, r in enumerate(reference_ids):
        for b, e in enumerate(estimate_ids):
            one, two = reference == r, (estimate == e) & valid
            iou[a, b] = (one & two).sum() / (one | two).sum()
            cover[a, b] = (one & two).sum() / one.sum()
    return reference_ids, estimate_ids, iou, cover


def slow_counts(reference, estimate, threshold):
    """(TP, FP, FN, sum of matched IoU) by an optimal assignment and the written rule for ignored pixels."""
    reference_ids, estimate_ids, iou, _ = slow_iou(reference, estimate)
    above = np.where(iou > threshold, iou, 0)
    rows, columns = linear_sum_assignment(-above)
    matched = [(a, b) for a, b in zip(rows, columns, strict=True) if above[a, b] > 0]
    free = set(range(len(estimate_ids))) - {b for _, b in matched}
    false = sum((reference[estimate == estimate_ids[b]] == -1).mean() <= 0.5 for b in free)
    return len(matched), int(false), len(reference_ids) - len(matched), sum(above[a, b] for a, b in matched)


def slow_seg(reference, estimate):
    """SEG by its definition, one object at a time; ignored pixels are background, as in the challenge."""
    _, _, iou, cover = slow_iou(np.maximum(reference, 0), estimate)
    return [sum(iou[a, b] for b in range(iou.shape[1]) if cover[a, b] > 0.5) for a in range(iou.shape[0])]


REFERENCE = drawn(
    "1111......",
    "1111..222.",
    "1111..222.",
    "......222.",
)


def test_the_same_mask_under_other_ids_is_perfect():
    estimate = np.where(REFERENCE > 0, 70 - REFERENCE, 0)
    scores = object_scores([count_objects(REFERENCE, estimate)])
    n = {"n_reference": 2, "n_estimate": 2, "n_images": 1, "n_incomplete": 0}
    assert all(value == 1 for name, value in scores.items() if name not in n)
    assert {name: scores[name] for name in n} == n


def test_a_shifted_object_has_the_overlap_that_one_counts_by_hand():
    estimate = np.roll(REFERENCE, 1, axis=1)
    counts = count_objects(REFERENCE, estimate)
    # 9 of 15 pixels, and 6 of 12.
    assert counts.seg == pytest.approx((9 / 15, 6 / 12))
    assert counts.ious == pytest.approx((9 / 15,))
    assert (counts.n_reference, counts.n_estimate) == (2, 2)
    assert [average_precision([counts], t) for t in (0.5, 0.6, 0.75)] == [pytest.approx(1 / 3), 0, 0]


def test_a_split_object_is_one_hit_and_one_invention():
    estimate = drawn("3444......", "3444..222.", "3444..222.", "......222.")
    counts = [count_objects(REFERENCE, estimate)]
    assert average_precision(counts, 0.5) == pytest.approx(2 / 3)
    assert f1(counts, 0.5) == pytest.approx(4 / 5)
    assert precision(counts, 0.5) == pytest.approx(2 / 3)
    assert recall(counts, 0.5) == 1
    assert panoptic_quality(counts) == pytest.approx((9 / 12 + 1) / 2.5)
    assert seg_score(counts) == pytest.approx((9 / 12 + 1) / 2)
    assert average_precision(counts, 0.75) == pytest.approx(1 / 4)


def test_merged_objects_are_one_miss():
    counts = [count_objects(drawn("111122"), drawn("333333"))]
    # The merged object covers both, so SEG gives each its IoU, while only one can be a match.
    assert seg_score(counts) == pytest.approx((4 / 6 + 2 / 6) / 2)
    assert recall(counts, 0.5) == 0.5
    assert precision(counts, 0.5) == 1
    assert average_precision(counts, 0.5) == 0.5


def test_exactly_half_is_no_match():
    counts = count_objects(drawn("11"), drawn("23"))
    assert counts.seg == (0.0,)
    assert counts.ious == ()


@pytest.mark.parametrize("size", [(48, 48), (14, 24, 20)])
@pytest.mark.parametrize("seed", range(6))
def test_a_slow_double_loop_and_an_optimal_assignment_count_the_same(seed, size):
    reference = blobs(seed, size)
    estimate = nudged(reference, seed)
    rng = np.random.default_rng(seed)
    reference[rng.random(size) < 0.01] = -1
    reference[:3] = -1
    counts = count_objects(reference, estimate)
    assert counts.seg == pytest.approx(slow_seg(reference, estimate), abs=1e-12)
    for threshold in THRESHOLDS:
        true, false, missed, quality = slow_counts(reference, estimate, threshold)
        assert counts.n_true_positives(threshold) == true
        assert counts.n_false_positives(threshold) == false
        assert counts.n_false_negatives(threshold) == missed
        assert average_precision([counts], threshold) == pytest.approx(true / (true + false + missed))
        if threshold == 0.5:
            assert true >= 1
            assert panoptic_quality([counts]) == pytest.approx(quality / (true + false / 2 + missed / 2))
    expected = np.mean([average_precision([counts], t) for t in np.arange(0.5, 0.99, 0.05)])
    assert mean_average_precision([counts]) == pytest.approx(expected)


masks = arrays(np.int32, (6, 7), elements=st.integers(-1, 4))


@settings(max_examples=60, deadline=None)
@given(masks, masks)
def test_any_two_masks_agree_with_the_double_loop(reference, estimate):
    counts = count_objects(reference, estimate)
    assert counts.seg == pytest.approx(slow_seg(reference, estimate), abs=1e-12)
    true, false, missed, _ = slow_counts(reference, estimate, 0.5)
    assert (counts.n_true_positives(0.5), counts.n_false_positives(0.5)) == (true, false)
    assert counts.n_false_negatives(0.5) == missed


@settings(max_examples=60, deadline=None)
@given(masks.map(lambda m: np.maximum(m, 0)), masks.map(lambda m: np.maximum(m, 0)))
def test_swapping_the_sides_swaps_precision_and_recall(one, two):
    there, back = [count_objects(one, two)], [count_objects(two, one)]
    for threshold in (0.5, 0.75):
        assert precision(there, threshold) == pytest.approx(recall(back, threshold), nan_ok=True)
        assert average_precision(there, threshold) == pytest.approx(average_precision(back, threshold), nan_ok=True)
    assert panoptic_quality(there) == pytest.approx(panoptic_quality(back), nan_ok=True)


def test_ignored_pixels_are_in_no_union_but_segs():
    counts = count_objects(drawn("111###"), drawn("222222"))
    # The challenge knows no ignored pixels.
    assert counts.seg == (0.5,)
    # Exactly half of the estimate is ignored: it is still counted.
    assert counts.n_estimate == 1
    assert counts.ious == (1.0,)


def test_an_unmatched_estimate_mostly_on_ignored_pixels_is_not_counted():
    reference = drawn("11..####")
    invented = count_objects(reference, drawn("22.33333"))
    assert invented.n_estimate == 1
    assert average_precision([invented], 0.5) == 1
    even = count_objects(reference, drawn("22.33..."))
    assert even.n_estimate == 2
    assert average_precision([even], 0.5) == 0.5


def test_an_estimate_mostly_on_ignored_pixels_still_counts_where_it_matches():
    counts = count_objects(drawn("1111#######"), drawn(".2222222222"))
    assert (counts.n_estimate, counts.ious, counts.margin_ious) == (0, (), (0.75,))
    assert average_precision([counts], 0.5) == 1
    # Not matched at this threshold, it is a miss but no invention.
    assert average_precision([counts], 0.9) == 0
    assert math.isnan(precision([counts], 0.9))


def test_an_incomplete_image_counts_for_seg_and_recall_only():
    whole = count_objects(drawn("11.22"), drawn("11..."))
    part = count_objects(drawn("11..."), drawn("11.33"), complete=False)
    counts = [whole, part]
    assert seg_score(counts) == pytest.approx(2 / 3)
    assert recall(counts, 0.5) == pytest.approx(2 / 3)
    for score in (average_precision, f1, precision, panoptic_quality, mean_average_precision):
        assert score(counts) == score([whole])
    assert mean_over_images(average_precision, counts) == 0.5
    assert object_scores(counts)["n_incomplete"] == 1


def test_pooled_and_per_image_scores_differ_as_they_should():
    large = count_objects(drawn("1.2.3.4"), drawn("1.2.3.4"))
    small = count_objects(drawn("1......"), drawn("......1"))
    assert average_precision([large, small], 0.5) == pytest.approx(4 / 6)
    assert mean_over_images(average_precision, [large, small]) == pytest.approx(1 / 2)


def test_choices_are_made_by_the_mean_precision_of_all_images_or_by_0():
    masks = [drawn("1.2.3.4"), drawn("1......")]
    others = [drawn("1.2.3.4"), drawn("......1")]
    assert score_of_choices(masks, others) == mean_average_precision(
        [count_objects(one, other) for one, other in zip(masks, others, strict=True)]
    )
    nothing = drawn("....")
    assert score_of_choices([nothing], [nothing]) == score_of_choices([], []) == 0


def test_an_image_without_any_object_scores_one_alone_and_nothing_pooled():
    nothing = drawn("....")
    empty, missed = count_objects(nothing, nothing), count_objects(drawn("11.."), nothing)
    invented = count_objects(nothing, drawn("..22"))
    assert math.isnan(average_precision([empty], 0.5))
    assert mean_over_images(average_precision, [empty]) == 1
    assert average_precision([missed], 0.5) == average_precision([invented], 0.5) == 0
    assert average_precision([empty, missed], 0.5) == 0
    assert mean_over_images(average_precision, [empty, missed]) == 0.5
    assert math.isnan(seg_score([empty, invented]))
    assert math.isnan(mean_over_images(f1, []))
    scores = object_scores([empty])
    assert "AP@0.5" not in scores
    assert "SEG" not in scores
    assert scores["AP@0.5 per image"] == scores["PQ per image"] == 1


def test_scores_are_json_and_named_as_promised():
    reference = blobs(3)
    scores = object_scores([count_objects(reference, nudged(reference, 3))])
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    expected = {f"AP@{t}{how}" for t in ("0.5", "0.75", "0.9", "0.5:0.95") for how in ("", " per image")}
    expected |= {"F1@0.5", "F1@0.75", "F1@0.9", "F1@0.5 per image", "precision@0.5", "recall@0.5"}
    expected |= {"PQ", "PQ per image", "SEG", "n_reference", "n_estimate", "n_images", "n_incomplete"}
    assert set(scores) == expected


def test_large_ids_and_unsigned_files_are_read():
    reference = np.array([[0, 2**31 + 5, 2**31 + 5, 65535]], np.uint32)
    counts = count_objects(reference, reference.astype(np.int64))
    assert counts.ious == (1.0, 1.0)


def test_the_message_says_what_was_found():
    with pytest.raises(
        DataError, match=r"^expected an estimate of the reference's size \(2, 2\), found \(2, 3\); score each estimate"
    ):
        count_objects(np.zeros((2, 2), int), np.zeros((2, 3), int))


def test_an_image_that_is_all_ignored_is_in_no_mean_over_images():
    squares = drawn("11..", "11..")
    ignored, missed = count_objects(np.full_like(squares, -1), squares), count_objects(squares, squares * 0)
    assert (ignored.scorable, missed.scorable) == (False, True)
    for score in (average_precision, mean_average_precision, f1, panoptic_quality):
        assert math.isnan(mean_over_images(score, [ignored]))
        assert mean_over_images(score, [ignored, missed]) == 0
    assert set(object_scores([ignored])) == {"n_reference", "n_estimate", "n_images", "n_incomplete"}
