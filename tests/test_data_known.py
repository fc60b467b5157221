"""Masks that lack some of the classes that the data are known to have."""

import numpy as np
import pytest

from ushape.data.catalog import open_dataset
from ushape.data.colours import pack_colour
from ushape.data.folder import open_folder
from ushape.data.known import known_mapping
from ushape.errors import DataError
from written_files import blobs, save

NUMBERS = ("background", "class 1", "class 2")
GREYS = ("background", "class 85", "class 170")
WORDS = ("soil", "root", "stone")
BLACK, RED, GREEN, BLUE = (pack_colour(c) for c in ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)))


@pytest.mark.parametrize(
    "values, known, expected",
    [
        ((0, 2), NUMBERS, {0: 0, 1: 1, 2: 2}),
        ((0,), NUMBERS, {0: 0, 1: 1, 2: 2}),
        ((), NUMBERS, {0: 0, 1: 1, 2: 2}),
        ((0, 170), GREYS, {0: 0, 85: 1, 170: 2}),
        ((1, 2), ("background", "class 2", "class 3"), {1: 0, 2: 1, 3: 2}),  # the lowest value is the background
        ((0, 2), WORDS, {0: 0, 1: 1, 2: 2}),
        ((0, 2, 255), NUMBERS, {0: 0, 1: 1, 2: 2, 255: -1}),
        ((0, 255), ("background", "class 85", "class 255"), {0: 0, 85: 1, 255: 2}),
        ((0, 85, 255), ("background", "class 85", "class 255"), {0: 0, 85: 1, 255: 2}),
        ((BLACK, GREEN), ("background", "red", "green"), {BLACK: 0, GREEN: 2}),
    ],
)
def test_values_are_what_the_names_say(values, known, expected):
    assert known_mapping(values, known) == expected


@pytest.mark.parametrize(
    "values, known",
    [
        ((0, 3), NUMBERS),
        ((0, 255), NUMBERS),  # painted masks say nothing of classes 1 and 2
        ((0, 1), GREYS),
        ((85, 100), GREYS),
        ((0, 85), WORDS),
        ((0, 1), ("background", "foreground")),
        ((BLACK, BLUE), ("background", "red", "green")),
        ((BLACK, BLUE, RED), ("background", "red", "green")),
    ],
)
def test_values_that_do_not_fit_are_left_to_the_guess(values, known):
    assert known_mapping(values, known) is None


def write(root, *masks):
    for i, mask in enumerate(masks):
        save(root / "images" / f"{i}.png")
        save(root / "masks" / f"{i}.png", mask)
    return root


@pytest.mark.parametrize("values", [(1, 1), (2, 2), (1, 2), (2, 255, 2)])
def test_a_folder_is_read_by_the_classes_that_it_is_known_to_have(tmp_path, values):
    mask = blobs(*values)
    root = write(tmp_path / "cells", mask, mask)
    dataset = open_dataset(str(root), task="semantic", classes=NUMBERS)
    assert (dataset.task, dataset.classes) == ("semantic", NUMBERS)
    np.testing.assert_array_equal(dataset.samples[0].read_mask(), np.where(mask == 255, -1, mask.astype(int)))
    assert dataset.with_classes(NUMBERS) is dataset
    assert open_folder(root, classes=WORDS).classes == WORDS


def test_what_was_read_by_known_classes_is_said(tmp_path):
    dataset = open_dataset(write(tmp_path, blobs(2, 2)), classes=NUMBERS)
    assert dataset.findings[0] == ("The masks are read by the classes that are known: 0 as background, 2 as class 2.")


def test_known_classes_do_not_overrule_a_description_or_objects(tmp_path):
    root = write(tmp_path, blobs(1, 2))
    assert open_folder(root, task="instances", classes=NUMBERS).task == "instances"
    (root / "dataset.toml").write_text(
        'task = "semantic"\n[[classes]]\nname = "class 2"\nvalue = 0\n[[classes]]\nname = "background"\nvalue = 1\n'
        '[[classes]]\nname = "class 1"\nvalue = 2\n'
    )
    dataset = open_folder(root, classes=NUMBERS)
    assert dataset.classes == ("class 2", "background", "class 1")
    np.testing.assert_array_equal(dataset.with_classes(NUMBERS).samples[0].read_mask() == 1, blobs(1, 2) == 2)


def test_a_part_is_read_by_known_classes(tmp_path):
    write(tmp_path / "cells" / "test", blobs(2, 2))
    write(tmp_path / "cells" / "val", blobs(2, 2))
    dataset = open_dataset(f"{tmp_path / 'cells'}:test", task="semantic", classes=NUMBERS)
    np.testing.assert_array_equal(dataset.samples[0].read_mask(), blobs(2, 2))


def test_masks_that_do_not_fit_are_refused_as_before(tmp_path):
    dataset = open_dataset(write(tmp_path, blobs(255, 255)), task="semantic", classes=NUMBERS)
    with pytest.raises(DataError, match="expected only the classes background, class 1, class 2, found foreground"):
        dataset.with_classes(NUMBERS)


def test_nnunet_folders_are_read_by_known_classes(tmp_path):
    for i in range(2):
        save(tmp_path / "imagesTr" / f"x{i}_0000.png")
        save(tmp_path / "labelsTr" / f"x{i}.png", blobs(2, 2) if i else blobs(2, 1))
    assert open_folder(tmp_path).classes == NUMBERS
    assert open_folder(tmp_path, classes=WORDS).classes == WORDS
