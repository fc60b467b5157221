"""Folders of images whose objects were drawn as regions: which file belongs to which image, and what is refused."""

import json
import zipfile

import numpy as np
import pytest
from roifile import ROI_TYPE, ImagejRoi

from ushape.data.dataset import Dataset
from ushape.data.folder import open_folder
from ushape.errors import DataError
from ushape.run import train_run
from written_files import BINARY, IMAGE, SIZE, save, touch

SQUARE = ((2, 3), (6, 3), (6, 7), (2, 7))
FAR = ((10, 10), (14, 10), (14, 20), (10, 20))


def square(*corners):
    (left, top), _, (right, bottom), _ = corners
    mask = np.zeros(SIZE, np.int32)
    mask[top:bottom, left:right] = 1
    return mask


def both():
    return square(*SQUARE) + 2 * square(*FAR)


def rois(path, *rings):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [ImagejRoi.frompoints(np.array(ring)) for ring in rings]
    for each in made:
        each.roitype = ROI_TYPE.FREEHAND
    if path.suffix == ".roi":
        path.write_bytes(made[0].tobytes())
        return
    with zipfile.ZipFile(path, "w") as archive:
        for number, each in enumerate(made):
            archive.writestr(f"{number:04d}.roi", each.tobytes())


def geojson(path, *rings, names=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}, "properties": {}}
        for ring in rings
    ]
    for each, name in zip(features, names, strict=False):
        each["properties"]["classification"] = {"name": name}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def labelme(path, *rings, names=(), size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    names = names or ["cell"] * len(rings)
    shapes = [{"label": name, "points": ring, "shape_type": "polygon"} for name, ring in zip(names, rings, strict=True)]
    path.write_text(json.dumps({"shapes": shapes, "imageHeight": size[0], "imageWidth": size[1]}))


def masks(data: Dataset):
    return {sample.name: sample.read_mask() for sample in data.samples if sample.annotated}


@pytest.mark.parametrize(
    "image, drawing, write",
    [
        ("images/a.png", "masks/a.zip", rois),
        ("images/a.tif", "masks/a_rois.zip", rois),
        ("images/a.tif", "labels/RoiSet_a.zip", rois),
        ("images/a.tif", "annotations/a.tif.geojson", geojson),
        ("images/a.png", "annotations/A.json", labelme),
        ("images/a.png", "images/a.json", labelme),
        ("images/a.png", "rois/a.zip", rois),
        ("a.png", "a.geojson", geojson),
        ("a.png", "a.json", labelme),
        ("a.png", "rois/a.zip", rois),
        ("a.png", "RoiSet.zip", rois),
        ("train/a.png", "train/a.geojson", geojson),
        ("p1/images/a.png", "p1/masks/a.zip", rois),
        ("images/p1/a.png", "masks/p1/a.json", labelme),
    ],
)
def test_regions_stand_for_masks_in_every_layout(tmp_path, image, drawing, write):
    save(tmp_path / image)
    write(tmp_path / drawing, SQUARE, FAR)
    data = open_folder(tmp_path)
    assert (data.task, data.classes, data.problems) == ("instances", ("background", "object"), ())
    (mask,) = masks(data).values()
    assert np.array_equal(mask, both())
    assert "The annotation was drawn (2 regions in 1 image): each region is read as one object." in data.findings
    assert data.samples[0].files == (tmp_path / image, tmp_path / drawing)
    assert np.array_equal(data.samples[0].read_image(), IMAGE[None])


def test_a_region_of_its_own_is_one_object(tmp_path):
    for name in "ab":
        save(tmp_path / "images" / f"{name}.png")
        rois(tmp_path / "masks" / f"{name}.roi", SQUARE)
    assert [mask.max() for mask in masks(open_folder(tmp_path)).values()] == [1, 1]


def test_a_name_that_ends_in_another_suffix_is_a_name(tmp_path):
    """Beside regions and masks alike."""
    save(tmp_path / "images" / "a.tif.png")
    rois(tmp_path / "masks" / "a.tif.zip", SQUARE)
    assert set(masks(open_folder(tmp_path))) == {"a.tif"}
    save(tmp_path / "masks" / "a.tif.png", BINARY)
    assert open_folder(tmp_path).samples[0].files[1].name == "a.tif.png"


@pytest.mark.parametrize("layout", ["cells/a.png masks/a.zip", "x1/images/a.png x1/RoiSet.zip"])
def test_regions_lie_where_masks_may_lie(tmp_path, layout):
    image, drawing = layout.split()
    save(tmp_path / image)
    rois(tmp_path / drawing, SQUARE)
    assert [mask.max() for mask in masks(open_folder(tmp_path)).values()] == [1]


def test_an_empty_folder_of_masks_does_not_hide_regions(tmp_path):
    save(tmp_path / "images" / "a.png")
    (tmp_path / "masks").mkdir()
    touch(tmp_path / "labels" / "a.txt")
    labelme(tmp_path / "annotations" / "a.json", SQUARE)
    data = open_folder(tmp_path)
    assert [mask.max() for mask in masks(data).values()] == [1]
    assert data.problems == ()


def test_the_only_image_does_not_take_the_regions_of_another(tmp_path):
    save(tmp_path / "a.png")
    geojson(tmp_path / "b.geojson", SQUARE)
    assert masks(open_folder(tmp_path)) == {}


def test_a_few_regions_do_not_make_objects_of_classes(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        save(tmp_path / name)
    labelme(tmp_path / "cat" / "1.json", SQUARE)
    assert open_folder(tmp_path).task == "classification"
    for name in ("cat/2", "dog/1"):
        labelme(tmp_path / f"{name}.json", SQUARE)
    assert open_folder(tmp_path).task == "instances"
    labelled = open_folder(tmp_path, task="classification")
    assert (labelled.classes, labelled.problems) == (("cat", "dog"), ())
    assert not any("group" in finding for finding in labelled.findings)


def test_few_regions_in_groups_are_regions(tmp_path):
    for name in ("p1/images/a.png", "p1/images/b.png", "p1/images/c.png", "p2/images/a.png"):
        save(tmp_path / name)
    rois(tmp_path / "p1" / "masks" / "a.zip", SQUARE)
    assert len(masks(open_folder(tmp_path))) == 1


def test_images_without_regions_are_kept_for_prediction(tmp_path):
    for name in "abc":
        save(tmp_path / f"{name}.png")
    geojson(tmp_path / "a.geojson", SQUARE)
    geojson(tmp_path / "c.geojson")
    data = open_folder(tmp_path)
    assert {name: mask.max() for name, mask in masks(data).items()} == {"a": 1, "c": 0}
    assert [problem.split(": ", 1)[1] for problem in data.problems] == [
        "expected regions called b, found none; kept for prediction"
    ]
    assert data.findings[1] == (
        "1 of 2 drawings hold no region (c): right if nothing is there, otherwise draw it or leave the file out."
    )


def test_beside_masks_regions_are_not_read(tmp_path):
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "masks" / "a.png", BINARY)
    for folder in ("images", "masks"):
        rois(tmp_path / folder / "a.zip", SQUARE)
        geojson(tmp_path / folder / "a.geojson", SQUARE)
    data = open_folder(tmp_path)
    assert data.problems == ()
    assert data.samples[0].files[1].name == "a.png"


def test_classes_that_were_drawn_are_classes_where_they_are_asked_for(tmp_path):
    for name in "ab":
        save(tmp_path / f"{name}.png")
    labelme(tmp_path / "a.json", SQUARE, FAR, names=("nucleus", "cell"))
    labelme(tmp_path / "b.json", SQUARE, names=("nucleus",))
    (finding,) = open_folder(tmp_path).findings
    assert finding.endswith("Their classes (cell, nucleus) are not told apart; --task semantic does.")
    data = open_folder(tmp_path, task="semantic")
    assert (data.task, data.classes) == ("semantic", ("background", "cell", "nucleus"))
    assert np.array_equal(masks(data)["a"], 2 * square(*SQUARE) + square(*FAR))
    assert np.array_equal(masks(data)["b"], 2 * square(*SQUARE))
    # As a model knows them.
    known = ("background", "nucleus", "cell", "debris")
    data = open_folder(tmp_path, task="semantic", classes=known)
    assert data.classes == known
    assert np.array_equal(masks(data)["b"], square(*SQUARE))


def test_a_region_of_no_class_among_others_is_told_and_not_learnt_from(tmp_path):
    save(tmp_path / "a.png")
    geojson(tmp_path / "a.geojson", FAR, SQUARE, [(20, 2), (24, 2), (24, 6), (20, 6)], names=("a", "b"))
    data = open_folder(tmp_path, task="semantic")
    assert masks(data)["a"][3, 21] == -1
    (problem,) = data.problems
    assert "expected a class for each region, found 1 without (a); give them one (taken as not" in problem


def test_classes_have_one_number_in_all_parts(tmp_path):
    for part, names in (("train", ("cell",)), ("val", ("debris", "cell"))):
        save(tmp_path / part / "a.png")
        geojson(tmp_path / part / "a.geojson", *(SQUARE, FAR)[: len(names)], names=names)
    train, val = (open_folder(tmp_path, split=part, task="semantic") for part in ("train", "val"))
    assert train.classes == val.classes == ("background", "cell", "debris")
    assert np.array_equal(masks(val)["a"], 2 * square(*SQUARE) + square(*FAR))


def test_without_classes_all_regions_are_one_foreground(tmp_path):
    save(tmp_path / "a.png")
    rois(tmp_path / "a.zip", SQUARE, FAR)
    data = open_folder(tmp_path, task="semantic")
    assert data.classes == ("background", "foreground")
    assert np.array_equal(masks(data)["a"], both() > 0)


def test_the_description_names_the_classes(tmp_path):
    save(tmp_path / "a.png")
    geojson(tmp_path / "a.geojson", SQUARE, names=("nucleus",))
    toml = 'task = "semantic"\n[[classes]]\nname = "outside"\n[[classes]]\nname = "cell"\n[[classes]]\nname = "{}"\n'
    (tmp_path / "dataset.toml").write_text(toml.format("nucleus"))
    data = open_folder(tmp_path)
    assert data.classes == ("outside", "cell", "nucleus")
    assert np.array_equal(masks(data)["a"], 2 * square(*SQUARE))
    (tmp_path / "dataset.toml").write_text(toml.format("fibre"))
    with pytest.raises(
        DataError, match=r"of the classes cell, fibre only, as dataset\.toml has them, found nucleus; name"
    ):
        open_folder(tmp_path)


def problem_of(tmp_path):
    """The only problem of a folder whose other image can be used."""
    save(tmp_path / "good.png")
    geojson(tmp_path / "good.geojson", SQUARE)
    data = open_folder(tmp_path)
    assert set(masks(data)) == {"good"}
    (problem,) = data.problems
    return problem


def test_a_damaged_file_is_a_problem_and_its_image_is_kept(tmp_path):
    save(tmp_path / "a.png")
    touch(tmp_path / "a.geojson")
    problem = problem_of(tmp_path)
    assert problem.startswith(f"{tmp_path / 'a.geojson'}: expected regions as Fiji, QuPath or LabelMe save them")
    assert problem.endswith("(the image is kept without it)")


def test_regions_of_another_image_are_a_problem(tmp_path):
    save(tmp_path / "a.png")
    labelme(tmp_path / "a.json", SQUARE, size=(24, 31))
    assert "expected regions drawn on an image of size (24, 32), found (24, 31)" in problem_of(tmp_path)


def test_regions_outside_the_image_are_a_problem(tmp_path):
    save(tmp_path / "a.png")
    geojson(tmp_path / "a.geojson", [(x + 100, y) for x, y in SQUARE])
    assert "expected regions inside the image of size (24, 32), found none of 1 there" in problem_of(tmp_path)
    geojson(tmp_path / "a.geojson", [(x / 100, y / 100) for x, y in SQUARE])
    assert "found none of 1 there; save them in pixels" in problem_of(tmp_path)


def test_regions_of_a_stack_are_a_problem_and_channels_are_none(tmp_path):
    save(tmp_path / "a.tif", np.stack([IMAGE] * 5))
    geojson(tmp_path / "a.geojson", SQUARE)
    assert "expected regions of an image of one page, found 5 pages in a.tif" in problem_of(tmp_path)
    save(tmp_path / "a.tif", np.stack([IMAGE] * 2), imagej=True, metadata={"axes": "CYX"})
    data = open_folder(tmp_path)
    assert data.problems == ()
    assert data.samples[0].read_image().shape == (2, *SIZE)


def test_lines_and_points_are_told_and_an_image_of_such_alone_is_not_annotated(tmp_path):
    save(tmp_path / "a.png")
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}}
    geojson(tmp_path / "a.geojson", SQUARE)
    content = json.loads((tmp_path / "a.geojson").read_text())
    content["features"].append(point)
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    (problem,) = open_folder(tmp_path).problems
    assert problem == (
        f"{tmp_path}: expected regions of objects, found 1 lines, points, boxes, regions called ...* or the like "
        "among them (a); draw objects as polygons (left out)"
    )
    (tmp_path / "a.geojson").write_text(json.dumps(point))
    assert "found lines, points, boxes and the like only for a.png; draw objects as polygons" in problem_of(tmp_path)


def test_annotations_around_cells_are_told(tmp_path):
    save(tmp_path / "a.png")
    geojson(tmp_path / "a.geojson", ((0, 0), (30, 0), (30, 20), (0, 20)), SQUARE)
    content = json.loads((tmp_path / "a.geojson").read_text())
    for each, kind in zip(content["features"], ("annotation", "cell"), strict=True):
        each["properties"]["objectType"] = kind
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    data = open_folder(tmp_path)
    assert np.array_equal(masks(data)["a"], square(*SQUARE))
    assert "found 1 annotations around QuPath's cells or detections (a); export" in data.problems[0]


def test_an_object_of_several_pieces_is_told(tmp_path):
    """A program may have put all cells into one."""
    save(tmp_path / "a.png")
    corners = [[[*ring, ring[0]]] for ring in (SQUARE, FAR)]
    content = {"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": corners}}
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    data = open_folder(tmp_path)
    assert np.array_equal(masks(data)["a"], both() > 0)
    assert data.findings[0].endswith("each region is read as one object. 1 of them has pieces apart, up to 2.")


def test_where_no_drawing_can_be_used_there_are_no_masks(tmp_path):
    save(tmp_path / "a.png")
    touch(tmp_path / "a.roi")
    data = open_folder(tmp_path)
    assert data.findings == ("No masks: 1 image for prediction.",)
    assert len(data.problems) == 1


def test_a_table_may_name_regions(tmp_path):
    save(tmp_path / "a.png")
    geojson(tmp_path / "drawn" / "b.geojson", SQUARE)
    (tmp_path / "pairs.csv").write_text("image,mask\na.png,drawn/b.geojson\n")
    assert masks(open_folder(tmp_path / "pairs.csv"))["a"].max() == 1


def test_regions_called_unlike_any_image_are_told(tmp_path):
    for name in "ab":
        save(tmp_path / f"{name}.png")
    geojson(tmp_path / "other.geojson", SQUARE)
    data = open_folder(tmp_path)
    assert masks(data) == {}
    assert data.problems == (
        f"{tmp_path}: expected regions named like their images (a.zip, a.geojson or a.json with a.tif), found "
        "other.geojson and no image of that name; rename the files",
    )


def test_regions_can_be_trained_on(tmp_path):
    for name in "abc":
        save(tmp_path / f"{name}.png")
        geojson(tmp_path / f"{name}.geojson", SQUARE, FAR)
    settings = ["network.channels=4", "network.depth=2", "patch=[16, 16]", "batch=2"]
    finished = train_run(open_folder(tmp_path), keep_folder=False, steps=2, settings=settings, device="cpu")
    assert finished.evaluation.scores["n_reference"] == 2
