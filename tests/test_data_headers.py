"""Kinds, names and layouts of image files, told before their pixels are read."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from ushape.data.headers import Layout, file_kind, is_image_file, read_layout, stem_of, suffix_of
from ushape.data.images import read_image, read_mask
from ushape.errors import DataError

GREY = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)


@pytest.mark.parametrize(
    "name, stem, suffix",
    [
        ("a.png", "a", ".png"),
        ("A.TIF", "A", ".tif"),
        ("a.b.png", "a.b", ".png"),
        ("a.ome.tif", "a", ".tif"),
        ("a.OME.TIFF", "a", ".tiff"),
        ("a.ome.png", "a.ome", ".png"),
        (".ome.tif", ".ome", ".tif"),
        ("a.nii", "a", ".nii"),
        ("a.b.nii.gz", "a.b", ".nii.gz"),
        ("A.NII.GZ", "A", ".nii.gz"),
        ("a.tar.gz", "a.tar", ".gz"),
        ("a", "a", ""),
        (".png", ".png", ""),
        (".nii.gz", ".nii", ".gz"),
    ],
)
def test_a_name_is_a_stem_and_a_suffix(name, stem, suffix):
    path = Path("folder.tif") / name
    assert (stem_of(path), suffix_of(path)) == (stem, suffix)


def test_image_files_are_known_by_their_suffix_in_any_letters(tmp_path):
    names = {"a.TIF", "b.Png", "c.nii", "d.nii.gz", "e.NII.GZ", "f.gz", "g.tar.gz", ".h.png", "i.txt", "j"}
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    found = {path.name for path in tmp_path.iterdir() if is_image_file(path)}
    assert found == {"a.TIF", "b.Png", "c.nii", "d.nii.gz", "e.NII.GZ"}


def write_as(path: Path, kind: str) -> None:
    """GREY in a format that the name of the file need not tell."""
    if kind == "tiff":
        tifffile.imwrite(path, GREY)
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, GREY)
    else:
        Image.fromarray(GREY).save(path, format=kind)


@pytest.mark.parametrize("name", ["a.TIF", "a.PNG", "a.Tiff", "a.NPY", "a.BMP", "a.GIF"])
def test_capital_letters_are_as_good_as_small_ones(tmp_path, name):
    write_as(tmp_path / name, {"tif": "tiff"}.get(name[2:].lower(), name[2:].lower()))
    assert read_layout(tmp_path / name).size == (20, 30)
    np.testing.assert_array_equal(read_image(tmp_path / name)[0], GREY)


@pytest.mark.parametrize("kind", ["png", "tiff", "bmp", "gif", "npy"])
@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg", "a.bmp", "a.npy"])
def test_a_file_is_read_by_its_content_whatever_its_name_says(tmp_path, name, kind):
    write_as(tmp_path / name, kind)
    assert read_layout(tmp_path / name).size == (20, 30)
    np.testing.assert_array_equal(read_image(tmp_path / name)[0], GREY)


def test_a_jpeg_by_another_name_is_an_image_but_no_mask(tmp_path):
    write_as(tmp_path / "a.png", "jpeg")
    assert file_kind(tmp_path / "a.png") == "jpeg"
    assert read_image(tmp_path / "a.png").shape == (1, 20, 30)
    with pytest.raises(DataError, match=r"a\.png: expected a mask in a format that keeps its values, found JPEG"):
        read_mask(tmp_path / "a.png")


def test_a_picture_format_without_a_suffix_of_its_own_is_left_to_pillow(tmp_path):
    Image.fromarray(np.dstack([GREY] * 3)).save(tmp_path / "a.png", format="webp", lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], GREY)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg", "a.npy"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"II*\0", b"BM", b"\x89PNG\r\n\x1a\n", b"GIF8"])
def test_what_is_no_image_at_all_is_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: expected a readable \{name[1:]} file, found one that is damaged"):
        read_image(tmp_path / name)


def test_pictures_of_any_size_are_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (1, 20, 30)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_threads_that_open_pictures_leave_pillows_guard_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    real, met = Image.open, threading.Barrier(2)

    def opened(source):
        # Whoever comes first waits for the other one, which must not come in meanwhile.
        with suppress(threading.BrokenBarrierError):
            met.wait(timeout=0.5)
            together.append(1)
        return real(source)

    together = []
    monkeypatch.setattr(Image, "open", opened)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(read_layout, [tmp_path / "a.png"] * 2))
    assert [layout.size for layout in found] == [(20, 30)] * 2
    assert (together, Image.MAX_IMAGE_PIXELS) == ([], 100)


COLOUR = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])
PALETTE = Image.fromarray(GREY % 4)
PALETTE.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 8, 7])


@pytest.mark.parametrize(
    "name, save",
    [
        ("grey.tif", lambda path: tifffile.imwrite(path, GREY)),
        ("deep.tif", lambda path: tifffile.imwrite(path, GREY.astype(np.uint16), compression="zlib")),
        ("real.tif", lambda path: tifffile.imwrite(path, GREY.astype(np.float64), byteorder=">")),
        ("one_bit.tif", lambda path: tifffile.imwrite(path, GREY > 99)),
        ("colour.tif", lambda path: tifffile.imwrite(path, COLOUR.astype(np.uint16), photometric="rgb")),
        ("pages.tif", lambda path: tifffile.imwrite(path, np.zeros((5, 8, 9), np.float32), photometric="minisblack")),
        ("grey.png", lambda path: Image.fromarray(GREY).save(path)),
        ("one_bit.png", lambda path: Image.fromarray(GREY > 99).save(path)),
        ("palette.png", PALETTE.save),
        ("grey_alpha.png", lambda path: Image.fromarray(np.dstack([GREY, GREY])).save(path)),
        ("colour_alpha.png", lambda path: Image.fromarray(np.dstack([COLOUR, GREY])).save(path)),
        ("deep.png", lambda path: Image.fromarray(GREY.astype(np.uint16)).save(path)),
        ("deep_colour.png", lambda path: path.write_bytes(imagecodecs.png_encode(COLOUR.astype(np.uint16)))),
        ("colour.jpg", lambda path: Image.fromarray(COLOUR).save(path)),
        ("grey.bmp", lambda path: Image.fromarray(GREY).save(path)),
        ("grey.gif", lambda path: Image.fromarray(GREY).save(path)),
        ("real.npy", lambda path: np.save(path, GREY.astype(np.float32))),
        ("colour.npy", lambda path: np.save(path, COLOUR.astype(np.int64))),
    ],
)
def test_a_header_tells_the_bytes_of_the_array(tmp_path, name, save):
    save(tmp_path / name)
    layout = read_layout(tmp_path / name)
    axes = layout.axes.replace("P", "Z") if "P" in layout.axes else None
    assert layout.nbytes == read_image(tmp_path / name, axes=axes).nbytes


def test_alpha_is_counted_and_what_is_not_known_is_none(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([COLOUR, GREY]), photometric="rgb", extrasamples=["unassalpha"])
    assert read_layout(tmp_path / "a.tif").nbytes == 4 * GREY.size
    assert Layout((20, 30), "YX").nbytes is None


@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"planarconfig": "contig"}])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_few_channels_last_are_no_pages(tmp_path, n, options):
    image = np.arange(64 * 80 * n, dtype=np.uint16).reshape(64, 80, n)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", **({} if n == 1 else options))
    np.save(tmp_path / "a.npy", image)
    for name in ("a.tif", "a.npy"):
        layout = read_layout(tmp_path / name)
        assert (layout.n_pages, layout.size, layout.length("C")) == (1, (64, 80), n)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.moveaxis(image, -1, 0))


@pytest.mark.parametrize(
    "shape, axes", [((64, 80, 5), "PYX"), ((2, 64, 80), "PYX"), ((40, 15, 2), "PYX"), ((40, 16, 2), "YXC")]
)
def test_other_last_sizes_are_no_channels(tmp_path, shape, axes):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    assert read_layout(tmp_path / "a.npy").axes == axes


def test_a_layout_counts_planes_over_all_page_axes():
    layout = Layout((2, 5, 3, 20, 30), "PZCYX")
    assert (layout.n_pages, layout.length("P"), layout.length("Z"), layout.size) == (10, 2, 5, (20, 30))


@pytest.mark.parametrize(
    "shape, axes, advice",
    [
        ((6, 20, 30), "TYX", r"or say what they are with axes='ZYX' \(a volume\) or axes='CYX' \(channels\)$"),
        ((6, 2, 20, 30), "TCYX", r"or say what they are with axes='ZCYX' \(a volume\)$"),
        ((6, 2, 20, 30), "TZYX", r"or say what they are with axes='CZYX' \(channels\)$"),
        ((6, 2, 3, 20, 30), "TZCYX", r"name one with page=0 to 11$"),
    ],
)
def test_the_advice_about_pages_fits_the_file(tmp_path, shape, axes, advice):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), photometric="minisblack", metadata={"axes": axes})
    with pytest.raises(DataError, match=advice):
        read_image(tmp_path / "a.tif")
