"""COCO's files: regions of many images in one; packed run lengths; where they lie."""

import json
import os
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from test_data_drawn import FAR, SQUARE, both, geojson, masks, square
from ushape.data.coco import coco_files, entry_of, read_coco
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
        ("images/default", "annotations/instances_default.json"),
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
    first, second = masks(data).values()
    assert np.array_equal(first, both())
    assert np.array_equal(second, square(*FAR))
    assert data.findings[0].startswith("The annotation was drawn (3 regions in 2 images): each region is read as one")


def test_categories_are_classes_where_they_are_asked_for(tmp_path):
    save(tmp_path / "a.png")
    write(tmp_path / "a.json", [annotation(0, SQUARE), annotation(0, FAR, category=2)], ("a.png",), ("cell", "debris"))
    data = open_folder(tmp_path, task="semantic")
    assert data.classes == ("background", "cell", "debris")
    assert np.array_equal(masks(data)["a"], both())


def test_parts_may_share_a_file_or_have_their_own(tmp_path):
    save(tmp_path / "images" / "train" / "a.png")
    save(tmp_path / "images" / "val" / "b.png")
    path = write(tmp_path / "annotations" / "all.json", [annotation(0, SQUARE), annotation(1, FAR)])

    def check():
        train, val = (open_folder(tmp_path, split=part) for part in ("train", "val"))
        assert train.problems == val.problems == ()
        assert np.array_equal(masks(train)["a"], square(*SQUARE))
        assert np.array_equal(masks(val)["b"], square(*FAR))

    check()
    path.unlink()
    write(path.with_name("instances_train.json"), [annotation(0, SQUARE)], names=("a.png",))
    write(path.with_name("instances_val.json"), [annotation(0, FAR)], names=("b.png",))
    check()


def test_images_called_alike_in_several_folders_are_told_apart(tmp_path):
    for folder in ("p1", "p2"):
        save(tmp_path / "images" / folder / "a.png")
    annotations = [annotation(0, SQUARE), annotation(1, FAR)]
    write(tmp_path / "annotations" / "all.json", annotations, names=("p1/a.png", "p2/a.png"))
    found = masks(open_folder(tmp_path))
    assert np.array_equal(found["p1_a"], square(*SQUARE))
    assert np.array_equal(found["p2_a"], square(*FAR))
    drawings = read_coco(tmp_path / "annotations" / "all.json")
    assert entry_of(drawings, tmp_path / "a.png") is None


def test_what_cvat_calls_a_crowd_because_it_was_painted_is_an_object(tmp_path):
    runs = {"size": list(SIZE), "counts": runs_of(square(*SQUARE) > 0)}
    crowd = {"image_id": 0, "category_id": 1, "segmentation": runs, "iscrowd": 1}
    path = write(tmp_path / "a.json", [crowd])
    assert np.array_equal(draw(read_coco(path)["a.png"], SIZE), -square(*SQUARE))
    path = write(tmp_path / "b.json", [crowd | {"attributes": {"occluded": False}}])
    assert np.array_equal(draw(read_coco(path)["a.png"], SIZE), square(*SQUARE))
    path = write(tmp_path / "c.json", [crowd | {"attributes": {"is_crowd": True}}])
    assert np.array_equal(draw(read_coco(path)["a.png"], SIZE), -square(*SQUARE))


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4]],
        {"size": [24, 32], "counts": [5]},
        {"size": [24, 32], "counts": []},
        {"counts": [5]},
        "nothing",
    ],
)
def test_an_odd_annotation_does_not_cost_the_others(tmp_path, segmentation):
    odd = {"image_id": 0, "category_id": 1, "segmentation": segmentation}
    flat_list = {"image_id": 0, "category_id": 1, "segmentation": flat(FAR)}
    path = write(tmp_path / "a.json", [annotation(0, SQUARE), odd, flat_list])
    drawing = read_coco(path)["a.png"]
    assert np.array_equal(draw(drawing, SIZE), both())
    assert drawing.others == 1


def test_an_image_without_a_size_is_of_any(tmp_path):
    path = tmp_path / "a.json"
    content = {"images": [{"id": 0, "file_name": "a.png", "height": None}], "annotations": [annotation(0, SQUARE)]}
    path.write_text(json.dumps(content))
    assert read_coco(path)["a.png"].size is None


def test_of_two_kinds_of_files_that_of_more_images_is_read(tmp_path):
    for name in "ab":
        save(tmp_path / f"{name}.png")
    write(tmp_path / "all.json", [annotation(0, FAR), annotation(1, FAR)])
    geojson(tmp_path / "a.geojson", SQUARE)
    data = open_folder(tmp_path)
    assert [mask[4, 4] for mask in masks(data).values()] == [0, 0]
    assert "a.geojson: not read, because all.json has more images." in data.findings
    geojson(tmp_path / "b.geojson", SQUARE)
    data = open_folder(tmp_path)
    assert [mask[4, 4] for mask in masks(data).values()] == [1, 1]
    assert "all.json: not read, because there are regions beside it." in data.findings


def test_a_table_may_name_it(tmp_path):
    for name in "ac":
        save(tmp_path / f"{name}.png")
    path = write(tmp_path / "all.json", [annotation(0, SQUARE)])
    (tmp_path / "pairs.csv").write_text("image,mask\na.png,all.json\nc.png,all.json\n")
    data = open_folder(tmp_path / "pairs.csv")
    assert set(masks(data)) == {"a"}
    assert data.problems[0].startswith(
        f"{path}: expected regions of c.png, found none; name the image as the file does"
    )


def test_what_does_not_fit_is_told(tmp_path):
    for name in "ac":
        save(tmp_path / f"{name}.png")
    write(tmp_path / "all.json", [annotation(0, SQUARE)])
    data = open_folder(tmp_path)
    assert set(masks(data)) == {"a"}
    assert data.problems == (f"{tmp_path / 'c.png'}: expected regions called c, found none; kept for prediction",)
    write(tmp_path / "all.json", [annotation(0, SQUARE)], size=(24, 31))
    assert "expected regions drawn on an image of size (24, 32), found (24, 31)" in open_folder(tmp_path).problems[-1]
    write(tmp_path / "more.json", [])
    data = open_folder(tmp_path)
    assert masks(data) == {}
    assert "expected each image in one of COCO's files, found 1 in several (a.png; all.json, more" in data.problems[0]


def test_a_damaged_file_is_one_sentence(tmp_path):
    save(tmp_path / "a.png")
    path = write(tmp_path / "all.json", [annotation(0, SQUARE)], names=("a.png",))
    path.write_text(path.read_text()[:-5])
    data = open_folder(tmp_path)
    assert masks(data) == {}
    assert data.problems[0].startswith(f"{path}: expected regions of images as COCO has them, found what cannot be re")
    with pytest.raises(DataError, match=re.escape(str(path))):
        read_coco(path)
    # It is not called something else as well, where masks may lie.
    (tmp_path / "masks").mkdir()
    path.rename(tmp_path / "masks" / path.name)
    problems = open_folder(tmp_path).problems
    assert sum("COCO" in problem for problem in problems) == 1
    assert not any("unknown program" in problem for problem in problems)


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
    path = write(tmp_path / "all.json", [annotation(0, SQUARE)])
    assert len(read_coco(path)["a.png"].regions) == 1
    write(path, [annotation(0, SQUARE), annotation(0, FAR)])
    os.utime(path, ns=(1, 1))
    assert len(read_coco(path)["a.png"].regions) == 2
