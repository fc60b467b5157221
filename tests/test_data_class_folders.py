"""A folder for each class."""

import numpy as np
import pytest

from ushape.data.class_folders import class_folders, sorted_classes
from ushape.data.folder import find_parts, open_folder
from ushape.errors import DataError
from written_files import BINARY, IMAGE, save


def write(root, **numbers):
    for name, n in numbers.items():
        for i in range(n):
            save(root / name / f"{i}.png", IMAGE[: 8 + i])


def test_each_folder_is_a_class(tmp_path):
    write(tmp_path, dog=2, cat=3)
    save(tmp_path / "cat" / "colour.jpg", np.dstack([IMAGE] * 3))
    dataset = open_folder(tmp_path)
    assert (dataset.task, dataset.classes) == ("classification", ("cat", "dog"))
    assert [(s.name, s.label) for s in dataset.samples] == [
        *((f"cat_{stem}", 0) for stem in ("0", "1", "2", "colour")),
        *((f"dog_{i}", 1) for i in range(2)),
    ]
    assert (len(dataset.annotated), dataset.problems) == (6, ())
    assert dataset.samples[3].read_image().shape == (3, 24, 32)
    assert dataset.samples[0].read_image().shape == (1, 8, 32)
    assert dataset.findings == (
        "2 folders of images without masks (cat (4), dog (2)): read as classes of whole images.",
    )


def test_classes_are_those_of_all_parts(tmp_path):
    write(tmp_path / "training", ant=1, bee=1, cow=1)
    write(tmp_path / "testing", ant=1, cow=2, dog=1)
    test = open_folder(tmp_path, split="test")
    assert find_parts(tmp_path) == ("train", "test")
    assert open_folder(tmp_path).classes == test.classes == ("ant", "bee", "cow", "dog")
    assert [s.label for s in test.samples] == [0, 2, 2, 3]


def test_classes_inside_a_folder_of_images(tmp_path):
    write(tmp_path / "images", cat=2, dog=2)
    assert open_folder(tmp_path).classes == ("cat", "dog")


def test_a_folder_called_mask_may_be_a_class(tmp_path):
    write(tmp_path, mask=2, no_mask=2)
    for path in (tmp_path / "mask").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    assert open_folder(tmp_path).classes == ("mask", "no_mask")


def test_masks_inside_are_no_classes(tmp_path):
    for name in ("cat", "dog"):
        save(tmp_path / name / "a.png")
        save(tmp_path / name / "a_mask.png", BINARY)
    dataset = open_folder(tmp_path)
    assert (dataset.task, [s.group for s in dataset.samples]) == ("semantic", ["cat", "dog"])


def test_images_beside_the_folders_are_what_is_read(tmp_path):
    write(tmp_path, cat=2, dog=2)
    save(tmp_path / "overview.png")
    assert class_folders(tmp_path) == {}
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.samples] == ["overview"]
    assert "Only the images in the folder itself are read, not those in cat, dog." in dataset.findings


def test_one_folder_of_images_is_no_class(tmp_path):
    write(tmp_path, cat=2)
    assert class_folders(tmp_path) == {}
    dataset = open_folder(tmp_path)
    assert dataset.findings == (
        "No masks: 2 images for prediction.",
        "Everything lies in cat/ inside, which is read.",
    )


def test_broken_images_are_problems(tmp_path):
    write(tmp_path, cat=2, dog=2)
    (tmp_path / "cat" / "1.png").write_bytes(b"x")
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.samples] == ["cat_0", "dog_0", "dog_1"]
    assert "1.png: expected a readable .png file" in dataset.problems[0]


def test_labels_cannot_be_read_as_masks(tmp_path):
    write(tmp_path, cat=1, dog=1)
    with pytest.raises(DataError, match="expected masks for task instances, found images with a label each; add masks"):
        open_folder(tmp_path, task="instances")


def test_dataset_toml_may_order_the_classes(tmp_path):
    write(tmp_path, cat=1, dog=1)
    (tmp_path / "dataset.toml").write_text('[[classes]]\nname = "dog"\n[[classes]]\nname = "cat"\n')
    dataset = open_folder(tmp_path)
    assert dataset.classes == ("dog", "cat")
    assert [s.label for s in dataset.samples] == [1, 0]


def test_classes_are_the_same_however_an_accent_is_written(tmp_path):
    decomposed = "a\u0308"
    write(tmp_path, **{decomposed: 2}, b=2)
    (tmp_path / "dataset.toml").write_text('classes = [{name = "b"}, {name = "\u00e4"}]', encoding="utf-8")
    assert open_folder(tmp_path).classes == ("b", "\u00e4")


def test_numbers_are_sorted_by_size():
    assert sorted_classes(["10", "9", "1", "9"]) == ("1", "9", "10")
    assert sorted_classes(["b", "a10", "a9"]) == ("a10", "a9", "b")
