"""Marks upon pictures, against places worked out by hand."""

import numpy as np
import pytest

from ushape.picture.canvas import Bitmap, Box, Polygon, Text, overlaps
from ushape.picture.marks import SIDE, MarkedPanel, Spot, arrows, curves, frame, grid, outlines, sheet
from ushape.picture.overlay import label_colours

PLAIN = Spot(0.5, 0.5, 1.0)  # the picture's (row, column) is (y - 1, x - 1) on the sheet


def drawn(mark, spot=PLAIN) -> list:
    return list(mark(spot))


def test_lines_of_a_level_reach_to_the_rim():
    rows = np.repeat(np.arange(5.0)[:, None], 7, axis=1)
    (line,) = curves(rows, (1.25,))
    np.testing.assert_allclose(sorted(map(tuple, line)), [(1.25, -0.5), (1.25, 6.5)])
    # The first pixel begins half a pixel before its centre, and so does what is read there.
    (line,) = curves(rows, (-0.25,))
    np.testing.assert_allclose(line[:, 0], -0.25)
    (line,) = curves(rows.T, (4.4,))
    np.testing.assert_allclose(line[:, 1], 4.4)
    assert list(curves(rows, (-0.75, 4.75))) == []
    assert list(curves(rows[:1], (0.0,))) == []


def test_a_level_line_is_where_the_level_is():
    rows, columns = np.meshgrid(np.arange(30.0), np.arange(40.0), indexing="ij")
    values = (rows - 14) ** 2 / 4 + columns
    for line in curves(values, (20.0,), tolerance=0.01):
        np.testing.assert_allclose((line[:, 0] - 14) ** 2 / 4 + line[:, 1], 20, atol=0.15)


def test_a_grid_goes_through_its_origin_and_shows_the_border():
    source = np.stack(np.meshgrid(np.arange(-2.0, 12), np.arange(-3.0, 9), indexing="ij"))
    lines = [shape for mark in grid(source, (10, 6), 4, (1, 2)) for shape in drawn(mark)]
    assert all(isinstance(line, Polygon) and not line.closed for line in lines)

    def places(colour: str, axis: int) -> list[float]:
        # Sheet places are (x, y), one more than the index in the picture.
        return sorted({round(line.points[0][1 - axis] - 1, 6) for line in lines if line.line == colour})

    # Rows 1, 5 and 9 of the image are 3, 7 and 11 of the picture, columns -2, 2 and 6 are 1, 5 and 9.
    assert places("#56b4e9", 0) == [3, 7, 11]
    assert places("#ff8f5a", 1) == [1, 5, 9]
    white = [line for line in lines if line.line == "#ffffff"]
    # The image begins half a pixel before its row 0, which is row 2 of the picture, and has 10 rows and 6 columns.
    upright = {p[0] - 1 for line in white for p in line.points if abs(line.points[0][0] - line.points[1][0]) < 1e-9}
    level = {p[1] - 1 for line in white for p in line.points if abs(line.points[0][1] - line.points[1][1]) < 1e-9}
    assert sorted(upright) == pytest.approx([2.5, 8.5])
    assert sorted(level) == pytest.approx([1.5, 11.5])


def test_an_arrow_begins_at_its_place_and_ends_where_it_is_moved():
    node, shape = drawn(arrows(np.array([[2.0, 3.0]]), np.array([[10.0, -20.0]])), Spot(100, 50, 2.0))
    assert isinstance(node, Box)
    assert (node.x + node.width / 2, node.y + node.height / 2) == (107, 55)
    assert (67.0, 75.0) in [tuple(np.round(point, 6)) for point in shape.points]


def test_outlines_run_around_each_label_and_stay_open_at_the_rim():
    mask = np.zeros((8, 9), np.int32)
    mask[1:4, 1:4], mask[5:, 6:], mask[0, 8] = 3, 5, -1
    whole, cut = drawn(outlines(mask))
    colours = ["#{:02x}{:02x}{:02x}".format(*label_colours(np.array([label]))[0]) for label in (3, 5)]
    assert [whole.line, cut.line] == colours
    points = np.array(whole.points) - 1
    assert whole.points[0] == pytest.approx(whole.points[-1])
    assert (points.min(axis=0), points.max(axis=0)) == (pytest.approx([0.5, 0.5]), pytest.approx([3.5, 3.5]))
    ends = np.array([cut.points[0], cut.points[-1]]) - 1
    # (column, row): it leaves the picture below at column 5.5 and to the right at row 4.5.
    assert sorted(map(tuple, ends.tolist())) == [pytest.approx((5.5, 7.5)), pytest.approx((8.5, 4.5))]
    assert drawn(outlines(mask, ((0, 0, 0),) * 3 + ((1, 2, 3),)))[0].line == "#010203"


def test_a_frame_holds_its_pixels():
    (box,) = drawn(frame((2, 3), (4, 5)))
    assert (box.y - 0.5, box.x - 0.5, box.height, box.width) == (2, 3, 4, 5)


def test_a_sheet_has_four_panels_in_a_row_and_no_words_over_each_other():
    panels = [MarkedPanel(np.zeros((10, 20, 3), np.uint8), f"title {i}", "many words " * (i * 5)) for i in range(6)]
    panels[0] = MarkedPanel(panels[0].picture, "first", "", (frame((0, 0), (10, 20)),))
    drawing = sheet("A sheet", "and its note " * 30, panels, "caption")
    pictures = [shape for shape in drawing.shapes if isinstance(shape, Bitmap)]
    assert [shape.width for shape in pictures] == [SIDE] * 6
    assert len({shape.y for shape in pictures[:4]}) == len({shape.y for shape in pictures[4:]}) == 1
    texts = [shape for shape in drawing.shapes if isinstance(shape, Text)]
    assert not list(overlaps(texts, [*texts, *pictures]))
    assert drawing.description == "caption"
    boxes = [shape for shape in drawing.shapes if isinstance(shape, Box)]
    assert (boxes[0].x, boxes[0].y) == pytest.approx((pictures[0].x, pictures[0].y))
