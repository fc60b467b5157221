"""A training run from dataset to model, with its folder and report.

The run folder holds `model.safetensors` (the best weights by validation), `recipe.toml`, `run.json` (what was asked
for), `events.jsonl`, `history.jsonl`, `report.html` and `checkpoint/`. Everything is written to a temporary name and
renamed, so that a run can be killed at any moment and resumed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Dataset
from ushape.errors import RecipeError
from ushape.model import Evaluation, Model
from ushape.network.hardware import choose_device, describe_device, set_threads
from ushape.picture.report import Panel, Report, write_report
from ushape.training.checkpoint import write_text
from ushape.training.clock import Clock
from ushape.training.label_session import LabelSession
from ushape.training.planning import Planned, make_plan
from ushape.training.recipe import write_recipe
from ushape.training.session import Listener, Session, versions

__all__ = ["Finished", "train", "train_run"]

DEFAULT_MINUTES = 10.0
SHORTEST_MINUTES = 0.25
GALLERY = 12
"""Validation images shown in the report, the worst."""


class Logged(Listener):
    """Passes on what it hears, and writes it to the run's `log.txt`, line by line as it comes."""

    def __init__(self, listener: Listener, path: Path) -> None:
        self.listener, self.path = listener, path

    def write(self, text: str) -> None:
        """Add a line with the time of day."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text.strip()}\n")

    def words(self, text: str) -> None:
        """Write and pass on."""
        self.write(text)
        self.listener.words(text)

    def progress(self, step: int, stop: int, loss: float, validation: float | None, seconds_left: float) -> None:
        """Write where there is a validation score, and pass on."""
        if validation is not None:
            self.write(f"step {step} of {stop}: loss {loss:.4f}, validation {validation:.4f}")
        self.listener.progress(step, stop, loss, validation, seconds_left)

    def close(self) -> None:
        """Pass on."""
        self.listener.close()


def score_of(row: dict[str, Any], task: str) -> tuple[str, float]:
    """(name, value) of the score that pictures are ordered by."""
    name = "AP@0.5" if task == "instances" else "mean Dice"
    return name, float(row.get(name, 1.0))


def gallery(planned: Planned, evaluation: Evaluation, labels: dict[str, NDArray[np.int32]]) -> tuple[Panel, ...]:
    """The worst validation images as pictures, worst first."""
    task = planned.summary.task
    if task == "classification":
        return ()
    rows = sorted(evaluation.rows, key=lambda row: score_of(row, task)[1])
    examples = {example.sample.name: example for example in planned.validation}
    panels = []
    for row in rows[:GALLERY]:
        example, (name, value) = examples[row["name"]], score_of(row, task)
        image, mask, estimate = example.image, example.mask, labels[row["name"]]
        if mask.ndim == 3:
            middle = mask.shape[0] // 2
            image, mask, estimate = image[:, middle], mask[middle], estimate[middle]
        panels.append(Panel(row["name"], name, value, image, mask, estimate, instances=task == "instances"))
    return tuple(panels)


def new_run_folder(name: str) -> Path:
    """A new folder `runs/NAME`, or with the next free number behind it; made at once, so that no other run takes it."""
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def refuse_earlier_run(folder: Path) -> None:
    """RecipeError when the folder holds another run, which this one was not asked to resume."""
    if (folder / "model.safetensors").exists() or (folder / "checkpoint").exists():
        raise RecipeError(
            f"expected a new folder for the run, found an earlier run in {folder}; continue it with --resume, or "
            "name another folder with -o"
        )


def facts_of(run: Session) -> dict[str, str]:
    """What the report tells of time, machine and versions."""
    seconds, each = run.pace.clock.seconds(), run.pace.step_seconds
    speed = f"{1 / each:.2f} steps a second" if each else "not measured"
    budget = f"{run.steps} steps" if run.pace.minutes is None else f"{run.pace.minutes:g} minutes"
    network = ", ".join(f"{name} {value}" for name, value in run.state.network.settings.items())
    return {
        "budget": budget,
        "time used": f"{seconds / 60:.1f} minutes, {run.state.step} steps, {speed}",
        "device": describe_device(run.device),
        "network": network,
        "data": f"{len(run.planned.training)} images to train on, {len(run.planned.validation)} held out",
        "decision": ", ".join(f"{name} {value}" for name, value in run.decision.to_dict().items()),
        "seed": str(run.seed),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def write_run_report(
    path: Path, run: Session, evaluation: Evaluation, labels: dict[str, NDArray[np.int32]], command: str
) -> None:
    """The run as one HTML page."""
    planned = run.planned
    first = ("AP@0.5", "AP@0.75", "F1@0.5", "SEG") if planned.summary.task == "instances" else ()
    scores = {name: evaluation.scores[name] for name in first if name in evaluation.scores} | evaluation.scores
    report = Report(
        title=f"{planned.summary.name}: {planned.recipe.name} recipe",
        command=command,
        plan=planned.recipe.reasons,
        findings=planned.findings,
        problems=planned.problems,
        scores=scores,
        score_note="Scores of the images held out for validation. They also chose the best weights and the thresholds, "
        "so expect a little less on new images; score those with `ushape evaluate`.",
        rows=evaluation.rows,
        gallery=gallery(planned, evaluation, labels),
        history=run.history,
        events=run.events,
        facts=facts_of(run),
    )
    write_report(path, report)


@dataclass(frozen=True)
class Finished:
    """How a run ended.

    evaluation  of the validation images: used for choosing weights and thresholds, so no independent result
    """

    model: Model
    folder: Path | None
    evaluation: Evaluation
    steps: int
    seconds: float
    problems: tuple[str, ...]
    interrupted: bool = False


def check_budget(asked: Asked) -> None:
    """RecipeError for a budget that is contradictory or too small."""
    minutes, steps = asked.minutes, asked.steps
    if minutes is not None and steps is not None:
        raise RecipeError(f"expected either minutes or steps, found {minutes} minutes and {steps} steps; drop one")
    if steps is not None and steps < 1:
        raise RecipeError(f"expected at least 1 step, found {steps}; raise --steps")
    if minutes is not None and not minutes >= SHORTEST_MINUTES:
        raise RecipeError(f"expected at least {SHORTEST_MINUTES} minutes, found {minutes}; raise --minutes")


@dataclass(frozen=True)
class Asked:
    """What a run was asked for; kept in `run.json`, so that it can be resumed and repeated."""

    data: str
    validation: str | None
    seed: int
    minutes: float | None
    steps: int | None
    command: str = ""

    def resumed_from(self, folder: Path) -> Asked:
        """What the interrupted run in the folder was asked for; a new number of minutes or steps overrules it."""
        path = folder / "run.json"
        if not path.exists():
            raise RecipeError(f"expected an interrupted run in {folder} to resume, found none; train without --resume")
        before = Asked(**json.loads(path.read_text(encoding="utf-8")))
        if (before.data, before.validation) != (self.data, self.validation):
            raise RecipeError(
                f"expected the data that the run in {folder} was trained and validated on, found other data; name the "
                "same data, or train a new run"
            )
        if self.seed not in (0, before.seed):
            raise RecipeError(f"expected the run's seed {before.seed}, found {self.seed}; resume without --seed")
        if self.minutes is None and self.steps is None:
            return before
        return replace(before, minutes=self.minutes, steps=self.steps)


def train_run(
    dataset: Dataset,
    *,
    output: Path | None = None,
    validation: Dataset | None = None,
    recipe: str = "auto",
    settings: Sequence[str] = (),
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    keep_folder: bool = True,
    clock: Clock | None = None,
    listener: Listener | None = None,
    command: str = "",
) -> Finished:
    """Train, and write the run folder (unless `keep_folder` is off); see `train` for the arguments."""
    clock, listener = clock or Clock(), listener or Listener()
    set_threads()
    asked = Asked(dataset.fingerprint, validation.fingerprint if validation else None, seed, minutes, steps, command)
    check_budget(asked)
    if resume:
        if output is None:
            raise RecipeError("expected the folder of the run to resume, found none; name it with -o RUN")
        if recipe != "auto" or settings:
            raise RecipeError(
                "expected the recipe of the run that is resumed, found another recipe or settings; resume without "
                "--recipe and --set, or train a new run"
            )
        asked, recipe = asked.resumed_from(output), str(output / "recipe.toml")
    elif output is not None:
        refuse_earlier_run(output)
    if asked.minutes is None and asked.steps is None:
        asked = replace(asked, minutes=DEFAULT_MINUTES)
    planned = make_plan(
        dataset,
        validation=validation,
        recipe=recipe,
        settings=settings,
        # What is resumed has its recipe; nothing need be measured for it.
        minutes=None if resume else asked.minutes,
        device=device,
    )
    folder = output
    if folder is None and keep_folder:
        folder = new_run_folder(dataset.name.replace(":", "-"))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        listener = Logged(listener, folder / "log.txt")
    for text in (*planned.recipe.reasons, *(f"warning: {each}" for each in (*planned.problems, *planned.concerns))):
        listener.words(f"  {text}")
    kind = LabelSession if planned.summary.task == "classification" else Session
    session = kind(
        planned,
        folder,
        clock,
        listener,
        seed=asked.seed,
        device=choose_device(device),
        minutes=asked.minutes,
        steps=asked.steps,
    )
    if folder is not None:
        write_text(folder / "recipe.toml", write_recipe(planned.recipe))
        write_text(folder / "run.json", json.dumps(asdict(asked)))
    if resume and session.resume():
        listener.words(f"  resumed after step {session.state.step}")
    try:
        interrupted = not session.loop()
    finally:
        listener.close()
    return conclude(session, asked.command, interrupted)


def conclude(run: Session, command: str, interrupted: bool) -> Finished:
    """Tune, score, and write model and report."""
    model, evaluation, labels = run.finish()
    if run.folder is not None:
        model.save(run.folder / "model.safetensors")
        if not interrupted:
            run.event("finished")
        run.save_checkpoint()
        write_run_report(run.folder / "report.html", run, evaluation, labels, command)
    seconds = run.pace.clock.seconds()
    return Finished(model, run.folder, evaluation, run.state.step, seconds, run.planned.problems, interrupted)


def train(
    dataset: Dataset | str | Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    validation: Dataset | str | Path | None = None,
    recipe: str = "auto",
    settings: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    output: Path | str | None = None,
    resume: bool = False,
    listener: Listener | None = None,
) -> Model:
    """Train a model on a dataset, a folder or a catalog name.

    minutes     time budget with everything included, an upper bound; 10 where neither it nor `steps` is given
    steps       train exactly so many steps instead; the same steps and seed give the same weights
    validation  data to choose the best weights and the thresholds by; default: a part of `dataset` is held out
    recipe      `auto`, `paper` or a TOML file
    settings    fields of the recipe to change, such as "network.depth=4"
    output      run folder to write; None: nothing is written
    resume      continue the interrupted run in `output`
    """
    from ushape.data.catalog import open_dataset

    def opened(data: Dataset | str | Path) -> Dataset:
        return data if isinstance(data, Dataset) else open_dataset(data)

    return train_run(
        opened(dataset),
        output=None if output is None else Path(output),
        validation=None if validation is None else opened(validation),
        recipe=recipe,
        settings=settings,
        minutes=minutes,
        steps=steps,
        seed=seed,
        device=device,
        resume=resume,
        keep_folder=output is not None,
        listener=listener,
    ).model
