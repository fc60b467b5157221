"""Outlines hold exactly the pixels of their objects, and other programs' readers give them back."""

import json
import zipfile
from itertools import pairwise

import numpy as np
import pytest
import tifffile
from matplotlib.path import Path as Polygon
from roifile import roiread
from scipy import ndimage

from conftest import disc_image
from test_files import answering, objects_by_threshold, write_stack
from test_model import small_model
from ushape.errors import RecipeError
from ushape.files import predict_files
from ushape.files.measure import measure_pieces
from ushape.files.outlines import Outline, trace, write_geojson, write_rois
from ushape.targets.instances import Decision
from ushape.targets.maps import Encoding


def filled(outlines, shape):
    """The labels whose outlines these are: the middle of each pixel is asked."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    middles = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    labels = np.zeros(shape, np.int32)
    for outline in outlines:
        inside = Polygon([*outline.outer, outline.outer[0]]).contains_points(middles)
        for hole in outline.holes:
            inside &= ~Polygon([*hole, hole[0]]).contains_points(middles)
        labels[inside.reshape(shape)] = outline.label
    return labels


def filled_holes(labels):
    """The labels with what no other label, nor the background outside, reaches even through corners."""
    found = labels.copy()
    for label in np.unique(labels[labels > 0]):
        pieces = ndimage.label(labels == label)[0]
        for piece in range(1, pieces.max() + 1):
            outside = np.pad(pieces != piece, 1, constant_values=True)
            background = ndimage.label(outside, np.ones((3, 3)))[0][1:-1, 1:-1]
            found[(background > 1)] = label
    return found


def area(ring):
    """Twice what the ring holds, positive where it runs clockwise on the screen."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise([*ring, ring[0]]))


@pytest.mark.parametrize("seed", range(40))
def test_an_outline_holds_the_pixels_of_its_object_and_no_others(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rng.integers(1, 16, 2)).astype(np.int32)
    outlines = trace(labels)
    np.testing.assert_array_equal(filled(outlines, labels.shape), labels)
    # No line comes to a corner twice, as programs of geography want it.
    for outline in outlines:
        for ring in (outline.outer, *outline.holes):
            assert len(set(ring)) == len(ring)
    # Without holes, the background that only a corner leads to is not filled either.
    labels = filled_holes(labels)
    unbroken = trace(labels, holes=False)
    assert not any(outline.holes for outline in unbroken)
    np.testing.assert_array_equal(filled(unbroken, labels.shape), labels)
    for outline in outlines:
        assert area(outline.outer) > 0
        assert all(area(hole) < 0 for hole in outline.holes)
        # Corners only: no three in a row, and each step is along an axis.
        for ring in (outline.outer, *outline.holes):
            for (x0, y0), (x1, y1), (x2, y2) in zip(ring, [*ring[1:], ring[0]], [*ring[2:], *ring[:2]], strict=True):
                assert (x0 == x1) != (y0 == y1)
                assert (x0 == x1) != (x1 == x2)
                assert (y0 == y1) != (y1 == y2)


def test_a_ring_and_two_pieces_by_hand():
    labels = np.zeros((5, 7), np.uint8)
    labels[1:4, 1:4] = 1
    labels[2, 2] = 0
    labels[0, 6] = labels[4, 5] = 3
    assert trace(labels) == [
        Outline(1, [(1, 1), (4, 1), (4, 4), (1, 4)], ([(2, 2), (2, 3), (3, 3), (3, 2)],)),
        Outline(3, [(6, 0), (7, 0), (7, 1), (6, 1)]),
        Outline(3, [(5, 4), (6, 4), (6, 5), (5, 5)]),
    ]
    named = trace(labels, names=("background", "cell", "-", "dirt"))
    assert [(outline.label, outline.name) for outline in named] == [(1, "dirt"), (2, "cell"), (3, "dirt")]
    assert trace(np.zeros((4, 4), np.int32)) == []


@pytest.mark.parametrize("holes", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_pieces_of_classes_have_their_numbers_of_the_table(seed, holes):
    names = ("background", "cell", "dirt", "glass")
    labels = np.random.default_rng(seed).integers(0, 4, (9, 11)).astype(np.int32)
    table = measure_pieces(labels, names, labels[None])
    outlines = trace(labels, names, holes=holes)
    assert [outline.label for outline in outlines] == table["object"]
    assert [outline.name for outline in outlines] == table["class"]
    for outline, top, left, bottom, right in zip(
        outlines, table["from_y"], table["from_x"], table["to_y"], table["to_x"], strict=True
    ):
        x, y = zip(*outline.outer, strict=True)
        assert (min(y), min(x), max(y), max(x)) == (top, left, bottom, right)


def test_qupath_reads_polygons_with_holes(tmp_path):
    labels = np.zeros((5, 7), np.uint8)
    labels[1:4, 1:4] = 1
    labels[2, 2] = 0
    write_geojson(tmp_path / "a.geojson", trace(labels, names=("background", "cell")))
    read = json.loads((tmp_path / "a.geojson").read_text())
    assert read["type"] == "FeatureCollection"
    assert read["features"] == [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    [[1, 1], [4, 1], [4, 4], [1, 4], [1, 1]],
                    [[2, 2], [2, 3], [3, 3], [3, 2], [2, 2]],
                ],
            },
            "properties": {"objectType": "detection", "name": "1", "classification": {"name": "cell"}},
        }
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["a.geojson"]


def test_imagej_reads_every_object_with_its_corners(tmp_path):
    _, labels = disc_image(0)
    outlines = trace(labels)
    write_rois(tmp_path / "a.zip", outlines, {"position": 4})
    rois = roiread(tmp_path / "a.zip")
    assert [roi.name for roi in rois] == [f"{outline.label:04d}" for outline in outlines]
    for roi, outline in zip(rois, outlines, strict=True):
        assert roi.position == 5
        corners = roi.integer_coordinates + np.array([roi.left, roi.top])
        np.testing.assert_array_equal(corners, outline.outer)
    # Written anew, not added to.
    write_rois(tmp_path / "a.zip", outlines[:1])
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["0001.roi"]


def test_pieces_of_an_object_and_odd_names_of_classes_are_files_of_their_own(tmp_path):
    square = [(0, 0), (1, 0), (1, 1), (0, 1)]
    pieces = [Outline(3, square), Outline(3, square), Outline(4, square, name="a/b: c")]
    write_rois(tmp_path / "a.zip", pieces, {"t": 1, "z": 2})
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["0003.roi", "0003-2.roi", "0004-a_b_ c.roi"]
    rois = roiread(tmp_path / "a.zip")
    assert [(roi.name, roi.t_position, roi.z_position) for roi in rois] == [("0003", 2, 3)] * 2 + [
        ("0004-a/b: c", 2, 3)
    ]


def test_predict_writes_the_outlines_of_each_page(tmp_path):
    stack = np.zeros((3, 40, 40), np.uint8)
    stack[0, 10:20, 10:20] = stack[1, 5:9, 5:9] = stack[1, 20:30, 20:30] = 255
    model = objects_by_threshold(small_model("instances"))
    model.decision = Decision(min_size=1)
    path = write_stack(tmp_path / "s.tif", stack)
    out = tmp_path / "out"
    written, problems, _ = predict_files(model, [str(path)], out, save=("geojson", "rois"))
    assert problems == []
    names = [f"s_{page}{ending}" for page in range(3) for ending in (".geojson", "_rois.zip")]
    assert [file.name for file in written] == names
    assert sorted(file.name for file in out.iterdir() if not file.name.startswith(".")) == sorted(names)
    found = [json.loads((out / f"s_{page}.geojson").read_text())["features"] for page in range(3)]
    assert [len(features) for features in found] == [1, 2, 0]
    # The last page is empty, and so is its archive.
    second = roiread(out / "s_1_rois.zip")
    assert [(roi.left, roi.top, roi.right, roi.bottom, roi.position) for roi in second] == [
        (5, 5, 9, 9, 2),
        (20, 20, 30, 30, 2),
    ]
    # What has all its files is done.
    said = []
    assert predict_files(model, [str(path)], out, save=("geojson", "rois"), resume=True, say=said.append)[0] == []
    assert "s: done before" in said


def test_pieces_of_classes_have_the_class_and_no_place_where_there_is_one_image(tmp_path):
    classes = ("background", "cell", "dirt")
    model = small_model(classes=classes, encoding=Encoding("semantic", n_classes=3))
    answering(model, lambda image: np.stack([image[0] == value for value in (0, 100, 200)]))
    image = np.zeros((1, 40, 40), np.uint8)
    image[0, 10:20, 10:20], image[0, 30:, 30:] = 200, 100
    path = write_stack(tmp_path / "a.tif", image)
    predict_files(model, [str(path)], tmp_path / "out", save=("geojson", "rois"))
    features = json.loads((tmp_path / "out" / "a.geojson").read_text())["features"]
    named = [(each["properties"]["name"], each["properties"]["classification"]["name"]) for each in features]
    assert named == [("1", "dirt"), ("2", "cell")]
    rois = roiread(tmp_path / "out" / "a_rois.zip")
    assert [(roi.name, roi.position) for roi in rois] == [("0001-dirt", 0), ("0002-cell", 0)]


def test_volumes_have_no_outlines(tmp_path):
    with pytest.raises(RecipeError, match=r"^expected a model of images for outlines, found one of volumes; "):
        predict_files(small_model(dims=3), ["a.tif"], tmp_path / "out", save=("labels", "rois"))


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("ZYX", (3, 40, 40), [(2, 0, 0)]),
        ("TCYX", (3, 2, 40, 40), [(0, 2, 0)]),
        ("TZCYX", (2, 3, 2, 40, 40), [(0, 1, 2), (0, 2, 2)]),
    ],
)
def test_outlines_lie_on_the_frame_and_slice_of_their_page(tmp_path, axes, shape, expected):
    """(position, frame, slice), from 1; ImageJ counts channels among positions."""
    n_channels = 2 if "C" in axes else 1
    model = objects_by_threshold(small_model("instances", channels=n_channels))
    model.decision = Decision(min_size=1)
    stack = np.zeros(shape, np.uint8)
    stack[(1, ...) if len(shape) < 5 else (slice(None), 1)][..., 10:20, 10:20] = 255
    tifffile.imwrite(tmp_path / "s.tif", stack, imagej=True, metadata={"axes": axes})
    written, problems, _ = predict_files(model, [str(tmp_path / "s.tif")], tmp_path / "out", save=("rois",))
    assert problems == []
    found = [roi for path in written if zipfile.ZipFile(path).namelist() for roi in roiread(path)]
    assert [(roi.position, roi.t_position, roi.z_position) for roi in found] == expected
