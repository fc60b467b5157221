"""Pictures and open lines on a canvas: both writers show the same."""

import base64
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from ushape.picture.canvas import Bitmap, Box, Drawing, Line, Polygon, bounds, png, svg

SVG = "{http://www.w3.org/2000/svg}"


def drawing_of(*shapes, width=40, height=30) -> Drawing:
    return Drawing(width, height, shapes, "t")


def picture_of(high=3, wide=4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (high, wide, 3), dtype=np.uint8)


def test_a_bitmap_is_enlarged_in_squares_where_it_stands():
    picture = picture_of()
    sheet = png(drawing_of(Bitmap(8, 6, 16, 12, picture)))
    np.testing.assert_array_equal(sheet[6:18, 8:24], picture.repeat(4, axis=0).repeat(4, axis=1))
    outside = np.ones(sheet.shape[:2], bool)
    outside[6:18, 8:24] = False
    assert (sheet[outside] == 255).all()
    assert bounds(Bitmap(8, 6, 16, 12, picture)) == (8, 6, 24, 18)


@pytest.mark.parametrize("grey", [False, True])
def test_an_svg_holds_the_pixels(grey):
    picture = picture_of()
    picture = picture[..., :1].repeat(3, axis=-1) if grey else picture
    (element,) = ElementTree.fromstring(svg(drawing_of(Bitmap(8, 6, 16, 12, picture)))).findall(f"{SVG}image")
    assert [element.get(name) for name in ("x", "y", "width", "height")] == ["8", "6", "16", "12"]
    held = Image.open(io.BytesIO(base64.b64decode(element.get("href").removeprefix("data:image/png;base64,"))))
    assert held.mode == ("L" if grey else "RGB")
    np.testing.assert_array_equal(np.asarray(held.convert("RGB")), picture)


def test_more_pixels_than_are_seen_are_averaged():
    fine = np.zeros((60, 60, 3), np.uint8)
    fine[::2] = 200
    reduced = Bitmap(0, 0, 10, 10, fine).reduced()
    assert reduced.shape == (15, 15, 3)
    assert set(np.unique(reduced)) == {100}


def test_the_later_shape_lies_on_top():
    line = Line((0, 15), (40, 15), "#ff0000", 10)
    box, picture = Box(0, 0, 40, 30, "#00ff00"), Bitmap(0, 0, 40, 30, np.full((2, 2, 3), 7, np.uint8))
    for shapes, colour in (
        ((line, box), (0, 255, 0)),
        ((box, picture, line), (255, 0, 0)),
        ((line, picture), (7, 7, 7)),
    ):
        assert tuple(png(drawing_of(*shapes))[15, 20]) == colour


def test_an_open_line_is_not_closed():
    corners = ((5.0, 5.0), (35.0, 5.0), (35.0, 25.0))
    for closed, tag in ((True, "polygon"), (False, "polyline")):
        drawing = drawing_of(Polygon(corners, line="#000000", line_width=2, closed=closed))
        # Half way back from the last corner to the first.
        assert (png(drawing)[15, 20] < 255).all() == closed
        assert len(ElementTree.fromstring(svg(drawing)).findall(f"{SVG}{tag}")) == 1
