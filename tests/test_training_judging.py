"""How held-out images judge: one number, a first decision and the best one, by task."""

import numpy as np
import pytest

from ushape.targets.maps import Encoding
from ushape.training.judging import Judge

OBJECTS = Judge("instances", ("background", "object"), Encoding("border", border_width=2))
TWO = Judge("semantic", ("membrane", "cell"), Encoding("semantic", n_classes=2))
THREE = Judge("semantic", ("a", "b", "c"), Encoding("semantic", n_classes=3))


def squares(*sides, size=40):
    """Instances: squares of these sides along the diagonal."""
    mask, place = np.zeros((size, size), np.int32), 1
    for number, side in enumerate(sides, start=1):
        mask[place : place + side, place : place + side] = number
        place += side + 1
    return mask


def test_what_can_be_tuned():
    assert [judge.tunes for judge in (OBJECTS, TWO, THREE)] == [True, True, False]
    assert [judge.of_two_classes for judge in (OBJECTS, TWO, THREE)] == [False, True, False]


def test_objects_are_judged_by_their_mean_precision_and_classes_by_dice():
    mask = squares(10, 12)
    assert OBJECTS.score([mask], [mask]) == 1
    # One of two found: half of the matches that count, whatever the overlap asked for.
    assert OBJECTS.score([mask], [np.where(mask == 1, 1, 0)]) == pytest.approx(0.5)
    classes = np.minimum(mask, 1)
    assert TWO.score([classes], [classes]) == 1
    wrong = 1 - classes
    assert TWO.score([classes], [wrong]) == 0
    assert THREE.score([classes + (mask > 1)], [classes]) < 1


def test_pieces_smaller_than_any_that_was_drawn_are_noise_where_there_are_two_classes():
    masks = [np.minimum(squares(4, 10, 20), 1)]
    # Half of the smallest (16 px), or a twentieth of the median (100 px), whichever is less.
    assert TWO.first_decision(masks, 2).min_size == 5
    assert TWO.first_decision([np.minimum(squares(2, 30), 1)], 2).min_size == 2
    assert THREE.first_decision(masks, 2).min_size == TWO.first_decision([np.zeros((9, 9), np.int32)], 2).min_size


def test_the_best_threshold_is_found_and_nothing_else_changes():
    mask = np.minimum(squares(10, 12), 1)
    inside = np.where(mask == 1, 0.9, 0.48).astype(np.float32)
    first = TWO.first_decision([mask], 2)
    best = TWO.best_decision(first, [np.stack([1 - inside, inside])], [mask])
    assert ((inside > best.mask_threshold) == mask).all()
    assert best.mask_threshold != first.mask_threshold
    assert (best.min_size, best.seed_threshold) == (first.min_size, first.seed_threshold)


def test_how_sure_the_network_was_is_counted_of_the_foreground_and_of_each_class_of_several():
    two, three = np.full((2, 8, 8), 0.5, np.float32), np.full((3, 8, 8), 1 / 3, np.float32)
    reference = np.zeros((8, 8), np.int32)
    assert TWO.calibration(two, reference).foreground
    assert not THREE.calibration(three, reference).foreground
