"""Public datasets by name: where they come from, under which terms, and how they are read.

A name, or a name with a part, stands wherever a folder can: `isbi2012`, `dic-hela:01`, `dsb2018:test`, `phantom:val`.
A local copy under $USHAPE_DATA is used first, in the layout its official download unpacks to; otherwise the set is
downloaded once to the user's cache (~/.cache/ushape, or $XDG_CACHE_HOME/ushape) and unpacked there.

No checksum is written here that was not verified against the official file. Where none is, `sha256` is None, the
download prints what it got, and that is the value to compare or to write down.

Parts keep what is not independent apart: the parts of a stack have a gap of two slices between them. The reference
numbers published for ISBI and the Cell Tracking Challenge belong to hidden test sets; a score on a part held out of
the training set is not comparable with them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ushape.data.ctc import Truth, open_ctc
from ushape.data.dataset import Dataset, Sample, Task
from ushape.data.folder import find_parts, open_folder
from ushape.data.images import is_grey
from ushape.data.phantom import phantom_dataset
from ushape.errors import DataError

__all__ = ["CATALOG", "Entry", "dataset_path", "describe", "names", "open_dataset"]


@dataclass(frozen=True)
class Entry:
    """One public dataset.

    name     as it is asked for
    title    what it is, in one line
    parts    what may stand behind the colon
    read     (folder, part or None) -> Dataset; the folder is None for simulated data
    folder   where a local copy lies under $USHAPE_DATA
    marker   a file or folder that shows where the data begin inside the unpacked archive; '' if anywhere
    url      the official archive; '' for simulated data
    sha256   of the archive; None where it was not verified
    """

    name: str
    title: str
    parts: tuple[str, ...]
    read: Callable[[Path | None, str | None], Dataset]
    folder: str = ""
    marker: str = ""
    url: str = ""
    sha256: str | None = None
    licence: str = ""
    citation: str = ""


# Slices 22 and 23 lie between the parts and are in neither, because neighbouring slices are nearly the same.
ISBI_PARTS = {"train": range(22), "test": range(24, 30)}


def _read_isbi(folder: Path | None, part: str | None) -> Dataset:
    assert folder is not None
    if part == "challenge":
        return replace(open_folder(folder, split="test"), classes=("membrane", "cell"))
    dataset = replace(open_folder(folder, split="train"), classes=("membrane", "cell"))
    if part is None:
        return dataset
    kept = ISBI_PARTS[part]
    finding = f"Slices {kept.start} to {kept.stop - 1} of 30; the parts are two slices apart."
    chosen = dataset.subset([s for s in dataset.samples if s.position in kept])
    return replace(chosen, findings=(*dataset.findings, finding))


def _read_ctc(folder: Path | None, part: str | None) -> Dataset:
    assert folder is not None
    truth: Truth = "gold" if part is not None and part.endswith("gold") else "gold+silver"
    sequences = None if part in (None, "gold") else ((part or "")[:2],)
    return open_ctc(folder, sequences=sequences, truth=truth)


def _is_held_out(sample: Sample) -> bool:
    """About one image in five, by a hash of its id: the same ones whichever of the images are there."""
    return hashlib.sha256(sample.name.encode()).digest()[0] % 5 == 0


def _is_fluorescence(sample: Sample) -> bool:
    """Grey on a dark background: at least half of the pixels are in the lower half of the range."""
    image = sample.read_image()
    return is_grey(image) and float(np.median(image)) < np.iinfo(image.dtype).max / 2


def _read_dsb(folder: Path | None, part: str | None) -> Dataset:
    assert folder is not None
    dataset = open_folder(folder)
    modality, _, side = part.partition("-") if part and part.startswith("fluorescence") else ("", "", part)
    if side:
        dataset = dataset.subset([s for s in dataset.samples if _is_held_out(s) == (side == "test")])
    if modality:
        # The file does not say how an image was made, so each is looked at; decoding runs on all cores.
        with ThreadPoolExecutor() as pool:
            kept = list(pool.map(_is_fluorescence, dataset.samples))
        dataset = dataset.subset([s for s, keep in zip(dataset.samples, kept, strict=True) if keep])
    return dataset


# (images, seed) of the simulated parts; different seeds share no image.
PHANTOM_PARTS = {"train": (16, 0), "val": (4, 1), "test": (8, 2)}


def _read_phantom(folder: Path | None, part: str | None) -> Dataset:
    wanted = [part] if part else list(PHANTOM_PARTS)
    parts = [phantom_dataset(*PHANTOM_PARTS[p]) for p in wanted]
    samples = tuple(sample for dataset in parts for sample in dataset.samples)
    return replace(parts[0], samples=samples, findings=tuple(f for dataset in parts for f in dataset.findings))


CTC_TERMS = "cite the challenge; do not redistribute"
CTC_CITATION = "Maska et al., Nature Methods 20 (2023) 1010; Ulman et al., Nature Methods 14 (2017) 1141"
CTC_PARTS = ("01", "02", "01-gold", "02-gold", "gold")
CTC_URL = "https://data.celltrackingchallenge.net/training-datasets/"

CATALOG: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="phantom",
            title="simulated cells under differential interference contrast with exact instances; needs no download",
            parts=tuple(PHANTOM_PARTS),
            read=_read_phantom,
            licence="no rights claimed",
        ),
        Entry(
            name="isbi2012",
            title="membranes in an electron microscopy stack of a fly's nerve cord, 30 slices of 512 x 512",
            parts=("train", "test", "challenge"),
            read=_read_isbi,
            folder="isbi2012",
            marker="train-volume.tif",
            url="https://downloads.imagej.net/ISBI-2012-challenge.zip",
            licence="non-commercial research; cite",
            citation="Cardona et al., PLoS Biology 8 (2010) e1000502; "
            "Arganda-Carreras et al., Frontiers in Neuroanatomy 9 (2015) 142",
        ),
        Entry(
            name="dic-hela",
            title="HeLa cells under differential interference contrast, two sequences of 512 x 512",
            parts=CTC_PARTS,
            read=_read_ctc,
            folder="ctc/DIC-C2DH-HeLa",
            marker="01_GT",
            url=CTC_URL + "DIC-C2DH-HeLa.zip",
            licence=CTC_TERMS,
            citation=CTC_CITATION,
        ),
        Entry(
            name="phc-u373",
            title="glioblastoma cells under phase contrast, two sequences of 520 x 696",
            parts=CTC_PARTS,
            read=_read_ctc,
            folder="ctc/PhC-C2DH-U373",
            marker="01_GT",
            url=CTC_URL + "PhC-C2DH-U373.zip",
            licence=CTC_TERMS,
            citation=CTC_CITATION,
        ),
        Entry(
            name="dsb2018",
            title="nuclei in many kinds of images, Data Science Bowl 2018 (BBBC038, stage 1 training)",
            parts=("train", "test", "fluorescence", "fluorescence-train", "fluorescence-test"),
            read=_read_dsb,
            folder="dsb2018/stage1_train",
            url="https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
            licence="CC0",
            citation="Caicedo et al., Nature Methods 16 (2019) 1247; Ljosa et al., Nature Methods 9 (2012) 637",
        ),
    )
}


def names() -> tuple[str, ...]:
    """The names of all datasets, in the catalog's order."""
    return tuple(CATALOG)


def _entry(name: str) -> Entry:
    if name not in CATALOG:
        raise DataError(f"{name}: expected the name of a dataset, found none of {', '.join(CATALOG)}; name one of them")
    return CATALOG[name]


def describe(name: str) -> str:
    """A dataset in a few lines: what it is, its parts, source, terms and citation; DataError for an unknown name.

    A part behind a colon is not looked at.
    """
    entry = _entry(name.partition(":")[0])
    parts = ", ".join(f"{entry.name}:{part}" for part in entry.parts)
    lines = [f"{entry.name}: {entry.title}", f"  parts     {parts}"]
    lines += [f"  source    {entry.url}"] if entry.url else []
    lines += [f"  terms     {entry.licence}"]
    lines += [f"  cite      {entry.citation}"] if entry.citation else []
    return "\n".join(lines)


def _cache() -> Path:
    """Where downloads are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ushape"


def _begin_of_data(folder: Path, marker: str) -> Path | None:
    """The folder that holds the marker, at `folder` or below it; None when it is not there."""
    if not folder.is_dir():
        return None
    if not marker:
        return folder if any(folder.iterdir()) else None
    found = (
        [folder / marker]
        if (folder / marker).exists()
        else sorted(folder.rglob(marker), key=lambda p: (len(p.parts), p))
    )
    return found[0].parent if found else None


class _Bar:
    """A progress bar on standard error with the four things that pooch asks of one."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self.total = 0
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(title, total=None)
        self._progress.start()

    def update(self, n_bytes: int) -> None:
        self._progress.update(self._task, total=self.total or None, advance=n_bytes)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        self._progress.stop()


def _download(entry: Entry) -> Path:
    """Fetch and unpack an archive into the cache; it appears there only when it is complete."""
    import pooch

    cache = _cache()
    archive, target = cache / Path(entry.url).name, cache / entry.name
    unpacked = cache / f".{entry.name}.{os.getpid()}.part"
    bar = _Bar(f"downloading {entry.name}")
    try:
        pooch.get_logger().setLevel("ERROR")
        pooch.retrieve(entry.url, entry.sha256, archive.name, cache, downloader=pooch.HTTPDownloader(progressbar=bar))
        if entry.sha256 is None:
            print(f"{archive}: sha256 {pooch.file_hash(str(archive))} (no verified value to compare)", file=sys.stderr)
        _unpack(archive, unpacked)
        shutil.rmtree(target, ignore_errors=True)
        unpacked.rename(target)
        archive.unlink()
    except Exception as error:  # network, disk and zip errors alike mean that the data did not arrive
        raise DataError(
            f"{entry.url}: expected to download and unpack {entry.name} to {target}, but it failed ({error}); "
            f"try again, or put a copy under $USHAPE_DATA/{entry.folder}"
        ) from error
    finally:
        bar.close()
    return target


def _unpack(archive: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)


def dataset_path(name: str, *, download: bool = True) -> Path:
    """Where a dataset lies: under $USHAPE_DATA, else in the cache, where it is downloaded to if need be.

    All parts of a dataset lie together, so that a part behind a colon changes nothing.
    DataError for an unknown name, for simulated data, for a failed download, and when it is not there and
    `download` is False.
    """
    entry = _entry(name.partition(":")[0])
    if not entry.url:
        raise DataError(f"{entry.name}: expected a dataset with files, found a simulated one; open it by its name")
    places = [Path(os.environ["USHAPE_DATA"]) / entry.folder] if os.environ.get("USHAPE_DATA") else []
    for place in (*places, _cache() / entry.name):
        found = _begin_of_data(place, entry.marker)
        if found is not None:
            return found
    if not download:
        raise DataError(
            f"{entry.name}: expected a copy under $USHAPE_DATA/{entry.folder} or in {_cache() / entry.name}, "
            f"found none; run: ushape datasets get {entry.name}"
        )
    found = _begin_of_data(_download(entry), entry.marker)
    if found is None:
        raise DataError(f"{entry.url}: expected an archive with {entry.marker}, found none in it; please report this")
    return found


def _open_named(entry: Entry, part: str | None) -> Dataset:
    if part is not None and part not in entry.parts:
        raise DataError(
            f"{entry.name}:{part}: expected one of the parts {', '.join(entry.parts)}, found '{part}'; name one of them"
        )
    folder = dataset_path(entry.name) if entry.url else None
    dataset = entry.read(folder, part)
    return replace(dataset, name=entry.name if part is None else f"{entry.name}:{part}")


def _is_part_of_folder(data: str) -> bool:
    """True for 'folder:part' of a folder that exists and has this part."""
    folder, colon, part = data.rpartition(":")
    return bool(colon) and Path(folder).is_dir() and part in find_parts(Path(folder))


def _open(data: str | Path, task: Task | None) -> Dataset:
    if isinstance(data, Path):
        return open_folder(data, task=task)
    name, colon, part = data.partition(":")
    if name in CATALOG:
        return _open_named(CATALOG[name], part if colon else None)
    if Path(data).is_dir():
        return open_folder(Path(data), task=task)
    if _is_part_of_folder(data):
        folder, _, part = data.rpartition(":")
        return open_folder(Path(folder), split=part, task=task)
    if Path(data).exists():
        raise DataError(f"{data}: expected a folder of images or a dataset's name, found a file; name its folder")
    raise DataError(
        f"{data}: expected a folder, or one of the datasets {', '.join(CATALOG)}, found neither; check the spelling"
    )


def open_dataset(data: str | Path, *, task: Task | None = None) -> Dataset:
    """A dataset by the name in the catalog, or from a folder; a part of either as 'name:part'.

    A catalog name wins over a folder of the same name, so that a name means the same everywhere; write './name' (or
    pass a Path) for the folder. Everything else is a folder, in any layout that `open_folder` reads.

    task  "semantic" or "instances": what the masks of a folder are to be read as, instead of what they look like

    DataError for a name that is neither, for whatever cannot be read, and for data that cannot be read as the task.
    """
    dataset = _open(data, task)
    if task not in (None, dataset.task):
        raise DataError(
            f"{data}: expected data for {task}, found masks that are always read for {dataset.task}; name other data"
        )
    return dataset
