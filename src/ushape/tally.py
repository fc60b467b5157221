"""Scores of several images: each is counted once, and the counts of all are pooled.

For objects these are the object scores, for classes of pixels the pixel scores. Where there are only background and
one other class, its connected pieces are counted as objects too, because that is what people count next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ushape.data.dataset import Task
from ushape.scoring.calibration import Calibration, count_calibration
from ushape.scoring.classes import class_scores, count_labels
from ushape.scoring.intervals import label_intervals, object_intervals, pixel_intervals
from ushape.scoring.objects import ObjectCounts, count_objects, object_scores
from ushape.scoring.pixels import confusion_matrix, pixel_scores

__all__ = ["Evaluation", "LabelTally", "Tally", "pieces", "score_masks"]

Labels = NDArray[np.int32]

NAMES_TOLD = 5


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on a dataset.

    scores     of all images together
    rows       of each image: its name and its own scores
    problems   images that could not be scored, one sentence each
    intervals  95 % intervals of the scores by bootstrap over the images; empty with fewer than three
    confusions  of each image (n_classes, n_classes): pixels of each reference class (row) given each class; empty for
                objects, and one of all images together where they have one class each
    calibration  how often the network was right, by how sure it was; None where it was not asked
    seen       names of the images that the model was trained on, or that helped to choose it
    unscorable   names of images whose pixels are all ignored; they are left out of the means over images
    """

    scores: dict[str, float]
    rows: tuple[dict[str, Any], ...]
    problems: tuple[str, ...] = ()
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    confusions: tuple[NDArray[np.int64], ...] = ()
    calibration: Calibration | None = None
    seen: tuple[str, ...] = ()
    unscorable: tuple[str, ...] = ()

    @property
    def warning(self) -> str:
        """A sentence about images that nothing could be scored in; empty without such."""
        n = len(self.unscorable)
        if not n:
            return ""
        names = ", ".join(self.unscorable[:NAMES_TOLD]) + (f" and {n - NAMES_TOLD} more" if n > NAMES_TOLD else "")
        what = "1 image has no pixel to score" if n == 1 else f"{n} images have no pixel to score"
        left_out = "it is" if n == 1 else "they are"
        return (
            f"{what}, because the reference ignores all of them; {left_out} left out of the means over images: {names}"
        )

    @property
    def confusion(self) -> NDArray[np.int64] | None:
        """Of all images together; None for objects."""
        return np.sum(self.confusions, axis=0) if self.confusions else None


@dataclass(frozen=True)
class Counts:
    """What one image contributes: `pixels` where masks hold classes, `objects` where something can be counted."""

    pixels: NDArray[np.int64] | None = None
    objects: ObjectCounts | None = None

    @property
    def scorable(self) -> bool:
        """Whether the reference has a pixel that is not ignored."""
        return bool(self.pixels.any()) if self.pixels is not None else self.objects is None or self.objects.scorable


def pieces(labels: Labels) -> Labels:
    """Connected pieces of class 1 as objects 1..n; -1 stays. Pieces that touch at a corner only are two."""
    found: NDArray[np.int32] = ndimage.label(labels == 1)[0].astype(np.int32)
    return np.where(labels < 0, np.int32(-1), found)


class Tally:
    """Counts images one by one; scores and rows are there at any time."""

    def __init__(self, task: Task, classes: Sequence[str]) -> None:
        self.task, self.classes = task, tuple(classes)
        self.names: list[str] = []
        self.counts: list[Counts] = []

    def count(self, reference: Labels, estimate: Labels, complete: bool) -> Counts:
        """The counts of one image; DataError when the masks do not fit together."""
        if self.task == "instances":
            return Counts(objects=count_objects(reference, estimate, complete=complete))
        pixels = confusion_matrix(reference, estimate, len(self.classes))
        if len(self.classes) != 2:
            return Counts(pixels)
        return Counts(pixels, count_objects(pieces(reference), pieces(estimate), complete=complete))

    def add(self, name: str, reference: Labels, estimate: Labels, complete: bool) -> None:
        """Count an image; DataError, and nothing counted, when the masks do not fit together."""
        self.counts.append(self.count(reference, estimate, complete))
        self.names.append(name)

    def scores_of(self, counts: Sequence[Counts]) -> dict[str, float]:
        """Of these images together."""
        objects = [c.objects for c in counts if c.objects is not None]
        pixels = [c.pixels for c in counts if c.pixels is not None]
        scores = pixel_scores(np.sum(pixels, axis=0), self.classes) if pixels else {}
        return scores | (object_scores(objects) if objects else {})

    def scores(self) -> dict[str, float]:
        """Of all images together."""
        return self.scores_of(self.counts)

    def rows(self) -> tuple[dict[str, Any], ...]:
        """The name and the scores of each image."""
        return tuple(
            {"name": name, **self.scores_of([counts])} for name, counts in zip(self.names, self.counts, strict=True)
        )

    def evaluation(self, problems: Sequence[str] = ()) -> Evaluation:
        """All of it."""
        pixels = [c.pixels for c in self.counts if c.pixels is not None]
        objects = [c.objects for c in self.counts if c.objects is not None]
        return Evaluation(
            self.scores(),
            self.rows(),
            tuple(problems),
            pixel_intervals(pixels, self.classes) | object_intervals(objects),
            confusions=tuple(pixels),
            unscorable=tuple(n for n, counts in zip(self.names, self.counts, strict=True) if not counts.scorable),
        )


class LabelTally:
    """The same for classes of whole images."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.names: list[str] = []
        self.references: list[int] = []
        self.probabilities: list[NDArray[np.float32]] = []

    def add(self, name: str, reference: int, probabilities: NDArray[np.float32]) -> None:
        """Count an image of class `reference` that was given these probabilities (K,)."""
        self.names.append(name)
        self.references.append(reference)
        self.probabilities.append(probabilities)

    def rows(self) -> tuple[dict[str, Any], ...]:
        """The name, the class, the estimated class, how sure it was, and whether it was right, of each image."""
        return tuple(
            {
                "name": name,
                "class": self.classes[reference],
                "estimate": self.classes[int(given.argmax())],
                "confidence": round(float(given.max()), 6),
                "right": int(given.argmax() == reference),
            }
            for name, reference, given in zip(self.names, self.references, self.probabilities, strict=True)
        )

    def evaluation(self, problems: Sequence[str] = ()) -> Evaluation:
        """Scores of all images together, and the rows."""
        references, given = np.array(self.references), np.stack(self.probabilities)
        confusion = count_labels(references, given.argmax(axis=1), len(self.classes))
        calibration = count_calibration(given.T, references)
        scores = class_scores(confusion, self.classes)
        n_images = scores.pop("n_images")
        scores["expected calibration error"] = calibration.expected_calibration_error
        scores |= {"n_images": n_images}
        intervals = label_intervals(references, given.argmax(axis=1), self.classes)
        return Evaluation(scores, self.rows(), tuple(problems), intervals, (confusion,), calibration)


def score_masks(
    task: Task, classes: Sequence[str], pairs: Sequence[tuple[str, Labels, Labels, bool]]
) -> tuple[dict[str, float], tuple[dict[str, Any], ...]]:
    """(scores, rows) of (name, reference, estimate, complete) for each image."""
    tally = Tally(task, classes)
    for pair in pairs:
        tally.add(*pair)
    return tally.scores(), tally.rows()
