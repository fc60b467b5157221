"""One run from its inputs to its row: trained where it left off, scored, written down.

A run passes through these states, each seen from its files alone, so that it can be killed at any moment:

    new          nothing there, or what is there is of other inputs and is removed
    interrupted  a run folder with a checkpoint: training goes on from it
    trained      the run folder's events end with `finished`: only the scores are missing
    done         the row is there

Run folders lie under `runs/benchmarks`, which git ignores. Beside what `ushape.run` writes there, `inputs.json` holds
what the folder is of, and `seconds.json` the active time that training took.
"""

from __future__ import annotations

import json
import shutil
import signal
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import ushape
from bench.experiments import Run
from bench.membranes import MembraneTally, pooled_scores
from bench.provenance import REPOSITORY, RecipeContents, code_version, commit, machine
from bench.records import Records, Row, differing, now
from bench.splits import open_stage
from ushape.data.dataset import Dataset
from ushape.errors import DataError
from ushape.run import train_run
from ushape.tally import Evaluation
from ushape.training.checkpoint import write_text
from ushape.training.listening import Listener

__all__ = ["Bench", "Deadline", "Job", "State"]

State = Literal["new", "interrupted", "trained", "done", "older code"]
RUNS = REPOSITORY / "runs" / "benchmarks"
PREDICTIONS_TIMED = 3


class Deadline(Listener):
    """Prints what happens, and interrupts the training, as Ctrl-C does, when the time of the sitting is up."""

    def __init__(self, until: float | None) -> None:
        self.until, self.passed = until, False

    def progress(self, step: int, stop: int, loss: float, validation: float | None, seconds_left: float) -> None:
        """Look at the clock."""
        if validation is not None:
            print(f"    step {step} of {stop}: loss {loss:.4f}, validation {validation:.4f}", flush=True)
        if self.until is not None and time.monotonic() > self.until and not self.passed:
            self.passed = True
            signal.raise_signal(signal.SIGINT)


@dataclass(frozen=True, eq=False)
class Job:
    """A run with the data that it is of, and its inputs: what a row is repeated for when it changes."""

    run: Run
    experiment: str
    training: Dataset
    scored: Dataset
    inputs: Mapping[str, str]

    @property
    def training_inputs(self) -> dict[str, str]:
        """Those that a run folder is of."""
        return {key: value for key, value in self.inputs.items() if key != "scored data"}


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where there is none."""
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def events_in(folder: Path) -> list[dict[str, Any]]:
    """The events of a run folder."""
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def sittings_of(noted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Which code, commits and machines have trained in a run folder so far; older folders tell of the first commit."""
    if "sittings" in noted or "commit" not in noted:
        return list(noted.get("sittings", ()))
    return [{"code": noted["code"], "commit": noted["commit"], "dirty": False, "machine": machine()}]


def rounded(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores to six digits behind the point: warping errors are small."""
    return {name: round(value, 6) for name, value in scores.items()}


def seconds_an_image(model: ushape.Model, dataset: Dataset) -> float:
    """How long the maps of the first image take, without rotations (P21): the median of some, behind an uncounted one.

    One alone may be disturbed, and the first one of a network chooses its kernels.
    """
    image, taken = dataset.samples[0].read_image(), []
    for _ in range(1 + PREDICTIONS_TIMED):
        began = time.perf_counter()
        model.maps(image, symmetries=1)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def without_reasons(recipe: str) -> str:
    """A recipe as TOML without its sentences, which would be most of a row."""
    return "".join(line for line in recipe.splitlines(keepends=True) if not line.startswith("reasons = "))


def refuse_unsound(run: Run, found: Evaluation) -> None:
    """DataError where the scores are of fewer images than the part has, or of some that were learnt from."""
    part = run.split.parts(run.stage)[1]
    if found.problems:
        raise DataError(
            f"{part}: expected all images to be scored, found {len(found.problems)} that could not be "
            f"({found.problems[0]}); no row was written: correct that, and the same command scores again"
        )
    if found.seen:
        raise DataError(
            f"{part}: expected images that the model has not seen, found {len(found.seen)} that it was trained on or "
            f"chosen by ({', '.join(found.seen[:3])}); no row was written: correct splits.toml"
        )


@dataclass
class Bench:
    """Where runs lie and where rows go.

    renew    whether rows and trainings of older code are repeated
    program  the script that was started, for whoever finds a run folder
    """

    records: Records
    folder: Path = RUNS
    renew: bool = False
    program: str = "run.py"
    contents: RecipeContents = field(init=False)

    def __post_init__(self) -> None:
        self.contents = RecipeContents(self.folder / "recipes.json")

    def job(self, run: Run, experiment: str) -> Job:
        """Open the data of a run and find out its inputs."""
        training, scored = open_stage(run.split, run.stage)
        return Job(run, experiment, training, scored, self.inputs_of(run, training, scored))

    def inputs_of(self, run: Run, training: Dataset, scored: Dataset) -> dict[str, str]:
        """What the row of a run is repeated for when it changes."""
        return {
            "data": training.fingerprint,
            # A row that lacks the scores of membranes is scored again, and not trained again.
            "scored data": scored.fingerprint + (" as membranes" if run.split.membranes else ""),
            "recipe": self.contents(training, run.variant.recipe, run.variant.settings, run.minutes),
        }

    def inputs_today(self, run: Run) -> dict[str, str]:
        """The same, of the data as they lie here now."""
        return self.inputs_of(run, *open_stage(run.split, run.stage))

    def changes(self, job: Job) -> list[str]:
        """Which inputs differ from those of the row that is there."""
        row = self.records.row(job.run)
        return [] if row is None else differing(row, job.inputs)

    def run_folder(self, run: Run) -> Path:
        """Where a run is trained."""
        return self.folder / run.training

    def state(self, job: Job) -> State:
        """How far a run has come."""
        row = self.records.current(job.run, job.inputs)
        if row is not None and row["code"] == code_version():
            return "done"
        if row is not None and not self.renew:
            return "older code"
        return self.training_state(job)

    def training_state(self, job: Job) -> Literal["new", "interrupted", "trained"]:
        """How far the training of a run has come."""
        folder = self.run_folder(job.run)
        noted = read_json(folder / "inputs.json")
        finished = any(event["event"] == "finished" for event in events_in(folder))
        if noted.get("inputs") != job.training_inputs or not (folder / "run.json").exists():
            return "new"
        if self.renew and noted["code"] != code_version():
            return "new"
        return "trained" if finished else "interrupted"

    def seconds_trained(self, job: Job) -> float:
        """Active seconds that have gone into a training so far, as far as they are written down."""
        folder = self.run_folder(job.run)
        if seconds := read_json(folder / "seconds.json").get("seconds"):
            return float(seconds)
        # Several networks that answer together are trained in folders of their own.
        networks = [folder, *folder.glob("members/*")]
        spent = [max((event["elapsed"] for event in events_in(each)), default=0.0) for each in networks]
        return max(spent[0], sum(spent[1:]))

    def seconds_wanted(self, job: Job) -> float:
        """Active seconds of training that are still to come; 0 where steps are counted."""
        state = self.state(job)
        if state in ("done", "older code", "trained") or job.run.minutes is None:
            return 0.0
        done = self.seconds_trained(job) if state == "interrupted" else 0.0
        return max(0.0, 60 * job.run.minutes - done)

    def train(self, job: Job, until: float | None = None) -> bool:
        """Train a run, or go on with it; False when it was interrupted, with everything saved."""
        folder, run, resume = self.run_folder(job.run), job.run, self.training_state(job) == "interrupted"
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_text(folder / "inputs.json", json.dumps({"inputs": job.training_inputs, "code": code_version()}))
        self.note_sitting(folder)
        finished = train_run(
            job.training,
            output=folder,
            # What is resumed has its recipe in the folder.
            recipe="auto" if resume else run.variant.recipe,
            settings=() if resume else run.variant.settings,
            minutes=run.minutes,
            steps=run.steps,
            seed=run.seed,
            resume=resume,
            listener=Deadline(until),
            command=f"python benchmarks/{self.program} {job.experiment}",
        )
        if not finished.interrupted:
            write_text(folder / "seconds.json", json.dumps({"seconds": finished.seconds}))
        return not finished.interrupted

    def note_sitting(self, folder: Path) -> None:
        """Write down what trains here from now on: a run may go on by other code, or on another machine."""
        noted, (name, dirty) = read_json(folder / "inputs.json"), commit()
        sitting = {"code": code_version(), "commit": name, "dirty": dirty, "machine": machine()}
        write_text(folder / "inputs.json", json.dumps(noted | {"sittings": [*sittings_of(noted), sitting]}))

    def score(self, job: Job) -> Row:
        """Score what was learnt, log the look where it was at a test part, and keep the row.

        DataError, without a row and without a look, since nobody has seen a score, where `refuse_unsound` says so.
        """
        run, folder = job.run, self.run_folder(job.run)
        model = ushape.load(folder)
        tally = MembraneTally() if run.split.membranes else None
        found = model.evaluate(job.scored, symmetries=run.variant.rotations, on_image=tally)
        refuse_unsound(run, found)
        scores = found.scores
        kept = {} if tally is None else {"membranes": tally.contents}
        if kept:
            scores = scores | pooled_scores([kept])
        if run.stage == "test":
            self.records.log_look(run, job.experiment, scores)
        row = self.row(job, model, scores) | kept
        self.records.write(run, row)
        return row

    def row(self, job: Job, model: ushape.Model, scores: Mapping[str, float]) -> Row:
        """What is kept of a run."""
        run, noted, (name, dirty) = job.run, read_json(self.run_folder(job.run) / "inputs.json"), commit()
        scoring = {"code": code_version(), "commit": name, "dirty": dirty, "machine": machine()}
        sittings = [*sittings_of(noted), scoring]

        def each(key: str) -> list[str]:
            """What the sittings say, in their order and once each."""
            return list(dict.fromkeys(sitting[key] for sitting in sittings))

        return run.about | {
            "recipe": run.variant.recipe,
            "settings": list(run.variant.settings),
            "rotations": run.variant.rotations or model.rotations,
            "scores": {
                "val": rounded(model.facts["validation scores, used for choosing"]),
                run.stage: rounded(scores),
            },
            "steps": model.facts["steps"],
            "seconds": round(self.seconds_trained(job), 1),
            "seconds an image": round(seconds_an_image(model, job.scored), 3),
            "network": model.settings["network"],
            "inputs": dict(job.inputs),
            "trained recipe": without_reasons(model.facts["recipe"]),
            "code": ", ".join(each("code")),
            "commit": ", ".join(each("commit")),
            "dirty": any(sitting["dirty"] for sitting in sittings),
            "machine": "; ".join(each("machine")),
            "date": now(),
        }
