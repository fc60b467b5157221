"""Samples and datasets: what every reader makes and every consumer takes.

A sample knows how to read its image and its mask; nothing is read before it is needed. Conventions: an image is
(C, *space), a mask (*space) int32 with 0 = background and -1 = ignore. For the task "classification" a sample has a
label, the class of the whole image, instead of a mask.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError

__all__ = ["Colour", "Dataset", "Sample", "Spacing", "Task", "split_validation"]

Task = Literal["semantic", "instances", "classification"]
Image = NDArray[Any]
Mask = NDArray[np.int32]
Colour = tuple[int, int, int]
"""Red, green and blue from 0 to 255."""
FILES_SAMPLED, BYTES_SAMPLED = 32, 16384
"""How many files are looked into for the fingerprint, about, and how much of their ends is read."""


@dataclass(frozen=True)
class Spacing:
    """The physical size of a pixel: one length per spatial axis, in the order of `size`, and their unit.

    values  such as (0.5, 0.5) for (height, width)
    unit    short, such as "um", "mm" or "nm"
    """

    values: tuple[float, ...]
    unit: str = "um"

    def __str__(self) -> str:
        return " x ".join(f"{value:.4g}" for value in self.values) + f" {self.unit}"


@dataclass(frozen=True)
class Sample:
    """One image and what is known about it; the readers are called when the arrays are needed.

    name      unique inside its dataset; output files take it as their stem
    image     reads (C, *space) in the file's own dtype and units
    mask      reads (*space) int32, 0 = background, -1 = ignore; None without annotation
    reference reads the mask to score against where that is another than `mask`; None: `mask` itself
    scored    False where the mask is good enough to train on but is no reference (silver truth)
    complete  False where some objects of the reference are missing, so that surplus objects prove nothing
    group     samples of one group are not independent (one sequence, stack or field)
    position  order inside the group: frame or slice number
    emphasis  how often it is drawn in training, relative to the others
    files     what it was read from, for messages and fingerprints
    label     the class of the whole image, an index into `Dataset.classes`; None where there is none
    spacing   the physical size of a pixel where it is known; of a plane it may tell a depth in front
    """

    name: str
    image: Callable[[], Image]
    mask: Callable[[], Mask] | None = None
    reference: Callable[[], Mask] | None = None
    scored: bool = True
    complete: bool = True
    group: str = ""
    position: int = 0
    emphasis: float = 1.0
    files: tuple[Path, ...] = ()
    label: int | None = None
    spacing: Spacing | None = None

    @property
    def annotated(self) -> bool:
        """Whether there is something to learn from: a mask or a label."""
        return self.mask is not None or self.label is not None

    def read_image(self) -> Image:
        """The image, (C, *space), in the file's own dtype; DataError names the file that cannot be used."""
        image = self.image()
        if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
            n = int((~np.isfinite(image)).sum())
            raise DataError(
                f"{self.where}: expected finite pixel values, found {n} NaN or infinite ones; "
                "replace them (for example with numpy.nan_to_num) or remove the image"
            )
        return image

    def read_mask(self) -> Mask:
        """The mask to train on, (*space) int32; DataError without one or when its size is another."""
        if self.mask is None:
            raise DataError(f"{self.where}: expected a mask to train on or to score against, found none; add one")
        return self.mask()

    def read_reference(self) -> Mask:
        """The mask to score against, (*space) int32."""
        return self.reference() if self.reference is not None else self.read_mask()

    @property
    def where(self) -> str:
        """The file to name in a message, or the sample's name."""
        return str(self.files[0]) if self.files else self.name


def _read_renumbered(read: Callable[[], Mask], number: NDArray[np.int32]) -> Mask:
    """A mask with each class replaced by its new number; the last number is for -1."""
    return number[read()]


def _renumbered(sample: Sample, number: NDArray[np.int32]) -> Sample:
    return replace(
        sample,
        mask=sample.mask and partial(_read_renumbered, sample.mask, number),
        reference=sample.reference and partial(_read_renumbered, sample.reference, number),
        label=None if sample.label is None else int(number[sample.label]),
    )


@dataclass(frozen=True)
class Dataset:
    """Samples of one task.

    classes   names by class index, background first; for instances ("background", "object"); for classification the
              names of the labels, none of them a background
    colours   by class index, to show the classes in; empty where nobody chose any
    values    by class index, what stands for the classes in the mask files; empty where that is not one number each
    findings  what the reader understood of the files, one sentence each
    problems  inputs that could not be used and were left out, one sentence each
    """

    name: str
    samples: tuple[Sample, ...]
    task: Task
    classes: tuple[str, ...]
    findings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    colours: tuple[Colour, ...] = ()
    values: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def subset(self, samples: Sequence[Sample]) -> Dataset:
        """The same dataset with these samples only."""
        return replace(self, samples=tuple(samples))

    def with_classes(self, classes: Sequence[str]) -> Dataset:
        """The same samples, their classes numbered as in `classes`, which may hold more of them.

        So data in which a class does not occur are scored with the model of data in which it does. Two classes are
        background and the other one, whatever their names, unless a name says that they stand the other way round.
        DataError when a class has no namesake.
        """
        if self.classes == tuple(classes):
            return self
        if self.task != "classification" and len(self.classes) == len(classes) == 2:
            if self.classes[0] != classes[1] and self.classes[1] != classes[0]:
                return replace(self, classes=tuple(classes))
            return self._renumbered((1, 0), classes)
        missing = [name for name in self.classes if name not in classes]
        if missing:
            raise DataError(
                f"{self.name}: expected only the classes {', '.join(classes)}, found {', '.join(missing)}; name the "
                "classes alike in a dataset.toml in the folder, or use data with the same classes"
            )
        return self._renumbered([classes.index(name) for name in self.classes], classes)

    def _renumbered(self, places: Sequence[int], classes: Sequence[str]) -> Dataset:
        """The same samples with class i as class `places[i]` of `classes`."""
        number = np.array([*places, -1], np.int32)
        samples = tuple(_renumbered(sample, number) for sample in self.samples)
        return replace(self, samples=samples, classes=tuple(classes), colours=(), values=())

    @property
    def annotated(self) -> Dataset:
        """Only the samples with a mask or a label."""
        return self.subset([s for s in self.samples if s.annotated])

    @property
    def fingerprint(self) -> str:
        """A short hash of task, names, annotation, sizes of files and ends of some: the same data gives the same."""
        digest = hashlib.sha256(encoded(f"{self.task}|{self.classes}"))
        sizes: dict[Path, int] = {}
        for sample in self.samples:
            annotation = f"{sample.mask is not None}|{sample.scored}|{sample.complete}|{sample.emphasis}|{sample.label}"
            digest.update(encoded(f"|{sample.name}|{sample.group}|{sample.position}|{annotation}"))
            for path in sample.files:
                # Thousands of samples may lie in one file.
                if path not in sizes:
                    sizes[path] = path.stat().st_size if path.exists() else 0
                digest.update(encoded(f"|{path.name}|{sizes[path]}"))
        # Files of equal names and sizes may hold other pixels.
        there = [path for path in sizes if path.exists()]
        for path in there[:: max(1, len(there) // FILES_SAMPLED)]:
            with path.open("rb") as file:
                file.seek(-min(sizes[path], BYTES_SAMPLED), os.SEEK_END)
                digest.update(file.read())
        return digest.hexdigest()[:16]


def encoded(text: str) -> bytes:
    """UTF-8, with the bytes of file names that are none as they are."""
    return text.encode(errors="surrogateescape")


def numbers_as_such(name: str) -> tuple[str | int, ...]:
    """What names are ordered by, so that img9 comes before img10."""
    return tuple(int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name)))


def nearest_share(groups: dict[str, list[Sample]], choices: Sequence[list[str]], fraction: float) -> list[str]:
    """The first of these choices of groups whose share of all samples is nearest to a fraction."""
    n = sum(map(len, groups.values()))
    return min(choices, key=lambda names: abs(sum(len(groups[name]) for name in names) / n - fraction))


def are_ordered(groups: Iterable[Sequence[Sample]]) -> bool:
    """Whether the samples of every group of several have positions in it."""
    return all(len({sample.position for sample in members}) > 1 for members in groups if len(members) > 1)


def split_validation(dataset: Dataset, fraction: float = 0.2, gap: int = 2) -> tuple[Dataset, Dataset]:
    """(training, validation) of the annotated samples; a pure function of the dataset.

    With at least five groups, every 1/fraction-th group is held out whole: every one in the middle of so many, or
    another where that would be less than half or more than twice the fraction of the samples. With fewer, neighbours
    are not independent, so the last `fraction` of each group by position is held out, behind a gap of `gap` unused
    samples (fewer when the group is short). Where positions are not known, a few groups of several samples have one of
    them held out whole, and a single group is split by the numbers in the names. A single sample cannot be split here:
    DataError says so.
    """
    samples = dataset.annotated.samples
    if len(samples) < 2:
        raise DataError(
            f"{dataset.name}: expected at least 2 annotated images to hold one out for validation, "
            f"found {len(samples)}; annotate more, or name validation data with --val"
        )
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group or sample.name, []).append(sample)
    names = sorted(groups)
    chosen: list[str] = []
    if len(groups) >= 5:
        # Spread over the sorted names rather than drawn, so that data in acquisition order is covered evenly.
        # At most every second one, and one at least.
        every = max(2, round(1 / fraction))
        every = every if every // 2 < len(groups) else len(groups)
        choices = [names[first::every] for first in range(min(every, len(names)))]
        middle = choices[every // 2]
        n_held = sum(len(groups[name]) for name in middle)
        usual = fraction / 2 <= n_held / len(samples) <= 2 * fraction
        chosen = middle if usual else nearest_share(groups, choices, fraction)
    elif len(groups) > 1 and not are_ordered(groups.values()):
        chosen = nearest_share(groups, [[name] for name in reversed(names)], fraction)
    training: list[Sample] = []
    validation: list[Sample] = []
    for name in names:
        members = groups[name]
        if chosen:
            (validation if name in chosen else training).extend(members)
        elif len(members) < 2:
            training.extend(members)
        else:
            members.sort(key=lambda s: (s.position, numbers_as_such(s.name), s.name))
            held = max(1, round(fraction * len(members)))
            unused = min(gap, max(0, len(members) - held - 1) // 3)
            training.extend(members[: len(members) - held - unused])
            validation.extend(members[len(members) - held :])
    if not validation:
        validation.append(training.pop())
    return dataset.subset(training), dataset.subset(validation)
