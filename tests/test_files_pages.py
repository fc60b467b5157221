"""Pages of a file: the same ones whether it is read at once or not."""

import numpy as np
import pytest
import tifffile

from ushape.data.headers import Layout
from ushape.data.images import read_image, read_mask
from ushape.errors import DataError
from ushape.files import pages
from ushape.files.pages import Pages, bytes_at_once


@pytest.fixture(params=["at once", "one by one"])
def most(request, monkeypatch):
    if request.param == "one by one":
        monkeypatch.setattr(pages, "MOST_VALUES", 0)


def counting(read):
    """A reader, and the pages that it was asked for."""
    asked = []

    def counted(path, *, page=None, axes=None):
        asked.append(page)
        return read(path, page=page, axes=axes)

    return counted, asked


@pytest.mark.parametrize(
    "shape, axes, photometric",
    [
        ((6, 20, 24), "TYX", "minisblack"),
        ((6, 20, 24), "ZYX", "minisblack"),
        ((6, 20, 24), None, "minisblack"),
        ((5, 2, 20, 24), "TCYX", "minisblack"),
        ((2, 5, 20, 24), "CZYX", "minisblack"),
        ((2, 3, 20, 24), "TZYX", "minisblack"),
        ((5, 20, 24, 3), None, "rgb"),
        ((5, 20, 24, 4), None, "rgb"),
    ],
)
@pytest.mark.usefixtures("most")
def test_every_page_is_that_of_the_reader(tmp_path, shape, axes, photometric):
    array = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint16)
    metadata = {} if axes is None else {"axes": axes}
    tifffile.imwrite(tmp_path / "s.ome.tif", array, photometric=photometric, metadata=metadata, ome=axes is not None)
    page_of = Pages(read_image, tmp_path / "s.ome.tif")
    for page in range(5):
        np.testing.assert_array_equal(page_of(page), read_image(tmp_path / "s.ome.tif", page=page))


def test_the_bytes_of_what_is_read_first():
    stack = Layout((6, 20, 24), "PYX", itemsize=2)
    assert bytes_at_once(stack, None) == bytes_at_once(stack, 0) == 6 * 20 * 24 * 2
    # Two axes of pages are read page by page.
    assert bytes_at_once(Layout((2, 3, 20, 24), "PZYX", itemsize=2), 0) == 20 * 24 * 2
    assert bytes_at_once(Layout((2, 3, 20, 24), "CZYX", itemsize=1), None) == 2 * 3 * 20 * 24
    assert bytes_at_once(Layout((20, 24), "YX", itemsize=4), 0) == 20 * 24 * 4
    assert bytes_at_once(Layout((20, 24), "YX"), 0) is None


def test_a_stack_that_does_not_fit_counts_by_the_page(monkeypatch):
    monkeypatch.setattr(pages, "MOST_VALUES", 6 * 20 * 24 - 1)
    assert bytes_at_once(Layout((6, 20, 24), "PYX", itemsize=2), 0) == 20 * 24 * 2


def test_pages_of_masks_are_read_at_once(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (7, 20, 24)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "s.tif", array, photometric="minisblack")
    read, asked = counting(read_mask)
    page_of = Pages(read, tmp_path / "s.tif")
    for page in range(7):
        np.testing.assert_array_equal(page_of(page), array[page])
    assert asked == [None]


def test_a_large_file_is_read_page_by_page(tmp_path, monkeypatch):
    array = np.zeros((7, 20, 24), np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", array, photometric="minisblack")
    monkeypatch.setattr(pages, "MOST_VALUES", 7 * 20 * 24 - 1)
    read, asked = counting(read_image)
    page_of = Pages(read, tmp_path / "s.tif")
    assert [page_of(page).shape for page in range(2)] == [(1, 20, 24)] * 2
    assert asked == [0, 1]


def test_one_damaged_page_leaves_the_others(tmp_path):
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, np.full((5, 20, 24), 9, np.uint8), photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[3].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    page_of = Pages(read_image, path)
    assert (page_of(2) == 9).all()
    with pytest.raises(DataError, match=r"s.tif: expected a readable .tif file, found one that is damaged"):
        page_of(3)


def test_all_of_a_file_is_read_once(tmp_path):
    tifffile.imwrite(tmp_path / "v.tif", np.zeros((7, 20, 24), np.uint8), metadata={"axes": "ZYX"})
    read, asked = counting(read_image)
    assert Pages(read, tmp_path / "v.tif")(None).shape == (1, 7, 20, 24)
    assert asked == [None]


def test_volumes_over_time_are_no_volume(tmp_path):
    tifffile.imwrite(tmp_path / "f.ome.tif", np.zeros((2, 3, 20, 24), np.uint8), metadata={"axes": "TZYX"})
    read, asked = counting(read_image)
    assert Pages(read, tmp_path / "f.ome.tif")(4).shape == (1, 20, 24)
    assert asked == [4]
