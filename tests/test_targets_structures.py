"""How large and how thin: bands and discs of known size."""

import numpy as np
import pytest

from ushape.targets.structures import piece_diameter, thickness


def bands(width, step, size=120):
    """1 but for bands of 0, `width` px across, one every `step` px."""
    return np.broadcast_to((np.arange(size) % step >= width).astype(np.int32), (size, size))


@pytest.mark.parametrize("width", [2, 4, 6, 10])
def test_a_band_is_as_thick_as_it_is_wide(width):
    mask = bands(width, 40)
    # The first band begins at the edge of the image, behind which nothing is known.
    assert thickness([mask[:, 20:]]) == pytest.approx(width, abs=0.01)
    assert thickness([1 - mask[:, 20:]]) == pytest.approx(width, abs=0.01)


def test_a_disc_is_two_thirds_of_its_diameter_thick():
    rows, columns = np.mgrid[:100, :100]
    disc = ((rows - 50) ** 2 + (columns - 50) ** 2 < 30**2).astype(np.int32)
    assert thickness([disc]) == pytest.approx(40, abs=2)


def test_the_rarer_class_of_all_masks_together_is_measured():
    assert thickness([bands(4, 40)[:, 20:], np.ones((50, 50), np.int32)]) == pytest.approx(4, abs=0.01)
    assert thickness([np.zeros((10, 10), np.int32), bands(4, 40)[:, 20:]]) == pytest.approx(4, abs=0.01)


def test_without_another_class_nothing_is_thick():
    assert thickness([np.ones((9, 9), np.int32)]) is None
    assert thickness([np.full((9, 9), -1)]) is None
    assert thickness([]) is None
    # The rarer class fills images of its own.
    assert thickness([np.zeros((9, 9), np.int32), np.ones((10, 10), np.int32)]) is None


def test_unknown_pixels_are_of_no_class():
    mask = bands(4, 40)[:, 20:].copy()
    mask[:, 60:] = -1
    assert thickness([mask]) == pytest.approx(4, abs=0.01)
    assert piece_diameter([np.where(np.eye(8) > 0, 1, -1)]) == pytest.approx(2 / np.sqrt(np.pi))


def test_a_piece_is_the_one_that_most_pixels_lie_in():
    mask = np.zeros((100, 100), np.int32)
    mask[:40, :40] = 1
    mask[50::2, 50::2] = 1  # 625 specks
    assert piece_diameter([mask]) == pytest.approx(40 / np.sqrt(np.pi / 4))
    assert piece_diameter([mask, 1 - mask]) > piece_diameter([mask])


def test_pieces_are_connected_by_their_sides_in_space_too():
    mask = np.zeros((8, 8, 8), np.int32)
    mask[:4, :4, :4] = mask[4:, 4:, 4:] = 1
    assert piece_diameter([mask]) == pytest.approx((64 / (np.pi / 6)) ** (1 / 3))


def test_without_a_pixel_of_the_second_class_there_is_no_piece():
    assert piece_diameter([]) is None
    assert piece_diameter([np.zeros((5, 5), np.int32)]) is None
