"""How held-out images judge a network: the one number that weights are chosen by, and the decision that suits them.

Nothing here learns or keeps anything: a judge is a value, of the task, its classes and what the network tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Task
from ushape.model import score_masks
from ushape.scoring.calibration import Calibration, count_calibration
from ushape.scoring.objects import score_of_choices
from ushape.tally import pieces
from ushape.targets.instances import NOISE_SHARE, Decision, default_decision, object_sizes
from ushape.targets.maps import Encoding
from ushape.targets.tuning import THRESHOLDS, count_decisions, tune_decision, tune_threshold

__all__ = ["Judge"]

Maps = NDArray[np.float32]
Masks = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Judge:
    """See the module.

    task      what the masks are
    classes   names by class index, the background first
    encoding  what the network's maps tell
    """

    task: Task
    classes: tuple[str, ...]
    encoding: Encoding

    @property
    def of_two_classes(self) -> bool:
        """Whether each pixel is of one of two classes, so that a threshold decides."""
        return self.task == "semantic" and len(self.classes) == 2

    @property
    def tunes(self) -> bool:
        """Whether there is something to tune: not where masks hold three classes and more, the likeliest is taken."""
        return self.task == "instances" or self.of_two_classes

    @property
    def n_tried(self) -> int:
        """Decisions that are tried on each image's maps when there is something to tune; else 0."""
        if not self.tunes:
            return 0
        return len(THRESHOLDS) if self.of_two_classes else count_decisions(self.encoding)

    def first_decision(self, masks: Sequence[NDArray[np.int32]], dims: int) -> Decision:
        """What is decided when maps become labels, before any tuning; by the masks that are learnt from."""
        if self.task == "instances":
            return default_decision(self.encoding, float(np.median(object_sizes(masks))), dims)
        decision = default_decision(self.encoding, 1.0)
        if self.of_two_classes:
            # Pieces smaller than any that people drew are noise: there, half the smallest of them, or a twentieth of
            # the typical one where that is less.
            sizes = object_sizes([pieces(mask) for mask in masks])
            if len(sizes):
                decision = replace(decision, min_size=int(min(NOISE_SHARE * np.median(sizes), min(sizes) / 2)))
        return decision

    def score(self, references: Masks, estimates: Masks) -> float:
        """One number, the larger the better: mean AP over IoU 0.5 to 0.95 for objects, else mean Dice of classes."""
        if self.task == "instances":
            return score_of_choices(references, estimates)
        pairs = [("", r, e, True) for r, e in zip(references, estimates, strict=True)]
        return score_masks(self.task, self.classes, pairs)[0].get("mean Dice", 0.0)

    def best_decision(self, decision: Decision, maps: Sequence[Maps], references: Masks) -> Decision:
        """What suits these maps best, without a lucky peak."""
        if self.of_two_classes:
            return replace(decision, mask_threshold=tune_threshold(maps, references, self.score))
        return tune_decision(maps, references, self.encoding, self.score)[0]

    def calibration(self, maps: Maps, reference: NDArray[Any]) -> Calibration:
        """How sure and how right the network was: of the foreground, or of the classes where there are several."""
        foreground = self.task == "instances" or len(self.classes) == 2
        return count_calibration(maps[: self.encoding.n_class_channels], reference, foreground=foreground)
