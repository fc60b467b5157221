"""COCO's files: regions of many images in one; packed run lengths; where they lie."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from test_data_drawn import FAR, SQUARE, both, masks, square
from ushape.data.coco import coco_files, read_coco
from ushape.data.folder import open_folder
from ushape.data.regions import draw
from ushape.errors import DataError
from written_files import BINARY, SIZE, save, touch


def flat(ring):
    return [number for corner in ring for number in corner]


def annotation(image, *rings, category=1, **more):
    return {"image_id": image, "category_id": category, "segmentation": [flat(ring) for ring in rings], **more}


def write(path, annotations, names=("a.png", "b.png"), categories=("cell",), size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "info": {"year": 2026},
        "images": [{"id": k, "file_name": n, "height": size[0], "width": size[1]} for k, n in enumerate(names)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(categories, start=1)],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))
    return path


def runs_of(mask):
    """Run lengths of a mask (height, width), of background first, column by column."""
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *ends, len(flat)]).tolist()
    return [0, *runs] if flat[0] else runs


def packed(runs):
    """The same as letters."""
    text = ""
    for k, run in enumerate(runs):
        left = run - (runs[k - 2] if k > 2 else 0)
        more = True
        while more:
            bits, left = left & 31, left >> 5
            more = left != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


@given(arrays(np.bool_, (9, 70), elements=st.booleans(), fill=st.booleans()), st.booleans())
def test_run_lengths_are_read_packed_and_plain(tmp_path_factory, mask, is_packed):
    runs = runs_of(mask)
    segmentation = {"size": list(mask.shape), "counts": packed(runs) if is_packed else runs}
    path = tmp_path_factory.mktemp("coco") / "a.json"
    write(path, [{"image_id": 0, "category_id": 1, "segmentation": segmentation}], names=("a.png",), size=mask.shape)
    assert np.array_equal(draw(read_coco(path)["a.png"], mask.shape), mask)


def test_polygons_pieces_crowds_and_boxes(tmp_path):
    annotations = [
        annotation(0, SQUARE, FAR),
        annotation(0, ((20, 2), (24, 2), (24, 6), (20, 6)), iscrowd=1),
        {"image_id": 0, "category_id": 1, "bbox": [0, 0, 4, 4], "segmentation": []},
        annotation(1, FAR),
    ]
    drawings = read_coco(write(tmp_path / "a.json", annotations, names=("sub/a.png", "b.png")))
    assert np.array_equal(draw(drawings["a.png"], SIZE), (both() > 0) - square((20, 2), 0, (24, 6), 0))
    assert drawings["a.png"].others == 1
    assert np.array_equal(draw(drawings["b.png"], SIZE), square(*FAR))


@pytest.mark.parametrize(
    "images, file",
    [
        (".", "_annotations.coco.json"),
        ("images", "annotations/instances_default.json"),
        ("images", "result.json"),
        ("train", "train/_annotations.coco.json"),
        ("images", "images/labels.json"),
        ("cells", "annotations/a.json"),
    ],
)
def test_one_file_is_for_all_images(tmp_path, images, file):
    for name in "ab":
        save(tmp_path / images / f"{name}.png")
    write(tmp_path / file, [annotation(0, SQUARE), annotation(0, FAR), annotation(1, FAR)])
    data = open_folder(tmp_path)
    assert (data.task, data.problems) == ("instances", ())
    assert np.array_equal(masks(data)["a"], both())
    assert np.array_equal(masks(data)["b"], square(*FAR))
    assert data.findings[0].startswith("The annotation was drawn (3 regions in 2 images): each region is read as one")


def test_categories_are_classes_where_they_are_asked_for(tmp_path):
    save(tmp_path / "a.png")
    write(tmp_path / "a.json", [annotation(0, SQUARE), annotation(0, FAR, category=2)], ("a.png",), ("cell", "debris"))
    data = open_folder(tmp_path, task="semantic")
    assert data.classes == ("background", "cell", "debris")
    assert np.array_equal(masks(data)["a"], both())


def test_what_does_not_fit_is_told(tmp_path):
    for name in "ac":
        save(tmp_path / f"{name}.png")
    path = write(tmp_path / "all.json", [annotation(0, SQUARE)])
    data = open_folder(tmp_path)
    assert set(masks(data)) == {"a"}
    assert data.problems == (
        f"{path}: expected the images that it names, found 1 of 2 missing (b.png); add them",
        f"{tmp_path / 'c.png'}: expected regions called c, found none; kept for prediction",
    )
    write(tmp_path / "all.json", [annotation(0, SQUARE)], size=(24, 31))
    assert "expected regions drawn on an image of size (24, 32), found (24, 31)" in open_folder(tmp_path).problems[-1]
    write(tmp_path / "more.json", [])
    data = open_folder(tmp_path)
    assert masks(data) == {}
    assert "expected one file of COCO's for the images, found 2 (all.json, more.json)" in data.problems[0]


def test_a_damaged_file_is_one_sentence(tmp_path):
    save(tmp_path / "a.png")
    path = write(tmp_path / "all.json", [annotation(0, SQUARE)], names=("a.png",))
    path.write_text(path.read_text()[:-5])
    data = open_folder(tmp_path)
    assert masks(data) == {}
    assert data.problems[0].startswith(f"{path}: expected regions of images as COCO has them, found what cannot be re")
    with pytest.raises(DataError, match=re.escape(str(path))):
        read_coco(path)


def test_notes_about_images_are_none_of_cocos_files(tmp_path):
    touch(tmp_path / "x.json")
    (tmp_path / "notes.json").write_text('{"images": [{"exposure": 0.1}]}')
    (tmp_path / "labelme.json").write_text('{"shapes": [], "imageHeight": 1}')
    write(tmp_path / ".hidden.json", [])
    assert coco_files(tmp_path) == []
    assert coco_files(write(tmp_path / "all.json", []).parent) == [tmp_path / "all.json"]


def test_beside_masks_it_is_not_read(tmp_path):
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "masks" / "a.png", BINARY)
    write(tmp_path / "annotations.json", [annotation(0, SQUARE)], names=("a.png",))
    data = open_folder(tmp_path)
    assert data.problems == ()
    assert data.samples[0].files[1].name == "a.png"


def test_a_file_that_changes_is_read_again(tmp_path):
    import os

    path = write(tmp_path / "all.json", [annotation(0, SQUARE)])
    assert len(read_coco(path)["a.png"].regions) == 1
    write(path, [annotation(0, SQUARE), annotation(0, FAR)])
    os.utime(path, ns=(1, 1))
    assert len(read_coco(path)["a.png"].regions) == 2
