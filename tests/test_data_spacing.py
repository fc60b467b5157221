"""The physical size of a pixel: noted by tifffile and Pillow, read by ours, and the other way round."""

import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ushape.data.dataset import Spacing
from ushape.data.images import (
    read_frame_interval,
    read_image,
    read_layout,
    read_mask,
    read_spacing,
    write_image,
    write_labels,
)

GREY = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)
VOLUME = np.arange(4 * 20 * 30, dtype=np.uint16).reshape(4, 20, 30)


def ome(path, array, axes, **physical):
    tifffile.imwrite(path, array, ome=True, photometric="minisblack", metadata={"axes": axes, **physical})
    return path


@pytest.mark.parametrize(
    "unit, expected",
    [
        (None, (0.25, 0.5)),
        ("µm", (0.25, 0.5)),
        ("nm", (0.00025, 0.0005)),
        ("mm", (250, 500)),
        ("cm", (2500, 5000)),
        ("m", (250000, 500000)),
        ("Å", (2.5e-5, 5e-5)),
        ("inch", (6350, 12700)),
        ("pixel", None),
        ("reference frame", None),
        ("furlong", None),
    ],
)
def test_ome_is_told_in_micrometres(tmp_path, unit, expected):
    units = {} if unit is None else {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    path = tmp_path / "a.ome.tif"
    ome(path, GREY, "YX", PhysicalSizeX=0.5, PhysicalSizeY=0.25, **units)
    assert read_spacing(path) == (None if expected is None else Spacing(expected))


@pytest.mark.parametrize(
    "axes, depth, expected",
    [
        ("ZYX", {"PhysicalSizeZ": 2.0}, (2.0, 0.25, 0.5)),
        ("ZYX", {"PhysicalSizeZ": 1.5, "PhysicalSizeZUnit": "nm"}, (0.0015, 0.25, 0.5)),
        ("ZYX", {}, (0.25, 0.5)),
        ("TYX", {"PhysicalSizeZ": 2.0}, (0.25, 0.5)),
        ("CYX", {"PhysicalSizeZ": 2.0}, (0.25, 0.5)),
    ],
)
def test_depth_is_told_of_volumes_only(tmp_path, axes, depth, expected):
    path = ome(tmp_path / "a.ome.tif", VOLUME, axes, PhysicalSizeX=0.5, PhysicalSizeY=0.25, **depth)
    assert read_spacing(path) == Spacing(expected)


@pytest.mark.parametrize("sizes", [{}, {"PhysicalSizeX": 0.5}, {"PhysicalSizeX": 0, "PhysicalSizeY": 0.5}])
def test_ome_without_sound_sizes_knows_nothing(tmp_path, sizes):
    assert read_spacing(ome(tmp_path / "a.ome.tif", GREY, "YX", **sizes)) is None


def imagej(path, array, axes="YX", *, pixels_per_unit=(2.0, 4.0), **metadata):
    tifffile.imwrite(path, array, imagej=True, resolution=pixels_per_unit, metadata={"axes": axes, **metadata})
    return path


@pytest.mark.parametrize(
    "unit, expected",
    [
        ("um", Spacing((0.25, 0.5))),
        ("micron", Spacing((0.25, 0.5))),
        ("microns", Spacing((0.25, 0.5))),
        ("\\u00B5m", Spacing((0.25, 0.5))),
        ("nm", Spacing((0.25, 0.5), "nm")),
        ("mm", Spacing((0.25, 0.5), "mm")),
        ("cm", Spacing((2500, 5000))),
        ("inch", Spacing((6350, 12700))),
        ("pixel", None),
        ("", None),
        ("parsec", None),
    ],
)
def test_imagej_counts_pixels_per_unit(tmp_path, unit, expected):
    assert read_spacing(imagej(tmp_path / "a.tif", GREY, unit=unit)) == expected


def test_imagej_keeps_the_depth_beside(tmp_path):
    path = imagej(tmp_path / "a.tif", VOLUME, "ZYX", unit="um", spacing=1.5)
    assert read_spacing(path) == Spacing((1.5, 0.25, 0.5))
    assert read_spacing(imagej(path, VOLUME, "ZYX", unit="um", spacing=-1.5)) == Spacing((1.5, 0.25, 0.5))
    assert read_spacing(imagej(path, VOLUME, "ZYX", unit="um", spacing=1500, zunit="nm")) == Spacing((1.5, 0.25, 0.5))
    assert read_spacing(imagej(path, VOLUME, "ZYX", unit="um")) == Spacing((0.25, 0.5))
    assert read_spacing(imagej(path, VOLUME, "TYX", unit="um", spacing=1.5)) == Spacing((0.25, 0.5))


@pytest.mark.parametrize("size", [0.65, 0.325, 0.108, 6.5, 1.0, 0.1625, 123.4])
def test_imagejs_rounding_is_taken_back(tmp_path, size):
    """ImageJ writes pixels per unit as a whole number of millionths."""
    rational = (round(1e6 / size), 10**6)
    path = imagej(tmp_path / "a.tif", GREY, unit="um", pixels_per_unit=(rational, rational))
    assert read_spacing(path).values == pytest.approx((size, size), rel=2e-4 if size > 100 else 1e-5)
    if size < 5:
        assert read_spacing(path) == Spacing((size, size))


@pytest.mark.parametrize("dpi", [72, 96, 100, 150, 300, 600])
def test_printing_defaults_mean_nothing_anywhere(tmp_path, dpi):
    tifffile.imwrite(tmp_path / "inch.tif", GREY, resolution=(dpi, dpi), resolutionunit="INCH")
    tifffile.imwrite(tmp_path / "cm.tif", GREY, resolution=(dpi / 2.54, dpi / 2.54), resolutionunit="CENTIMETER")
    Image.fromarray(GREY).save(tmp_path / "a.png", dpi=(dpi, dpi))
    Image.fromarray(GREY).save(tmp_path / "pillow.tif", dpi=(dpi, dpi))
    imagej(tmp_path / "imagej.tif", GREY, unit="inch", pixels_per_unit=(dpi, dpi))
    imagej(tmp_path / "imagej_cm.tif", GREY, unit="cm", pixels_per_unit=(dpi / 2.54, dpi / 2.54))
    for path in tmp_path.iterdir():
        assert read_spacing(path) is None, path.name


@pytest.mark.parametrize(
    "unit, per_unit, expected",
    [
        ("CENTIMETER", (20000, 40000), (0.25, 0.5)),
        ("INCH", (50800, 101600), (0.25, 0.5)),
        ("INCH", (1200, 1200), (21.1667, 21.1667)),
        ("NONE", (20000, 40000), None),
        ("CENTIMETER", (1, 1), None),
        ("INCH", (1, 1), None),
        ("CENTIMETER", (20000, 1), None),
        ("CENTIMETER", ((0, 1), (1, 1)), None),
        ("CENTIMETER", ((2**32 - 1, 1), (2**32 - 1, 1)), None),
    ],
)
def test_bare_tags_count_where_a_microscope_is_plausible(tmp_path, unit, per_unit, expected):
    tifffile.imwrite(tmp_path / "a.tif", GREY, resolution=per_unit, resolutionunit=unit, metadata=None)
    assert read_spacing(tmp_path / "a.tif") == (None if expected is None else Spacing(expected))


def test_png_notes_pixels_per_metre(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", dpi=(50800, 101600))
    assert read_spacing(tmp_path / "a.png") == Spacing((0.25, 0.5))
    content = (tmp_path / "a.png").read_bytes()
    start = content.index(b"pHYs")
    chunk = content[start : start + 12] + b"\0"  # the ratio of height and width only, without a unit
    (tmp_path / "a.png").write_bytes(
        content[:start] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + content[start + 17 :]
    )
    assert read_spacing(tmp_path / "a.png") is None
    assert read_image(tmp_path / "a.png").shape == (1, 20, 30)


@pytest.mark.parametrize(
    "name", ["missing.tif", "a.txt", "a.npy", "a.jpg", "a.bmp", "empty.tif", "empty.png", "cut.tif"]
)
def test_where_nothing_is_known_nothing_is_raised(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, GREY)
    elif path.suffix in (".jpg", ".bmp"):
        Image.fromarray(GREY).save(path, dpi=(100000, 100000))
    elif name == "cut.tif":
        imagej(path, VOLUME, "ZYX", unit="um")
        path.write_bytes(path.read_bytes()[:300])
    elif name != "missing.tif":
        path.write_bytes(b"x" if name == "a.txt" else b"")
    assert read_spacing(path) is None


@pytest.mark.parametrize(
    "text",
    ["<OME><broken", "<OME></OME>", '<OME><Image><Pixels PhysicalSizeX="much" PhysicalSizeY="1"/></Image></OME>'],
)
def test_a_broken_description_is_passed_over_for_the_tags(tmp_path, text):
    options = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", GREY, description=text, **options)
    assert read_spacing(tmp_path / "a.tif") == Spacing((0.5, 0.5))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), GREY[None])
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, description=text, photometric="minisblack", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", page=2), VOLUME[2][None])


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.png"])
@pytest.mark.parametrize("spacing", [Spacing((0.325, 0.65)), Spacing((0.1083333, 0.1083333)), Spacing((5.0, 6.5))])
def test_labels_keep_their_spacing(tmp_path, name, spacing):
    write_labels(tmp_path / name, GREY, spacing=spacing)
    assert read_spacing(tmp_path / name).values == pytest.approx(spacing.values, rel=1e-5)
    assert read_spacing(tmp_path / name).unit == "um"
    np.testing.assert_array_equal(read_mask(tmp_path / name), GREY)


@pytest.mark.parametrize("unit, expected", [("nm", "nm"), ("mm", "mm"), ("micron", "um"), ("µm", "um"), ("um", "um")])
def test_labels_in_a_tiff_keep_their_unit(tmp_path, unit, expected):
    write_labels(tmp_path / "a.tif", GREY, spacing=Spacing((12.5, 25.0), unit))
    assert read_spacing(tmp_path / "a.tif") == Spacing((12.5, 25.0), expected)
    write_labels(tmp_path / "a.tif", GREY, spacing=Spacing((0.5, 0.25), "cm"))
    assert read_spacing(tmp_path / "a.tif") == Spacing((5000, 2500))


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_volumes_keep_the_depth_and_pages_have_none(tmp_path, name):
    spacing = Spacing((2.0, 0.25, 0.5))
    write_labels(tmp_path / name, VOLUME, spacing=spacing)
    assert read_spacing(tmp_path / name) == spacing
    write_labels(tmp_path / name, VOLUME, spacing=spacing, axes="PYX")
    assert read_spacing(tmp_path / name) == Spacing((0.25, 0.5))
    write_labels(tmp_path / name, VOLUME, spacing=Spacing((0.25, 0.5)))
    assert read_spacing(tmp_path / name) == Spacing((0.25, 0.5))
    assert read_layout(tmp_path / name).axes == "ZYX"
    write_labels(tmp_path / name, np.stack([VOLUME, VOLUME]), spacing=spacing, axes="PZYX")
    assert read_spacing(tmp_path / name) == spacing


@pytest.mark.parametrize("largest, dtype", [(200, "uint8"), (300, "uint16"), (70000, "uint32")])
def test_other_programs_find_the_spacing_of_labels_of_every_type(tmp_path, largest, dtype):
    labels = np.full((4, 20, 30), largest)
    write_labels(tmp_path / "a.tif", labels, spacing=Spacing((2.0, 0.25, 0.5)))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        page, metadata = tiff.pages.first, tiff.imagej_metadata
        assert (tiff.series[0].axes, str(tiff.series[0].dtype)) == ("ZYX", dtype)
        assert (metadata["unit"], metadata["spacing"], metadata["slices"]) == ("micron", 2.0, 4)
        assert page.tags["ResolutionUnit"].value == 1
        assert page.resolution == (2.0, 4.0)
        np.testing.assert_array_equal(tiff.asarray(), labels)
    write_labels(tmp_path / "a.ome.tif", labels, spacing=Spacing((2.0, 0.25, 0.5)))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert [pixels[f"PhysicalSize{axis}"] for axis in "XYZ"] == [0.5, 0.25, 2.0]
    write_labels(tmp_path / "a.png", GREY, spacing=Spacing((0.25, 0.5)))
    assert Image.open(tmp_path / "a.png").info["dpi"] == pytest.approx((50800, 101600))


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.png"])
@pytest.mark.parametrize("spacing", [None, Spacing((1, 1), "px"), Spacing((0, 0)), Spacing((1e-9, 1e-9)), Spacing(())])
def test_what_is_no_physical_size_is_left_out(tmp_path, name, spacing):
    write_labels(tmp_path / name, GREY, spacing=spacing)
    assert read_spacing(tmp_path / name) is None or spacing == Spacing((1e-9, 1e-9))
    np.testing.assert_array_equal(read_mask(tmp_path / name), GREY)


@pytest.mark.parametrize("shape", [(1, 20, 30), (2, 20, 30), (12, 20, 30), (2, 4, 20, 30)])
def test_images_keep_their_spacing(tmp_path, shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    spacing = Spacing((2.0, 0.25, 0.5)[5 - len(shape) - 1 :])
    write_image(tmp_path / "a.tif", image, spacing=spacing)
    assert read_spacing(tmp_path / "a.tif") == spacing
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), image)
    if shape == (1, 20, 30):
        write_image(tmp_path / "a.png", GREY[None], spacing=spacing)
        assert read_spacing(tmp_path / "a.png") == spacing


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.floats(1e-4, 40), st.floats(1e-4, 40)), st.sampled_from(["a.tif", "a.ome.tif", "a.png"]))
def test_written_spacings_are_read_spacings(tmp_path_factory, values, name):
    path = tmp_path_factory.mktemp("spacing") / name
    # A PNG counts whole pixels per metre in 31 bits, and finer ones than a nanometre do not fit.
    values = tuple(max(value, 1e-3) for value in values) if name == "a.png" else values
    write_labels(path, GREY, spacing=Spacing(values))
    assert read_spacing(path).values == pytest.approx(values, rel=1e-2 if name == "a.png" else 2e-5)


# The time between frames.


@pytest.mark.parametrize(
    ("unit", "seconds"), [(None, 0.5), ("sec", 0.5), ("ms", 0.0005), ("minutes", 30), ("hours", 1800), ("beats", None)]
)
def test_the_time_between_frames_is_told_in_seconds(tmp_path, unit, seconds):
    frames, metadata = np.zeros((3, 8, 9), np.uint8), {"axes": "TYX", "finterval": 0.5}
    tifffile.imwrite(tmp_path / "a.tif", frames, imagej=True, metadata=metadata | ({"tunit": unit} if unit else {}))
    assert read_frame_interval(tmp_path / "a.tif") == seconds


@pytest.mark.parametrize(("unit", "seconds"), [(None, 0.5), ("ms", 0.0005), ("min", 30), ("µs", None)])
def test_the_time_between_frames_of_an_ome_tiff(tmp_path, unit, seconds):
    metadata = {"axes": "TYX", "TimeIncrement": 0.5} | ({"TimeIncrementUnit": unit} if unit else {})
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((3, 8, 9), np.uint8), metadata=metadata, photometric="minisblack")
    assert read_frame_interval(tmp_path / "a.ome.tif") == seconds


def test_no_time_between_frames_is_no_error(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9), np.uint8))
    (tmp_path / "b.tif").write_bytes(b"II*\0")
    for name in ("a.tif", "b.tif", "none.tif", "none.png"):
        assert read_frame_interval(tmp_path / name) is None


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_the_time_between_frames_is_kept(tmp_path, name):
    write_labels(tmp_path / name, np.zeros((3, 8, 9), np.uint8), axes="PYX", interval=12.5)
    assert read_frame_interval(tmp_path / name) == 12.5


def test_slices_that_are_images_are_read_as_pages(tmp_path):
    volume = np.zeros((3, 8, 9), np.uint8)
    for apart, axes in ((False, "ZYX"), (True, "PYX")):
        write_labels(tmp_path / "a.tif", volume, axes="ZYX", slices_apart=apart)
        assert read_layout(tmp_path / "a.tif").axes == axes
        assert tifffile.TiffFile(tmp_path / "a.tif").series[0].axes == "ZYX"
