"""How each public dataset is read: from the folder that its download unpacks to, whole or one part of it.

All readers take (folder, part or None) and give a dataset; the folder is None for data without files. Parts keep what
is not independent apart: the parts of a stack have a gap of two slices between them. Where a set comes with a test
part of its own, the set without a part is `train`, so that nobody trains on test images by accident.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from ushape.data.ctc import Truth, open_ctc
from ushape.data.dataset import Dataset, Sample
from ushape.data.digits import open_digits
from ushape.data.folder import open_folder
from ushape.data.idx import open_idx
from ushape.data.images import is_grey
from ushape.data.phantom import phantom_dataset

__all__ = [
    "GARMENTS",
    "PHANTOM_PARTS",
    "read_bowl",
    "read_ctc",
    "read_digits",
    "read_hippocampus",
    "read_idx_set",
    "read_isbi",
    "read_phantom",
]

# In the order of the labels, as the authors call them.
GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# Slices 22 and 23 lie between the parts and are in neither, because neighbouring slices are nearly the same.
ISBI_PARTS = {"train": range(22), "test": range(24, 30)}


def read_isbi(folder: Path | None, part: str | None) -> Dataset:
    """The parts train, test and challenge (without masks) of the stack of membranes."""
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


def read_ctc(folder: Path | None, part: str | None) -> Dataset:
    """Sequences of the Cell Tracking Challenge: 01, 02, or with -gold only the frames that experts annotated."""
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


def read_bowl(folder: Path | None, part: str | None) -> Dataset:
    """Nuclei of the Data Science Bowl; a part may be of the fluorescence images only."""
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


def read_hippocampus(folder: Path | None, part: str | None) -> Dataset:
    """Volumes with their three classes named; about a fifth of the cases is for testing."""
    assert folder is not None
    found = open_folder(folder)
    findings = (*found.findings, "Class 1 is called anterior, class 2 posterior.")
    dataset = replace(found, classes=("background", "anterior", "posterior"), findings=findings).annotated
    if part is None:
        return dataset
    return dataset.subset([s for s in dataset.samples if _is_held_out(s) == (part == "test")])


def _with_part_told(dataset: Dataset, part: str | None) -> Dataset:
    """The part that is read without a word which is said to be it."""
    told = () if part else ("Part train is read; test not.",)
    return replace(dataset, findings=(*dataset.findings, *told))


def read_idx_set(folder: Path | None, part: str | None, classes: tuple[str, ...]) -> Dataset:
    """MNIST and its like; the official test images are the part test."""
    assert folder is not None
    return _with_part_told(open_idx(folder, part or "train", classes=classes), part)


def read_digits(folder: Path | None, part: str | None) -> Dataset:
    """The digits of scikit-learn."""
    return _with_part_told(open_digits(part or "train"), part)


# (images, seed) of the simulated parts; different seeds share no image.
PHANTOM_PARTS = {"train": (16, 0), "val": (4, 1), "test": (8, 2)}


def read_phantom(folder: Path | None, part: str | None) -> Dataset:
    """Simulated cells."""
    wanted = [part] if part else list(PHANTOM_PARTS)
    parts = [phantom_dataset(*PHANTOM_PARTS[p]) for p in wanted]
    samples = tuple(sample for dataset in parts for sample in dataset.samples)
    return replace(parts[0], samples=samples, findings=tuple(f for dataset in parts for f in dataset.findings))
