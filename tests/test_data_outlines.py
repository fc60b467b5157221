"""Outlines that are not read, where masks are expected, are named, with what to do."""

import zipfile

import numpy as np
import pytest

from ushape.data.folder import open_folder
from written_files import IMAGE, save, touch


def pack(path, *names):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path


@pytest.mark.parametrize(
    "suffix, words",
    [
        (".json", "outlines of an unknown program (.json), which are not read; save them as COCO or GeoJSON has them"),
        (".xml", "outlines of ImageScope, CVAT or the like (.xml), which are not read; export masks as PNG or TIFF"),
    ],
)
def test_outlines_instead_of_masks_are_a_problem(tmp_path, suffix, words):
    for name in "ab":
        save(tmp_path / "images" / f"{name}.png")
        touch(tmp_path / "masks" / f"{name}{suffix}")
    (problem,) = open_folder(tmp_path).problems
    assert problem.startswith(f"{tmp_path / 'masks'}: expected masks, found {words}")


@pytest.mark.parametrize("images, outlines", [(".", "."), (".", "xml"), ("images", "images"), ("images", ".")])
def test_outlines_are_found_beside_the_images_and_in_another_folder(tmp_path, images, outlines):
    save(tmp_path / images / "a.png")
    (tmp_path / outlines).mkdir(exist_ok=True)
    (tmp_path / outlines / "a.xml").write_text("<annotation><folder/></annotation>")
    (problem,) = open_folder(tmp_path).problems
    assert problem.startswith(f"{tmp_path / outlines}: expected masks, found outlines of ImageScope, CVAT or the like")


@pytest.mark.parametrize(
    "name, text, told",
    [
        ("a.json", '{"exposure": 0.1}', False),
        ("a.xml", '<?xml version="1.0"?>\n<Annotations MicronsPerPixel="0.25">', True),
        ("a.xml", "<OME><StructuredAnnotations/></OME>", False),
    ],
)
def test_notes_of_a_microscope_are_no_outlines(tmp_path, name, text, told):
    save(tmp_path / "a.png")
    (tmp_path / name).write_text(text)
    assert len(open_folder(tmp_path).problems) == told


def test_archives_of_masks_are_archives(tmp_path):
    save(tmp_path / "images" / "a.png")
    pack(tmp_path / "masks" / "all.zip", "a.png")
    (problem,) = open_folder(tmp_path).problems
    assert problem.endswith("masks: expected masks, found no image file (only .zip); put them there as TIFF or PNG")
    pack(tmp_path / "images" / "more.zip", "b.png")
    assert "found 1 .zip file (packed archives) as well; unpack them" in open_folder(tmp_path).problems[0]


def test_cellposes_own_files_instead_of_masks_say_what_to_save(tmp_path):
    save(tmp_path / "images" / "a.png")
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks" / "a_seg.npy", np.array({"masks": IMAGE}, object), allow_pickle=True)
    (problem,) = open_folder(tmp_path).problems
    assert "found Python objects (a pickle), which are never opened; save the masks from Cellpose as PNG" in problem
