import numpy as np
import pytest

from ushape.errors import DataError
from ushape.picture import receptive
from ushape.picture.receptive import draw_receptive_field, glow


def captured(monkeypatch) -> list:
    """The panels, instead of a drawing of them."""
    seen: list = []

    def look(title, panels, **options):
        seen.extend(panels)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(receptive, "draw_panels", look)
    return seen


def test_shares_are_square_roots():
    values = np.array([[0.0, 1.0], [4.0, 16.0]])
    shares = glow(values)
    assert shares[0, 0] == 0
    assert shares[1, 1] == 1
    assert shares[1, 0] == pytest.approx(2 * shares[0, 1])
    np.testing.assert_array_equal(glow(np.zeros((2, 2))), np.zeros((2, 2)))


def test_the_frame_is_the_field_and_the_image_is_continued(monkeypatch):
    panels = captured(monkeypatch)
    image = np.arange(120.0).reshape(1, 10, 12)
    found = np.zeros((10, 12))
    found[2, 3] = 1
    plate = draw_receptive_field(image, found, (2, 3), ((-4, 9), (0, 15)))
    # Rows -4..9 and columns 0..14 are shown.
    assert panels[0].picture.shape == (14, 15, 3)
    field, pixel = panels[0].frames
    assert (field.top, field.left, field.bottom, field.right) == (0, 0, 13, 15)
    assert (pixel.top, pixel.left, pixel.bottom, pixel.right) == (6, 3, 7, 4)
    # The close-up holds rows 0..8 and all columns, and its pixel.
    assert panels[1].picture.shape == (9, 12, 3)
    assert (panels[1].frames[0].top, panels[1].frames[0].left) == (2, 3)
    assert "Half of it comes from 1 pixels, 0.93 % of those shown" in panels[1].lines[0]
    # Row -1 repeats row 1, darker.
    mirror, original = panels[0].picture[3, :12], panels[0].picture[5, :12]
    assert 0 < mirror.mean() < original.mean()
    assert "It reaches beyond the image, which the network sees mirrored there." in plate.caption
    assert "13×15 px" in plate.caption


def test_outside_a_classifier_sees_zeros(monkeypatch):
    panels = captured(monkeypatch)
    plate = draw_receptive_field(np.ones((1, 8, 8)), np.ones((8, 8)), (4, 4), ((-2, 10), (-2, 10)), outside=False)
    assert not panels[0].picture[:2].any()
    assert panels[0].picture[2:10, 2:10].all()
    assert "as zeros" in plate.caption


def test_a_field_inside_the_image_is_not_continued(monkeypatch):
    panels = captured(monkeypatch)
    plate = draw_receptive_field(np.ones((1, 150, 20)), np.ones((150, 20)), (70, 9), ((60, 80), (2, 16)))
    assert panels[0].picture.shape == (150, 20, 3)
    assert "beyond" not in plate.caption.split("The glow")[0]
    # In a large image the frame of the pixel is wider, to be seen.
    assert (panels[0].frames[1].top, panels[0].frames[1].bottom) == (69, 72)


def test_the_mean_and_its_squares(monkeypatch):
    panels = captured(monkeypatch)
    mean = np.zeros((9, 9))
    mean[4, 4], mean[4, 6], mean[0, 0] = 6, 3.6, 0.4
    plate = draw_receptive_field(np.ones((1, 8, 8)), np.ones((8, 8)), (4, 4), ((0, 8), (0, 8)), mean=mean)
    half, most = panels[2].frames
    assert (half.top, half.bottom) == (4, 5)
    assert (most.top, most.bottom) == (2, 7)
    assert (
        "half of all influence lies within 0 px of the pixel (a square of 1 px), 95 % within 2 px (5 px)"
        in plate.caption
    )


def test_it_is_drawn():
    rng = np.random.default_rng(0)
    plate = draw_receptive_field(rng.random((1, 30, 40)), rng.random((30, 40)), (3, 4), ((-5, 12), (-4, 13)))
    assert plate.picture.dtype == np.uint8
    orange = (plate.picture == receptive.FIELD).all(axis=-1)
    assert orange.sum() > 500


def test_what_does_not_fit():
    with pytest.raises(
        DataError, match=r"^expected influence of the image's size \(8, 8\) and a field of two intervals"
    ):
        draw_receptive_field(np.ones((1, 8, 8)), np.ones((8, 7)), (4, 4), ((0, 8), (0, 8)))
