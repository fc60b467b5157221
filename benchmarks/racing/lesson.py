"""What the peers without a planner of their own are taught: the same maps as our networks, and our way of reading them.

MONAI's tutorial and plain loops label pixels; neither says how touching objects become pixels and objects again. So
they are given our encoding with a border class, and our decoding with thresholds tuned on the images that they hold
out, by the function that tunes ours. That is generous: a border width that suits the size of the cells, and a watershed
with tuned thresholds, are part of what is being compared. Weights of pixels are not given: those loops have none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from racing.contest import Finish, Image, Maps, Start, rival
from racing.loop import Progress
from speed.counting import count_parameters
from ushape.data.dataset import Dataset
from ushape.preparation import Preparation
from ushape.scoring.objects import score_of_choices
from ushape.targets.instances import Decision
from ushape.targets.maps import Encoding, encode
from ushape.targets.tuning import tune_decision, tune_threshold
from ushape.training.examples import DataSummary, Example, read_examples, spread, summarise
from ushape.training.holdout import split_whole
from ushape.training.judging import Judge
from ushape.training.recipe import Recipe
from ushape.training.rules import RIMS_PER_DIAMETER, choose_encoding
from ushape.training.validating import TUNING_IMAGES

__all__ = ["IGNORED", "Lesson", "Page", "conclude", "dihedral", "encoding_for", "make_lesson", "tuned_decision"]

IGNORED = -1
"""The class of pixels that nobody labelled."""


@dataclass(frozen=True, eq=False)
class Page:
    """An image to learn from: (C, H, W) as in the file, with the network's number of channels.

    classes  (H, W) int64: what the network should say of each pixel, IGNORED where nobody knows
    mask     (H, W) int32: what it is made of
    """

    image: Image
    classes: NDArray[np.int64]
    mask: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is learnt from, and what is held out to choose by."""

    training: tuple[Page, ...]
    validation: tuple[Page, ...]
    encoding: Encoding
    channels: int

    @property
    def n_classes(self) -> int:
        """Classes of the maps."""
        return self.encoding.n_class_channels

    @property
    def smallest_side(self) -> int:
        """Of all images."""
        return min(min(page.mask.shape) for page in (*self.training, *self.validation))


def encoding_for(summary: DataSummary) -> Encoding:
    """The encoding of `auto` where it is one of classes alone; for small objects a border class all the same."""
    encoding, _ = choose_encoding(summary)
    if encoding.kind in ("semantic", "border"):
        # Losses of tutorials weigh all pixels alike.
        return replace(encoding, class_weights=())
    assert summary.diameter is not None
    return Encoding("border", border_width=max(1, round(summary.diameter / RIMS_PER_DIAMETER)))


def channels_of(image: Image, channels: int) -> Image:
    """The image with so many channels: grey stored as colour is reduced."""
    return Preparation(channels=channels).with_channels(image)


def page_of(example: Example, encoding: Encoding, channels: int) -> Page:
    """An example with its maps."""
    classes = encode(example.mask, encoding).classes.astype(np.int64)
    return Page(channels_of(example.image, channels), classes, example.mask)


def make_lesson(dataset: Dataset) -> Lesson:
    """Read the images, hold out a fifth of them as our own runs do, and encode their masks."""
    examples, _ = read_examples(dataset.samples)
    summary = summarise(dataset, examples)
    encoding = encoding_for(summary)
    parts = split_whole(dataset, examples, Recipe.validation)
    pages = [tuple(page_of(each, encoding, summary.channels) for each in part) for part in parts]
    return Lesson(pages[0], pages[1], encoding, summary.channels)


def dihedral(image: Image, number: int) -> Image:
    """One of the eight mirrored and turned ways to see an image (..., H, W), 0 to 7; 0 is the image itself."""
    turned = np.rot90(image, number % 4, axes=(-2, -1))
    return turned[..., ::-1] if number >= 4 else turned


def tuned_decision(lesson: Lesson, maps_of: Callable[[Image], Maps]) -> Decision | None:
    """Thresholds that suit the images held out, by what our own runs choose theirs; None for more than two classes."""
    encoding = lesson.encoding
    if encoding.kind == "semantic" and encoding.n_classes != 2:
        return None
    pages = spread(lesson.validation, TUNING_IMAGES)
    maps, masks = [maps_of(page.image) for page in pages], [page.mask for page in pages]
    if encoding.kind != "semantic":
        return tune_decision(maps, masks, encoding, score_of_choices)[0]
    judge = Judge("semantic", ("background", "foreground"), encoding)
    return Decision(min_size=0, mask_threshold=tune_threshold(maps, masks, judge.score))


def conclude(
    start: Start,
    lesson: Lesson,
    network: nn.Module,
    done: Progress,
    predict: Callable[[Image], Maps],
    side: int,
    batch: int,
) -> Finish:
    """Stop the clock, choose thresholds, and hand over.

    predict  an image with the network's channels -> its maps
    side     of the crops in a step; `batch` of them
    """
    seconds = start.clock.seconds()

    def maps_of(image: Image) -> Maps:
        return predict(channels_of(image, lesson.channels))

    begun = time.perf_counter()
    decision = tuned_decision(lesson, maps_of)
    trained = {
        "parameters": count_parameters(network),
        "patch": [side, side],
        "batch": batch,
        "epochs": done.epochs,
        "best after steps": done.best_step,
        "images learnt from": len(lesson.training),
        "images held out": len(lesson.validation),
        "seconds of validation": round(done.validating, 1),
        "seconds of choosing thresholds, not counted": round(time.perf_counter() - begun, 1),
    }
    model = rival(start.training, lesson.encoding, maps_of, decision=decision)
    return Finish(model, done.steps, seconds, trained, {"mean Dice of the maps' classes": done.best})
