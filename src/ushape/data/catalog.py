"""Public datasets by name: where they come from, under which terms, and how they are read.

A name, or a name with a part, stands wherever a folder can: `isbi2012`, `dic-hela:01`, `dsb2018:test`, `phantom:val`.
A local copy under $USHAPE_DATA is used first, in the layout its official download unpacks to; otherwise the set is
downloaded once to the user's cache (~/.cache/ushape, or $XDG_CACHE_HOME/ushape) and unpacked there.

No checksum is written here that was not verified against the official file or published by those who keep it. Where
none is, it is None, the download prints what it got, and that is the value to compare or to write down.

The reference numbers published for ISBI and the Cell Tracking Challenge belong to hidden test sets; a score on a part
held out of the training set is not comparable with them.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ushape.data.dataset import Dataset, Task
from ushape.data.digits import DIGITS
from ushape.data.download import Remote, check_file, download_files
from ushape.data.folder import open_folder
from ushape.data.foreign import advice_on
from ushape.data.sets import (
    GARMENTS,
    PHANTOM_PARTS,
    read_bowl,
    read_ctc,
    read_digits,
    read_hippocampus,
    read_idx_set,
    read_isbi,
    read_phantom,
)
from ushape.data.table import TABLE_SUFFIXES
from ushape.errors import DataError

__all__ = ["CATALOG", "Entry", "check_copy", "dataset_path", "describe", "names", "open_dataset", "terms"]


@dataclass(frozen=True)
class Entry:
    """One public dataset.

    name     as it is asked for
    title    what it is, in one line
    parts    what may stand behind the colon
    read     (folder, part or None) -> Dataset; the folder is None for simulated data
    folder   where a local copy lies under $USHAPE_DATA
    marker   a file or folder that shows where the data begin inside the unpacked archive; '' if anywhere
    files    what is downloaded: archives, which are unpacked, or the files themselves; () where none are needed
    page     where a person can read about it and get it by hand
    """

    name: str
    title: str
    parts: tuple[str, ...]
    read: Callable[[Path | None, str | None], Dataset]
    folder: str = ""
    marker: str = ""
    files: tuple[Remote, ...] = ()
    page: str = ""
    licence: str = ""
    citation: str = ""

    @property
    def source(self) -> str:
        """The address of the one file, or what the addresses of all files begin with."""
        if len(self.files) == 1:
            return self.files[0].url
        return self.files[0].url.rpartition("/")[0] + "/" if self.files else ""


IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
# Of the decompressed files, which were compared with the published MD5 sums: of the compressed files, and for the
# training images of MNIST, of which different compressed ones are about, of the decompressed one.
MNIST_SHA256 = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
FASHION_SHA256 = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)


def _idx_files(url: str, sha256: tuple[str, ...]) -> tuple[Remote, ...]:
    return tuple(Remote(url + name, f"sha256:{value}") for name, value in zip(IDX_FILES, sha256, strict=True))


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
            read=read_phantom,
            licence="no rights claimed",
        ),
        Entry(
            name="isbi2012",
            title="membranes in an electron microscopy stack of a fly's nerve cord, 30 slices of 512 x 512",
            parts=("train", "test", "challenge"),
            read=read_isbi,
            folder="isbi2012",
            marker="train-volume.tif",
            files=(Remote("https://downloads.imagej.net/ISBI-2012-challenge.zip"),),
            licence="non-commercial research; cite",
            citation="Cardona et al., PLoS Biology 8 (2010) e1000502; "
            "Arganda-Carreras et al., Frontiers in Neuroanatomy 9 (2015) 142",
        ),
        Entry(
            name="dic-hela",
            title="HeLa cells under differential interference contrast, two sequences of 512 x 512",
            parts=CTC_PARTS,
            read=read_ctc,
            folder="ctc/DIC-C2DH-HeLa",
            marker="01_GT",
            files=(Remote(CTC_URL + "DIC-C2DH-HeLa.zip"),),
            licence=CTC_TERMS,
            citation=CTC_CITATION,
        ),
        Entry(
            name="phc-u373",
            title="glioblastoma cells under phase contrast, two sequences of 520 x 696",
            parts=CTC_PARTS,
            read=read_ctc,
            folder="ctc/PhC-C2DH-U373",
            marker="01_GT",
            files=(Remote(CTC_URL + "PhC-C2DH-U373.zip"),),
            licence=CTC_TERMS,
            citation=CTC_CITATION,
        ),
        Entry(
            name="dsb2018",
            title="nuclei in many kinds of images, Data Science Bowl 2018 (BBBC038, stage 1 training)",
            parts=("train", "test", "fluorescence", "fluorescence-train", "fluorescence-test"),
            read=read_bowl,
            folder="dsb2018/stage1_train",
            files=(Remote("https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"),),
            licence="CC0",
            citation="Caicedo et al., Nature Methods 16 (2019) 1247; Ljosa et al., Nature Methods 9 (2012) 637",
        ),
        Entry(
            name="hippocampus",
            title="anterior and posterior hippocampus in magnetic resonance volumes, about 35 x 50 x 35 voxels",
            parts=("train", "test"),
            read=read_hippocampus,
            folder="hippocampus",
            marker="labelsTr",
            files=(
                Remote(
                    "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
                    "md5:9d24dba78a72977dbd1d2e110310f31b",  # as published by MONAI, whose copy of the set this is
                ),
            ),
            page="http://medicaldecathlon.com (Task 04)",
            licence="CC BY-SA 4.0",
            citation="Antonelli et al., Nature Communications 13 (2022) 4128; Simpson et al., arXiv 1902.09063 (2019)",
        ),
        Entry(
            name="mnist",
            title="handwritten digits, 60,000 to train and 10,000 to test, grey images of 28 x 28 with a label each",
            parts=("train", "test"),
            read=partial(read_idx_set, classes=DIGITS),
            folder="mnist",
            marker="train-images-idx3-ubyte*",
            files=_idx_files("https://ossci-datasets.s3.amazonaws.com/mnist/", MNIST_SHA256),
            page="http://yann.lecun.com/exdb/mnist",
            licence="CC BY-SA 3.0",
            citation="LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 86 (1998) 2278",
        ),
        Entry(
            name="fashion-mnist",
            title="garments of ten kinds, 60,000 to train and 10,000 to test, grey images of 28 x 28 with a label each",
            parts=("train", "test"),
            read=partial(read_idx_set, classes=GARMENTS),
            folder="fashion-mnist",
            marker="train-images-idx3-ubyte*",
            files=_idx_files("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", FASHION_SHA256),
            page="https://github.com/zalandoresearch/fashion-mnist",
            licence="MIT",
            citation="Xiao, Rasul and Vollgraf, arXiv 1708.07747 (2017)",
        ),
        Entry(
            name="digits",
            title="handwritten digits that come with scikit-learn, 1797 grey images of 8 x 8; needs no download",
            parts=("train", "test"),
            read=read_digits,
            page="https://archive.ics.uci.edu/dataset/80",
            licence="CC BY 4.0",
            citation="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI (1998)",
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


def terms(name: str) -> str:
    """Under which terms a dataset may be used and what to cite, in one or two lines; DataError for an unknown name."""
    entry = _entry(name.partition(":")[0])
    lines = [f"  terms     {entry.licence}"]
    return "\n".join([*lines, f"  cite      {entry.citation}"] if entry.citation else lines)


def describe(name: str) -> str:
    """A dataset in a few lines: what it is, its parts, source, terms and citation; DataError for an unknown name.

    A part behind a colon is not looked at.
    """
    entry = _entry(name.partition(":")[0])
    parts = ", ".join(f"{entry.name}:{part}" for part in entry.parts)
    lines = [f"{entry.name}: {entry.title}", f"  parts     {parts}"]
    lines += [f"  source    {entry.source}"] if entry.files else []
    lines += [f"  page      {entry.page}"] if entry.page else []
    return "\n".join([*lines, terms(name)])


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


def _local_copy(entry: Entry) -> Path | None:
    """Where the data begin, under $USHAPE_DATA or else in the cache; None when they are in neither."""
    places = [Path(os.environ["USHAPE_DATA"]) / entry.folder] if os.environ.get("USHAPE_DATA") else []
    found = (_begin_of_data(place, entry.marker) for place in (*places, _cache() / entry.name))
    return next((place for place in found if place is not None), None)


def _download(entry: Entry) -> Path:
    """Fetch a dataset into the cache, with its terms and citation told before and after."""
    target = _cache() / entry.name
    # What is there has no data in it, or it would have been found.
    shutil.rmtree(target, ignore_errors=True)
    print(describe(entry.name), file=sys.stderr)
    try:
        download_files(entry.files, target)
    except DataError as error:
        raise DataError(f"{error}, or put a copy under $USHAPE_DATA/{entry.folder}") from error
    found = _begin_of_data(target, entry.marker)
    if found is None:
        raise DataError(f"{entry.source}: expected files with {entry.marker}, found none of them; please report this")
    print(f"{entry.name} is kept in {found}", terms(entry.name), sep="\n", file=sys.stderr)
    return found


def dataset_path(name: str, *, download: bool = True) -> Path:
    """Where a dataset lies: under $USHAPE_DATA, else in the cache, where it is downloaded to if need be.

    All parts of a dataset lie together, so that a part behind a colon changes nothing.
    DataError for an unknown name, for data without files, for a failed download, and when it is not there and
    `download` is False.
    """
    entry = _entry(name.partition(":")[0])
    if not entry.files:
        raise DataError(
            f"{entry.name}: expected a dataset that is downloaded, found one that needs no files; open it by its name"
        )
    found = _local_copy(entry)
    if found is None and not download:
        raise DataError(
            f"{entry.name}: expected a copy under $USHAPE_DATA/{entry.folder} or in {_cache() / entry.name}, "
            f"found none; run: ushape datasets get {entry.name}"
        )
    return found or _download(entry)


def check_copy(name: str) -> str:
    """What a look at the files on this machine says, in one sentence: whether they are the published ones.

    DataError when a file is another than the published one, and when there is no copy.
    """
    entry = _entry(name.partition(":")[0])
    folder = dataset_path(entry.name, download=False)
    checked = 0
    for remote in entry.files:
        copies = [folder / remote.name, folder / remote.name.removesuffix(".gz")]
        path = next((p for p in copies if p.is_file()), None)
        if path is not None and remote.checksum is not None:
            check_file(path, remote.checksum)
            checked += 1
    if not checked:
        return f"{entry.name}: the copy in {folder} is unpacked, and no published checksum tells about single files."
    return f"{entry.name}: {checked} of {len(entry.files)} files in {folder} have the published content."


def _open_named(entry: Entry, part: str | None) -> Dataset:
    if part is not None and part not in entry.parts:
        raise DataError(
            f"{entry.name}:{part}: expected one of the parts {', '.join(entry.parts)}, found '{part}'; name one of them"
        )
    folder = dataset_path(entry.name) if entry.files else None
    dataset = entry.read(folder, part)
    return replace(dataset, name=entry.name if part is None else f"{entry.name}:{part}")


def _is_folder(path: Path) -> bool:
    """Whether it is a folder, or a table of files, which is opened like one."""
    return path.is_dir() or (path.is_file() and path.suffix.lower() in TABLE_SUFFIXES)


def _is_part_of_folder(data: str) -> bool:
    """True for 'folder:part' of a folder that exists."""
    folder, colon, _ = data.rpartition(":")
    return bool(colon) and _is_folder(Path(folder))


def _open(data: str | Path, task: Task | None, classes: Sequence[str] | None) -> Dataset:
    if isinstance(data, Path):
        return open_folder(data, task=task, classes=classes)
    name, colon, part = data.partition(":")
    if name in CATALOG:
        dataset = _open_named(CATALOG[name], part if colon else None)
        if not Path(name).is_dir():
            return dataset
        told = f"This is the public dataset {name}, not the folder {name} here; write ./{name} for that."
        return replace(dataset, findings=(told, *dataset.findings))
    if _is_folder(Path(data)):
        return open_folder(Path(data), task=task, classes=classes)
    if _is_part_of_folder(data):
        folder, _, part = data.rpartition(":")
        return open_folder(Path(folder), split=part, task=task, classes=classes)
    if Path(data).exists():
        advice = advice_on([Path(data)]).removeprefix("only ")
        raise DataError(
            f"{data}: expected a folder of images, a table of files or a dataset's name, found "
            + (advice or "another file; name its folder")
        )
    raise DataError(
        f"{data}: expected a folder, or one of the datasets {', '.join(CATALOG)}, found neither; check the spelling"
    )


def open_dataset(data: str | Path, *, task: Task | None = None, classes: Sequence[str] | None = None) -> Dataset:
    """A dataset by the name in the catalog, or from a folder; a part of either as 'name:part'.

    A catalog name wins over a folder of the same name, so that a name means the same everywhere; write './name' (or
    pass a Path) for the folder. Everything else is a folder or a table, in any layout that `open_folder` reads.

    task     what a folder is to be read as, instead of what it looks like
    classes  the classes that a folder is known to have, such as a model's, as in `open_folder`

    DataError for a name that is neither, for whatever cannot be read, and for data that cannot be read as the task.
    """
    dataset = _open(data, task, classes)
    if task not in (None, dataset.task):
        found = "labels" if dataset.task == "classification" else "masks"
        raise DataError(
            f"{data}: expected data for {task}, found {found} that are always read for {dataset.task}; name other data"
        )
    return dataset
