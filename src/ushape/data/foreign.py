"""Files and folders that are not read as they are, and what to do with them.

Microscopes, hospitals and annotation tools have formats of their own. Each that is often met has a sentence here that
names it and says how to convert it; what is left in a folder of no known layout is told apart here, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ushape.data.headers import is_image_file, suffix_of
from ushape.data.notes import Notes, counted
from ushape.data.region_readers import is_drawing

__all__ = ["advice_on", "note_foreign_files", "visible_files"]

FIJI = "open them in Fiji (Bio-Formats) and save them as OME-TIFF"
QUPATH = "export the regions of interest from QuPath as OME-TIFF"
SLICER = "convert them to NIfTI (.nii.gz) with 3D Slicer or SimpleITK"
UNPACK = "unpack them first and name the folder that comes out"
DRAWN = "export the masks as PNG or TIFF from the tool they were drawn with"

# suffix: (what it is, what to do)
FOREIGN = {
    **dict.fromkeys((".czi", ".lsm", ".zvi"), ("Zeiss microscope files", FIJI)),
    **dict.fromkeys((".nd2",), ("Nikon microscope files", FIJI)),
    **dict.fromkeys((".lif", ".xlef"), ("Leica microscope files", FIJI)),
    **dict.fromkeys((".oif", ".oib", ".oir", ".vsi"), ("Olympus microscope files", FIJI)),
    **dict.fromkeys((".ims",), ("Imaris files", FIJI)),
    **dict.fromkeys((".dv", ".mrc", ".stk", ".ics", ".sld"), ("microscope files", FIJI)),
    **dict.fromkeys((".svs", ".ndpi", ".mrxs", ".scn", ".bif"), ("whole-slide images", QUPATH)),
    **dict.fromkeys((".dcm", ".dicom", ".ima"), ("DICOM files", "convert each series to NIfTI with dcm2niix")),
    **dict.fromkeys((".mha", ".mhd", ".nrrd", ".mgz"), ("medical volumes", SLICER)),
    **dict.fromkeys(
        (".h5", ".hdf5", ".n5", ".zarr", ".mat", ".npz"), ("containers of arrays", "save each image as TIFF or .npy")
    ),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".rar", ".7z", ".tar.gz"), ("packed archives", UNPACK)),
    **dict.fromkeys(
        (".heic", ".webp", ".jp2", ".psd", ".pdf", ".svg", ".eps"), ("pictures", "save them as PNG or TIFF")
    ),
    **dict.fromkeys((".json", ".geojson", ".xml", ".txt", ".roi"), ("outlines or boxes as text", DRAWN)),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".pth"), ("Python pickles", "save the arrays as TIFF or .npy")),
}
TEXT = (".json", ".geojson", ".xml", ".txt", ".roi")


def visible_files(path: Path) -> list[Path]:
    """All files of a folder but the hidden ones, by name."""
    return sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))


def _known_suffix(path: Path) -> str:
    """The suffix by which a foreign file (or a .zarr folder) is known; '' when it is not."""
    for suffix in (suffix_of(path).lower(), path.suffix.lower()):
        if suffix in FOREIGN:
            return suffix
    return ""


def note_foreign_files(path: Path, notes: Notes) -> None:
    """One problem for each foreign format of images that lies beside those that are read."""
    files = [p for p in path.iterdir() if not p.name.startswith(".") and not is_image_file(p)]
    by_suffix: dict[str, int] = {}
    for file in files:
        suffix = _known_suffix(file)
        if suffix and suffix not in TEXT and not is_drawing(file):
            by_suffix[suffix] = by_suffix.get(suffix, 0) + 1
    for suffix, n in sorted(by_suffix.items()):
        what, action = FOREIGN[suffix]
        notes.problems.append(
            f"{path}: expected image files, found {counted(n, suffix + ' file')} ({what}) as well; {action} (left out)"
        )


def advice_on(files: Sequence[Path]) -> str:
    """What these files (or .zarr folders) are and what to do with them, '' when nothing is known of any."""
    known = [suffix for suffix in map(_known_suffix, files) if suffix]
    if not known:
        return ""
    suffix = max(sorted(set(known)), key=lambda s: (s not in TEXT, known.count(s)))
    what, action = FOREIGN[suffix]
    return f"only {suffix} ({what}); {action}"
