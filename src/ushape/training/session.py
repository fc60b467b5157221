"""A training session: what happens between the steps of the loop.

Validation, the moving best, checkpoints, the plan held against the clock, and at the end thresholds and scores. The
plan is revised while the session goes on; each revision is an event that is written down, and the learning rate
follows from the events.
"""

from __future__ import annotations

import copy
import math
import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ushape
from ushape.errors import ModelFileError, RecipeError
from ushape.model import Evaluation, Model
from ushape.network.classifier import Classifier
from ushape.network.hardware import best_dtype, finish
from ushape.network.unet import UNet
from ushape.training.batches import Batch, Batches, TrainingImage
from ushape.training.checkpoint import load_checkpoint, save_checkpoint, write_lines
from ushape.training.clock import FIRST_GUESS, Clock, Pace, is_tenth
from ushape.training.examples import Example, make_preparation, to_training_images
from ushape.training.judging import Judge
from ushape.training.listening import Listener, interruptible
from ushape.training.loop import new_state, train_steps
from ushape.training.planning import Planned
from ushape.training.recipe import write_recipe
from ushape.training.schedule import Plan
from ushape.training.transfer import take_weights
from ushape.training.validating import Labels, Validation

__all__ = ["Session", "versions"]

CHECKPOINT_SECONDS = 30.0
FEW_STEPS = 100
"""Steps up to which a network has hardly begun to learn."""
NOISE = 0.01
"""Difference of validation scores that says nothing, with a few images; the later weights are kept then."""
REVISE_SECONDS = 5.0
"""How often the number of steps is checked against the clock."""
EARLY_REVISIONS = (2, 10)
"""Timed steps after which the number of steps is first set by the clock."""
REPORTS = 200
"""Rows of the history in a whole run, about."""
REVISE_SHARE = 0.01
"""Change of the number of remaining steps that is worth an event."""


def versions() -> dict[str, str]:
    """What was used."""
    return {
        "ushape": ushape.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def no_batches(step: int) -> Batch:
    """What a session learns from that only judges, or for a moment has nothing else."""
    raise AssertionError(f"step {step} of a session that learns no more")


class Session:
    """One training run; `ushape.run.train_run` drives it."""

    kind_of_validation: type[Validation] = Validation

    def __init__(
        self,
        planned: Planned,
        folder: Path | None,
        clock: Clock,
        listener: Listener,
        *,
        seed: int,
        device: torch.device,
        minutes: float | None,
        steps: int | None,
    ) -> None:
        self.planned, self.folder, self.listener = planned, folder, listener
        self.seed, self.device, self.steps = seed, device, steps
        self.pace = Pace(clock, minutes)
        self.recipe, self.task = planned.recipe, planned.summary.task
        self.dtype = best_dtype(device)
        self.preparation = make_preparation(self.recipe, planned.summary, planned.training)
        self.encoded: dict[Example, TrainingImage] = {}
        self.batches = self.make_batches(self.planned.training)
        self.joined: tuple[int, ...] = ()  # steps of the networks that answer together, where there are several
        self.refit_from: int | None = None
        self.is_refitted = False
        self.is_through = False  # resumed where its plan had ended, with no more time than before
        self.state = new_state(self.first_network(), self.recipe, device)
        self.best: dict[str, Tensor] = {}
        self.best_score: float | None = None
        self.history: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        judge = Judge(self.task, planned.summary.classes, self.recipe.encoding)
        decision = judge.first_decision([e.mask for e in planned.training], planned.summary.dims)
        self.validation = self.kind_of_validation(
            planned.validation, self.recipe, self.preparation, judge, decision, self.pace
        )

    def make_batches(self, examples: Sequence[Example]) -> Callable[[int], Batch]:
        """What gives batch k of these images."""
        recipe = self.recipe
        new = [example for example in examples if example not in self.encoded]
        made = zip(new, to_training_images(new, recipe, self.preparation, self.device), strict=True)
        known = self.encoded | dict(made)
        self.encoded = {example: known[example] for example in examples}
        images = list(self.encoded.values())
        return Batches(
            images, recipe.geometry, recipe.patch, recipe.batch, recipe.augmentation, self.seed, recipe.foreground
        )

    def batch(self, step: int) -> Batch:
        """Batch `step` of the images that are learnt from at present."""
        return self.batches(step)

    def new_network(self) -> UNet | Classifier:
        """A fresh network, its weights drawn from the run's seed."""
        summary = self.planned.summary
        torch.manual_seed(self.seed)
        return self.recipe.network.build(summary.channels, self.recipe.encoding.n_channels, summary.dims)

    def first_network(self) -> UNet | Classifier:
        """The network that training starts with."""
        network = self.new_network()
        start = self.planned.start
        if start is not None:
            same = (start.classes, start.encoding.kind) == (self.planned.summary.classes, self.recipe.encoding.kind)
            first = f", the first of {1 + len(start.others)} networks" if start.others else ""
            self.listener.words(f"  {take_weights(network, start.network, same_answers=same)}{first}")
        return network

    def model(self, tensors: dict[str, Tensor]) -> Model:
        """A model with these weights and the present decision."""
        network = self.new_network()
        network.load_state_dict(tensors)
        return Model(
            network.eval(),
            self.preparation,
            self.task,
            self.planned.summary.classes,
            self.recipe.encoding,
            self.validation.decision,
            device=str(self.device),
            colours=self.planned.summary.colours,
            values=self.planned.summary.values,
            rotations=self.recipe.rotations,
        )

    def event(self, kind: str, **details: Any) -> None:
        """Note an event."""
        elapsed = round(self.pace.clock.seconds(), 2)
        self.events.append({"step": self.state.step, "event": kind, **details, "elapsed": elapsed})

    def ending_seconds(self) -> float:
        """What the end of the run will take."""
        # The last validation; where the held-out images were learnt from, by the weights before and after instead.
        # Networks together are judged only.
        times_watched = 0 if self.joined else 2 if self.recipe.refit else 1
        return self.validation.ending_seconds(times_watched)

    def plan(self, stop: int) -> None:
        """Make or revise the plan: train until step `stop`."""
        step, share = self.state.step, self.recipe.optimiser.decay
        plan = Plan(step, min(stop, max(step, round(stop * (1 - share)))), stop)
        self.state.plans.append(plan)
        self.event("plan", **asdict(plan))

    def revise(self) -> None:
        """Hold the plan against the clock, and change it where it is off."""
        step, old = self.state.step, self.state.plans[-1].stop
        stop = self.pace.stop(step, old, len(self.validation.watched), self.ending_seconds(), 1 - self.recipe.refit)
        if abs(stop - old) > max(1, REVISE_SHARE * (old - step)):
            self.plan(stop)

    def is_refit_due(self) -> bool:
        """Whether the held-out images have judged enough, and are to be learnt from."""
        step, stop = self.state.step, self.state.plans[-1].stop
        share = self.recipe.refit
        return share > 0 and self.refit_from is None and round(stop * (1 - share)) <= step < stop

    def refit(self, step: int) -> None:
        """Learn from all images, those held out included, after `step`."""
        # A large image that was cut in two would be in memory twice: in the batches before, and whole.
        self.batches = no_batches
        whole = set(self.planned.whole)
        self.encoded = {example: images for example, images in self.encoded.items() if example in whole}
        self.batches, self.refit_from = self.make_batches(self.planned.whole), step

    def is_tenth(self) -> bool:
        """Whether a tenth of the planned steps has just been completed."""
        return is_tenth(self.state.step, self.state.plans[-1].stop)

    def is_validation_step(self) -> bool:
        """Whether the held-out images, not yet learnt from, are to be looked at: after every tenth, and at the last."""
        return self.refit_from is None and (self.is_tenth() or self.is_refit_due())

    def is_report_step(self) -> bool:
        """Whether a row of the history is due."""
        return self.state.step % max(1, self.state.plans[-1].stop // REPORTS) == 0

    def validate(self) -> float:
        """Score the averaged weights on the watched images and keep them when they are the best so far."""
        score = self.validation.watch(self.model(self.state.average))
        # Among equals the later one is better: its average has seen more, at a lower learning rate.
        # What is no number compares as false.
        if self.is_finite() and score >= (self.best_score or 0.0) - NOISE:
            self.best_score = max(score, self.best_score or 0.0)
            self.best = {name: tensor.clone() for name, tensor in self.state.average.items()}
        return score

    def keep_windows(self, told: str) -> None:
        """Where windows of the held-out images are looked at, the report shows these, and tells it."""
        if told:
            findings = (*self.planned.findings, told)
            self.planned = replace(self.planned, validation=self.validation.examples, findings=findings)
            self.listener.words(f"  {told}")

    def checkpoint_path(self) -> Path | None:
        """Where the checkpoint lies; None without a run folder."""
        return None if self.folder is None else self.folder / "checkpoint" / "state.safetensors"

    def is_finite(self) -> bool:
        """Whether the averaged weights are numbers: one that is not spreads to all others and stays."""
        return all(bool(tensor.isfinite().all()) for tensor in self.state.average.values())

    def save_checkpoint(self) -> None:
        """Write the checkpoint and the run's records; what hinders that is told, and is no reason to stop training.

        Weights that are no numbers any more are not written over those that were.
        """
        path = self.checkpoint_path()
        if path is None or self.folder is None:
            return
        notes = {
            "seconds": self.pace.clock.seconds(),
            "minutes": self.pace.minutes,
            "best_score": self.best_score,
            "watched": [example.sample.name for example in self.validation.watched],
            "window": self.validation.window,
            "held out": [example.sample.name for example in self.planned.validation],
            "refit from": self.refit_from,
            "history": self.history,
            "events": self.events,
        }
        try:
            if self.is_finite():
                save_checkpoint(path, self.state, self.best, notes)
            write_lines(self.folder / "history.jsonl", self.history)
            write_lines(self.folder / "events.jsonl", self.events)
        except (ModelFileError, OSError) as error:
            # What is in memory may still be saved later, or become a model.
            self.listener.words(f"  warning: could not save after step {self.state.step}: {error}")

    def resume(self) -> bool:
        """Continue from the checkpoint where there is one; True when there was."""
        path = self.checkpoint_path()
        if path is None or not path.exists():
            return False
        best, notes = load_checkpoint(path, self.state)
        self.best = {name: tensor.to(self.device) for name, tensor in best.items()}
        self.best_score = notes["best_score"]
        if (pixels := notes.get("window")) is not None:
            self.keep_windows(self.validation.look_at_windows(pixels))
        watched = set(notes["watched"])
        held = {example.sample.name for example in self.planned.validation}
        if held != set(notes.get("held out", held)) or not watched <= held:
            raise RecipeError(
                f"{path}: expected the images that this run had held out, found that others would be now, some of "
                "which it has learnt from; train a new run"
            )
        self.validation.watch_these(notes["watched"])
        self.history, self.events = notes["history"], notes["events"]
        if (begun := notes.get("refit from")) is not None:
            self.refit(begun)
            self.listener.words(
                f"  the held-out images were learnt from after step {begun}, so they choose no weights and thresholds "
                "any more; to have more steps judged, train a new run"
            )
        self.pace.clock.earlier += notes["seconds"]
        ended = bool(self.state.plans) and self.state.step >= self.state.plans[-1].stop
        self.is_through = ended and self.pace.minutes == notes.get("minutes")
        self.event("resume")
        return True

    def loop(self) -> bool:
        """Train to the plan's end; True when it was reached, False after Ctrl-C, with everything saved."""
        if not self.state.plans:
            if self.pace.minutes is not None:
                self.keep_windows(self.validation.watch_what_is_affordable(self.model(self.state.average)))
            self.plan(self.steps or FIRST_GUESS)
        elif self.steps is not None and self.steps != self.state.plans[-1].stop:
            self.plan(max(self.steps, self.state.step))
        elif self.pace.minutes is not None:
            self.validation.time_an_image(self.model(self.state.average))
            if not self.is_through:
                self.revise()
        with interruptible() as asked:
            finished = self.follow(self.state.step, asked)
        if not finished:
            self.listener.words("  interrupted: saving")
            self.event("interrupted")
        elif self.pace.minutes is not None and self.state.step < FEW_STEPS:
            self.listener.words(
                f"  warning: {self.pace.minutes:g} minutes had room for {self.state.step} steps only, too few to learn "
                "much; give more minutes"
            )
        self.save_checkpoint()
        return finished

    def follow(self, first: int, asked: threading.Event) -> bool:
        """Run the loop from step `first`: validate every tenth, save every half minute, follow the clock.

        False when `asked` to stop before the end.
        """
        revised = saved = begun = time.perf_counter()
        spent = 0.0
        for record in train_steps(self.state, self.batch, self.recipe, self.seed, self.device, self.dtype):
            n_timed = record.step - first - 1
            if n_timed in (0, *EARLY_REVISIONS) or self.is_report_step() or self.is_validation_step():
                # What a GPU has only been asked for takes its time too.
                finish(self.device)
            now = time.perf_counter()
            # The first step after a start is slower than the rest, and is no measure.
            if n_timed > 0:
                spent += now - begun
                self.pace.step_seconds = spent / n_timed
            is_due = now - revised > REVISE_SECONDS or n_timed in EARLY_REVISIONS
            # At its end the rate is zero; a step or two that would fit are not worth its rise.
            if self.pace.minutes is not None and is_due and record.step < self.state.plans[-1].stop:
                self.revise()
                revised = now
            validation = self.validate() if self.is_validation_step() else None
            if validation is not None or self.is_report_step() or self.is_tenth():
                self.note(record.step, float(record.loss), record.learning_rate, validation)
            if self.is_refit_due():
                self.event("refit", images=len(self.planned.whole))
                self.listener.words(f"  after step {record.step} the held-out images are learnt from too")
                self.refit(record.step)
            if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                self.save_checkpoint()
                saved = time.perf_counter()
            if asked.is_set() and record.step < self.state.plans[-1].stop:
                return False
            begun = time.perf_counter()
        return True

    def note(self, step: int, loss: float, rate: float, validation: float | None) -> None:
        """Add a row to the history and tell the listener."""
        if not math.isfinite(loss):
            kept = ", and kept the best weights until then" if self.best and self.folder is not None else ""
            raise RecipeError(
                f"expected a finite loss, found {loss} at step {step}{kept}; train a new run with a lower rate, as in "
                f"--set optimiser.learning_rate={self.recipe.optimiser.learning_rate / 10:g}"
            )
        each = self.pace.step_seconds
        row: dict[str, Any] = {
            "step": step,
            "loss": round(loss, 6),
            "learning_rate": rate,
            "images_per_second": round(self.recipe.batch / each, 2) if each else 0.0,
            "elapsed": round(self.pace.clock.seconds(), 2),
        }
        if validation is not None:
            row["validation"] = round(validation, 5)
        self.history.append(row)
        stop = self.state.plans[-1].stop
        left = math.nan if each is None else (stop - step) * each + self.ending_seconds()
        self.listener.progress(step, stop, loss, validation, left)

    def finish(self) -> tuple[Model, Model, Evaluation, dict[str, Labels]]:
        """(model, judged model, scores, labels by name): the best weights, thresholds tuned on validation images.

        Where the held-out images were learnt from in the end, the scores are of the best weights before, those of the
        judged model, and the model has the last ones, with the same thresholds.
        """
        # A run that was interrupted before its first validation has no best weights.
        judged = self.model(self.best or self.state.average)
        evaluation, labels = self.score(judged)
        model = self.final_model(judged)
        model.facts = self.facts(evaluation.scores)
        return model, judged, evaluation, labels

    def score(self, model: Model) -> tuple[Evaluation, dict[str, Labels]]:
        """(scores, labels by name) on validation images, by thresholds that are tuned there for the model first."""
        maps = self.validation.tune(model)
        if self.validation.n_tuned:
            self.event("decision", **model.decision.to_dict())
        return self.validation.score(model, maps)

    def as_of(self, steps: Sequence[int], minutes: float | None, seconds: float) -> Session:
        """The session, with nothing of what training needs, of several networks that answer together.

        steps    of each of them
        minutes  the budget of all
        seconds  that they took so far
        """
        joint = copy.copy(self)
        joint.joined = tuple(steps)
        joint.pace = replace(self.pace, minutes=minutes, clock=Clock(earlier=seconds))
        joint.validation = self.validation.of_networks(len(steps), joint.pace)
        joint.encoded, joint.state = {}, replace(self.state, optimiser=torch.optim.SGD([torch.zeros(1)]))
        joint.batches = no_batches
        # An end of one of them is none of all.
        joint.events = [event for event in self.events if event["event"] not in ("finished", "interrupted")]
        return joint

    def final_model(self, judged: Model) -> Model:
        """The model with the last weights where those have learnt from all images; else `judged`, as it was scored.

        Last weights that are worse, on images they have learnt from, than the judged ones, which had not, are dropped:
        that notices training that went astray, and not weights that know these images by heart.
        """
        if self.refit_from is None or self.state.step == self.refit_from or not self.is_finite():
            return judged
        last = self.model(self.state.average)
        before, after = self.validation.score_watched(judged), self.validation.score_watched(last)
        if after >= before - NOISE:
            self.is_refitted = True
            return last
        self.event("refit dropped", before=round(before, 5), after=round(after, 5))
        self.listener.words("  what was learnt from all images is worse on the held-out ones, and is not kept")
        return judged

    def facts(self, scores: dict[str, float]) -> dict[str, Any]:
        """What the model file remembers of its making."""
        return {
            "recipe": write_recipe(self.recipe),
            "validation scores, used for choosing": scores,
            "data": self.planned.summary.name,
            "data fingerprint": self.planned.fingerprint,
            "validated on": self.planned.validated_on,
            "image digests": list(self.planned.digests),
            "n_images": self.planned.summary.n_images,
            "steps": self.state.step,
            "refit from step": self.refit_from if self.is_refitted else None,
            "seed": self.seed,
            "engine": "torch",
            "precision": str(self.dtype).removeprefix("torch."),
            "spacing": None if self.planned.summary.spacing is None else asdict(self.planned.summary.spacing),
            "versions": versions(),
        }
