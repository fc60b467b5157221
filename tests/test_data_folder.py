"""Folders as people have them, written into a temporary folder and opened."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ushape.data.dataset import Spacing
from ushape.data.folder import find_parts, open_folder
from ushape.data.object_folders import read_object_masks
from ushape.errors import DataError

RNG = np.random.default_rng(7)
IMAGE = RNG.integers(0, 255, (24, 32), dtype=np.uint8)
BINARY = np.where(np.add.outer(np.arange(24), np.arange(32)) % 9 < 4, 255, 0).astype(np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize("folder", ["masks", "labels", "annotations", "gt", "Masks"])
@pytest.mark.parametrize("ending", ["", "_mask", "_seg", "_label", "_labels", "_masks"])
def test_images_are_paired_with_masks_by_stem(tmp_path, folder, ending):
    for name in ("a", "b"):
        save(tmp_path / "images" / f"{name}.png", IMAGE)
        save(tmp_path / folder / f"{name}{ending}.tif", BINARY)
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.samples] == ["a", "b"]
    assert (dataset.task, dataset.classes) == ("semantic", ("background", "foreground"))
    assert (dataset.name, dataset.problems) == (tmp_path.name, ())
    sample = dataset.samples[1]
    np.testing.assert_array_equal(sample.read_image(), IMAGE[None])
    np.testing.assert_array_equal(sample.read_mask(), BINARY // 255)
    assert [p.name for p in sample.files] == ["b.png", f"b{ending}.tif"]


def test_a_stem_that_ends_like_a_mask_is_still_an_image(tmp_path):
    save(tmp_path / "images" / "scan_seg.png", IMAGE)
    save(tmp_path / "masks" / "scan_seg.png", BINARY)
    dataset = open_folder(tmp_path)
    assert len(dataset.annotated) == 1
    assert dataset.problems == ()


def test_bad_pairs_become_sentences_and_the_rest_is_usable(tmp_path):
    for name in "abcdefg":
        save(tmp_path / "images" / f"{name}.png", IMAGE)
        save(tmp_path / "masks" / f"{name}.png", BINARY)
    (tmp_path / "masks" / "b.png").unlink()
    save(tmp_path / "masks" / "c.png", BINARY[:20])
    (tmp_path / "images" / "d.png").write_bytes(b"no picture")
    whole = (tmp_path / "masks" / "e.png").read_bytes()
    (tmp_path / "masks" / "e.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "images" / "f.png").unlink()
    (tmp_path / "masks" / "g.png").unlink()
    save(tmp_path / "masks" / "g.tif", RNG.random((24, 32), dtype=np.float32))
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.samples] == ["a", "b", "c", "e", "g"]
    assert [s.name for s in dataset.annotated.samples] == ["a"]
    text = "\n".join(dataset.problems)
    assert "b.png: expected a mask called b or b_mask, found none; kept for prediction" in text
    assert "c.png: expected a mask of the image's size (24, 32), found (20, 32); export it again" in text
    assert "d.png: expected a readable .png file" in text
    assert "e.png: expected a readable .png file" in text
    assert "f.png: expected an image called f, found none; add it or remove the mask" in text
    assert "g.tif: expected whole numbers in a mask, found values between them" in text
    assert len(dataset.problems) == 6


def test_two_files_of_one_stem_are_a_problem(tmp_path):
    save(tmp_path / "images" / "a.png", IMAGE)
    save(tmp_path / "images" / "a.tif", IMAGE)
    save(tmp_path / "masks" / "a.png", BINARY)
    dataset = open_folder(tmp_path)
    assert [s.files[0].name for s in dataset.samples] == ["a.png"]
    assert "a.tif: expected one image called a, found a.png as well, which is used" in dataset.problems[0]


def test_all_background_is_told_but_usable(tmp_path):
    for name in "ab":
        save(tmp_path / "images" / f"{name}.png", IMAGE)
        save(tmp_path / "masks" / f"{name}.png", BINARY if name == "a" else BINARY * 0)
    dataset = open_folder(tmp_path)
    assert len(dataset.annotated) == 2
    assert any("1 of 2 masks read are all background (b)" in finding for finding in dataset.findings)


def test_instances_and_classes_are_recognised_from_files(tmp_path):
    ids = np.zeros((2, 24, 32), np.uint16)
    ids[0, 2:6, 2:9], ids[0, 10:15, 3:20] = 1, 2
    ids[1, 1:4, 1:4], ids[1, 6:9, 6:9], ids[1, 12:20, 12:30] = 1, 2, 3
    for name, mask in zip("ab", ids, strict=True):
        save(tmp_path / "images" / f"{name}.tif", IMAGE)
        save(tmp_path / "masks" / f"{name}.tif", mask)
    dataset = open_folder(tmp_path)
    assert (dataset.task, dataset.classes) == ("instances", ("background", "object"))
    np.testing.assert_array_equal(dataset.samples[1].read_mask(), ids[1])
    assert open_folder(tmp_path, task="semantic").samples[1].read_mask().max() == 1


def test_images_beside_their_masks(tmp_path):
    for name in "ab":
        save(tmp_path / f"{name}.tif", IMAGE)
        save(tmp_path / f"{name}_masks.tif", BINARY)
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.annotated.samples] == ["a", "b"]


def test_images_alone_are_for_prediction(tmp_path):
    save(tmp_path / "a.png", IMAGE)
    save(tmp_path / "b.png", IMAGE)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._a.png").write_bytes(b"x")
    dataset = open_folder(tmp_path, name="mine")
    assert (dataset.name, len(dataset), len(dataset.annotated)) == ("mine", 2, 0)
    assert (dataset.findings, dataset.problems) == (("No masks: 2 images for prediction.",), ())


def test_each_page_of_a_stack_is_a_sample_of_its_group(tmp_path):
    volume = RNG.integers(0, 255, (11, 24, 32), dtype=np.uint8)
    save(tmp_path / "train-volume.tif", volume)
    labels = np.stack([np.roll(BINARY, i, axis=1) for i in range(11)])
    save(tmp_path / "train-labels.tif", labels)
    save(tmp_path / "test-volume.tif", volume[:4])
    train, test = open_folder(tmp_path), open_folder(tmp_path, split="test")
    assert (len(train.annotated), len(test), len(test.annotated)) == (11, 4, 0)
    assert find_parts(tmp_path) == ("train", "test")
    assert train.findings[-1] == "Part train is read; test not."
    sample = train.samples[7]
    assert (sample.name, sample.group, sample.position) == ("train-volume_07", "train-volume", 7)
    np.testing.assert_array_equal(sample.read_image()[0], volume[7])
    np.testing.assert_array_equal(sample.read_mask(), labels[7] // 255)


def test_stacks_must_have_as_many_pages_as_their_masks(tmp_path):
    save(tmp_path / "images" / "a.tif", np.stack([IMAGE] * 6))
    save(tmp_path / "masks" / "a.tif", np.stack([BINARY] * 5))
    dataset = open_folder(tmp_path)
    assert (len(dataset), len(dataset.annotated)) == (6, 0)
    assert "expected 6 pages like the image's, found 5" in dataset.problems[0]


def test_a_few_pages_with_one_mask_are_channels(tmp_path):
    save(tmp_path / "images" / "a.tif", np.stack([IMAGE] * 2))
    save(tmp_path / "masks" / "a.tif", BINARY)
    dataset = open_folder(tmp_path)
    assert dataset.samples[0].read_image().shape == (2, 24, 32)
    assert "a.tif has 2 pages and one mask: read as channels." in dataset.findings


def test_parts_are_subfolders_and_train_is_read_unless_another_is_named(tmp_path):
    for part, n in (("train", 3), ("val", 2), ("test", 1)):
        for i in range(n):
            save(tmp_path / part / "images" / f"{i}.png", IMAGE)
            save(tmp_path / part / "masks" / f"{i}.png", BINARY)
    assert [len(open_folder(tmp_path, split=s)) for s in (None, "train", "val", "test")] == [3, 3, 2, 1]
    assert open_folder(tmp_path).findings[-1] == "Part train is read; val, test not."
    with pytest.raises(DataError, match="expected a part called 'dev', found train, val, test; name one of them"):
        open_folder(tmp_path, split="dev")


def test_a_test_folder_beside_images_is_not_read_in_their_place(tmp_path):
    save(tmp_path / "images" / "a.png", IMAGE)
    save(tmp_path / "masks" / "a.png", BINARY)
    save(tmp_path / "test" / "images" / "b.png", IMAGE)
    assert [s.name for s in open_folder(tmp_path).samples] == ["a"]
    assert [s.name for s in open_folder(tmp_path, split="test").samples] == ["b"]


def test_other_folders_beside_images_are_not_read_in_their_place(tmp_path):
    save(tmp_path / "images" / "a.png", IMAGE)
    save(tmp_path / "masks" / "a.png", BINARY)
    save(tmp_path / "old" / "images" / "b.png", IMAGE)
    assert [s.name for s in open_folder(tmp_path).samples] == ["a"]


def test_several_parts_without_train_have_to_be_named(tmp_path):
    save(tmp_path / "val" / "a.png", IMAGE)
    save(tmp_path / "test" / "b.png", IMAGE)
    with pytest.raises(
        DataError, match=r"expected to know which of the parts val, test to read; name one, as in .*:val$"
    ):
        open_folder(tmp_path)


def write_bowl(root: Path) -> None:
    """One image with two overlapping objects and a third that is covered by the others."""
    objects = np.zeros((3, 24, 32), bool)
    objects[0, 2:12, 2:12] = True
    objects[1, 10:14, 10:14] = True  # smaller, so it is on top where both are
    objects[2, 20:22, 20:22] = True
    save(root / "one" / "images" / "one.png", np.dstack([IMAGE] * 3 + [np.full_like(IMAGE, 255)]))
    for i, mask in enumerate(objects):
        save(root / "one" / "masks" / f"{i}.png", (mask * 255).astype(np.uint8))


def test_one_mask_file_for_each_object(tmp_path):
    write_bowl(tmp_path)
    dataset = open_folder(tmp_path)
    assert (dataset.task, dataset.classes, len(dataset)) == ("instances", ("background", "object"), 1)
    assert dataset.samples[0].read_image().shape == (3, 24, 32)
    mask = dataset.samples[0].read_mask()
    assert mask.dtype == np.int32
    assert np.bincount(mask.ravel())[1:].tolist() == [100 - 4, 16, 4]
    assert mask[10, 10] == 2


def test_bad_object_folders_become_sentences(tmp_path):
    write_bowl(tmp_path)
    save(tmp_path / "two" / "images" / "two.png", IMAGE)
    (tmp_path / "three" / "images").mkdir(parents=True)
    dataset = open_folder(tmp_path)
    assert [(s.name, s.mask is not None) for s in dataset.samples] == [("one", True), ("two", False)]
    assert "expected one image, found 0; the folder is left out" in dataset.problems[0]
    assert "expected masks in" in dataset.problems[1]


def test_covered_objects_get_no_id_and_sizes_must_agree(tmp_path):
    small = [np.zeros((4, 4), np.uint8) for _ in range(3)]
    small[0][:2, :2] = small[1][:2, :1] = small[2][:2, 1:2] = 255  # the first lies wholly below the other two
    paths = tuple(save(tmp_path / f"{i}.png", m) for i, m in enumerate(small))
    np.testing.assert_array_equal(
        read_object_masks(paths, (4, 4)), [[1, 2, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    )
    with pytest.raises(DataError, match=r"0\.png: expected a mask of the image's size \(5, 4\), found \(4, 4\)"):
        read_object_masks(paths, (5, 4))


def test_nothing_but_broken_images_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"expected images that can be read, found none \(.*a\.png: expected a readable"
    ):
        open_folder(tmp_path)


def test_samples_travel_to_other_processes(tmp_path):
    write_bowl(tmp_path / "bowl")
    save(tmp_path / "plain" / "images" / "a.png", IMAGE)
    save(tmp_path / "plain" / "masks" / "a.png", BINARY)
    for folder in ("bowl", "plain"):
        sample = pickle.loads(pickle.dumps(open_folder(tmp_path / folder).samples[0]))
        assert sample.read_mask().shape == sample.read_image().shape[1:]


def test_real_stack_of_membranes(real_data):
    dataset = open_folder(real_data / "isbi2012")
    assert (len(dataset), len(dataset.annotated), dataset.task) == (30, 30, "semantic")
    mask = dataset.samples[3].read_mask()
    assert mask.shape == (512, 512)
    assert 0.15 < (mask == 0).mean() < 0.30  # membranes are about 22 % of the pixels
    assert len(open_folder(real_data / "isbi2012", split="test").annotated) == 0


def test_real_nuclei(real_data):
    dataset = open_folder(real_data / "dsb2018/stage1_train")
    assert (len(dataset.annotated), dataset.task, dataset.problems) == (222, "instances", ())
    sample = dataset.samples[0]
    assert sample.read_mask().max() == len(sample.files) - 1
    assert sample.read_image().shape[0] == 3


@pytest.mark.parametrize("part", ["train", "Training"])
@pytest.mark.parametrize(
    "pattern", ["{part}/images/{n}", "images/{part}/{n}", "{part}_images/{n}", "{part}/x/images/{n}", "{part}/{n}"]
)
def test_parts_stand_in_the_names_of_folders(tmp_path, part, pattern):
    for other, n in ((part, 3), ("valid", 2), ("testing", 1)):
        for i in range(n):
            image = tmp_path / pattern.format(part=other, n=f"{i}.png")
            save(image, IMAGE)
            save(Path(str(image).replace("images", "masks")).with_stem(f"{i}_mask"), BINARY)
    assert find_parts(tmp_path) == ("train", "val", "test")
    parts = [open_folder(tmp_path, split=split) for split in (None, "train", "validation", "val", "test")]
    assert [len(p.annotated) for p in parts] == [3, 3, 2, 2, 1]
    assert parts[0].findings[-1] == "Part train is read; val, test not."


@pytest.mark.parametrize("wrapper", ["cells", "cells/cells", "archive/My data"])
def test_folders_around_the_data_are_stepped_into(tmp_path, wrapper):
    save(tmp_path / wrapper / "images" / "a.png", IMAGE)
    save(tmp_path / wrapper / "masks" / "a.png", BINARY)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "LICENCE.txt").write_text("x")
    dataset = open_folder(tmp_path)
    assert (len(dataset.annotated), dataset.name) == (1, tmp_path.name)
    assert dataset.findings[-1] == f"Everything lies in {wrapper}/ inside, which is read."


def test_classification_needs_labels(tmp_path):
    save(tmp_path / "a.png", IMAGE)
    with pytest.raises(
        DataError, match="expected labels for task classification: a folder for each class, or a CSV file with the col"
    ):
        open_folder(tmp_path, task="classification")


def test_idx_files_are_a_folder_with_parts(tmp_path):
    for part, n in (("train", 3), ("t10k", 2)):
        images = np.zeros((n, 4, 5), np.uint8)
        head = b"\0\0\x08\x03" + b"".join(m.to_bytes(4, "big") for m in images.shape)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + n.to_bytes(4, "big") + bytes(range(n)))
    train, test = open_folder(tmp_path, name="mine"), open_folder(tmp_path, split="test")
    assert (train.task, train.classes, len(train), len(test)) == ("classification", ("0", "1", "2"), 3, 2)
    assert (train.name, find_parts(tmp_path)) == ("mine", ("train", "test"))


def test_a_stack_with_a_z_axis_is_one_volume(tmp_path):
    volume = RNG.integers(0, 255, (9, 24, 32), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "train-volume.tif", volume, imagej=True, metadata={"axes": "ZYX"})
    save(tmp_path / "train-labels.tif", np.stack([BINARY] * 9))
    assert [s.read_image().shape for s in open_folder(tmp_path).samples] == [(1, 9, 24, 32)]


def test_the_spacing_in_dataset_toml_is_turned_as_the_images_are(tmp_path):
    volume = RNG.integers(0, 255, (9, 24, 32), dtype=np.uint8)
    np.save(tmp_path / "a.npy", volume.transpose(1, 2, 0))
    (tmp_path / "dataset.toml").write_text('axes = "YXZ"\nspacing = [0.5, 0.6, 2.0]\n')
    (sample,) = open_folder(tmp_path).samples
    np.testing.assert_array_equal(sample.read_image(), volume[None])
    assert sample.spacing == Spacing((2.0, 0.5, 0.6))


def test_one_spacing_in_dataset_toml_is_that_of_volumes_too(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([IMAGE] * 9), imagej=True, metadata={"axes": "ZYX"})
    (tmp_path / "dataset.toml").write_text("spacing = 0.5\n")
    (sample,) = open_folder(tmp_path).samples
    assert sample.read_image().shape == (1, 9, 24, 32)
    assert sample.spacing == Spacing((0.5, 0.5, 0.5))


def test_real_sets_are_understood_without_a_word(real_data):
    """Every folder of the real data, by its path alone."""
    understood = {
        "ctc/DIC-C2DH-HeLa": ("instances", 2, 67),
        "ctc/PhC-C2DH-U373": ("instances", 2, 104),
        "dsb2018": ("instances", 2, 222),
        "fashion-mnist": ("classification", 10, 60000),
        "hippocampus": ("semantic", 3, 130),
        "isbi2012": ("semantic", 2, 30),
        "mnist": ("classification", 10, 60000),
    }
    for folder, (task, n_classes, n) in understood.items():
        dataset = open_folder(real_data / folder)
        assert (dataset.task, len(dataset.classes), len(dataset.annotated)) == (task, n_classes, n), folder
        assert dataset.problems == (), folder
        assert dataset.findings, folder
