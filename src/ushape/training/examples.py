"""From samples to what training needs: read once, checked, summarised, and encoded.

A file that cannot be used is left out and reported; the others go on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ushape.data.dataset import Colour, Dataset, Sample, Spacing, Task
from ushape.data.images import is_grey
from ushape.data.spacing import read_spacing
from ushape.errors import DataError, UshapeError
from ushape.model import Preparation
from ushape.preparation import shrunk
from ushape.targets.instances import typical_diameter
from ushape.targets.maps import encode
from ushape.targets.structures import piece_diameter, thickness
from ushape.training.batches import TrainingImage, to_training_image
from ushape.training.orientation import Orientation
from ushape.training.recipe import Recipe

__all__ = [
    "DataSummary",
    "Example",
    "is_annotated",
    "make_preparation",
    "read_examples",
    "spread",
    "summarise",
    "to_training_images",
    "with_structures",
]

Each = TypeVar("Each")

LARGEST_KEPT = 256
"""Pixels of the shorter side of an image that is classified as a whole, about: what is kept in memory of a photograph;
twice what a classifier looks at, so that shrinking it the rest of the way still averages."""
SPACINGS_READ = 20
"""Files whose spacing is looked up, at most, to know the usual one."""
MEASURED = 20
"""Masks of two classes whose structures are measured, at most."""
MEASURED_SIDE = 1024
"""Pixels of each side of the middle of a mask that is measured, at most: over whole slides it would take minutes."""


@dataclass(frozen=True, eq=False)
class Example:
    """A sample that has been read: image (C, *space) as in the file, mask (*space) int32.

    Where the whole image has one class, the mask is that class: () int32.

    whole     of a part of an image the whole one, and where in it the part lies: grey values are normalised by the
              whole image; None for whole images
    prepared  what the preparation made of it, where that is kept
    """

    sample: Sample
    image: NDArray[Any]
    mask: NDArray[np.int32]
    whole: tuple[NDArray[Any], tuple[slice, ...]] | None = None
    prepared: NDArray[np.float32] | None = None

    def prepare(self, preparation: Preparation) -> NDArray[np.float32]:
        """What the preparation makes of the image: of a part, as a part of the whole."""
        if self.prepared is not None:
            return self.prepared
        if self.whole is None:
            return preparation(self.image)
        image, place = self.whole
        return preparation(image)[(slice(None), *place)]


class Neighbours(NamedTuple):
    """What images of classes say about being mirrored and turned, asked of nearest neighbours.

    mirrored  share of the images whose nearest neighbour among all others is a mirrored one; about a half where left
              and right do not matter, near 0 where mirrored images look like nothing that there is
    kept      how often the nearest neighbour tells the class when mirrored ones are among them, relative to without;
              below 1 where a mirrored class looks like another class
    turned    share of those whose nearest neighbour is one that was turned, as far as variation goes, to the left or
              to the right; about two thirds where images come at such angles, near 0 where all are upright
    """

    mirrored: float
    kept: float
    turned: float


@dataclass(frozen=True)
class DataSummary:
    """What the planning rules look at.

    channels    of the network's input: 1 where all images are grey, even if stored as colours
    sizes       of the images, as (height, width) or (depth, height, width)
    diameter    of the typical object in pixels; None where masks hold classes
    shares      of the labelled pixels that are of each class; empty for instances
    spacing     the usual size of a pixel, where the files say it
    colours     to show the classes in; empty where nobody chose any
    values      what stands for the classes in the mask files; empty where that is not one number each
    pieces      of two classes in images: the diameter in pixels of the connected pieces of the second one; else None
    thickness   of two classes in images: how many pixels the rarer one is across; else None
    n_annotated images in which there is something to find, which others may not have; None for as many as images
    neighbours  what classified images say about being mirrored and turned; None where they say nothing
    orientation how well masks of different images agree, mirrored and turned too; None where too few were asked
    """

    name: str
    task: Task
    classes: tuple[str, ...]
    n_images: int
    channels: int
    sizes: tuple[tuple[int, ...], ...]
    diameter: float | None = None
    shares: tuple[float, ...] = ()
    spacing: Spacing | None = None
    neighbours: Neighbours | None = None
    colours: tuple[Colour, ...] = ()
    values: tuple[int, ...] = ()
    pieces: float | None = None
    thickness: float | None = None
    n_annotated: int | None = None
    orientation: Orientation | None = None

    @property
    def has_one_annotated(self) -> bool:
        """Whether there is something to find in one image only, so that it is cut to have some held out."""
        return (self.n_images if self.n_annotated is None else self.n_annotated) == 1

    @property
    def dims(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.sizes[0])

    @property
    def median_size(self) -> tuple[int, ...]:
        """The median of each side."""
        return tuple(sorted(sides)[len(sides) // 2] for sides in zip(*self.sizes, strict=True))


def spread(items: Sequence[Each], count: int) -> list[Each]:
    """At most `count` of the items, evenly spread over their order."""
    count = min(len(items), count)
    return [items[index * len(items) // count] for index in range(count)]


def read_example(sample: Sample) -> Example:
    """Read one annotated sample; DataError when image and mask do not fit together."""
    if sample.label is not None:
        return Example(sample, shrunk(sample.read_image(), LARGEST_KEPT), np.asarray(sample.label, np.int32))
    image, mask = sample.read_image(), sample.read_mask()
    if image.shape[1:] != mask.shape:
        raise DataError(
            f"{sample.where}: expected a mask of the image's size {' x '.join(map(str, image.shape[1:]))}, found "
            f"{' x '.join(map(str, mask.shape))}; export the mask again at full size"
        )
    return Example(sample, image, mask)


def read_examples(samples: Iterable[Sample]) -> tuple[list[Example], list[str]]:
    """(examples, problems): every annotated sample that can be used, and a sentence for each that cannot."""

    def read(sample: Sample) -> Example | str:
        try:
            return read_example(sample)
        except UshapeError as error:
            return f"{error} (left out)"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(read, [sample for sample in samples if sample.annotated]))
    examples = [each for each in found if isinstance(each, Example)]
    return examples, [each for each in found if isinstance(each, str)]


def first_and_more(problems: Sequence[str]) -> str:
    """The first of some sentences, and how many more there are."""
    return problems[0] + (f", and {len(problems) - 1} more" if len(problems) > 1 else "")


def what_to_add(task: Task) -> str:
    """Advice where there is nothing to learn from."""
    return "add images of each class, two at least" if task == "classification" else "add masks"


def rarer(numbers: dict[Example, int]) -> str:
    """The files of the number that is rarer, as 'a.png' or 'a.png and 3 more'."""
    values = list(numbers.values())
    rarest = min(sorted(set(values)), key=values.count)
    odd = [example.sample.where for example, number in numbers.items() if number == rarest]
    return odd[0] + (f" and {len(odd) - 1} more" if len(odd) > 1 else "")


def summarise(dataset: Dataset, examples: Sequence[Example]) -> DataSummary:
    """What the planning rules look at; DataError when the images cannot be trained on together."""
    if not examples:
        raise DataError(
            f"{dataset.name}: expected annotated images to train on, found none that could be used"
            + (f" ({first_and_more(dataset.problems)})" if dataset.problems else f"; {what_to_add(dataset.task)}")
        )
    dims = {example: example.image.ndim for example in examples}
    if len(set(dims.values())) > 1:
        raise DataError(
            f"{dataset.name}: expected only images or only volumes, found both ({rarer(dims)} unlike the others); "
            "put them into separate folders"
        )
    if all(is_grey(example.image) for example in examples):
        channels = 1
    else:
        by_example = {example: example.image.shape[0] for example in examples if example.image.shape[0] != 1}
        counts = sorted(set(by_example.values()))
        if len(counts) > 1:
            raise DataError(
                f"{dataset.name}: expected images with the same number of channels, found "
                f"{' and '.join(map(str, counts))} ({rarer(by_example)} unlike the others); put them into separate "
                "folders or convert them"
            )
        channels = counts[0]
        if channels != 3 and any(example.image.shape[0] == 1 for example in examples):
            raise DataError(
                f"{dataset.name}: expected {channels} channels in every image, found grey ones too; "
                "put them into separate folders"
            )
    require_content(dataset, examples)
    masks = [example.mask for example in examples] if dataset.task == "instances" else []
    diameter = typical_diameter([mask for mask in masks if (mask > 0).any()]) if masks else None
    sizes = tuple(example.image.shape[1:] for example in examples)
    return DataSummary(
        dataset.name,
        dataset.task,
        dataset.classes,
        len(examples),
        channels,
        sizes,
        diameter,
        class_shares(dataset, examples),
        usual_spacing([example.sample for example in examples], examples[0].image.ndim - 1),
        colours=dataset.colours,
        values=dataset.values,
        n_annotated=sum(map(is_annotated, examples)),
    )


def is_annotated(example: Example) -> bool:
    """Whether there is something to find in it."""
    return bool((example.mask > 0).any())


def with_structures(summary: DataSummary, examples: Sequence[Example]) -> DataSummary:
    """The summary with the structures of two classes measured, on the middle of some of the images."""
    if summary.task != "semantic" or len(summary.classes) != 2 or summary.dims != 2:
        return summary
    measured = [central(example.mask, MEASURED_SIDE) for example in spread(examples, MEASURED)]
    return replace(summary, pieces=piece_diameter(measured), thickness=thickness(measured))


def central(mask: NDArray[np.int32], side: int) -> NDArray[np.int32]:
    """The middle of a mask, no more than `side` px along each axis."""
    starts = [max(0, (n - side) // 2) for n in mask.shape]
    return mask[tuple(slice(start, start + side) for start in starts)]


def require_content(dataset: Dataset, examples: Sequence[Example]) -> None:
    """DataError when there is nothing to tell apart."""
    if dataset.task == "classification":
        if len({int(example.mask) for example in examples}) < 2:
            raise DataError(
                f"{dataset.name}: expected images of at least 2 classes, found one class only in the {len(examples)} "
                "that could be used; add images of another class"
            )
    elif not any((example.mask > 0).any() for example in examples):
        raise DataError(
            f"{dataset.name}: expected something annotated in the masks, found only background in all {len(examples)} "
            "of them; annotate some objects, and check that the masks are not empty by mistake"
        )
    elif dataset.task == "semantic" and sum(share > 0 for share in class_shares(dataset, examples)) < 2:
        raise DataError(
            f"{dataset.name}: expected at least 2 classes in the masks, found one and the same in every labelled pixel "
            f"of all {len(examples)}; annotate the background too, and check that the masks are whole"
        )


def class_shares(dataset: Dataset, examples: Sequence[Example]) -> tuple[float, ...]:
    """The share of the labelled pixels that each class has; empty for instances."""
    if dataset.task != "semantic":
        return ()
    counts = np.zeros(len(dataset.classes), np.int64)
    for example in examples:
        labelled = example.mask[example.mask >= 0]
        counts += np.bincount(labelled, minlength=len(counts))[: len(counts)]
    return tuple(float(n) for n in counts / max(1, counts.sum()))


def usual_spacing(samples: Sequence[Sample], dims: int) -> Spacing | None:
    """The spacing of a pixel in the middle of those that are known, of some of the samples; None where none is.

    What the data set says comes first, then, where it does not tell all axes, what the images' files say.
    """
    known = []
    for sample in spread(samples, SPACINGS_READ):
        said = sample.spacing
        if (said is None or len(said.values) < dims) and sample.files:
            said = read_spacing(sample.files[0])
        if said is not None and len(said.values) >= dims:
            known.append(Spacing(said.values[-dims:], said.unit))  # a page of a volume's file has no depth
    known.sort(key=lambda spacing: math.prod(spacing.values))
    return known[len(known) // 2] if known else None


def make_preparation(recipe: Recipe, summary: DataSummary, examples: Sequence[Example]) -> Preparation:
    """The preparation that the recipe asks for, with the statistics of these training images."""
    size = tuple(recipe.patch) if summary.task == "classification" else None
    plain = Preparation(channels=summary.channels, dims=summary.dims, size=size)
    if size is not None:
        # What is seen should not depend on where the blocks of a coarser working grid begin, and a classifier that has
        # learnt from mirrored images can be asked both ways.
        plain = replace(plain, moved=recipe.network.scale // 2, both_ways=recipe.augmentation.mirror)
    axes = tuple(range(1, summary.dims + 1))
    images = [plain.with_channels(example.image) for example in examples]
    mean = np.mean([image.mean(axis=axes, dtype=np.float64) for image in images], axis=0)
    square = np.mean([np.square(image, dtype=np.float64).mean(axis=axes) for image in images], axis=0)
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return replace(plain, normalisation=recipe.normalisation, mean=tuple(map(float, mean)), std=tuple(map(float, std)))


def to_training_images(
    examples: Sequence[Example], recipe: Recipe, preparation: Preparation, device: torch.device
) -> list[TrainingImage]:
    """Normalise and encode every example and put it on the training device."""
    return [
        to_training_image(
            example.prepare(preparation),
            encode(example.mask, recipe.encoding),
            example.sample.emphasis,
            device,
            by_class=recipe.encoding.kind == "semantic",
        )
        for example in examples
    ]
