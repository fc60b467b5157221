"""Which decision suits a network: thresholds and sizes chosen on validation images, before anything is scored.

Conventions
- What is chosen is a `Decision` (`targets.instances`); it belongs into the model file.
- A value is chosen for being stable, not for a lucky peak: from the middle of those that are about as good as the best.
- A score of validation images that something was chosen by is no result, and is called so wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.errors import DataError
from ushape.targets.instances import (
    NOISE_SHARE,
    Decision,
    Float,
    Mask,
    default_decision,
    maps_to_instances,
    object_sizes,
)
from ushape.targets.maps import Encoding

__all__ = ["THRESHOLDS", "count_decisions", "few_decisions", "tune_decision", "tune_threshold"]

Score = Callable[[list[Mask], list[Mask]], float]

RIMS_AND_DEPTH = ("border", "distance")
"""Kinds whose landscape tells objects apart by itself, so that the mask is no more than their outlines."""

OUTLINE_GAIN = 0.02
"""Mean AP over IoU 0.5 to 0.95 that another threshold of the mask must gain on the validation images of these kinds.

How wide outlines are drawn in a few images says little of others: thresholds that gained less drew the cells of one
data set too wide, and cost nuclei AP@0.9 (docs/results.md). A network that is far from sure gains more by them.
"""

THRESHOLDS = (0.4, 0.45, 0.5, 0.55, 0.6)
"""Between two classes. Few images held out may ask for more, which other images then pay for (docs/results.md)."""


def tune_decision(
    maps: Sequence[Float],
    references: Sequence[Mask],
    encoding: Encoding,
    score: Score,
    *,
    tolerance: float = 0.002,
) -> tuple[Decision, float]:
    """The decision that suits validation images, chosen for being stable rather than for a lucky peak.

    Each field is tried over a short list of values while the others stand still, the strongest first. The score of
    a value is averaged with its neighbours', and of the values that are as good as the best, to the tolerance, the
    middle one is taken: a threshold in the middle of a plateau still holds on the next image. Of the kinds `border` and
    `distance` the mask's threshold moves only for a gain above `OUTLINE_GAIN`. Some 10 to 20 decisions are tried in all
    (`count_decisions`), so the cost is bounded: each reads every map once.

    Args:
        maps: (K, *space) probabilities of each validation image.
        references: (*space) instances of the same images.
        encoding: of the maps.
        score: (references, estimates) -> a number from 0 to 1, the larger the better; nan says nothing.
        tolerance: differences of the score up to this do not count.

    Returns:
        The decision, and its score on these images (which is a score used for choosing, not a result).
    """
    if not maps or len(maps) != len(references):
        raise DataError(
            f"expected a reference for each of at least one set of maps, found {len(maps)} maps and "
            f"{len(references)} references; hold out at least one annotated image for validation"
        )
    sizes = object_sizes(references)
    typical = float(np.median(sizes)) if sizes.size else 200.0
    decision = default_decision(encoding, typical, np.asarray(references[0]).ndim)
    known: dict[Decision, float] = {}

    def value(tried: Decision) -> float:
        if tried not in known:
            known[tried] = score(list(references), [maps_to_instances(m, encoding, tried) for m in maps])
        return known[tried]

    for field, choices in _choices(encoding, typical).items():
        tried = [replace(decision, **{field: choice}) for choice in choices]
        values = np.array([value(t) for t in tried])
        if np.isnan(values).all():
            continue
        best = tried[_middle_of_plateau(values, tolerance)]
        of_outlines = field == "mask_threshold" and encoding.kind in RIMS_AND_DEPTH
        # Not `>`: where one half has no score, any that has one is better.
        if not of_outlines or not value(best) <= value(decision) + OUTLINE_GAIN:
            decision = best
    return decision, value(decision)


def tune_threshold(
    maps: Sequence[Float], references: Sequence[Mask], score: Score, *, tolerance: float = 0.002
) -> float:
    """The probability above which a pixel is of the second of two classes, from 0.4 to 0.6.

    A network that has learnt a few images by heart is too sure of the class that it has seen most of: at one half the
    rarer class, such as thin membranes, loses pixels (docs/results.md). Chosen as in `tune_decision`.

    Args:
        maps: (K, *space) probabilities of each validation image, of two classes.
        references: (*space) 0 or 1 of the same images, -1 where nothing is known.
        score: (references, estimates) -> a number, the larger the better.
        tolerance: differences of the score up to this do not count.
    """
    values = [score(list(references), [(m[1] > tried).astype(np.int32) for m in maps]) for tried in THRESHOLDS]
    return THRESHOLDS[_middle_of_plateau(np.array(values), tolerance)]


def count_decisions(encoding: Encoding) -> int:
    """How many decisions `tune_decision` tries, each of which reads every map once."""
    choices = _choices(encoding, 1000.0).values()
    # Each field's list holds the value that stands already.
    return sum(map(len, choices)) - len(choices) + 1


def _choices(encoding: Encoding, typical: float) -> dict[str, list[Any]]:
    """The values of each field to try, by rising value, the strongest field first."""
    # Small objects of a new image may be real: what is removed stays far below the typical object.
    choices: dict[str, list[Any]] = {
        "seed_threshold": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        "mask_threshold": [0.3, 0.4, 0.5, 0.6, 0.7],
        "smoothing": [0.0, 1.0, 2.0],
        "min_size": sorted({round(share * typical) for share in (0.0, 0.02, NOISE_SHARE, 0.1, 0.15)}),
    }
    if encoding.kind == "semantic":
        del choices["seed_threshold"], choices["smoothing"]
    if encoding.kind in RIMS_AND_DEPTH:
        # Seeds and smoothing stand: few validation images cannot tell how crowded the next ones are.
        del choices["seed_threshold"], choices["smoothing"]
        least = 0.5 if encoding.kind == "border" else 0.6
        choices = {"merging": [round(least + 0.05 * i, 2) for i in range(7)]} | choices
        choices["mask_threshold"] = [0.4, 0.5, 0.6]
    return choices


def few_decisions(decision: Decision, encoding: Encoding) -> list[Decision]:
    """Three decisions, or one where nothing is to be chosen, of which the best one says how good maps are.

    Decisions are tuned when training ends, so one that suits early weights must not decide which weights are best.
    """
    tried: dict[str, tuple[str, tuple[float, ...]]] = {
        "semantic": ("mask_threshold", (0.4, 0.5, 0.6)),
        "border": ("merging", (0.5, 0.65, 0.8)),
        "ridge": ("seed_threshold", (0.5, 0.7, 0.9)),
        "distance": ("merging", (0.7, 0.8, 0.9)),
    }
    if encoding.kind == "label" or (encoding.kind == "semantic" and encoding.n_classes != 2):
        return [decision]
    field, values = tried[encoding.kind]
    return [Decision.from_dict(decision.to_dict() | {field: value}) for value in values]


def _middle_of_plateau(values: NDArray[np.float64], tolerance: float) -> int:
    """The index in the middle of the run of near-best values; a value counts with its neighbours.

    Of a run of even length the better of the two middle ones is taken.
    """
    values = np.where(np.isnan(values), np.nanmin(values), values)
    padded = np.pad(values, 1, mode="edge")
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    good = smooth >= smooth.max() - tolerance
    start = stop = int(smooth.argmax())
    while start > 0 and good[start - 1]:
        start -= 1
    while stop < len(good) - 1 and good[stop + 1]:
        stop += 1
    low, high = (start + stop) // 2, (start + stop + 1) // 2
    return high if values[high] > values[low] else low
