import io

import numpy as np
import pytest
from PIL import Image

from ushape.picture.canvas import Drawing, text_width
from ushape.picture.plate import (
    Frame,
    Inset,
    Panel,
    Plate,
    colour_map,
    compose,
    draw_panels,
    heat,
    in_lines,
    shrunk,
    small_jpeg,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture_of(*rows) -> np.ndarray:
    return np.array(rows, np.uint8)


def test_a_small_picture_becomes_squares_at_its_place():
    picture = picture_of([RED, GREEN], [BLUE, RED])
    drawn = compose(Drawing(20, 10, (), "t"), [Inset(picture, 4, 2, 8, 6)], 40)
    assert drawn.shape == (20, 40, 3)
    expected = np.full((20, 40, 3), 255, np.uint8)
    expected[4:10, 8:16], expected[4:10, 16:24] = RED, GREEN
    expected[10:16, 8:16], expected[10:16, 16:24] = BLUE, RED
    np.testing.assert_array_equal(drawn, expected)


def test_a_large_picture_is_averaged():
    picture = np.tile(np.array([[[0, 0, 0], [200, 100, 40]]], np.uint8), (40, 20, 1))
    drawn = compose(Drawing(10, 10, (), "t"), [Inset(picture, 0, 0, 10, 10)], 10)
    np.testing.assert_array_equal(drawn, np.broadcast_to([100, 50, 20], (10, 10, 3)))


def test_a_frame_lies_around_its_pixels():
    picture = np.full((10, 10, 3), 200, np.uint8)
    drawn = compose(Drawing(100, 100, (), "t"), [Inset(picture, 0, 0, 100, 100, (Frame(4, 5, 6, 7, RED),))], 100)
    red = (drawn == RED).all(axis=-1)
    # Two pixels thick around rows 40..59 and columns 50..69: one inside, one outside.
    assert (np.flatnonzero(red.any(axis=1)).min(), np.flatnonzero(red.any(axis=1)).max()) == (39, 60)
    assert (np.flatnonzero(red.any(axis=0)).min(), np.flatnonzero(red.any(axis=0)).max()) == (49, 70)
    assert not red[41:59, 51:69].any()
    assert (drawn[38, 50:70] == 0).all()


def test_a_frame_at_the_rim_is_seen():
    picture = np.full((10, 10, 3), 200, np.uint8)
    drawn = compose(Drawing(100, 100, (), "t"), [Inset(picture, 0, 0, 100, 100, (Frame(0, 0, 10, 10, RED),))], 100)
    assert all((side == RED).all() for side in (drawn[0], drawn[1], drawn[-1], drawn[:, 0], drawn[:, -2]))


def test_colours_from_0_to_the_top():
    drawn = colour_map(np.array([0.0, 1.0, 2.0, 9.0, -1.0]), 2.0, "gray")
    np.testing.assert_array_equal(drawn[:, 0], [0, 128, 255, 255, 0])
    np.testing.assert_array_equal(colour_map(np.zeros(3), 0.0, "gray"), np.zeros((3, 3)))


def test_heat_glows_only_where_there_is_some():
    picture = np.full((1, 3, 3), 100, np.uint8)
    drawn = heat(picture, np.array([[0.0, 0.5, 1.0]]))
    np.testing.assert_array_equal(drawn[0, 0], [75, 75, 75])
    assert 75 < drawn[0, 1].max() < drawn[0, 2].max()


def test_values_are_averaged_down_and_never_enlarged():
    values = np.arange(16.0).reshape(4, 4)
    np.testing.assert_allclose(shrunk(values, (2, 2)), [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_array_equal(shrunk(values, (9, 9)), values)


def test_lines_fit_and_keep_every_word():
    words = "one two three four five six seven eight nine ten"
    lines = in_lines(words, 80.0, 10.0)
    assert " ".join(lines) == words
    assert all(text_width(line, 10.0) <= 80.0 for line in lines)
    assert len(lines) > 2
    assert in_lines("", 80.0) == []


@pytest.mark.parametrize("columns,wide,high", [(3, 3, 1), (2, 2, 2), (9, 3, 1)])
def test_panels_stand_in_rows(columns, wide, high):
    panels = [Panel(np.full((8, 16, 3), shade, np.uint8), "A title", ("Some words.",)) for shade in (10, 60, 110)]
    drawn = draw_panels("All", panels, columns=columns, note="For all.", side=100)
    found = [np.argwhere((drawn == shade).all(axis=-1)) for shade in (10, 60, 110)]
    boxes = [(*places.min(axis=0), *places.max(axis=0)) for places in found]
    assert len({left for _, left, _, _ in boxes}) == wide
    assert len({top for top, _, _, _ in boxes}) == high
    for top, left, bottom, right in boxes:
        # Twice as wide as high, and as wide as a panel may be.
        assert (right - left + 1) / (bottom - top + 1) == pytest.approx(2, rel=0.02)


def test_a_small_jpeg_is_shrunk_and_never_enlarged():
    # Columns of two pixels: halved, each is one pixel of its own colour, and a thin red line keeps being red.
    picture = np.full((40, 80, 3), 200, np.uint8)
    picture[:, 40:42] = RED
    opened = Image.open(io.BytesIO(small_jpeg(picture, 40)))
    assert (opened.format, opened.size) == ("JPEG", (40, 20))
    red, green, blue = np.asarray(opened)[10, 20].astype(int)
    assert red > 200 > 100 > max(green, blue)
    assert Image.open(io.BytesIO(small_jpeg(picture, 400))).size == (80, 40)


def test_noise_can_be_written():
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    assert Image.open(io.BytesIO(small_jpeg(noise, quality=95))).size == (50, 60)


def test_in_a_notebook_a_plate_shows_picture_and_caption(monkeypatch):
    display = pytest.importorskip("IPython.display", reason="IPython is not installed: only notebooks need it")
    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    plate = Plate(np.zeros((4, 6, 3), np.uint8), "What it shows.")
    plate._ipython_display_()
    assert Image.open(io.BytesIO(shown[0].data)).size == (6, 4)
    assert shown[1].data == "*What it shows.*"
    Plate(plate.picture, "")._ipython_display_()
    assert len(shown) == 3
