"""The held-out images of a session: which of them are looked at, what that takes, and what they say of a network.

While training only some are watched, where there are many or the minutes are few, and of large ones a window. At the
end they tune the thresholds and are scored, all or as many as there is time for.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ushape.model import Evaluation, Model
from ushape.preparation import Preparation
from ushape.tally import Tally
from ushape.targets.instances import Decision
from ushape.targets.tuning import few_decisions
from ushape.training.clock import JUDGING_SHARE, TUNING_SHARE, VALIDATIONS, WATCHING_SHARE, Pace
from ushape.training.examples import Example, spread
from ushape.training.holdout import representative_window
from ushape.training.judging import Judge
from ushape.training.recipe import Recipe

__all__ = ["TUNING_IMAGES", "Labels", "Maps", "Validation"]

WATCHED_IMAGES = 8
"""Validation images looked at while training, at most."""
TUNING_IMAGES = 16
"""Validation images on which thresholds are chosen; more add cost but hardly information."""
TIMED_PIXELS = 2**19
"""Pixels of the window that is timed, at most, to know what looking at an image costs."""
LEAST_WINDOW = 2**18
"""Pixels that are looked at of each held-out image, at least, whatever the budget: 512 x 512."""

Maps = NDArray[np.float32]
Labels = NDArray[np.int32]


class Validation:
    """See the module.

    examples  the held-out images, or windows of them
    decision  how maps become labels: as it was given, or tuned by `tune`
    pace      what looking takes is noted there, and what the budget has room for is asked
    """

    most_watched = WATCHED_IMAGES

    def __init__(
        self,
        examples: Sequence[Example],
        recipe: Recipe,
        preparation: Preparation,
        judge: Judge,
        decision: Decision,
        pace: Pace,
    ) -> None:
        self.examples, self.recipe, self.preparation = list(examples), recipe, preparation
        self.judge, self.decision, self.pace = judge, decision, pace
        self.watched = spread(self.examples, self.most_watched)
        self.window: int | None = None  # pixels of each image that are looked at; None for all
        self.networks = 1  # as many answer together at the end
        self.n_tuned = 0  # images that thresholds were tuned on
        # Of an image that is watched: by each of the decisions that tell how good its maps are.
        pace.n_watching = len(few_decisions(decision, recipe.encoding))

    def of_networks(self, count: int, pace: Pace) -> Validation:
        """The same images, as several networks that answer together are judged by them."""
        joint = copy.copy(self)
        joint.networks, joint.pace = max(1, count), pace
        return joint

    @property
    def n_views(self) -> int:
        """In how many ways an image is looked at when it is predicted, and by how many networks."""
        return self.recipe.rotations * self.networks

    @property
    def watched_size(self) -> float:
        """Pixels of a watched image, on average; 1 where whole images have a class."""
        return float(np.mean([example.mask.size for example in self.watched]))

    def maps(self, model: Model, example: Example, symmetries: int | None = None) -> Maps:
        """The network's maps of an image, or of a part that is prepared as a part of the whole."""
        return model.maps_of_prepared(example.prepare(self.preparation), symmetries=symmetries)

    def estimate(self, model: Model, example: Example) -> tuple[Maps, Labels]:
        """(maps, labels) of one image, looked at once while training; how long both took is noted."""
        begun = time.perf_counter()
        maps = self.maps(model, example, symmetries=1)
        predicted = time.perf_counter()
        labels = model.decide(maps).labels
        self.pace.image_seconds = predicted - begun
        self.pace.decide_seconds = time.perf_counter() - predicted
        return maps, labels

    def estimates(self, model: Model) -> Iterator[tuple[Maps, Labels]]:
        """(maps, labels) of each watched image; how long one of them takes on average is noted in the end."""
        times = []
        for example in self.watched:
            found = self.estimate(model, example)
            times.append((self.pace.image_seconds, self.pace.decide_seconds))
            yield found
        self.pace.image_seconds, self.pace.decide_seconds = np.mean(times, axis=0).tolist()

    def watch(self, model: Model) -> float:
        """The score of the watched images, at the best of the tried thresholds; NaN where the network says NaN."""
        decisions, maps, labels = few_decisions(self.decision, self.recipe.encoding), [], []
        model.decision = decisions[0]
        for found, decided in self.estimates(model):
            if not np.isfinite(found).all():
                return math.nan
            labels.append(decided)
            if len(decisions) > 1:  # else maps are not read again, and those of many classes take much memory
                maps.append(found)
        references = [example.mask for example in self.watched]
        score = self.judge.score(references, labels)
        for model.decision in decisions[1:]:
            score = max(score, self.judge.score(references, [model.decide(m).labels for m in maps]))
        return score

    def score_watched(self, model: Model) -> float:
        """The score of the watched images, by the model's own decision."""
        labels = [found for _, found in self.estimates(model)]
        return self.judge.score([example.mask for example in self.watched], labels)

    def time_an_image(self, model: Model) -> None:
        """Measure what predicting a watched image takes, for the plan; of a large one on a part of it."""
        # Of a small image much of the time goes into the margin around it.
        largest = max(self.watched, key=lambda example: example.mask.size)
        # On a coarser grid more pixels take as long, and the margin around them is wider.
        part = representative_window(largest, TIMED_PIXELS * self.recipe.network.scale, self.preparation)
        for _ in range(2):
            # The first time is slower than all others.
            self.estimate(model, part)
        self.rescale(part.mask.size)

    def rescale(self, size: float) -> None:
        """Take what was timed of an image of so many pixels for one of the average size of those that are watched."""
        times = self.watched_size / size
        self.pace.image_seconds *= times
        self.pace.decide_seconds *= times

    def watch_what_is_affordable(self, model: Model) -> str:
        """Time an image, and watch no more of them, and no more of each, than the minutes allow.

        The sentence about windows, '' without any.
        """
        told = ""
        self.time_an_image(model)
        if self.watched[0].mask.ndim:
            share = self.pace.affordable_share(self.recipe.rotations, self.judge.n_tried)
            size = self.watched_size
            largest = max(example.mask.size for example in self.examples)
            told = self.look_at_windows(max(LEAST_WINDOW, int(min(share * size, largest))))
            self.rescale(size)
        each, size = VALIDATIONS * self.pace.watch_seconds, self.watched_size
        self.watched = spread(self.watched, self.pace.affordable(len(self.watched), WATCHING_SHARE, each))
        self.rescale(size)
        return told

    def look_at_windows(self, pixels: int) -> str:
        """Look at no more than so many pixels of each image from now on; said in a sentence, '' where that is all."""
        self.window = pixels
        windows = [representative_window(example, pixels, self.preparation) for example in self.examples]
        n = sum(part is not example for part, example in zip(windows, self.examples, strict=True))
        if not n:
            return ""
        self.examples = windows
        self.watch_these([example.sample.name for example in self.watched])
        return (
            f"of {n} of {len(windows)} held-out images a window of at most {pixels / 1e6:.2g} megapixels is looked at, "
            "which is what the minutes allow"
        )

    def watch_these(self, names: Sequence[str]) -> None:
        """Watch the images of these names."""
        known = set(names)
        self.watched = [example for example in self.examples if example.sample.name in known]

    def looks(self, examples: Sequence[Example]) -> float:
        """As many watched images as these would take as long as these do, by their pixels."""
        return sum(example.mask.size for example in examples) / self.watched_size

    def ending_seconds(self, times_watched: int) -> float:
        """What the end of the run will take, which looks at the watched images so many times more."""
        n_judged, n_tuned = (self.looks(examples) for examples in (self.judged(), self.tuned()))
        n_watched = times_watched * len(self.watched)
        return self.pace.ending_seconds(n_watched, n_judged, n_tuned * self.judge.n_tried, self.n_views)

    def judged(self) -> list[Example]:
        """The images scored at the end: all, or as many as the budget can afford."""
        n, views = len(self.examples), self.n_views
        # Those that are watched all the time are affordable at the end too, unless each is then looked at several times
        # over.
        least = len(self.watched) if views == 1 else 1
        affordable = self.pace.affordable(n, JUDGING_SHARE, self.pace.judge_seconds(views))
        return spread(self.examples, max(least, affordable))

    def tuned(self) -> list[Example]:
        """Those of them that thresholds are tuned on; none where masks hold three classes and more."""
        if not self.judge.tunes:
            return []
        judged = self.judged()
        n = self.pace.affordable(len(judged), TUNING_SHARE, self.judge.n_tried * self.pace.decide_seconds)
        return spread(judged, min(TUNING_IMAGES, n))

    def tune(self, model: Model) -> dict[str, Maps]:
        """Choose the decision that suits the model best, and give it to the model; maps of the images it was tuned on.

        Only those maps are kept: those of all images may not fit into memory.
        """
        tuned = self.tuned()
        maps = {example.sample.name: self.maps(model, example) for example in tuned}
        self.n_tuned = len(tuned)
        if tuned:
            references = [example.mask for example in tuned]
            self.decision = self.judge.best_decision(self.decision, list(maps.values()), references)
            model.decision = self.decision
        return maps

    def score(self, model: Model, maps: dict[str, Maps]) -> tuple[Evaluation, dict[str, Labels]]:
        """(scores, labels by name) of the images that are scored.

        maps  of images that the model has seen already, by name; each is dropped when it has been used
        """
        labels, calibration = {}, None
        tally = Tally(self.judge.task, self.judge.classes)
        for example in self.judged():
            name = example.sample.name
            found = maps.pop(name) if name in maps else self.maps(model, example)
            labels[name] = model.decide(found).labels
            tally.add(name, example.mask, labels[name], example.sample.complete)
            counted = self.judge.calibration(found, example.mask)
            calibration = counted if calibration is None else calibration + counted
        return replace(tally.evaluation(), calibration=calibration), labels
