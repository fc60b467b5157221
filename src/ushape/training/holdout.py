"""Which images are held out to choose weights and thresholds by, when nobody named any.

Of classes of whole images an even share of each class is held out; otherwise whole images, where there are two or more
(`ushape.data.dataset.split_validation`); of a series of neighbours (`ushape.training.series`) a block. A single image
is cut: a contiguous quarter at one end is held out, behind a gap as wide as the network's margin, whose pixels are
context and are not learnt from: they are most like the quarter, and see the mirrored edge of the cut. In an image so
small that the margin is more than a quarter of it, the gap is a quarter too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Dataset, split_validation
from ushape.errors import DataError
from ushape.preparation import Preparation
from ushape.training.classifying import split_labels
from ushape.training.examples import Example, is_annotated
from ushape.training.series import find_series

__all__ = ["cut_image", "hold_out", "hold_out_block", "representative_window", "split_whole"]

MOST_PLACES = 9
"""Of windows along an axis, and around pixels of the foreground."""
GAP = 2
"""Images of a series between what is learnt from and what is held out."""
QUARTER = 4
"""The held-out share of a single image is one in so many; the gap takes no more than that either."""


def representative_window(example: Example, pixels: int, prepare: Preparation) -> Example:
    """The example itself, or a window of at most so many pixels where it has more, prepared as a part of the whole.

    Long sides are cut first. Of windows that are spread evenly, and some around pixels of the foreground, it is the one
    that is most like the whole in how much of it is annotated and how much of that is foreground; one that holds
    something to find, where there is anything.
    """
    mask = example.mask
    if mask.size <= pixels:
        return example
    side = max(mask.shape)
    while math.prod(min(n, side) for n in mask.shape) > pixels:
        side -= 1
    sides = [min(n, side) for n in mask.shape]
    starts = [
        np.unique(np.linspace(0, n - s, min(MOST_PLACES, 1 + 2 * (n - s) // s)).round().astype(int))
        for n, s in zip(mask.shape, sides, strict=True)
    ]
    corners = [tuple(map(int, corner)) for corner in itertools.product(*starts)]
    found = np.flatnonzero(mask > 0)
    for index in found[:: max(1, len(found) // MOST_PLACES)]:
        at = np.unravel_index(index, mask.shape)
        corners.append(tuple(int(np.clip(a - s // 2, 0, n - s)) for a, s, n in zip(at, sides, mask.shape, strict=True)))

    def shares(part: NDArray[np.int32]) -> tuple[float, float]:
        labelled = int(np.count_nonzero(part >= 0))
        return labelled / part.size, int(np.count_nonzero(part > 0)) / max(1, labelled)

    whole = shares(mask)

    def unlike(place: tuple[slice, ...]) -> tuple[bool, float]:
        labelled, foreground = shares(mask[place])
        return foreground == 0, abs(labelled - whole[0]) + abs(foreground - whole[1])

    places = [tuple(slice(at, at + s) for at, s in zip(corner, sides, strict=True)) for corner in corners]
    place = min(places, key=unlike)
    # Copies: views would keep the large image in memory.
    image, prepared = (whole[(slice(None), *place)].copy() for whole in (example.image, example.prepare(prepare)))
    return replace(example, image=image, mask=mask[place].copy(), whole=None, prepared=prepared)


def window(example: Example, axis: int, start: int, stop: int) -> Example:
    """The example between `start` and `stop` along a spatial axis, as a part of the whole."""
    place = tuple(slice(start, stop) if a == axis else slice(None) for a in range(example.mask.ndim))
    image = example.image[(slice(None), *place)]
    return replace(example, image=image, mask=example.mask[place], whole=(example.image, place))


def size_name(axis: int, dims: int) -> str:
    """What an axis is called."""
    return ("depth", "height", "width")[axis + 3 - dims]


def cut(example: Example, axis: int, margin: int, at_end: bool) -> tuple[Example, Example, int]:
    """(training, validation, gap): the quarter at the end (or the beginning) of an axis, and the rest."""
    n = example.mask.shape[axis]
    held = n // QUARTER
    gap = min(margin, held)
    rest, quarter = ((0, n - held), (n - held, n)) if at_end else ((held, n), (0, held))
    training, validation = window(example, axis, *rest), window(example, axis, *quarter)
    mask = training.mask.copy()
    mask[(*[slice(None)] * axis, slice(n - held - gap, None) if at_end else slice(0, gap))] = -1
    named = replace(example.sample, name=f"{example.sample.name}, held out")
    return replace(training, mask=mask), replace(validation, sample=named), gap


def annotated_classes(example: Example, n_classes: int) -> set[int]:
    """The classes that are annotated in it; ids of objects are one class."""
    n_pixels = np.bincount(np.clip(example.mask, -1, n_classes - 1).ravel() + 1, minlength=n_classes + 1)
    return set(np.flatnonzero(n_pixels[1:]).tolist())


def cut_image(example: Example, margin: int, n_classes: int = 2) -> tuple[Example, Example, str]:
    """(training, validation, sentence): one image in two, with ignored pixels between them.

    The quarter lies at that end of an axis, the longest first, where both parts have all that is annotated, the
    background included, or else something besides it. The gap stays in the training part's image, as context, and is
    ignored in its mask. DataError when no cut leaves both parts any.

    margin     pixels wanted between the parts; less where that would take more than a quarter of the image
    n_classes  the background included
    """
    size, everything = example.mask.shape, annotated_classes(example, n_classes)
    axes = sorted(range(len(size)), key=lambda axis: -size[axis])
    for wanted in (everything, None):
        for axis, at_end in product(axes, (True, False)):
            training, validation, gap = cut(example, axis, margin, at_end)
            if not is_annotated(training) or not is_annotated(validation):
                continue
            if wanted is not None and any(annotated_classes(e, n_classes) != wanted for e in (training, validation)):
                continue
            side = ("first", "last")[at_end]
            sentence = (
                f"One annotated image: the {side} quarter of its {size_name(axis, len(size))} is held out to "
                f"choose weights and thresholds by, behind a gap of {gap} px; a second image would serve better."
            )
            return training, validation, sentence
    raise DataError(
        f"{example.sample.where}: expected an image with objects both in a quarter of it and in the rest, found them "
        "in one part only; annotate more of it, or name validation data with --val"
    )


def hold_out(
    dataset: Dataset, examples: Sequence[Example], share: float, margin: int
) -> tuple[list[Example], list[Example], str]:
    """(training, validation, sentence) of examples that have been read; the sentence is empty for images one by one.

    share   of the images to hold out
    margin  of the network, in pixels: the gap inside a single image
    """
    if dataset.task == "classification":
        labels = np.array([int(example.mask) for example in examples])
        groups = [example.sample.group or example.sample.name for example in examples]
        parts = split_labels(labels, share, groups)
        first, second = ([examples[i] for i in part] for part in parts)
        return first, second, ""
    filled = [example for example in examples if is_annotated(example)]
    empty = [example for example in examples if not is_annotated(example)]
    if len(filled) == 1:
        training, validation, sentence = cut_image(filled[0], margin, len(dataset.classes))
        return [training, *empty], [validation], sentence
    series = [members for members in find_series(examples) if sum(map(is_annotated, members)) > 1]
    in_series = {example for members in series for example in members}
    alone = [example for example in examples if example not in in_series]
    first, second, told = [], [], []
    for members in series:
        part, block = hold_out_block(members, share)
        first, second = [*first, *part], [*second, *block]
        told.append(
            f"The {len(members)} images from {members[0].sample.name} on are numbered and like their neighbours, as in "
            f"a stack or a sequence: the last {len(block)} are held out, behind a gap, and not one here and one there."
        )
    if series and sum(map(is_annotated, alone)) < 2:
        return [*first, *alone], second, " ".join(told)
    part, block = split_annotated(dataset, alone, share)
    return [*first, *part], [*second, *block], " ".join(told)


def hold_out_block(members: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """(training, validation) of a series in its order: the end of it, with a share of those that hold something.

    Up to GAP images between the two are not used, as long as the training part holds something without them. At least
    two images have to hold something.
    """
    filled = [index for index, member in enumerate(members) if is_annotated(member)]
    start = filled[-max(1, min(len(filled) - 1, round(share * len(filled))))]
    gap = min(GAP, (start - 1) // 3, start - filled[0] - 1)
    return list(members[: start - gap]), list(members[start:])


def split_annotated(dataset: Dataset, examples: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """(training, validation): `split_whole`, with something annotated on both sides."""
    first, second = split_whole(dataset, examples, share)
    if not any(map(is_annotated, first)) or not any(map(is_annotated, second)):
        # Where all objects fell to one side nothing could be learnt, or nothing be judged.
        first, second = split_whole(dataset, [example for example in examples if is_annotated(example)], share)
        first += [example for example in examples if not is_annotated(example)]
    return with_all_classes(dataset, first, second)


def with_all_classes(
    dataset: Dataset, training: list[Example], validation: list[Example]
) -> tuple[list[Example], list[Example]]:
    """(training, validation) with groups moved back to training, as long as one of several classes is in none there.

    One group at least stays where it is.
    """
    n_classes = len(dataset.classes)
    if dataset.task != "semantic" or n_classes < 3:
        return training, validation
    learnt = set[int]().union(*(annotated_classes(example, n_classes) for example in training))
    groups: dict[str, list[Example]] = {}
    for example in validation:
        groups.setdefault(example.sample.group or example.sample.name, []).append(example)
    for name, members in sorted(groups.items()):
        found = set[int]().union(*(annotated_classes(example, n_classes) for example in members))
        if found <= learnt or len(groups) == 1:
            continue
        del groups[name]
        training, learnt = [*training, *members], learnt | found
    kept = {example for members in groups.values() for example in members}
    return training, [example for example in validation if example in kept]


def split_whole(dataset: Dataset, examples: Sequence[Example], fraction: float) -> tuple[list[Example], list[Example]]:
    """(training, validation): `split_validation`, after reading, so that a file that cannot be used leaves no hole."""
    by_name = {example.sample.name: example for example in examples}
    parts = split_validation(dataset.subset([example.sample for example in examples]), fraction)
    first, second = ([by_name[sample.name] for sample in part.samples] for part in parts)
    return first, second
