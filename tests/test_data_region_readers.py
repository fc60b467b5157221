"""Regions of Fiji, QuPath and LabelMe: which pixels lie in them; what is damaged is one sentence."""

import base64
import io
import json
import re
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from roifile import ROI_TYPE, ImagejRoi

from ushape.data.region_readers import is_drawing, read_drawing
from ushape.data.regions import draw
from ushape.errors import DataError
from ushape.files.outlines import trace, write_geojson, write_rois

SIZE = (12, 14)
SQUARE = [[2, 3], [6, 3], [6, 7], [2, 7]]  # (x, y): columns 2 to 5 of rows 3 to 6


def box(top, bottom, left, right, size=SIZE):
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def drawn(path, content, size=SIZE):
    """The mask of a file with this content."""
    path.write_text(json.dumps(content)) if not isinstance(content, bytes) else path.write_bytes(content)
    return draw(read_drawing(path), size)


def feature(*rings, kind="Polygon", **properties):
    closed = [[*ring, ring[0]] for ring in rings]
    coordinates = closed if kind == "Polygon" else [[ring] for ring in closed]
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def shape(points, kind="polygon", label="cell", group=None):
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}}


def labelme(*shapes, size=SIZE):
    return {"version": "5.4.1", "flags": {}, "shapes": shapes, "imageHeight": size[0], "imageWidth": size[1]}


@given(arrays(np.int32, (7, 8), elements=st.integers(0, 3)))
def test_what_was_written_for_qupath_is_read_to_the_same_objects(tmp_path_factory, labels):
    """Holes, pieces apart, pieces that meet at a corner and objects of one pixel included."""
    path = tmp_path_factory.mktemp("drawn") / "a.geojson"
    write_geojson(path, trace(labels))
    values = np.unique(labels[labels > 0])
    assert np.array_equal(draw(read_drawing(path), labels.shape), np.searchsorted(values, labels) + (labels > 0))


def test_what_was_written_for_fiji_is_read_to_the_same_objects(tmp_path):
    labels = np.zeros((30, 40), np.int32)
    for k in range(5):
        rows, columns = np.ogrid[:30, :40]
        labels[(rows - 4 - 5 * k) ** 2 + (columns - 5 - 7 * k) ** 2 < 16] = k + 1
    write_rois(tmp_path / "a_rois.zip", trace(labels, holes=False))
    assert np.array_equal(draw(read_drawing(tmp_path / "a_rois.zip"), labels.shape), labels)


def test_qupath_writes_holes_pieces_and_classes(tmp_path):
    hole = [[3, 4], [5, 4], [5, 6], [3, 6]]
    far = [[8, 8], [10, 8], [10, 10], [8, 10]]
    content = {
        "type": "FeatureCollection",
        "features": [
            feature(SQUARE, hole, objectType="annotation", classification={"name": "Tumor", "color": [200, 0, 0]}),
            feature(far, [[12, 0], [14, 0], [14, 2], [12, 2]], kind="MultiPolygon"),
            {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}, "properties": {}},
        ],
    }
    expected = np.zeros(SIZE, np.int32)
    expected[box(3, 7, 2, 6) & ~box(4, 6, 3, 5)] = 1
    expected[box(8, 10, 8, 10) | box(0, 2, 12, 14)] = 2
    assert np.array_equal(drawn(tmp_path / "a.geojson", content), expected)
    drawing = read_drawing(tmp_path / "a.geojson")
    assert [region.name for region in drawing.regions] == ["Tumor", ""]
    assert drawing.others == 1
    # As a bare list, and as the only one, too.
    assert np.array_equal(drawn(tmp_path / "b.geojson", content["features"]), expected)
    assert np.array_equal(drawn(tmp_path / "c.geojson", content["features"][0]), expected == 1)
    # Nothing of nothing.
    for empty in ([], [[]]):
        nothing = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": empty}}
        assert np.array_equal(drawn(tmp_path / "d.geojson", [content["features"][0], nothing]), expected == 1)
        assert read_drawing(tmp_path / "d.geojson").others == 1


def test_a_region_called_ignore_is_not_annotated(tmp_path):
    ring = [[4, 5], [9, 5], [9, 9], [4, 9]]
    expected = np.where(box(5, 9, 4, 9), -1, box(3, 7, 2, 6))
    ignored = feature(ring, classification={"name": "Ignore*"})
    assert np.array_equal(drawn(tmp_path / "a.geojson", [ignored, feature(SQUARE)]), expected)
    content = labelme(shape(ring, label="__ignore__"), shape(SQUARE), shape(ring, label="_background_"))
    assert np.array_equal(drawn(tmp_path / "a.json", content), expected)


def test_what_lies_around_qupaths_cells_is_no_object(tmp_path):
    """Nor is a class with an asterisk; annotations alone are the objects."""
    around = feature([[0, 0], [12, 0], [12, 12], [0, 12]], objectType="annotation")
    area = feature([[0, 0], [13, 0], [13, 12], [0, 12]], objectType="annotation", classification={"name": "Region*"})
    cell = feature(SQUARE, objectType="cell", classification={"names": ["Tumor", "Positive"]})
    assert np.array_equal(drawn(tmp_path / "a.geojson", [around, area, cell]), box(3, 7, 2, 6))
    drawing = read_drawing(tmp_path / "a.geojson")
    assert (drawing.around, drawing.others, drawing.regions[0].name) == (1, 1, "Tumor: Positive")
    assert np.array_equal(drawn(tmp_path / "b.geojson", [around, area]), box(0, 12, 0, 12))
    assert read_drawing(tmp_path / "b.geojson").others == 1


def test_objects_added_by_hand_to_those_that_were_found_are_objects(tmp_path):
    """Beside them, or drawn anew over one or two of them."""
    found = [
        feature(SQUARE, objectType="detection"),
        feature([[8, 3], [12, 3], [12, 7], [8, 7]], objectType="detection"),
    ]
    missed = feature([[2, 9], [8, 9], [8, 12], [2, 12]], objectType="annotation")
    anew = feature([[2, 2], [12, 2], [12, 8], [2, 8]], objectType="annotation")
    path = tmp_path / "a.geojson"
    assert np.array_equal(drawn(path, [*found, missed]) == 3, box(9, 12, 2, 8))
    assert np.count_nonzero(drawn(path, [*found, missed, anew]) == 4) == 60 - 32
    assert read_drawing(path).around == 0
    small = feature([[9, 9], [10, 9], [10, 10], [9, 10]], objectType="detection")
    over_both = feature([[2, 3], [11, 3], [11, 10], [2, 10]], objectType="annotation")
    assert drawn(path, [found[0], found[1], small, over_both]).max() == 4  # 63 px are 4 times 1, not 16
    turned = feature(SQUARE, SQUARE[::-1], kind="MultiPolygon", objectType="detection")
    assert drawn(path, [turned, anew]).max() == 2
    larger = feature([[0, 0], [13, 0], [13, 12], [0, 12]], objectType="annotation")
    assert drawn(path, [*found, missed, larger]).max() == 3
    assert read_drawing(path).around == 1


def test_qupath_may_call_it_json_or_pack_it(tmp_path):
    content = {"type": "FeatureCollection", "features": [feature(SQUARE, classification="Tumor")]}
    assert np.array_equal(drawn(tmp_path / "a.json", content), box(3, 7, 2, 6))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.json", "a.geojson")
    assert is_drawing(tmp_path / "a.zip")
    assert read_drawing(tmp_path / "a.zip").regions[0].name == "Tumor"


def roi(kind, points=(), box=None, **options):
    made = ImagejRoi.frompoints(np.array(points)) if len(points) else ImagejRoi(**options)
    made.roitype = kind
    if box is not None:
        made.top, made.bottom, made.left, made.right = box
    return made


def test_fiji_writes_polygons_boxes_ovals_and_what_has_no_inside(tmp_path):
    kinds = {
        "1.roi": roi(ROI_TYPE.FREEHAND, SQUARE),
        "2.roi": roi(ROI_TYPE.RECT, box=(8, 10, 1, 4)),
        "3.roi": roi(ROI_TYPE.OVAL, box=(0, 7, 7, 14)),
        "4.roi": roi(ROI_TYPE.POINT, [[5, 5]]),
        "5.roi": roi(ROI_TYPE.POLYLINE, SQUARE),
    }
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, each in kinds.items():
            archive.writestr(name, each.tobytes())
        archive.writestr("notes.txt", "no region")
        archive.writestr("6.roi", b"Iout")
        archive.writestr("__MACOSX/._1.roi", b"nothing")
    drawing = read_drawing(tmp_path / "a.zip")
    assert drawing.others == 3
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    oval = (rows + 0.5 - 3.5) ** 2 + (columns + 0.5 - 10.5) ** 2 < 3.5**2
    expected = np.where(oval, 3, 2 * box(8, 10, 1, 4) + box(3, 7, 2, 6))
    assert np.array_equal(draw(drawing, SIZE), expected)
    (tmp_path / "a.roi").write_bytes(kinds["1.roi"].tobytes())
    assert np.array_equal(draw(read_drawing(tmp_path / "a.roi"), SIZE), box(3, 7, 2, 6))


def test_a_composed_region_of_fiji_has_holes(tmp_path):
    path = []
    for ring in (SQUARE, [[3, 4], [5, 4], [5, 6], [3, 6]]):
        path += [0, *ring[0], *(number for corner in ring[1:] for number in (1, *corner)), 4]
    made = roi(ROI_TYPE.RECT, box=(3, 7, 2, 6))
    made.shape_roi_size, made.multi_coordinates = len(path), np.array(path, np.float32)
    assert np.array_equal(drawn(tmp_path / "a.roi", made.tobytes()), box(3, 7, 2, 6) & ~box(4, 6, 3, 5))


def test_labelme_writes_polygons_rectangles_circles_and_groups(tmp_path):
    content = labelme(
        shape(SQUARE),
        shape([[8, 8], [12, 11]], "rectangle"),
        shape([[10.5, 3.5], [10.5, 6.4]], "circle"),
        shape([[0, 0], [1, 0], [1, 1], [0, 1]], group=7),
        shape([[0, 10], [1, 10], [1, 11], [0, 11]], group=7),
        shape([[5, 5]], "point"),
    )
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    circle = (rows - 3) ** 2 + (columns - 10) ** 2 < 9
    pieces = box(0, 1, 0, 1) | box(10, 11, 0, 1)
    expected = box(3, 7, 2, 6) + 2 * box(8, 11, 8, 12) + 3 * circle + 4 * pieces
    assert np.array_equal(drawn(tmp_path / "a.json", content), expected)
    drawing = read_drawing(tmp_path / "a.json")
    assert (drawing.size, drawing.others) == (SIZE, 1)


def test_labelmes_masks_and_turned_rectangles_are_read(tmp_path):
    painted = np.array([[0, 1, 1], [1, 1, 0]], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(painted * 255).save(buffer, "png")
    stamp = shape([[5, 4], [7, 5]], "mask") | {"mask": base64.b64encode(buffer.getvalue()).decode()}
    turned = shape([[10, 6], [13, 9], [10, 12], [7, 9]], "oriented_rectangle")
    boxed = shape([[0, 9], [3, 9], [3, 12], [0, 12]], "rectangle")
    mask = drawn(tmp_path / "a.json", labelme(stamp, turned, boxed))
    assert np.array_equal(mask[4:6, 5:8], painted)
    assert np.array_equal(mask == 3, box(9, 12, 0, 3))
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    # The diamond's edges go through centres: of opposite sides one has them.
    assert np.count_nonzero((mask == 2) & (abs(columns + 0.5 - 10) + abs(rows + 0.5 - 9) < 3)) == 12
    assert np.count_nonzero(mask == 2) == 18


def test_labelmes_masks_may_be_huge(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    Image.new("L", (8, 6), 255).save(buffer, "png")
    stamp = shape([[5, 4], [12, 9]], "mask") | {"mask": base64.b64encode(buffer.getvalue()).decode()}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # Pillow refuses twice as many
    assert np.array_equal(drawn(tmp_path / "a.json", labelme(stamp)), box(4, 10, 5, 13))


def test_pieces_of_a_group_that_overlap_are_one_whole(tmp_path):
    content = labelme(shape(SQUARE, group=1), shape([[4, 3], [9, 3], [9, 7], [4, 7]], group=1))
    assert np.array_equal(drawn(tmp_path / "a.json", content), box(3, 7, 2, 9))


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.geojson", b""),
        ("a.geojson", b'{"type": "FeatureCollection"}'),
        ("a.geojson", b'[{"geometry": {"type": "Polygon", "coordinates": [[["x", 1], [2, 2], [3, 4]]]}}]'),
        ("a.json", b'{"shapes": [{"points": [[1, 2], [3]], "label": "a"}]}'),
        ("a.json", b'{"shapes": [{"label": "a"}]}'),
        ("a.roi", b"Iout"),
        ("a.roi", b"nothing"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    message = f"^{re.escape(str(tmp_path / name))}: expected regions as Fiji, QuPath or LabelMe save them, found what"
    with pytest.raises(DataError, match=message):
        read_drawing(tmp_path / name)


def test_what_is_a_drawing_is_told_by_name_and_where_that_says_little_by_content(tmp_path):
    for name in ("a.roi", "a.GEOJSON", ".hidden.roi", "a.xml", "a.json", "b.json", "c.zip"):
        (tmp_path / name).write_bytes(b'{"shapes": []}' if name == "a.json" else b'{"images": []}')
    (tmp_path / "c.json").write_bytes(b'[\n {\n "type": "Feature"}]')
    (tmp_path / "d.json").write_bytes(b'{"imageData": "' + b"A" * 5000 + b'", "shapes": []}')
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0001.ROI", b"Iout")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.png", b"")
    found = {path.name for path in tmp_path.iterdir() if is_drawing(path)}
    assert found == {"a.roi", "a.GEOJSON", "a.json", "c.json", "d.json", "a.zip"}
