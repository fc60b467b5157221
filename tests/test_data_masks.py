"""What masks mean: small masks drawn by hand, and the rule they must give."""

import numpy as np
import pytest

from ushape.data.images import write_labels
from ushape.data.masks import mask_facts, read_mask_by_rule, recognise_masks
from ushape.errors import DataError

# Two objects and three objects, each connected; ids start afresh.
TWO = np.array([[1, 1, 0, 2], [0, 0, 0, 2], [0, 0, 0, 0]], np.int32)
THREE = np.array([[1, 0, 3, 3], [0, 2, 0, 3], [0, 2, 0, 0]], np.int32)
# Classes 1 and 2 in several places.
REGIONS = np.array([[1, 0, 1, 2], [0, 2, 0, 0], [1, 0, 2, 1]], np.int32)


def rule_of(*masks, task=None):
    return recognise_masks([mask_facts(np.asarray(m, np.int32)) for m in masks], "cells", task)


def read_back(tmp_path, mask, rule):
    np.save(tmp_path / "m.npy", np.asarray(mask))
    return read_mask_by_rule(tmp_path / "m.npy", None, rule)


def test_facts_count_the_ids_of_one_piece():
    facts = mask_facts(REGIONS)
    assert (facts.values, facts.ids, facts.n_connected) == ((0, 1, 2), (1, 2), 0)
    assert mask_facts(THREE).n_connected == 3
    assert mask_facts(np.array([[1, 0], [0, 1]], np.int32)).n_connected == 1  # a corner connects
    assert mask_facts(np.array([[-1, 0]], np.int32)).values == (0,)


@pytest.mark.parametrize(
    "values, expected", [((0, 255), (0, 1)), ((0, 1), (0, 1)), ((1, 2), (0, 1)), ((3, 200), (0, 1)), ((0, 7), (0, 1))]
)
def test_two_values_are_background_and_foreground_whatever_they_are(tmp_path, values, expected):
    mask = np.array(values)[np.array([[0, 1], [1, 0]])]
    rule = rule_of(mask, mask)
    assert (rule.task, rule.classes) == ("semantic", ("background", "foreground"))
    assert rule.finding == (
        f"The masks hold two values ({values[0]} and {values[1]}): read as background and foreground."
    )
    np.testing.assert_array_equal(read_back(tmp_path, mask, rule), np.array(expected)[np.array([[0, 1], [1, 0]])])


def test_one_value_is_all_background_or_all_foreground(tmp_path):
    np.testing.assert_array_equal(read_back(tmp_path, [[0, 0]], rule_of([[0, 0]])), [[0, 0]])
    np.testing.assert_array_equal(read_back(tmp_path, [[255, 255]], rule_of([[255, 255]])), [[1, 1]])


def test_masks_of_0_and_1_mix_with_masks_of_0_and_255(tmp_path):
    rule = rule_of([[0, 1]], [[0, 255]])
    assert rule.classes == ("background", "foreground")
    np.testing.assert_array_equal(read_back(tmp_path, [[255, 0, 1]], rule), [[1, 0, 1]])


def test_ids_that_start_afresh_and_are_connected_are_instances(tmp_path):
    rule = rule_of(TWO, THREE)
    assert (rule.task, rule.classes) == ("instances", ("background", "object"))
    assert "(5 in 2 masks)" in rule.finding
    np.testing.assert_array_equal(read_back(tmp_path, THREE, rule), THREE)


def test_many_ids_in_one_mask_are_instances_even_with_holes():
    mask = np.zeros((20, 20), np.int32)
    mask[::2, ::2] = 5 + 3 * np.arange(100).reshape(10, 10)
    assert rule_of(mask).task == "instances"


def test_values_in_several_pieces_are_classes():
    rule = rule_of(REGIONS, REGIONS[::-1])
    assert (rule.task, rule.classes) == ("semantic", ("background", "class 1", "class 2"))
    assert rule.finding == "The masks hold the same 3 values (0, 1 and 2): read as classes."


def test_one_region_of_each_class_in_every_image_is_classes():
    cup_and_disc = np.array([[0, 1, 1, 1], [0, 1, 2, 1], [0, 1, 1, 1]])
    assert rule_of(*[cup_and_disc] * 5).task == "semantic"
    assert rule_of(*[cup_and_disc] * 5, THREE).task == "instances"  # another number once


def test_class_numbers_with_holes_are_closed_and_told(tmp_path):
    mask = np.array([0, 85, 170])[REGIONS]
    rule = rule_of(mask, mask)
    assert rule.classes == ("background", "class 85", "class 170")
    assert rule.finding == (
        "The masks hold the same 3 values (0, 85 and 170): read as classes, numbered 0 to 2 without holes, "
        "0 as background."
    )
    np.testing.assert_array_equal(read_back(tmp_path, mask, rule), REGIONS)


def test_255_after_consecutive_classes_is_ignored(tmp_path):
    mask = np.where(REGIONS == 0, 255, REGIONS - 1)
    rule = rule_of(np.where(REGIONS == 0, 255, REGIONS), REGIONS)
    assert rule.finding.endswith("read as classes; pixels of value 255 are ignored.")
    assert rule.classes == ("background", "class 1", "class 2")
    np.testing.assert_array_equal(
        read_back(tmp_path, np.where(REGIONS == 0, 255, REGIONS), rule), np.where(REGIONS == 0, -1, REGIONS)
    )
    assert mask.max() == 255


def test_minus_one_stays_ignored(tmp_path):
    mask = np.array([[-1, 0, 255]])
    np.testing.assert_array_equal(read_back(tmp_path, mask, rule_of(mask)), [[-1, 0, 1]])
    np.testing.assert_array_equal(read_back(tmp_path, [[-1, 0, 2]], rule_of(TWO, THREE)), [[-1, 0, 2]])


def test_smoothed_masks_are_refused():
    smoothed = np.arange(100).reshape(10, 10).repeat(2, 1)
    with pytest.raises(DataError, match=r"cells: expected masks of two values, of a few classes .*found 100 different"):
        rule_of(np.concatenate([smoothed, smoothed[:, ::-1] * 0, smoothed]))


def test_a_value_that_was_not_there_at_opening_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"m\.npy: expected only the mask values 0 and 255, found also 3; correct"):
        read_back(tmp_path, [[0, 3]], rule_of([[0, 255]]))


def test_a_task_takes_two_valued_masks_apart(tmp_path):
    mask = np.array([[255, 0, 255], [255, 0, 0]])
    rule = rule_of(mask, task="instances")
    assert rule.task == "instances"
    np.testing.assert_array_equal(read_back(tmp_path, mask, rule), [[1, 0, 2], [1, 0, 0]])


def test_a_task_overrules_ids_and_classes(tmp_path):
    np.testing.assert_array_equal(read_back(tmp_path, THREE, rule_of(TWO, THREE, task="semantic")), THREE > 0)
    rule = rule_of(REGIONS, task="instances")
    assert rule.task == "instances"
    np.testing.assert_array_equal(read_back(tmp_path, REGIONS, rule), REGIONS)


def test_a_page_is_read_by_the_rule(tmp_path):
    stack = np.stack([TWO * 255 // 2, THREE * 0])
    write_labels(tmp_path / "m.tif", stack)
    rule = rule_of([[0, 127, 255]])
    np.testing.assert_array_equal(read_mask_by_rule(tmp_path / "m.tif", 0, rule), TWO)
