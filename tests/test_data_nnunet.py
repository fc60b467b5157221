"""nnU-Net's raw folders, as its documentation describes them, and the Medical Segmentation Decathlon's."""

import json

import numpy as np
import pytest

from ushape.data.folder import find_parts, open_folder
from ushape.data.nnunet import is_nnunet_folder, parts_of_nnunet
from ushape.errors import DataError
from written_files import BINARY, IMAGE, blobs, save

VOLUME = np.random.default_rng(5).integers(0, 4000, (10, 24, 32)).astype(np.int16)
CLASSES = np.stack([blobs(1, 2)] * 10)


def write_json(root, **stated):
    (root / "dataset.json").write_text(json.dumps(stated))


def write_version_2(root, ending=".nii.gz", n_channels=2):
    image, mask = (VOLUME, CLASSES) if ending == ".nii.gz" else (IMAGE, blobs(1, 2))
    for part, cases in (("Tr", ("c_001", "c_002", "c_003")), ("Ts", ("c_004",))):
        for case in cases:
            for channel in range(n_channels):
                save(root / f"images{part}" / f"{case}_{channel:04d}{ending}", image + channel)
            if part == "Tr":
                save(root / "labelsTr" / f"{case}{ending}", mask)


def test_channels_are_stacked_and_classes_named(tmp_path):
    write_version_2(tmp_path)
    labels = {"background": 0, "edema": 1, "core": 2}
    write_json(tmp_path, channel_names={"0": "T1", "1": "T2"}, labels=labels, numTraining=3, file_ending=".nii.gz")
    dataset = open_folder(tmp_path)
    assert (dataset.task, dataset.classes) == ("semantic", ("background", "edema", "core"))
    assert [s.name for s in dataset.samples] == ["c_001", "c_002", "c_003"]
    sample = dataset.samples[1]
    np.testing.assert_array_equal(sample.read_image(), np.stack([VOLUME, VOLUME + 1]))
    np.testing.assert_array_equal(sample.read_mask(), CLASSES)
    assert [p.name for p in sample.files] == ["c_002_0000.nii.gz", "c_002_0001.nii.gz", "c_002.nii.gz"]
    assert dataset.problems == ()
    assert dataset.findings[0] == "dataset.json says what the masks hold: background, edema, core."
    assert "nnU-Net folder: 2 files of each case are its channels (T1, T2)." in dataset.findings
    test = open_folder(tmp_path, split="test")
    assert find_parts(tmp_path) == ("train", "test")
    assert ([s.name for s in test.samples], len(test.annotated), test.classes) == (["c_004"], 0, dataset.classes)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_plane_images_with_a_value_to_ignore(tmp_path, ending):
    write_version_2(tmp_path, ending, n_channels=1)
    labels = {"background": 0, "cell": 1, "ignore": 2}
    write_json(tmp_path, channel_names={"0": "grey"}, labels=labels, numTraining=3, file_ending=ending)
    dataset = open_folder(tmp_path)
    assert dataset.classes == ("background", "cell")
    np.testing.assert_array_equal(dataset.samples[0].read_image(), IMAGE[None])
    expected = np.where(blobs(1, 2) == 2, -1, blobs(1, 2).astype(np.int32))
    np.testing.assert_array_equal(dataset.samples[0].read_mask(), expected)


def test_version_1_names_classes_by_value_and_files_hold_all_channels(tmp_path):
    for i in range(3):
        save(tmp_path / "imagesTr" / f"hippo_{i:03d}.nii.gz", VOLUME)
        save(tmp_path / "labelsTr" / f"hippo_{i:03d}.nii.gz", CLASSES)
    write_json(tmp_path, modality={"0": "MRI"}, labels={"0": "background", "1": "Anterior", "2": "Posterior"})
    dataset = open_folder(tmp_path)
    assert dataset.classes == ("background", "Anterior", "Posterior")
    assert dataset.samples[0].read_image().shape == (1, 10, 24, 32)
    assert "nnU-Net folder: 3 cases in imagesTr." in dataset.findings


def test_without_dataset_json_each_value_is_a_class(tmp_path):
    """Two masks with one piece of 1 and one of 2 look like instances; in this layout they are classes."""
    write_version_2(tmp_path)
    dataset = open_folder(tmp_path)
    assert (dataset.task, dataset.classes) == ("semantic", ("background", "class 1", "class 2"))
    assert dataset.findings[0] == "nnU-Net's layout says what the masks hold: background, class 1, class 2."
    assert dataset.samples[0].read_image().shape == (2, 10, 24, 32)
    assert open_folder(tmp_path, task="instances").task == "instances"


def test_numbers_of_cases_are_no_channels(tmp_path):
    for i in range(2):
        save(tmp_path / "imagesTr" / f"case_{i:04d}.png")
        save(tmp_path / "labelsTr" / f"case_{i:04d}.png", BINARY)
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.annotated.samples] == ["case_0000", "case_0001"]


def test_missing_files_are_problems(tmp_path):
    write_version_2(tmp_path)
    (tmp_path / "imagesTr" / "c_001_0001.nii.gz").unlink()
    (tmp_path / "labelsTr" / "c_002.nii.gz").unlink()
    save(tmp_path / "labelsTr" / "c_009.nii.gz", CLASSES)
    dataset = open_folder(tmp_path)
    assert [(s.name, s.mask is not None) for s in dataset.samples] == [("c_002", False), ("c_003", True)]
    text = "\n".join(dataset.problems)
    assert "c_001: expected the 2 channels _0000 to _0001, found _0000; add or remove files (the case is left" in text
    assert "c_002_0000.nii.gz: expected a mask in " in text
    assert "c_009.nii.gz: expected images of case c_009 in " in text
    assert len(dataset.problems) == 3


COLOUR = np.dstack([IMAGE, IMAGE[::-1], IMAGE[:, ::-1]])


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_one_file_of_a_case_may_hold_red_green_and_blue(tmp_path, ending):
    options = {"photometric": "rgb"} if ending == ".tif" else {}
    for case in "ab":
        save(tmp_path / "imagesTr" / f"{case}_0000{ending}", COLOUR, **options)
        save(tmp_path / "labelsTr" / f"{case}{ending}", blobs(1, 2))
    write_json(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"}, labels={"background": 0, "a": 1, "b": 2})
    dataset = open_folder(tmp_path)
    assert ([s.name for s in dataset.annotated.samples], dataset.problems) == (["a", "b"], ())
    np.testing.assert_array_equal(dataset.samples[1].read_image(), np.moveaxis(COLOUR, -1, 0))
    assert "nnU-Net folder: one file of each case holds its 3 channels (R, G, B)." in dataset.findings


def test_one_file_of_other_channels_than_named_is_a_problem_and_a_damaged_one_says_so(tmp_path):
    save(tmp_path / "imagesTr" / "a_0000.png", COLOUR)
    save(tmp_path / "imagesTr" / "b_0000.png", IMAGE)
    (tmp_path / "imagesTr" / "c_0000.png").write_bytes(b"x")
    write_json(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"})
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.samples] == ["a"]
    assert "b: expected the 3 channels _0000 to _0002, found _0000; add or remove" in dataset.problems[0]
    assert "c_0000.png: expected a readable .png file, found one that is damaged" in dataset.problems[1]
    save(tmp_path / "imagesTr" / "d_0001.png", COLOUR)  # then the files are channels
    with pytest.raises(DataError, match="a: expected the 3 channels _0000 to _0002, found _0000"):
        open_folder(tmp_path)


def test_channels_must_be_of_one_size(tmp_path):
    write_version_2(tmp_path)
    save(tmp_path / "imagesTr" / "c_001_0001.nii.gz", VOLUME[:, :20])
    dataset = open_folder(tmp_path)
    assert len(dataset) == 2
    assert "expected a channel of size (10, 24, 32) like c_001_0000.nii.gz, found (10, 20, 32)" in dataset.problems[0]


def test_files_of_another_ending_are_left_out(tmp_path):
    write_version_2(tmp_path, ".png", n_channels=1)
    write_json(tmp_path, labels={"background": 0, "a": 1, "b": 2}, file_ending=".png")
    save(tmp_path / "imagesTr" / "c_001.tif")
    dataset = open_folder(tmp_path)
    assert len(dataset.annotated) == 3
    assert "expected files that end in .png as dataset.json says, found also c_001.tif" in dataset.problems[0]


def test_no_file_of_the_stated_ending_is_said_to_be_the_reason(tmp_path):
    write_version_2(tmp_path, ".png", n_channels=1)
    write_json(tmp_path, labels={"background": 0, "a": 1, "b": 2}, file_ending=".tif")
    with pytest.raises(
        DataError, match=r"imagesTr: expected files that end in \.tif as dataset\.json says, found c_.*; convert them"
    ):
        open_folder(tmp_path)


def test_a_broken_dataset_json_is_a_problem_and_regions_are_said(tmp_path):
    write_version_2(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    dataset = open_folder(tmp_path)
    assert dataset.classes == ("background", "class 1", "class 2")
    assert "dataset.json: expected a JSON object that names labels and channels, found Expecting" in dataset.problems[0]
    write_json(tmp_path, labels={"background": 0, "whole": [1, 2], "core": [2]})
    dataset = open_folder(tmp_path)
    assert dataset.problems == ()
    assert any("names regions of several mask values (background, whole, core)" in f for f in dataset.findings)


def test_dataset_toml_overrules_dataset_json(tmp_path):
    write_version_2(tmp_path)
    write_json(tmp_path, labels={"background": 0, "a": 1, "b": 2})
    (tmp_path / "dataset.toml").write_text(
        '[[classes]]\nname = "x"\nvalue = 0\n[[classes]]\nname = "y"\nvalues = [1, 2]\n'
    )
    assert open_folder(tmp_path).classes == ("x", "y")


def test_two_files_of_one_case_are_a_problem_and_other_parts_do_not_confuse(tmp_path):
    for name in ("a.png", "a.tif", "b.png"):
        save(tmp_path / "imagesTs" / name)
    save(tmp_path / "images" / "train" / "c.png")
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.samples] == ["a", "b"]
    assert "a.tif: expected one file called a, found a.png as well, which is used" in dataset.problems[0]


def test_a_folder_of_images_without_any_is_an_error(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    assert is_nnunet_folder(tmp_path)
    assert parts_of_nnunet(tmp_path) == ("train",)
    with pytest.raises(DataError, match="imagesTr: expected images, found no image file; put the cases there"):
        open_folder(tmp_path)


def test_real_hippocampus(real_data):
    dataset = open_folder(real_data / "hippocampus")
    assert (len(dataset.annotated), dataset.task, len(dataset.classes)) == (130, "semantic", 3)
    assert dataset.problems == ()
    sample = dataset.samples[0]
    assert sample.read_image().shape == (1, *sample.read_mask().shape) == (1, 35, 51, 35)
    assert set(np.unique(sample.read_mask())) == {0, 1, 2}
