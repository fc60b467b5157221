"""A training session: what happens between the steps of the loop.

Validation, the moving best, checkpoints, the plan held against the clock, and at the end thresholds and scores. A time
budget decides integers only: how wide the network is and how many steps are planned. The plan is revised while the
session goes on; each revision is an event that is written down, and the learning rate follows from the events.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import ushape
from ushape.model import Evaluation, Model, Prediction, score_masks
from ushape.network.hardware import best_dtype
from ushape.network.unet import UNet
from ushape.scoring.objects import count_objects, mean_average_precision
from ushape.targets.instances import default_decision, object_sizes, tune_decision
from ushape.training.batches import Batches
from ushape.training.checkpoint import load_checkpoint, save_checkpoint, write_lines
from ushape.training.examples import Example, make_preparation, to_training_images
from ushape.training.loop import new_state, train_steps
from ushape.training.planning import Planned
from ushape.training.recipe import write_recipe
from ushape.training.schedule import Plan

__all__ = ["Clock", "Listener", "Session"]

CHECKPOINT_SECONDS = 30.0
VALIDATIONS = 10
"""How often a run is validated, so that its best weights can be kept and its curve be seen."""
VALIDATION_SHARE = 0.04
"""Share of the time that validating while training may take; fewer images are validated where it would take more."""
TUNING_IMAGES = 16
"""Validation images on which thresholds are chosen; more add cost but hardly information."""
REPORT_SECONDS = 3.0
"""Reserved for the report and the last saving, beside what was measured."""
REVISE_SECONDS = 5.0
"""How often the number of steps is checked against the clock."""
EARLY_REVISIONS = (2, 10)
"""Timed steps after which the number of steps is first set by the clock."""
FIRST_GUESS = 100
"""Steps planned until the clock has been heard."""
REPORTS = 200
"""Rows of the history in a whole run, about."""
REVISE_SHARE = 0.01
"""Change of the number of remaining steps that is worth an event."""


@dataclass
class Clock:
    """Active seconds since the process began its work, those of earlier, interrupted sittings included."""

    started: float = field(default_factory=time.perf_counter)
    earlier: float = 0.0

    def seconds(self) -> float:
        """Active seconds so far."""
        return time.perf_counter() - self.started + self.earlier


class Listener:
    """Hears what happens during a run; the command line shows it. Does nothing by itself."""

    def words(self, text: str) -> None:
        """A sentence for a person."""

    def progress(self, step: int, stop: int, loss: float, validation: float | None, seconds_left: float) -> None:
        """One report of the loop."""

    def close(self) -> None:
        """The run has ended, however."""


def versions() -> dict[str, str]:
    """What was used."""
    return {
        "ushape": ushape.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


class Session:
    """One training run; `ushape.run.train_run` drives it."""

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
        self.planned, self.folder, self.clock, self.listener = planned, folder, clock, listener
        self.seed, self.device, self.minutes, self.steps = seed, device, minutes, steps
        self.recipe = planned.recipe
        self.dtype = best_dtype(device)
        self.preparation = make_preparation(self.recipe, planned.summary, planned.training)
        images = to_training_images(planned.training, self.recipe, self.preparation, device)
        self.batches = Batches(
            images,
            self.recipe.geometry,
            self.recipe.patch,
            self.recipe.batch,
            self.recipe.augmentation,
            seed,
            self.recipe.foreground,
        )
        self.state = new_state(self.new_network(), self.recipe, device)
        self.best: dict[str, Tensor] = {}
        self.best_score: float | None = None
        self.history: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.validation_seconds: list[float] = []
        self.step_seconds: float | None = None
        self.decision = default_decision(self.recipe.encoding, self.typical_size())
        self.watched = self.watched_examples()

    def new_network(self) -> UNet:
        """A fresh network, its weights drawn from the run's seed."""
        settings, summary = self.recipe.network, self.planned.summary
        torch.manual_seed(self.seed)
        return UNet(
            in_channels=summary.channels,
            n_classes=self.recipe.encoding.n_channels,
            dims=summary.dims,
            **asdict(settings),
        )

    def typical_size(self) -> float:
        """Pixels of the median object; 1 where masks hold classes, so that nothing counts as too small."""
        if self.planned.summary.task != "instances":
            return 1.0
        return float(np.median(object_sizes([example.mask for example in self.planned.training])))

    def watched_examples(self) -> list[Example]:
        """The validation images looked at while training: at most eight, evenly spread."""
        held = self.planned.validation
        count = min(len(held), 8)
        return [held[index * len(held) // count] for index in range(count)]

    def model(self, tensors: dict[str, Tensor]) -> Model:
        """A model with these weights and the present decision."""
        network = self.new_network()
        network.load_state_dict(tensors)
        summary = self.planned.summary
        return Model(
            network.eval(),
            self.preparation,
            summary.task,
            summary.classes,
            self.recipe.encoding,
            self.decision,
            device=str(self.device),
        )

    def score(self, model: Model, examples: Sequence[Example]) -> float:
        """One number, the larger the better: mean AP over IoU 0.5 to 0.95 for objects, else mean Dice of classes."""
        estimates = [model.decide(model.maps(example.image)).labels for example in examples]
        return self.score_labels([example.mask for example in examples], estimates)

    def score_labels(self, references: Sequence[NDArray[Any]], estimates: Sequence[NDArray[Any]]) -> float:
        """The validation score of label arrays."""
        if self.planned.summary.task == "instances":
            value = mean_average_precision([count_objects(r, e) for r, e in zip(references, estimates, strict=True)])
            return 0.0 if np.isnan(value) else value
        pairs = [("", r, e, True) for r, e in zip(references, estimates, strict=True)]
        return score_masks(self.planned.summary.task, self.planned.summary.classes, pairs)[0].get("mean Dice", 0.0)

    def event(self, kind: str, **details: Any) -> None:
        """Note an event."""
        self.events.append(
            {"step": self.state.step, "event": kind, **details, "elapsed": round(self.clock.seconds(), 2)}
        )

    def reserve(self) -> float:
        """Seconds that the end of the run will take: validating all images, tuning thresholds, the report."""
        each = (self.validation_seconds[-1] / len(self.watched)) if self.validation_seconds else 0.5
        tuning = (
            8
            * min(TUNING_IMAGES, len(self.planned.validation))
            * each
            * (0.1 if self.planned.summary.task == "semantic" else 0.3)
        )
        # The last step is validated too.
        return each * (len(self.watched) + len(self.planned.validation)) * 1.2 + tuning + REPORT_SECONDS

    def plan(self, stop: int) -> None:
        """Make or revise the plan: train until step `stop`."""
        step, share = self.state.step, self.recipe.optimiser.decay
        self.state.plans.append(Plan(step, min(stop, max(step, round(stop * (1 - share)))), stop))
        last = self.state.plans[-1]
        self.event("plan", made_at=last.made_at, decay_from=last.decay_from, stop=last.stop)

    def steps_that_fit(self) -> int:
        """Where a run by the clock should stop, from the speed so far."""
        assert self.minutes is not None
        left = 60 * self.minutes - self.clock.seconds() - self.reserve()
        if self.step_seconds is None:
            return self.state.step + 100
        stop = self.state.plans[-1].stop
        remaining = VALIDATIONS * (1 - self.state.step / max(stop, 1))
        if self.validation_seconds:
            left -= remaining * self.validation_seconds[-1]
        return self.state.step + max(0, int(left / self.step_seconds))

    def revise(self) -> None:
        """Hold the plan against the clock, and change it where it is off."""
        old, stop = self.state.plans[-1].stop, self.steps_that_fit()
        if abs(stop - old) > max(1, REVISE_SHARE * (old - self.state.step)):
            self.plan(max(stop, self.state.step))

    def is_validation_step(self) -> bool:
        """Whether a tenth of the planned steps has just been completed."""
        step, stop = self.state.step, self.state.plans[-1].stop
        return step >= stop or (VALIDATIONS * step) // stop > (VALIDATIONS * (step - 1)) // stop

    def validate(self) -> float:
        """Score the averaged weights on the watched images and keep them when they are the best so far."""
        begun = time.perf_counter()
        score = self.score(self.model(self.state.average), self.watched)
        self.validation_seconds.append(time.perf_counter() - begun)
        # Later is better among equals: the average has seen more.
        if self.best_score is None or score >= self.best_score:
            self.best_score = score
            self.best = {name: tensor.clone() for name, tensor in self.state.average.items()}
        self.limit_validation()
        return score

    def limit_validation(self) -> None:
        """Watch fewer images where validating takes more than its share; said once, after the first validation."""
        if self.minutes is None or len(self.validation_seconds) > 1:
            return
        share = VALIDATIONS * self.validation_seconds[0] / (60 * self.minutes)
        count = max(1, int(len(self.watched) * min(1.0, VALIDATION_SHARE / share)))
        if count < len(self.watched):
            self.validation_seconds[0] *= count / len(self.watched)
            self.watched = self.watched[:: len(self.watched) // count][:count]
            # The first score was of other images, and is no measure for the next.
            self.best_score = None
            self.event("watch fewer validation images", count=count)

    def checkpoint_path(self) -> Path | None:
        """Where the checkpoint lies; None without a run folder."""
        return None if self.folder is None else self.folder / "checkpoint" / "state.safetensors"

    def save_checkpoint(self) -> None:
        """Write the checkpoint and the run's records."""
        path = self.checkpoint_path()
        if path is None or self.folder is None:
            return
        notes = {
            "seconds": self.clock.seconds(),
            "best_score": self.best_score,
            "history": self.history,
            "events": self.events,
        }
        save_checkpoint(path, self.state, self.best, notes)
        write_lines(self.folder / "history.jsonl", self.history)
        write_lines(self.folder / "events.jsonl", self.events)

    def resume(self) -> bool:
        """Continue from the checkpoint where there is one; True when there was."""
        path = self.checkpoint_path()
        if path is None or not path.exists():
            return False
        best, notes = load_checkpoint(path, self.state)
        self.best = {name: tensor.to(self.device) for name, tensor in best.items()}
        self.best_score = notes["best_score"]
        self.history, self.events = notes["history"], notes["events"]
        self.clock.earlier += notes["seconds"]
        self.event("resume")
        return True

    def loop(self) -> bool:
        """Train to the plan's end; True when it was reached, False after Ctrl-C, with everything saved."""
        if not self.state.plans:
            self.plan(self.steps or FIRST_GUESS)
        elif self.steps is not None and self.steps != self.state.plans[-1].stop:
            self.plan(max(self.steps, self.state.step))
        try:
            self.follow(self.state.step)
            finished = True
        except KeyboardInterrupt:
            self.listener.words("  interrupted: saving")
            self.event("interrupted")
            finished = False
        if not self.best:
            self.note(self.state.step, float("nan"), 0.0, self.validate())
        self.save_checkpoint()
        return finished

    def follow(self, first: int) -> None:
        """Run the loop from step `first`: validate every tenth, save every half minute, follow the clock."""
        revised = saved = begun = time.perf_counter()
        spent = 0.0
        for record in train_steps(self.state, self.batches, self.recipe, self.seed, self.device, self.dtype):
            now = time.perf_counter()
            n_timed = record.step - first - 1
            # The first step after a start is slower than the rest, and is no measure.
            if n_timed > 0:
                spent += now - begun
                self.step_seconds = spent / n_timed
            validation = self.validate() if self.is_validation_step() else None
            if validation is not None or record.step % max(1, self.state.plans[-1].stop // REPORTS) == 0:
                self.note(record.step, float(record.loss), record.learning_rate, validation)
            if self.minutes is not None and (now - revised > REVISE_SECONDS or n_timed in EARLY_REVISIONS):
                self.revise()
                revised = now
            if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                self.save_checkpoint()
                saved = time.perf_counter()
            begun = time.perf_counter()

    def note(self, step: int, loss: float, rate: float, validation: float | None) -> None:
        """Add a row to the history and tell the listener."""
        speed = self.recipe.batch / self.step_seconds if self.step_seconds else 0.0
        row: dict[str, Any] = {
            "step": step,
            "loss": round(loss, 6),
            "learning_rate": rate,
            "images_per_second": round(speed, 2),
            "elapsed": round(self.clock.seconds(), 2),
        }
        if validation is not None:
            row["validation"] = round(validation, 5)
        self.history.append(row)
        stop = self.state.plans[-1].stop
        left = (stop - step) * (self.step_seconds or 0.0) + self.reserve()
        self.listener.progress(step, stop, loss, validation, left)

    def finish(self) -> tuple[Model, Evaluation, dict[str, Prediction]]:
        """The best weights, thresholds tuned on validation images, and the scores there."""
        model = self.model(self.best)
        maps = {example.sample.name: model.maps(example.image) for example in self.planned.validation}
        if self.planned.summary.task == "instances":
            chosen = self.planned.validation[:: max(1, len(self.planned.validation) // TUNING_IMAGES)][:TUNING_IMAGES]
            self.decision, _ = tune_decision(
                [maps[example.sample.name] for example in chosen],
                [example.mask for example in chosen],
                self.recipe.encoding,
                self.score_labels,
            )
            model.decision = self.decision
            self.event("decision", **self.decision.to_dict())
        predictions = {name: model.decide(m) for name, m in maps.items()}
        pairs = [(e.sample.name, e.mask, predictions[e.sample.name].labels, True) for e in self.planned.validation]
        scores, rows = score_masks(self.planned.summary.task, self.planned.summary.classes, pairs)
        model.facts = {
            "recipe": write_recipe(self.recipe),
            "validation scores, used for choosing": scores,
            "data": self.planned.summary.name,
            "n_images": self.planned.summary.n_images,
            "steps": self.state.step,
            "seed": self.seed,
            "precision": str(self.dtype).removeprefix("torch."),
            "versions": versions(),
        }
        return model, Evaluation(scores, rows), predictions
