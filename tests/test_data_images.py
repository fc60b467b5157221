"""Images and masks: written by tifffile and Pillow, read by ours; sizes and values known by hand."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from ushape.data.headers import read_layout
from ushape.data.images import (
    is_grey,
    is_image_file,
    n_pages,
    read_image,
    read_mask,
    write_image,
    write_labels,
)
from ushape.errors import DataError

GREY = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
STACK = np.arange(6 * 20 * 30, dtype=np.uint16).reshape(6, 20, 30)


def channels_first(picture):
    return picture.transpose(2, 0, 1)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits"])
def test_tiff_of_any_compression_keeps_its_values(tmp_path, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, compression=compression)
    np.testing.assert_array_equal(read_image(path), GREY[None])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64", ">u2"])
def test_tiff_keeps_its_type_in_native_order(tmp_path, dtype):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY.astype(dtype))
    image = read_image(path)
    assert image.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(image[0], GREY)


def test_bool_becomes_uint8_of_0_and_1(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY > 100)
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[0], GREY > 100)


@pytest.mark.parametrize(
    "options", [{"photometric": "rgb"}, {"photometric": "rgb", "compression": "zlib", "predictor": True}]
)
def test_colour_tiff_is_three_channels(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", COLOUR, **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), channels_first(COLOUR))


def test_planar_colour_tiff_is_three_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", channels_first(COLOUR), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), channels_first(COLOUR))


@pytest.mark.parametrize("alpha", [np.full_like(GREY, 255), GREY])
def test_alpha_is_dropped_whether_constant_or_not(tmp_path, alpha):
    picture = np.dstack([COLOUR, alpha])
    Image.fromarray(picture, "RGBA").save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb", extrasamples=["unassalpha"])
    np.save(tmp_path / "a.npy", picture)
    for name in ("a.png", "a.tif", "a.npy"):
        np.testing.assert_array_equal(read_image(tmp_path / name), channels_first(COLOUR), err_msg=name)


def test_a_fourth_channel_that_is_no_alpha_stays(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([COLOUR, GREY]), photometric="minisblack", planarconfig="contig")
    assert read_image(tmp_path / "a.tif").shape == (4, 20, 30)


def test_grey_with_alpha_is_one_channel(tmp_path):
    Image.fromarray(np.dstack([GREY, GREY[::-1]]), "LA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), GREY[None])


def test_palette_is_colours_for_an_image_and_indices_for_a_mask(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], [[0, 255], [0, 255]])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[1], [[0, 0], [255, 0]])
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), [[0, 1], [2, 1]])


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "npy"])
def test_grey_files_of_every_lossless_kind(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    np.save(path, GREY) if suffix == "npy" else Image.fromarray(GREY).save(path)
    np.testing.assert_array_equal(read_image(path)[0], GREY)
    np.testing.assert_array_equal(read_mask(path), GREY) if suffix != "gif" else None


def test_jpeg_is_close_to_what_was_saved(tmp_path):
    smooth = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg")[0].astype(int) - smooth).max() <= 4


def test_png_of_16_bits_keeps_16_bits_in_grey_and_colour(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png")[0], deep)
    write_image(tmp_path / "colour.png", np.stack([deep, deep[::-1], deep[:, ::-1]]))
    np.testing.assert_array_equal(read_image(tmp_path / "colour.png"), [deep, deep[::-1], deep[:, ::-1]])


def test_exif_orientation_is_obeyed_in_pixels_and_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows are columns
    Image.fromarray(GREY).save(tmp_path / "a.jpg", exif=exif, quality=100)
    assert read_layout(tmp_path / "a.jpg").size == (30, 20)
    turned = np.rot90(GREY, -1).astype(int)
    assert np.abs(read_image(tmp_path / "a.jpg")[0].astype(int) - turned).mean() < 8


@pytest.mark.parametrize("kind", ["plain", "separate pages", "npy", "imagej channels"])
def test_pages_without_meaning_are_read_one_by_one(tmp_path, kind):
    path = tmp_path / ("a.npy" if kind == "npy" else "a.tif")
    stack = np.concatenate([STACK, STACK + 7]) if kind == "imagej channels" else STACK
    if kind == "plain":
        tifffile.imwrite(path, stack, photometric="minisblack")
    elif kind == "npy":
        np.save(path, stack)
    elif kind == "imagej channels":  # 12 of them: more than ImageJ has channels
        tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "CYX"})
    else:
        with tifffile.TiffWriter(path) as writer:
            for plane in stack:
                writer.write(plane, contiguous=False)
    assert n_pages(path) == len(stack)
    np.testing.assert_array_equal(read_image(path, page=4), stack[4][None])
    with pytest.raises(DataError, match=rf"a\.\w+: expected one image, found {len(stack)} pages; name one with page=0"):
        read_image(path)


def test_axes_say_what_pages_are(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", axes="CYX"), STACK)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", axes="ZYX"), STACK[None])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", axes="TYX", page=5), STACK[5][None])


@pytest.mark.parametrize("axes", ["YX", "CCX", "CZX"])
def test_axes_that_do_not_fit_are_refused(tmp_path, axes):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    with pytest.raises(DataError, match=rf"one letter for each of the sizes \(6, 20, 30\).*found '{axes}'"):
        read_image(tmp_path / "a.tif", axes=axes)


def test_four_dimensions_without_a_word_need_axes(tmp_path):
    np.save(tmp_path / "a.npy", STACK.reshape(2, 3, 20, 30))
    with pytest.raises(DataError, match=r"2 or 3 dimensions, found 4 .*pass axes, for example axes='CZYX'"):
        read_image(tmp_path / "a.npy")
    assert read_image(tmp_path / "a.npy", axes="CZYX").shape == (2, 3, 20, 30)


def test_ome_axes_are_followed(tmp_path):
    volume = STACK.reshape(3, 2, 20, 30)
    tifffile.imwrite(tmp_path / "z.ome.tif", volume, photometric="minisblack", metadata={"axes": "ZCYX"})
    np.testing.assert_array_equal(read_image(tmp_path / "z.ome.tif"), volume.swapaxes(0, 1))
    np.testing.assert_array_equal(read_image(tmp_path / "z.ome.tif", page=2), volume[2])
    tifffile.imwrite(tmp_path / "t.ome.tif", volume, photometric="minisblack", metadata={"axes": "TCYX"})
    assert n_pages(tmp_path / "t.ome.tif") == 3
    np.testing.assert_array_equal(read_image(tmp_path / "t.ome.tif", page=1), volume[1])
    tifffile.imwrite(tmp_path / "c.ome.tif", STACK, photometric="minisblack", metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_image(tmp_path / "c.ome.tif"), STACK)


def test_colours_are_the_channels_where_a_file_has_channels_as_well(tmp_path):
    colours = np.stack([COLOUR, COLOUR[::-1]])
    tifffile.imwrite(tmp_path / "a.ome.tif", colours, photometric="rgb", metadata={"axes": "CYXS"})
    assert n_pages(tmp_path / "a.ome.tif") == 2
    np.testing.assert_array_equal(read_image(tmp_path / "a.ome.tif", page=1), channels_first(colours[1]))


def test_few_imagej_channels_are_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[:3], imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), STACK[:3])


@pytest.mark.parametrize("page", [-1, 6])
def test_a_page_that_is_not_there_is_refused(tmp_path, page):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    with pytest.raises(DataError, match=f"expected a page from 0 to 5, found {page}"):
        read_image(tmp_path / "a.tif", page=page)


def test_complex_pixels_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", GREY.astype(complex))
    with pytest.raises(DataError, match="expected integer or real pixel values, found type complex128"):
        read_image(tmp_path / "a.npy")


def test_pickled_arrays_are_not_run(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy: expected a readable \.npy file"):
        read_image(tmp_path / "a.npy")


def write_for_cutting(path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    if kind == "pages":
        with tifffile.TiffWriter(path) as writer:
            for _ in range(4):
                writer.write(noise, contiguous=False, metadata=None)
    elif kind == "imagej":
        tifffile.imwrite(path, np.stack([noise] * 4), imagej=True)
    elif kind == "npy":
        np.save(path, noise)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, noise, compression=kind if kind == "zlib" else None)
    else:
        Image.fromarray(noise).save(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    "name, kind",
    [
        ("a.tif", "plain"),
        ("a.tif", "zlib"),
        ("a.tif", "pages"),
        ("a.tif", "imagej"),
        ("a.png", ""),
        ("a.jpg", ""),
        ("a.bmp", ""),
        ("a.npy", "npy"),
    ],
)
def test_a_file_cut_short_is_one_sentence_with_its_name(tmp_path, name, kind, share):
    path = tmp_path / name
    write_for_cutting(path, kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=rf"{name}: expected a readable .* damaged or cut short .*; save it again"):
        read_image(path, page=0)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
def test_a_shortened_file_is_noticed_without_decoding(tmp_path, name):
    write_for_cutting(tmp_path / name, "plain")
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:-200])
    with pytest.raises(DataError, match="the file ends too early"):
        read_layout(tmp_path / name)


def test_a_missing_file_and_an_unknown_kind_are_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.png: expected an image file, found none; check the path"):
        read_image(tmp_path / "a.png")
    (tmp_path / "a.czi").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.czi: expected an image file \(\.tif.*found '\.czi'; convert it"):
        read_image(tmp_path / "a.czi")


def test_hidden_files_are_no_images(tmp_path):
    for name in ("._a.png", "a.png", "a.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in sorted(tmp_path.iterdir()) if is_image_file(p)] == ["a.png"]


def test_grey_is_one_channel_or_equal_ones():
    assert is_grey(GREY[None])
    assert is_grey(np.stack([GREY] * 3))
    assert not is_grey(channels_first(COLOUR))


def test_grey_saved_as_colour_keeps_three_channels_but_is_a_mask(tmp_path):
    Image.fromarray(np.dstack([GREY] * 3)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (3, 20, 30)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), GREY)


@pytest.mark.parametrize(
    "values, message",
    [
        (np.array([[0.0, 0.5]]), "expected whole numbers in a mask"),
        (np.array([[np.nan, 1.0]]), "expected whole numbers in a mask"),
        (np.array([[0, -2]]), r"expected mask values from 0 .*found -2 to 0"),
        (np.array([[0, 2**31]]), r"expected mask values from 0 .*found 0 to 2147483648"),
    ],
)
def test_values_that_are_no_classes_or_ids_are_refused(tmp_path, values, message):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match=message):
        read_mask(tmp_path / "a.npy")


def test_whole_floats_and_minus_one_are_fine_in_a_mask(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[-1.0, 3.0]], np.float32))
    mask = read_mask(tmp_path / "a.npy")
    assert mask.dtype == np.int32
    np.testing.assert_array_equal(mask, [[-1, 3]])


def test_colour_masks_and_jpeg_masks_are_refused_with_advice(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: expected one number for each pixel .*replace each colour"):
        read_mask(tmp_path / "a.png")
    Image.fromarray(GREY).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="found JPEG, which blurs them; export the mask again"):
        read_mask(tmp_path / "a.jpg")


@pytest.mark.parametrize("largest, dtype", [(0, "uint8"), (255, "uint8"), (256, "uint16"), (65536, "uint32")])
def test_labels_take_the_smallest_type_and_come_back(tmp_path, largest, dtype):
    labels = np.zeros((5, 7), np.int32)
    labels[2, 3] = largest
    for name in ("a.tif", "a.png"):
        if dtype == "uint32" and name == "a.png":
            continue
        write_labels(tmp_path / name, labels)
        assert read_image(tmp_path / name).dtype == dtype
        np.testing.assert_array_equal(read_mask(tmp_path / name), labels)
    assert tifffile.TiffFile(tmp_path / "a.tif").pages[0].compression == 8  # zlib


@settings(max_examples=20, deadline=None)
@given(arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 70000)))
def test_written_labels_are_read_labels(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("labels") / "a.tif"
    write_labels(path, labels)
    np.testing.assert_array_equal(read_mask(path), labels)


def test_volumes_are_written_and_read_back(tmp_path):
    labels = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    write_labels(tmp_path / "a.tif", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), labels)


@pytest.mark.parametrize("shape", [(1, 8, 9), (2, 8, 9), (3, 8, 9), (12, 8, 9), (2, 4, 8, 9)])
def test_written_images_are_read_images(tmp_path, shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    write_image(tmp_path / "a.tif", image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), image)


@pytest.mark.parametrize(
    "name, labels, message",
    [
        ("a.tif", np.array([[-1, 0]]), "expected labels from 0 up, found -1"),
        ("a.png", np.array([[70000]]), "expected 2-D labels up to 65535 for a PNG, found 2-D ones of type uint32"),
        ("a.png", np.zeros((2, 2, 2), int), "expected 2-D labels up to 65535 for a PNG, found 3-D ones"),
        ("a.jpg", np.array([[1]]), r"expected a name that ends in .tif, .tiff or .png, found '.jpg'"),
    ],
)
def test_labels_that_a_format_cannot_hold_are_refused(tmp_path, name, labels, message):
    with pytest.raises(DataError, match=message):
        write_labels(tmp_path / name, labels)
    assert list(tmp_path.iterdir()) == []


def test_a_png_image_must_be_grey_or_colour_of_8_or_16_bits(tmp_path):
    with pytest.raises(DataError, match=r"expected \(1 or 3, height, width\) in uint8 or uint16 .* of type float32"):
        write_image(tmp_path / "a.png", np.zeros((1, 4, 4), np.float32))


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_labels(tmp_path / "a.tif", np.array([[1, 2]]))
    before = (tmp_path / "a.tif").read_bytes()

    def fail(*arguments, **options):
        Path(arguments[0]).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    with pytest.raises(OSError, match="disk full"):
        write_labels(tmp_path / "a.tif", np.array([[3, 4]]))
    assert (tmp_path / "a.tif").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.tif"]
