"""Images and masks find each other by their names; each layout is written into a folder and opened."""

from pathlib import Path, PurePath

import numpy as np
import pytest

from ushape.data.folder import open_folder
from ushape.data.matching import Match, match_files, with_unique_names
from ushape.data.notes import Notes
from ushape.data.pairing import match_side_by_side
from ushape.errors import DataError
from written_files import BINARY, IMAGE, save, touch


def pairs(folder, **options) -> dict[str, str | None]:
    """(image file, mask file) of all samples."""
    samples = open_folder(folder, **options).samples
    return {s.files[0].name: s.files[1].name if s.mask else None for s in samples}


@pytest.mark.parametrize(
    "images, masks",
    [
        ("images", "mask"),
        ("image", "label"),
        ("imgs", "annotation"),
        ("IMG", "Ground_Truth"),
        ("raw", "groundtruth"),
        ("input", "target"),
        ("Images", "ground truth"),
        ("JPEGImages", "SegmentationClass"),
        (".", "masks"),
        ("dic", "segmentations"),
    ],
)
def test_folders_of_images_and_masks_have_many_names(tmp_path, images, masks):
    for name in "ab":
        save(tmp_path / images / f"{name}.PNG")
        save(tmp_path / masks / f"{name}.png", BINARY)
    dataset = open_folder(tmp_path)
    assert (len(dataset.annotated), dataset.problems) == (2, ())
    named = "Images are read from dic/, masks from segmentations/." in dataset.findings
    assert named == (images == "dic")


@pytest.mark.parametrize(
    "image, mask",
    [
        ("a.png", "mask_a.png"),
        ("a.png", "label_a.png"),
        ("a.jpg", "a-mask.png"),
        ("img_a.png", "mask_a.png"),
        ("image a.png", "mask a.png"),
        ("a_image.png", "a_ground_truth.png"),
        ("a_0000.png", "a.png"),
        ("Cell1.png", "cell1.png"),
        ("a_img.png", "a_masks.png"),
        ("a.ome.tif", "a.tif"),
        ("a.png", "a_cp_masks.TIF"),
    ],
)
def test_a_word_at_either_end_makes_no_difference(tmp_path, image, mask):
    save(tmp_path / "images" / image)
    save(tmp_path / "masks" / mask, BINARY)
    assert pairs(tmp_path) == {image: mask}


DECOMPOSED, COMPOSED = "Zella\u0308", "Zell\u00e4"


@pytest.mark.parametrize("images, masks", [(DECOMPOSED, COMPOSED), (COMPOSED, DECOMPOSED), (DECOMPOSED, DECOMPOSED)])
@pytest.mark.parametrize(
    "image, mask",
    [
        ("images/{}1.png", "masks/{}1.png"),
        ("images/{}1.png", "masks/{}1_mask.png"),
        ("{}1.png", "{}1_mask.png"),
        ("images/{}/1.png", "masks/{}/1.png"),
        ("{}-volume.tif", "{}-labels.tif"),
    ],
)
def test_letters_with_accents_are_the_same_however_they_are_written(tmp_path, images, masks, image, mask):
    save(tmp_path / image.format(images))
    save(tmp_path / mask.format(masks), BINARY)
    dataset = open_folder(tmp_path)
    assert (len(dataset.annotated), dataset.problems) == (1, ())
    assert DECOMPOSED not in dataset.samples[0].name


def test_the_exact_name_goes_before_any_other(tmp_path):
    for name in ("a.png", "a_seg.png"):
        save(tmp_path / "images" / name)
        save(tmp_path / "masks" / name, BINARY)
    assert pairs(tmp_path) == {"a.png": "a.png", "a_seg.png": "a_seg.png"}


def test_a_second_mask_of_an_image_is_a_problem(tmp_path):
    save(tmp_path / "images" / "z.png")
    save(tmp_path / "masks" / "z.png", BINARY)
    save(tmp_path / "masks" / "mask_z.png", BINARY)
    dataset = open_folder(tmp_path)
    assert dataset.samples[0].files[1].name == "z.png"
    assert "mask_z.png: expected one mask called z, found z.png as well, which is used" in dataset.problems[0]


def test_many_images_without_mask_are_one_sentence(tmp_path):
    for i in range(8):
        save(tmp_path / "images" / f"{i}.png")
    save(tmp_path / "masks" / "0.png", BINARY)
    problems = open_folder(tmp_path).problems
    assert len(problems) == 1
    assert "images: expected a mask for each image, found none for 7 of them (1.png, 2.png, " in problems[0]
    assert problems[0].endswith("5.png and 2 more); kept for prediction")


def test_names_that_never_agree_are_an_error(tmp_path):
    save(tmp_path / "images" / "scan7.png")
    save(tmp_path / "masks" / "drawing7.png", BINARY)
    with pytest.raises(
        DataError,
        match=r"masks: expected masks named like their images \(a.png with a.png or a_mask.png\), found 1 mask "
        r"\(drawing7\) for 1 image \(scan7\); rename them, or list the pairs in a CSV file with the columns image,mask",
    ):
        open_folder(tmp_path)


def test_an_empty_folder_of_masks_says_what_lies_there(tmp_path):
    save(tmp_path / "images" / "a.png")
    touch(tmp_path / "labels" / "a.txt")
    dataset = open_folder(tmp_path)
    assert len(dataset.annotated) == 0
    assert (
        "labels: expected masks, found no image file (only .txt); put them there as TIFF or PNG" in dataset.problems[0]
    )


def test_only_one_of_two_folders_of_masks_is_read(tmp_path):
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "masks" / "a.png", BINARY)
    save(tmp_path / "gt" / "a.png", BINARY)
    dataset = open_folder(tmp_path)
    assert dataset.samples[0].files[1].parent.name == "masks"
    assert "Masks are read from masks/, not from gt." in dataset.findings


def test_cellpose_pairs(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / f"{name}_img.tif")
        save(tmp_path / f"{name}_masks.tif", BINARY)
    save(tmp_path / "c.png")
    save(tmp_path / "c_cp_masks.png", BINARY)
    save(tmp_path / "c_flows.tif", np.zeros((5, 24, 32), np.float32))
    np.save(tmp_path / "c_seg.npy", {"masks": BINARY}, allow_pickle=True)
    assert pairs(tmp_path) == {"a_img.tif": "a_masks.tif", "b_img.tif": "b_masks.tif", "c.png": "c_cp_masks.png"}
    dataset = open_folder(tmp_path)
    assert dataset.problems == ()
    ignored = [f for f in dataset.findings if "Cellpose" in f]
    assert len(ignored) == 1
    assert ignored[0].startswith("c_flows.tif, c_seg.npy: Cellpose's own working files, which are not read")


def test_many_files_of_cellpose_are_not_compared_with_each_other(tmp_path, monkeypatch):
    n_images, n_compared, compare = 100, 0, Path.__eq__
    for i in range(n_images):
        touch(tmp_path / f"{i}_img.tif")
        touch(tmp_path / f"{i}_flows.tif")

    def counting(path, other):
        nonlocal n_compared
        n_compared += 1
        return compare(path, other)

    monkeypatch.setattr(Path, "__eq__", counting)
    monkeypatch.setattr(Path, "__hash__", PurePath.__hash__)
    assert len(match_side_by_side(tmp_path, Notes())) == n_images
    assert n_compared < 10 * n_images


def test_an_array_called_seg_is_a_mask_unless_it_is_a_pickle(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "a_seg.npy", BINARY)
    assert pairs(tmp_path) == {"a.png": "a_seg.npy"}


def test_a_mask_side_by_side_whose_image_is_missing_is_no_image(tmp_path):
    for name in ("a.png", "a_mask.png", "b_mask.png", "scan_label.png", "scan_label_mask.png"):
        save(tmp_path / name, BINARY)
    assert pairs(tmp_path) == {"a.png": "a_mask.png", "scan_label.png": "scan_label_mask.png"}
    assert "b_mask.png: expected an image called b, found none" in open_folder(tmp_path).problems[0]


def test_an_image_and_a_mask_called_so(tmp_path):
    save(tmp_path / "image.png")
    save(tmp_path / "mask.png", BINARY)
    assert pairs(tmp_path) == {"image.png": "mask.png"}


@pytest.mark.parametrize("pattern", ["{group}/images/{name}", "{group}/{name}", "images/{group}/{name}"])
def test_folders_inside_are_groups(tmp_path, pattern):
    for group in ("p1", "p2"):
        for name in ("a", "b"):
            image = tmp_path / pattern.format(group=group, name=f"{name}.png")
            mask = tmp_path / pattern.replace("images", "masks").format(group=group, name=f"{name}_mask.png")
            save(image, IMAGE)
            save(mask, BINARY)
    samples = open_folder(tmp_path).annotated.samples
    assert [(s.name, s.group) for s in samples] == [
        (f"{group}_{name}", group) for group in ("p1", "p2") for name in ("a", "b")
    ]
    assert all(s.files[0].parts[-2:] != s.files[1].parts[-2:] for s in samples)
    assert all("p1" in str(s.files[1]) for s in samples if s.group == "p1")


def test_a_broken_group_is_left_out_and_said(tmp_path):
    save(tmp_path / "p1" / "images" / "p1_a.png")
    save(tmp_path / "p1" / "masks" / "p1_a.png", BINARY)
    save(tmp_path / "p2" / "images" / "x.png")
    save(tmp_path / "p2" / "masks" / "y.png", BINARY)
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.samples] == ["p1_a"]
    assert "p2/masks: expected masks named like their images" in dataset.problems[0]
    assert dataset.problems[0].endswith("(left out)")


def test_names_are_made_unique():
    matches = [Match(name, ()) for name in ("a", "a", "a_2", "a")]
    assert [m.name for m in with_unique_names(matches)] == ["a", "a_2", "a_2_2", "a_3"]


def test_without_masks_nothing_is_missing(tmp_path):
    notes = Notes()
    image = save(tmp_path / "a.png")
    assert match_files([image], [], notes) == [Match("a", (image,))]
    assert notes == Notes()
