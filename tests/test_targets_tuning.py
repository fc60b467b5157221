"""Choosing a decision: the middle of a plateau rather than a spike, and nothing but what validation images can tell."""

from dataclasses import replace

import numpy as np
import pytest

from test_targets_instances import DRAWN, perfect, row_maps, two_cells
from ushape.errors import DataError
from ushape.scoring.pixels import confusion_matrix, dice_per_class
from ushape.targets import tuning
from ushape.targets.instances import Decision, default_decision
from ushape.targets.maps import Encoding
from ushape.targets.tuning import THRESHOLDS, count_decisions, few_decisions, tune_decision, tune_threshold


def count_agreement(references, estimates):
    """A score that only compares numbers of objects."""
    return -float(
        np.mean([abs(len(np.unique(r)) - len(np.unique(e))) for r, e in zip(references, estimates, strict=True)])
    )


def test_tuning_takes_the_middle_of_the_plateau():
    # The saddle between the two objects is at 0.55, their summits are at 0.95: any threshold from 0.6 to 0.9 is right.
    column = np.interp(np.arange(41), [0, 10, 20, 30, 40], [0.1, 0.95, 0.55, 0.95, 0.1])
    maps = row_maps(column).repeat(9, axis=1)
    reference = np.where(maps[1] > 0.5, np.where(np.arange(41) < 20, 1, 2), 0).astype(np.int32)
    decision, value = tune_decision([maps], [reference], Encoding("ridge"), count_agreement)
    assert value == 0
    assert decision.seed_threshold in (0.7, 0.8)
    assert decision.mask_threshold == 0.5
    assert decision.smoothing == 1.0


def test_tuning_prefers_a_plateau_to_a_spike():
    curve = {0.2: 0.0, 0.3: 0.83, 0.4: 0.0, 0.5: 0.7, 0.6: 0.8, 0.7: 0.8, 0.8: 0.8, 0.9: 0.7}
    maps = np.zeros((Encoding("ridge").n_channels, 1, 24), np.float32)
    tried = []

    def score(references, estimates):
        tried.append(estimates)
        return next(scores)

    scores = iter([*curve.values(), *[0.8] * 40])
    decision, value = tune_decision([maps], [np.ones((1, 24), np.int32)], Encoding("ridge"), score)
    assert decision.seed_threshold == 0.7
    assert value == 0.8
    # 8 + 5 + 3 + 4 values, of which 3 had been tried before.
    assert len(tried) == 17
    # Larger objects would have had a fifth size.
    assert count_decisions(Encoding("ridge")) == 18


@pytest.mark.parametrize("kind", ["ridge", "border", "distance", "semantic"])
def test_no_more_decisions_are_tried_than_counted(kind):
    tried, encoding = [], Encoding(kind)
    reference = np.zeros((60, 60), np.int32)
    reference[5:50, 5:50] = 1
    tune_decision(
        [np.zeros((encoding.n_channels, 60, 60), np.float32)],
        [reference],
        encoding,
        lambda *_: tried.append(1) or 0.0,
    )
    assert count_decisions(encoding) - 1 <= len(tried) <= count_decisions(encoding)


def test_inside_rims_merging_is_tuned_and_seeds_are_not():
    # Between two cells the rim is at 0.6 to 0.7: what merges above 0.75 finds them.
    maps = two_cells(np.linspace(0.6, 0.7, 20))
    maps = np.where(maps[1] < 1, maps, np.array([0, 1, 0], np.float32)[:, None, None])
    reference = np.where(np.arange(41) < 20, 1, 2).repeat(20).reshape(41, 20).T.astype(np.int32)
    decision, value = tune_decision([maps], [reference], Encoding("border"), count_agreement)
    default = default_decision(Encoding("border"), 410)
    assert value == 0
    assert decision.merging > 0.65 == default.merging
    assert (decision.seed_threshold, decision.smoothing) == (default.seed_threshold, default.smoothing)


@pytest.mark.parametrize(("kind", "merging"), [("border", (0.5, 0.8)), ("distance", (0.6, 0.9))])
def test_tuning_stays_where_a_pass_or_a_border_means_something(kind, merging):
    encoding, tried = Encoding(kind), set()

    def read(maps, encoding, decision):
        tried.add(decision)
        return np.ones(maps.shape[1:], np.int32)

    maps = np.zeros((encoding.n_channels, 4, 4), np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "maps_to_instances", read)
        tune_decision([maps], [np.ones((4, 4), np.int32)], encoding, lambda references, estimates: 0.0)
    assert (min(d.merging for d in tried), max(d.merging for d in tried)) == merging
    assert len({d.merging for d in tried}) == 7
    assert {d.mask_threshold for d in tried} == {0.4, 0.5, 0.6}
    assert {(d.seed_threshold, d.smoothing) for d in tried} == {
        (default_decision(encoding, 16).seed_threshold, default_decision(encoding, 16).smoothing)
    }


def tuned_by(score, kind):
    """(decision, value) on one image, by a score of the decisions themselves."""
    encoding = Encoding(kind)
    maps = np.zeros((encoding.n_channels, 4, 4), np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "maps_to_instances", lambda maps, encoding, decision: decision)
        return tune_decision([maps], [np.ones((4, 4), np.int32)], encoding, lambda references, read: score(read[0]))


@pytest.mark.parametrize("kind", ["border", "distance", "ridge", "semantic"])
@pytest.mark.parametrize("way", [-0.1, 0.1])
@pytest.mark.parametrize(("gain", "is_much"), [(0.015, False), (0.025, True)])
def test_outlines_are_moved_by_much_only(kind, way, gain, is_much):
    standing = default_decision(Encoding(kind), 16).mask_threshold
    decision, value = tuned_by(lambda d: 0.5 + gain * min(1, (d.mask_threshold - standing) / way), kind)
    moves = kind in ("ridge", "semantic") or is_much
    if kind in ("border", "distance"):
        assert decision.mask_threshold == pytest.approx(standing + way * moves)
    assert value == pytest.approx(0.5 + gain * moves)


@pytest.mark.parametrize("kind", ["border", "distance"])
def test_what_merges_and_what_is_too_small_moves_by_little_too(kind):
    default = default_decision(Encoding(kind), 16)
    merging = tuned_by(lambda d: 0.5 - 0.1 * abs(d.merging - default.merging + 0.05), kind)[0]
    assert merging == replace(default, merging=merging.merging)
    assert merging.merging == pytest.approx(default.merging - 0.05)
    size = tuned_by(lambda d: 0.5 + 0.005 * (d.min_size >= 2), kind)[0]
    assert size.min_size == 2


def test_outlines_are_moved_where_one_half_has_no_score():
    known = {0.4: 0.3, 0.5: float("nan"), 0.6: 0.1}
    decision, value = tuned_by(lambda d: known[d.mask_threshold], "border")
    assert (decision.mask_threshold, value) == (0.4, 0.3)


def test_tuning_passes_over_values_that_have_no_score():
    nan = float("nan")
    scores = iter([nan, nan, nan, 0.1, 0.9, 0.9, 0.9, 0.1, *[0.9] * 40])
    maps = [np.zeros((2, 1, 24), np.float32)]
    decision, _ = tune_decision(maps, [np.ones((1, 24), np.int32)], Encoding("ridge"), lambda r, e: next(scores))
    assert decision.seed_threshold == 0.7


def test_tuning_without_any_meaningful_score_keeps_the_default():
    mask = DRAWN["alone"]
    encoding = Encoding("border")
    decision, value = tune_decision([perfect(mask, encoding)], [mask], encoding, lambda r, e: float("nan"))
    assert decision == default_decision(encoding, float((mask > 0).sum()))
    assert np.isnan(value)


def test_tuning_passes_references_first_and_every_image():
    mask = DRAWN["alone"]
    encoding = Encoding("semantic")
    maps = perfect((mask > 0).astype(np.int32), encoding)
    seen = []

    def score(references, estimates):
        seen.append((references, estimates))
        return count_agreement(references, estimates)

    decision, value = tune_decision([maps, maps], [mask, mask], encoding, score)
    assert value == 0
    assert all(r[0] is mask and len(r) == len(e) == 2 and e[0].dtype == np.int32 for r, e in seen)
    assert decision.mask_threshold == 0.5


def test_the_best_of_few_decisions_says_how_good_maps_are():
    decision = Decision()
    assert few_decisions(decision, Encoding("semantic", n_classes=3)) == [decision]
    assert [d.mask_threshold for d in few_decisions(decision, Encoding("semantic"))] == [0.4, 0.5, 0.6]
    assert [d.merging for d in few_decisions(decision, Encoding("border"))] == [0.5, 0.65, 0.8]
    assert [d.merging for d in few_decisions(decision, Encoding("distance"))] == [0.7, 0.8, 0.9]
    assert [d.seed_threshold for d in few_decisions(decision, Encoding("ridge"))] == [0.5, 0.7, 0.9]


def mean_dice(references, estimates):
    return float(
        np.mean([dice_per_class(confusion_matrix(r, e, 2)) for r, e in zip(references, estimates, strict=True)])
    )


def two_class_maps(probabilities):
    return np.stack([1 - probabilities, probabilities]).astype(np.float32)


def test_the_threshold_between_two_classes_is_in_the_middle_of_what_is_right():
    rng = np.random.default_rng(0)
    reference = (rng.random((60, 60)) < 0.7).astype(np.int32)
    # Class 1 is at 0.76, class 0 at 0.52: from 0.55 on all is right, at 0.5 nothing of class 0 is.
    maps = two_class_maps(np.where(reference == 1, 0.76, 0.52))
    assert tune_threshold([maps], [reference], mean_dice) == 0.6
    assert tune_threshold([maps[::-1]], [1 - reference], mean_dice) == 0.4
    # From 0.45 to 0.55 all is right.
    maps = two_class_maps(np.where(reference == 1, 0.58, 0.42))
    assert tune_threshold([maps], [reference], mean_dice) == 0.5


def test_few_images_move_a_threshold_no_further_than_a_tenth():
    rng = np.random.default_rng(0)
    reference = (rng.random((60, 60)) < 0.7).astype(np.int32)
    # Each step of the threshold from 0 to 0.9 gains.
    maps = two_class_maps(np.where(reference == 1, 0.95, rng.random((60, 60)) * 0.9))
    assert tune_threshold([maps], [reference], mean_dice) == 0.6
    assert tune_threshold([maps[::-1]], [1 - reference], mean_dice) == 0.4


def test_a_threshold_is_no_lucky_peak():
    curve = dict.fromkeys(THRESHOLDS, 0.7) | {0.4: 0.83, 0.5: 0.79, 0.55: 0.8, 0.6: 0.8}
    scores = iter(curve.values())
    assert tune_threshold([two_class_maps(np.zeros((2, 2)))], [np.ones((2, 2))], lambda r, e: next(scores)) == 0.6


def test_pixels_that_nobody_knows_do_not_move_a_threshold():
    reference = np.tile(np.array([0, 1, 1], np.int32), (30, 10))
    probabilities = np.where(reference == 1, 0.76, 0.52)
    reference[15:] = -1
    probabilities[15:] = 0.45
    assert tune_threshold([two_class_maps(probabilities)], [reference], mean_dice) == 0.6


def test_a_message_says_what_was_found():
    with pytest.raises(DataError, match=r"found 1 maps and 0 references; hold out at least one annotated image"):
        tune_decision([np.zeros((2, 3, 3), np.float32)], [], Encoding("ridge"), count_agreement)
