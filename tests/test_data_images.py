"""Images and masks: written by tifffile and Pillow, read by ours; sizes and values known by hand."""

import os
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from ushape.data import images, writing
from ushape.data.dataset import Spacing
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
from ushape.data.spacing import read_spacing
from ushape.errors import DataError

GREY = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
STACK = np.arange(6 * 20 * 30, dtype=np.uint16).reshape(6, 20, 30)


def channels_first(picture):
    return picture.transpose(2, 0, 1)


def channels_last(image):
    return image.transpose(1, 2, 0)


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


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int16])
def test_a_fourth_channel_of_an_array_is_alpha_in_8_bits_only(tmp_path, dtype):
    markers = np.dstack([COLOUR, GREY]).astype(dtype)
    np.save(tmp_path / "a.npy", markers)
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy"), channels_first(markers))


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
    with pytest.raises(DataError, match=r"2 or 3 dimensions, found 4 .*pass axes, or write .* example axes = \"CZYX\""):
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
    with pytest.raises(DataError, match=r"a\.npy: expected an array of numbers, found Python objects \(a pickle\), wh"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(9), r"expected an image of 2 or 3 dimensions, found 1; save it as \(height, width\) or leave it out"),
        (np.zeros((2, 1, 3, 20, 30)), r'found 5 of sizes \(2, 1, 3, 20, 30\) .*, for example axes = "TCZYX"$'),
        (np.zeros((0, 30)), r"expected at least one pixel, found sizes \(0, 30\); save it again"),
    ],
)
def test_arrays_that_are_no_image(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=message):
        read_layout(tmp_path / "a.npy")


@pytest.mark.parametrize("content, reason", [(b"", "it is empty"), (b"words", "what is in it is no picture")])
def test_files_that_are_no_picture(tmp_path, content, reason):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.png: expected a readable \.png file, .* cut short \({reason}\); save"):
        read_layout(tmp_path / "a.png")


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


@pytest.mark.parametrize("spacing", [None, Spacing((0.5, 0.25))])
def test_what_a_classic_tiff_cannot_hold_is_a_bigtiff(tmp_path, monkeypatch, spacing):
    image = np.random.default_rng(0).random((3, 8, 9)).astype(np.float32)
    for largest, big in ((image.nbytes, False), (image.nbytes - 1, True)):
        monkeypatch.setattr(writing, "LARGEST_CLASSIC", largest)
        write_image(tmp_path / "a.tif", image, spacing=spacing)
        assert tifffile.TiffFile(tmp_path / "a.tif").is_bigtiff == big
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), image)
        assert read_spacing(tmp_path / "a.tif") == spacing


def test_labels_are_a_bigtiff_only_where_imagej_need_not_open_them(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "LARGEST_CLASSIC", 10)
    labels = np.arange(40).reshape(5, 8)
    for name, big in (("a.tif", False), ("a.ome.tif", True)):
        write_labels(tmp_path / name, labels)
        assert tifffile.TiffFile(tmp_path / name).is_bigtiff == big
        np.testing.assert_array_equal(read_mask(tmp_path / name), labels)


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


@pytest.mark.parametrize("compression", ["lzma", "webp", "jpeg2000", "deflate", "jpegxl", "png", "lerc"])
def test_tiff_of_rarer_lossless_compressions(tmp_path, compression):
    options = {"compressionargs": {"lossless": True}} if compression == "webp" else {}
    picture = COLOUR if compression == "webp" else GREY
    tifffile.imwrite(tmp_path / "a.tif", picture, compression=compression, **options)
    expected = channels_first(COLOUR) if compression == "webp" else GREY[None]
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("colour", [False, True])
def test_tiff_with_jpeg_inside_is_close_to_what_was_saved(tmp_path, colour):
    smooth = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    picture = np.dstack([smooth, smooth[::-1], smooth]) if colour else smooth
    tifffile.imwrite(tmp_path / "a.tif", picture, compression="jpeg", compressionargs={"level": 95})
    difference = np.abs(np.squeeze(channels_last(read_image(tmp_path / "a.tif"))).astype(int) - picture)
    assert difference.max() <= 12
    assert difference.mean() < 2


@pytest.mark.parametrize("compression, predictor", [(None, False), ("zlib", True), ("lzw", True), ("jpeg2000", False)])
def test_12_bits_in_16_keep_their_values(tmp_path, compression, predictor):
    deep = (np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 7) % 4096
    tifffile.imwrite(tmp_path / "a.tif", deep, compression=compression, predictor=predictor)
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[0], deep)


def write_bare_tiff(path: Path, data: bytes, size: tuple[int, int], bits: int, photometric: int = 1) -> None:
    """A TIFF of one strip with the fewest tags, for depths that no writer here makes."""
    tags = [(256, size[1]), (257, size[0]), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1)]
    tags += [(278, size[0]), (279, len(data))]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    header = b"II*\0" + struct.pack("<I", 8 + len(data))
    path.write_bytes(header + data + struct.pack("<H", len(tags)) + directory + bytes(4))


def test_12_packed_bits_are_unpacked(tmp_path):
    # 0x123, 0x456 / 0xABC, 0xFFF: two values in three bytes.
    write_bare_tiff(tmp_path / "a.tif", bytes.fromhex("123456abcfff"), (2, 2), bits=12)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], [[0x123, 0x456], [0xABC, 0xFFF]])


@pytest.mark.parametrize("bits, data, values", [(1, "a0", [[1, 0, 1]]), (4, "1a70", [[1, 10, 7]])])
@pytest.mark.parametrize("photometric", [0, 1])
def test_a_mask_keeps_its_numbers_whether_0_is_shown_black_or_white(tmp_path, photometric, bits, data, values):
    write_bare_tiff(tmp_path / "a.tif", bytes.fromhex(data), (1, 3), bits, photometric)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), values)
    turned = bits > 1 and photometric == 0
    expected = 15 - np.array(values) if turned else values
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], expected)


@pytest.mark.parametrize("dtype, black", [("uint8", 255), ("uint16", 65535), ("int16", None), ("float32", None)])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"bigtiff": True, "tile": (16, 16)}])
def test_an_image_in_which_0_is_white_is_the_same_image(tmp_path, dtype, black, options):
    picture = np.stack([GREY, GREY[::-1]]).astype(dtype)
    stored = picture if black is None else black - picture
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite", **options)
    for page in (0, 1):
        image = read_image(tmp_path / "a.tif", page=page)
        assert image.dtype == dtype
        np.testing.assert_array_equal(image[0], picture[page])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", axes="CYX"), picture)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif", page=1), stored[1])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_an_inverted_display_does_not_invert_values(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(dtype), photometric="miniswhite")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), GREY)
    tifffile.imwrite(tmp_path / "b.tif", GREY.astype(dtype), photometric="miniswhite", imagej=True)
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif")[0], GREY)


@pytest.mark.parametrize("compression", ["tiff_deflate", "group4", "packbits", "tiff_lzw"])
def test_pillows_tiff_of_one_bit(tmp_path, compression):
    Image.fromarray(GREY > 100).save(tmp_path / "a.tif", compression=compression)
    stored = read_image(tmp_path / "a.tif")[0] > 0
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        white_is_0 = tiff.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    np.testing.assert_array_equal(stored ^ white_is_0, GREY > 100)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64", "int64"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_deep_and_real_types_keep_their_values(tmp_path, dtype, compression):
    picture = ((GREY.astype(int) - 100) // (1 if dtype[0] == "f" else 2)).clip(0 if dtype[0] == "u" else None)
    picture = (picture / 8).astype(dtype) if dtype[0] == "f" else picture.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", picture, compression=compression)
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == dtype
    np.testing.assert_array_equal(image[0], picture)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (16, 16)},
        {"tile": (16, 32), "compression": "zlib"},
        {"bigtiff": True},
        {"bigtiff": True, "compression": "lzw", "byteorder": ">"},
        {"rowsperstrip": 3},
    ],
)
def test_tiles_strips_and_large_offsets_change_nothing(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), STACK[:1])
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", **options)
    for page in (0, 5):
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", page=page), STACK[page][None])


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colour_of_16_bits_in_either_planar_configuration(tmp_path, planar, compression):
    deep = COLOUR.astype(np.uint16) * 257
    written = deep if planar == "contig" else channels_first(deep)
    tifffile.imwrite(
        tmp_path / "a.tif", written, photometric="rgb", planarconfig=planar, compression=compression, tile=(16, 16)
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), channels_first(deep))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("photometric", ["minisblack", None])
@pytest.mark.parametrize("axes", ["CYX", "ZCYX", "TCYX", "CZYX", "TZCYX"])
def test_ome_of_16_bits_and_three_channels(tmp_path, axes, photometric, compression):
    sizes = {"T": 2, "Z": 4, "C": 3, "Y": 20, "X": 30}
    shape = tuple(sizes[axis] for axis in axes)
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    options = {} if photometric is None else {"photometric": photometric}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # without a word tifffile takes three channels for colours
        tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata={"axes": axes}, compression=compression, **options)
    pages = [axis for axis in axes if axis in "TZ"]
    channels = np.moveaxis(array, [axes.index(axis) for axis in [*pages, "C"]], range(len(pages) + 1))
    planes = channels.reshape(-1, 3, 20, 30)
    assert n_pages(tmp_path / "a.ome.tif") == len(planes)
    for page, plane in enumerate(planes):
        np.testing.assert_array_equal(read_image(tmp_path / "a.ome.tif", page=page), plane)
    if "T" not in axes:
        volume = channels.swapaxes(0, 1) if pages else channels
        np.testing.assert_array_equal(read_image(tmp_path / "a.ome.tif"), volume)


@pytest.mark.parametrize("axes", ["ZCYX", "TZCYX", "TZYX", "TCYX"])
def test_imagej_hyperstacks(tmp_path, axes):
    sizes = {"T": 2, "Z": 4, "C": 3, "Y": 20, "X": 30}
    array = np.arange(np.prod([sizes[axis] for axis in axes]), dtype=np.uint16).reshape([sizes[a] for a in axes])
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": axes})
    planes = array.reshape(-1, 3 if "C" in axes else 1, 20, 30)
    assert n_pages(tmp_path / "a.tif") == len(planes)
    for page in (0, len(planes) - 1):
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", page=page), planes[page])


@pytest.mark.parametrize("kind", ["plain", "zlib", "separate pages", "imagej", "ome channels"])
def test_reading_a_page_touches_that_page_only(tmp_path, kind):
    """The other pages are overwritten with what cannot be decoded, or must not be read into memory."""
    path, stack = tmp_path / "a.tif", np.random.default_rng(0).integers(0, 9, (8, 256, 512), dtype=np.uint16)
    if kind == "separate pages":
        with tifffile.TiffWriter(path) as writer:
            for plane in stack:
                writer.write(plane, contiguous=False, metadata=None)
    elif kind == "ome channels":
        four = stack.reshape(4, 2, 256, 512)
        tifffile.imwrite(path, four, ome=True, photometric="minisblack", metadata={"axes": "ZCYX"}, compression="zlib")
    else:
        options = {"compression": "zlib"} if kind == "zlib" else {"imagej": True} if kind == "imagej" else {}
        tifffile.imwrite(path, stack, photometric="minisblack", **options)
    expected = stack[2:4] if kind == "ome channels" else stack[1:2]
    tracemalloc.start()
    try:
        image = read_image(path, page=1)
        assert tracemalloc.get_traced_memory()[1] < 3 * image.nbytes
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("kind", ["one strip", "strips", "tiles", "swapped bytes", "colour"])
def test_a_large_plain_tiff_is_not_held_twice(tmp_path, kind):
    options = {"strips": {"rowsperstrip": 16, "metadata": None}, "tiles": {"tile": (256, 256)}}.get(kind, {})
    if kind == "colour":
        tifffile.imwrite(tmp_path / "a.tif", shape=(4096, 4096, 3), dtype=np.uint8, photometric="rgb")
    else:
        order = {"byteorder": ">"} if kind == "swapped bytes" else {}
        tifffile.imwrite(tmp_path / "a.tif", np.ones((8192, 4096), np.uint16), **options, **order)
    tracemalloc.start()
    try:
        image = read_image(tmp_path / "a.tif")
        assert tracemalloc.get_traced_memory()[1] < (1.8 if kind in ("tiles", "colour") else 1.3) * image.nbytes
    finally:
        tracemalloc.stop()
    assert image.shape == ((3, 4096, 4096) if kind == "colour" else (1, 8192, 4096))


def test_large_plain_colour_is_read_in_bands(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "BAND", 7 * 30 * 3)
    tifffile.imwrite(tmp_path / "a.tif", COLOUR, photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), channels_first(COLOUR))


def test_npy_is_mapped_and_not_read(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2048, 2048)))
    image = read_image(tmp_path / "a.npy")
    assert not image.flags.owndata
    assert not image.flags.writeable


@pytest.mark.parametrize("kind", ["1", "LA", "RGBA", "P", "P with a transparent colour", "L of 4 bits", "P of 2 bits"])
def test_png_of_every_kind(tmp_path, kind):
    path, indices = tmp_path / "a.png", (GREY % 4).astype(np.uint8)
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 8, 7]], np.uint8)
    expected: np.ndarray = GREY[None]
    if kind == "1":
        Image.fromarray(GREY > 100).save(path)
        expected = (GREY > 100)[None]
    elif kind == "LA":
        Image.fromarray(np.dstack([GREY, GREY[::-1]])).save(path)
    elif kind == "RGBA":
        Image.fromarray(np.dstack([COLOUR, GREY])).save(path)
        expected = channels_first(COLOUR)
    elif kind == "L of 4 bits":
        write_grey_png_of_4_bits(path, indices)
        expected = indices[None] * 17  # a sample of 4 bits counts from 0 to 15, and white is 255
    else:
        picture = Image.fromarray(indices)
        picture.putpalette(palette.ravel().tolist())
        picture.save(path, **{"P of 2 bits": {"bits": 2}, "P": {}}.get(kind, {"transparency": 1}))
        expected = channels_first(palette[indices])
        np.testing.assert_array_equal(read_mask(path), indices)
    np.testing.assert_array_equal(read_image(path), expected)


def write_grey_png_of_4_bits(path: Path, values: np.ndarray) -> None:
    height, width = values.shape
    rows = b"".join(b"\0" + (row[::2] << 4 | row[1::2]).astype(np.uint8).tobytes() for row in values)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks.items()
        )
    )


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_png_of_16_bits_without_its_alpha(tmp_path, n_channels):
    deep = np.random.default_rng(0).integers(0, 65536, (20, 30, n_channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep if n_channels > 1 else deep[..., 0]))
    n_colours = 1 if n_channels < 3 else 3
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), channels_first(deep[..., :n_colours]))
    assert read_layout(tmp_path / "a.png").length("C") == n_colours


def test_a_transparent_grey_in_a_png_changes_no_value(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", transparency=7)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), GREY[None])


def test_a_jpeg_for_printing_becomes_red_green_and_blue(tmp_path):
    smooth = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    picture = Image.fromarray(np.dstack([smooth, smooth[::-1], smooth]))
    picture.convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (3, 64, 96)
    assert np.abs(channels_last(image).astype(int) - np.asarray(picture)).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation(tmp_path, orientation):
    turned = {
        1: GREY,
        2: GREY[:, ::-1],
        3: GREY[::-1, ::-1],
        4: GREY[::-1],
        5: GREY.T,
        6: np.rot90(GREY, -1),
        7: GREY[::-1, ::-1].T,
        8: np.rot90(GREY),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], turned)
    assert read_layout(tmp_path / "a.png").size == turned.shape


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", ["bmp", "gif"])
def test_bmp_and_gif_of_other_kinds(tmp_path, mode, suffix):
    colours = np.zeros((20, 30, 3), np.uint8)
    colours[:, 10:20], colours[:, 20:] = (255, 0, 0), (0, 0, 255)
    picture = Image.fromarray(GREY > 100) if mode == "1" else Image.fromarray(colours).convert(mode)
    picture.save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}")
    if mode == "1":
        np.testing.assert_array_equal(image[0] > 0, GREY > 100)
    else:
        np.testing.assert_array_equal(image, channels_first(colours))


def test_axes_of_a_mask_may_be_said(tmp_path):
    np.save(tmp_path / "a.npy", STACK[:2, None])
    np.testing.assert_array_equal(read_mask(tmp_path / "a.npy", axes="ZCYX"), STACK[:2])
    np.testing.assert_array_equal(read_mask(tmp_path / "a.npy", page=1, axes="TCYX"), STACK[1])
    with pytest.raises(DataError, match="found 4 of sizes"):
        read_mask(tmp_path / "a.npy")


@pytest.mark.parametrize("axes", ["PYX", "tyx", "IYX"])
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_pages_of_labels_stay_pages_and_volumes_volumes(tmp_path, name, axes):
    labels = np.arange(3 * 20 * 30).reshape(3, 20, 30)
    write_labels(tmp_path / name, labels, axes=axes)
    assert read_layout(tmp_path / name).axes == "PYX"
    np.testing.assert_array_equal(read_mask(tmp_path / name, page=2), labels[2])
    write_labels(tmp_path / name, labels, axes="ZYX")
    assert read_layout(tmp_path / name).axes == "ZYX"
    np.testing.assert_array_equal(read_mask(tmp_path / name), labels)
    write_labels(tmp_path / name, labels.reshape(3, 1, 20, 30).repeat(2, 1), axes="PZYX")
    assert read_layout(tmp_path / name).axes == "PZYX"
    np.testing.assert_array_equal(read_mask(tmp_path / name, page=5), labels[2])


def test_labels_tell_imagej_how_bright_to_show_them(tmp_path):
    write_labels(tmp_path / "a.tif", STACK[0].astype(int))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.imagej_metadata["max"] == STACK[0].max()


@pytest.mark.parametrize("axes, shown", [("ZYX", "ZYX"), ("CYX", "CYX"), ("YXZ", "YXZ"), (None, "4 dimensions")])
def test_axes_that_labels_cannot_have_are_refused(tmp_path, axes, shown):
    labels = np.zeros((2, 3, 4, 5) if axes is None else (4, 5) if axes == "ZYX" else (3, 4, 5), int)
    with pytest.raises(DataError, match=rf"a\.tif: expected the axes YX, ZYX, PYX or PZYX .* found {shown}; name"):
        write_labels(tmp_path / "a.tif", labels, axes=axes)
