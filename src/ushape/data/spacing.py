"""The physical size of a pixel and the time between frames: found in image files, and noted in those that are written.

Read from, first come first served: OME-XML; ImageJ's description (`unit`, `spacing`) with the resolution tags; bare
resolution tags of a TIFF and pHYs of a PNG; a NIfTI header. The values stand in the order of `size`: (height, width),
or (depth, height, width) where the file is a volume and says how far apart its slices are. A volume that says only the
size of its pixels gives two values.

Units: OME is told in micrometres whatever its unit. Elsewhere nm, um and mm stay as they are, and other lengths are
converted to um (in NIfTI to mm). Numbers come with six significant digits where the file holds fractions or float32,
because the rest is rounding.

A resolution in dots per inch is mostly a wish for a printer. Bare tags count only when pixels are finer than 600 dpi
(0.042 mm) and not finer than an atom; ImageJ's "inch" and "cm" count unless they are one of the usual dots per inch.

The time between frames is told in seconds, by OME-XML (`TimeIncrement`) or ImageJ's description (`finterval`).

References: TIFF 6.0 (tags 282, 283, 296); PNG 11.3.4.3; OME-XML 2016-06; ImageJ's TiffDecoder and Calibration.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import tifffile

from ushape.data.dataset import Spacing
from ushape.data.headers import SLICES_APART, file_kind, open_picture, open_tiff, read_layout
from ushape.data.nifti import nifti_zooms

__all__ = [
    "add_physical_size",
    "imagej_options",
    "nifti_spacing",
    "ome_options",
    "read_frame_interval",
    "read_spacing",
]

# Lengths in micrometres by the names that files give them, in small letters and with "u" for the Greek letter.
UM = {
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "inch": 25400.0,
    "in": 25400.0,
    "pm": 1e-6,
    "a": 1e-4,
    "å": 1e-4,
    "angstrom": 1e-4,
}
# Times in seconds likewise; ImageJ's own unit is "sec".
SECONDS = {
    "ms": 1e-3,
    "msec": 1e-3,
    "millisecond": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}
KEPT = {"nm": "nm", "um": "um", "micron": "um", "microns": "um", "µm": "um", "mm": "mm"}
Known = TypeVar("Known")
MICROSCOPE_UM = (1e-5, 25400 / 600)
PRINTERS_DPI = (1, 2.54, 72, 96, 100, 150, 200, 300, 600)
TIFF_UNITS_UM = {2: UM["inch"], 3: UM["cm"]}
# The signature of a PNG and its first chunk, the header; further chunks may stand behind them.
PNG_HEADER = 33
MAX_PNG_DENSITY = 2**31 - 1


def _unit(name: object) -> str:
    """A unit as the tables call it: ImageJ writes the Greek letter as \\u00B5, and Unicode has two of them."""
    text = str(name).strip().lower().replace("\\u00b5", "u").replace("\u00b5", "u").replace("\u03bc", "u")
    return text.replace("metre", "meter")


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _for_printing(um: float) -> bool:
    """Whether a pixel of this size comes from one of the usual dots per inch."""
    return any(abs(25400 / um / dpi - 1) < 0.005 for dpi in PRINTERS_DPI)


def _positive(values: Sequence[float]) -> bool:
    return all(0 < value < float("inf") for value in values)


def _ome_spacing(text: str, volume: bool) -> Spacing | None:
    pixels = ElementTree.fromstring(text).find(".//{*}Pixels")
    values = []
    for axis in "ZYX" if volume else "YX":
        size = None if pixels is None else pixels.get(f"PhysicalSize{axis}")
        unit = "um" if pixels is None else pixels.get(f"PhysicalSize{axis}Unit", "um")
        if size is not None and _unit(unit) in UM:
            values.append(float(f"{float(size) * UM[_unit(unit)]:.12g}"))
        elif axis != "Z":
            return None
    return Spacing(tuple(values)) if _positive(values) else None


def _resolution_um(page: tifffile.TiffPage, unit_um: float) -> tuple[float, float] | None:
    """(y, x) in micrometres by the resolution tags, that count pixels per unit."""
    values = []
    for name in ("YResolution", "XResolution"):
        numerator, denominator = page.tags[name].value
        values.append(unit_um * denominator / numerator)
    return (values[0], values[1]) if _positive(values) else None


def _imagej_spacing(metadata: dict[str, Any], page: tifffile.TiffPage, volume: bool) -> Spacing | None:
    name = _unit(metadata.get("unit", ""))
    if name not in UM:
        return None
    flat = _resolution_um(page, UM[name])
    if flat is None or (name in ("inch", "in", "cm") and any(_for_printing(value) for value in flat)):
        return None
    depth = abs(float(metadata.get("spacing", 0))) * UM.get(_unit(metadata.get("zunit", name)), UM[name])
    values = (depth, *flat) if volume and _positive([depth]) else flat
    unit = KEPT.get(name, "um")
    return Spacing(tuple(_rounded(value / UM[unit]) for value in values), unit)


def _tag_spacing(page: tifffile.TiffPage) -> Spacing | None:
    unit = page.tags.valueof("ResolutionUnit")
    values = _resolution_um(page, TIFF_UNITS_UM[int(unit)]) if unit in TIFF_UNITS_UM else None
    return None if values is None else _microscopic(values)


def _microscopic(values: tuple[float, float]) -> Spacing | None:
    """Micrometres as a spacing where they can be a microscope's."""
    low, high = MICROSCOPE_UM
    # A little less than the limit, because 600 dpi are not written exactly.
    return Spacing(tuple(map(_rounded, values))) if all(low <= value < 0.99 * high for value in values) else None


def _tiff_spacing(path: Path) -> Spacing | None:
    volume = read_layout(path).length("Z") > 1
    with open_tiff(path) as tiff:
        page = tiff.pages.first
        readers: list[Callable[[], Spacing | None]] = []
        if tiff.is_ome:
            readers.append(lambda: _ome_spacing(tiff.ome_metadata or "", volume))
        if tiff.is_imagej:
            readers.append(lambda: _imagej_spacing(tiff.imagej_metadata or {}, page, volume))
        readers.append(lambda: _tag_spacing(page))
        return next((spacing for spacing in map(_or_none, readers) if spacing is not None), None)


def _png_spacing(path: Path) -> Spacing | None:
    with open_picture(path) as picture:
        x, y = picture.info["dpi"]  # given by Pillow only where the unit is the metre
    return _microscopic((25400 / y, 25400 / x))


def _nifti_spacing(path: Path) -> Spacing | None:
    zooms = nifti_zooms(path)
    if zooms is None or not _positive(zooms[0]):
        return None
    values, unit = zooms
    kept = KEPT.get(_unit(unit), "mm")
    factor = UM[_unit(unit)] / UM[kept]
    return Spacing(tuple(_rounded(value * factor) for value in values), kept)


def _or_none(read: Callable[[], Known | None]) -> Known | None:
    """What `read` gives; None where a tag is missing or makes no sense, because a spacing is good to have, no more."""
    try:
        return read()
    except Exception:
        return None


def read_spacing(path: Path) -> Spacing | None:
    """The physical size of a pixel, (height, width) or (depth, height, width); None where nothing is known.

    Nothing is raised: an odd tag, a damaged file or a format that knows no sizes gives None. The module says which
    numbers are believed.
    """
    path = Path(path)
    readers = {"tiff": _tiff_spacing, "png": _png_spacing, "nifti": _nifti_spacing}

    def read() -> Spacing | None:
        reader = readers.get(file_kind(path))
        return None if reader is None else reader(path)

    return _or_none(read)


def _tiff_interval(path: Path) -> float | None:
    with open_tiff(path) as tiff:
        value: object = None
        unit: object = "s"
        if tiff.is_ome:
            pixels = ElementTree.fromstring(tiff.ome_metadata or "").find(".//{*}Pixels")
            if pixels is not None:
                value, unit = pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s")
        elif tiff.is_imagej:
            metadata = tiff.imagej_metadata or {}
            value, unit = metadata.get("finterval"), metadata.get("tunit", "sec")
    name = str(unit).strip().lower()
    seconds = float(str(value)) * SECONDS[name if name in SECONDS else name.removesuffix("s")]
    return _rounded(seconds) if _positive([seconds]) else None


def read_frame_interval(path: Path) -> float | None:
    """Seconds from one frame to the next; None, and never an error, where the file does not tell."""
    path = Path(path)
    return _or_none(lambda: _tiff_interval(path) if file_kind(path) == "tiff" else None)


def _in(spacing: Spacing | None, unit: str) -> tuple[float, ...] | None:
    """The values in another unit; None without a spacing that is a length."""
    if spacing is None or _unit(spacing.unit) not in UM or len(spacing.values) < 2 or not _positive(spacing.values):
        return None
    return tuple(value * UM[_unit(spacing.unit)] / UM[unit] for value in spacing.values)


def imagej_options(
    axes: str,
    shape: tuple[int, ...],
    spacing: Spacing | None,
    largest: int,
    *,
    interval: float | None = None,
    slices_apart: bool = False,
) -> dict[str, Any]:
    """What `tifffile.imwrite` needs to write labels (*pages, *space) the way ImageJ does.

    ImageJ's plain text keeps all of it at one place that ImageJ, Fiji, tifffile and `read_spacing` understand: what
    the pages are, unit and depth in the description, height and width as resolution tags. OME-XML in a .tif is not
    read by ImageJ itself, and bare tags know no micrometres and no depth. The description is made here because
    tifffile's `imagej` refuses uint32, which ImageJ opens.

    interval      seconds from one frame to the next, where they are known
    slices_apart  the slices are images of their own, which `read_layout` is told
    """
    sizes = dict(zip(axes, shape, strict=True))
    slices, frames = sizes.get("Z", 1), sizes.get("T", 1)
    lines = ["ImageJ=1.11a", f"images={slices * frames}", f"slices={slices}", f"frames={frames}"]
    if slices * frames > 1 and frames > 1:
        lines.append("hyperstack=true")
    unit = KEPT.get(_unit(spacing.unit), "um") if spacing else "um"
    values = _in(spacing, unit)
    options: dict[str, Any] = {}
    if values is not None:
        lines.append(f"unit={'micron' if unit == 'um' else unit}")
        lines += [f"spacing={values[0]:.9g}"] if slices > 1 and len(values) > 2 else []
        options = {"resolution": (1 / values[-1], 1 / values[-2]), "resolutionunit": "NONE"}
    lines += [f"finterval={interval:.9g}"] if frames > 1 and interval else []
    lines += [f"{SLICES_APART}=images"] if slices > 1 and slices_apart else []
    lines += ["loop=false", "min=0.0", f"max={float(largest)}", ""]
    return {"description": "\n".join(lines), "metadata": None, **options}


def ome_options(axes: str, spacing: Spacing | None, interval: float | None = None) -> dict[str, Any]:
    """What `tifffile.imwrite` needs to write an array with these axes as OME-TIFF; `interval` in seconds."""
    values = _in(spacing, "um")
    sizes = {} if values is None else dict(zip("XYZ", reversed(values), strict=False))
    physical = {f"PhysicalSize{axis}": value for axis, value in sizes.items()}
    units = {f"{name}Unit": "µm" for name in physical}
    times = {"TimeIncrement": interval, "TimeIncrementUnit": "s"} if "T" in axes and interval else {}
    return {"ome": True, "metadata": {"axes": axes, **physical, **units, **times}}


def nifti_spacing(spacing: Spacing | None) -> tuple[tuple[float, ...], str] | None:
    """The values as a NIfTI header takes them: micrometres stay, everything else in millimetres."""
    unit = "um" if spacing is not None and KEPT.get(_unit(spacing.unit)) == "um" else "mm"
    values = _in(spacing, unit)
    return None if values is None else (values, "micron" if unit == "um" else "mm")


def add_physical_size(png: bytes, spacing: Spacing | None) -> bytes:
    """A PNG with the chunk pHYs, pixels per metre, behind its header; as it is where they do not fit into 31 bits."""
    values = _in(spacing, "m")
    density = [] if values is None else [round(1 / value) for value in (values[-1], values[-2])]
    if len(density) != 2 or not all(0 < n <= MAX_PNG_DENSITY for n in density):
        return png
    chunk = b"pHYs" + struct.pack(">IIB", *density, 1)
    return png[:PNG_HEADER] + struct.pack(">I", 9) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[PNG_HEADER:]
