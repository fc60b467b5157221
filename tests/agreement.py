"""How far two engines agree: the largest difference of their answers, and the share of labels that change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Agreement", "agreement", "changed_labels"]

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Agreement:
    """Of one engine's answers with another's.

    largest  difference of any probability
    changed  share of the pixels (of a classifier: images) that another class is most probable for
    """

    largest: float
    changed: float


def changed_labels(reference: Floats, estimate: Floats, n_classes: int | None = None) -> float:
    """The share of places whose most probable class differs between two answers (B, K, ...).

    n_classes  how many of the K are classes; None: all
    """
    one, other = (answer[:, :n_classes].argmax(axis=1) for answer in (reference, estimate))
    return float((one != other).mean())


def agreement(
    reference: Callable[[Floats], Floats],
    estimate: Callable[[Floats], Floats],
    tiles: Iterable[Floats],
    n_classes: int | None = None,
) -> Agreement:
    """The agreement of two engines over some calls; each item of `tiles` is what a call takes, (B, C, *read)."""
    largest, changed, places = 0.0, 0.0, 0
    for images in tiles:
        one, other = reference(images), estimate(images)
        count = one[:, 0].size
        largest = max(largest, float(np.abs(one - other).max()))
        changed += changed_labels(one, other, n_classes) * count
        places += count
    return Agreement(largest, changed / places)
