"""A training session for classes of whole images: many small images, looked at together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from ushape.model import IMAGES_AT_ONCE, Evaluation, Model
from ushape.tally import LabelTally
from ushape.training.batches import Batch
from ushape.training.classifying import to_label_tensors
from ushape.training.examples import Example
from ushape.training.label_batches import LabelBatches
from ushape.training.session import Session
from ushape.training.validating import Labels, Maps, Validation

__all__ = ["LabelSession"]


class LabelValidation(Validation):
    """As `Validation`, with an image's class instead of a mask."""

    most_watched = 2000

    @property
    def n_views(self) -> int:
        """In how many ways an image is looked at when it is classified."""
        return self.preparation.n_views

    def classified(
        self, model: Model, examples: Sequence[Example], *, once: bool = False
    ) -> Iterator[tuple[Example, Maps]]:
        """Each example with its probabilities (K,); how long an image takes is noted where it is looked at `once`."""
        seconds = 0.0
        for start in range(0, len(examples), IMAGES_AT_ONCE):
            part = examples[start : start + IMAGES_AT_ONCE]
            begun = time.perf_counter()
            found = model.classify([example.image for example in part], once=once)
            seconds += time.perf_counter() - begun
            if once:
                self.pace.image_seconds = seconds / (start + len(part))
            yield from zip(part, found, strict=True)

    def watch(self, model: Model) -> float:
        """The accuracy on the watched images; NaN where the network says NaN."""
        found = self.classified(model, self.watched, once=True)
        right = [int(p.argmax()) == int(example.mask) if np.isfinite(p).all() else np.nan for example, p in found]
        return float(np.mean(right))

    def score_watched(self, model: Model) -> float:
        """The accuracy again: nothing is decided but the likeliest class."""
        return self.watch(model)

    def time_an_image(self, model: Model) -> None:
        """Measure what looking at an image takes, for the plan."""
        for _ in range(2):
            # The first time is slower than all others.
            list(self.classified(model, self.watched[:IMAGES_AT_ONCE], once=True))

    def score(self, model: Model, maps: dict[str, Maps]) -> tuple[Evaluation, dict[str, Labels]]:
        """(scores, labels by name) of the held-out images; there is nothing to tune, and there are no maps."""
        tally = LabelTally(self.judge.classes)
        labels: dict[str, Labels] = {}
        for example, found in self.classified(model, self.judged()):
            tally.add(example.sample.name, int(example.mask), found)
            labels[example.sample.name] = np.asarray(found.argmax(), np.int32)
        return tally.evaluation(), labels


class LabelSession(Session):
    """As `Session`, with an image's class instead of a mask."""

    kind_of_validation = LabelValidation

    def make_batches(self, examples: Sequence[Example]) -> Callable[[int], Batch]:
        """What gives batch k of these images."""
        images, labels = to_label_tensors(examples, self.preparation, self.device)
        n_classes = len(self.planned.summary.classes)
        weights = torch.tensor(self.recipe.encoding.class_weights or [1.0] * n_classes, device=self.device)
        return LabelBatches(images, labels, weights, self.recipe.batch, self.recipe.augmentation, self.seed)
