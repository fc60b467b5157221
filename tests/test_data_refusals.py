"""What is said about paths and folders that cannot be opened."""

import pytest

from ushape.data.folder import open_folder
from ushape.errors import DataError
from written_files import BINARY, IMAGE, save


@pytest.mark.parametrize(
    "files, message",
    [
        ([], "expected images, found an empty folder; save them .* ways: images/ with masks/, images beside"),
        (["a.xyz", "README"], r"expected images, found only \.xyz, files without ending; save them as TIFF or PNG in"),
        (["a.txt", "README"], r"found only \.txt \(outlines or boxes as text\); export the masks as PNG or TIFF"),
    ],
)
def test_a_folder_without_images_says_what_would_be_understood(tmp_path, files, message):
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=message):
        open_folder(tmp_path)


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: expected a folder of images, found nothing; check the path"):
        open_folder(tmp_path / "nowhere")
    path = save(tmp_path / "a.png", IMAGE)
    with pytest.raises(DataError, match=r"a\.png: expected a folder of images, found a file"):
        open_folder(path)
    (tmp_path / "set" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match="images: expected images, found no image file"):
        open_folder(tmp_path / "set")


@pytest.mark.parametrize(
    "given, other",
    [("images", "masks"), ("masks", "images"), ("train_images", "train_masks"), ("imagesTr", "labelsTr")],
)
def test_one_side_of_a_folder_names_the_whole(tmp_path, given, other):
    save(tmp_path / "cells" / given / "a.png", IMAGE)
    save(tmp_path / "cells" / other / "a.png", BINARY)
    with pytest.raises(
        DataError,
        match=f"{given}: expected the folder that holds images and masks, found only one side of it "
        rf"\(the other is {other}/\); name .*/cells$",
    ):
        open_folder(tmp_path / "cells" / given)


def test_a_folder_of_images_whose_masks_are_elsewhere_is_read(tmp_path):
    save(tmp_path / "images" / "a.png", IMAGE)
    assert len(open_folder(tmp_path / "images")) == 1


def test_several_folders_of_data_have_to_be_named(tmp_path):
    for name in ("Dataset001_Brain", "Dataset002_Heart"):
        save(tmp_path / name / "imagesTr" / "a_0000.png", IMAGE)
        save(tmp_path / name / "labelsTr" / "a.png", BINARY)
    with pytest.raises(
        DataError, match=r"expected one folder .*, found several \(Dataset001_Brain, Dataset002_Heart\); name one"
    ):
        open_folder(tmp_path)


def test_masks_without_images_are_said_to_be(tmp_path):
    save(tmp_path / "cells" / "masks" / "a.png", BINARY)
    with pytest.raises(
        DataError, match="cells: expected images beside masks/, found none; put them into images/, called like"
    ):
        open_folder(tmp_path / "cells")


def test_folders_that_hold_nothing_are_said_to(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="expected images, found only folders without images; save them"):
        open_folder(tmp_path)
