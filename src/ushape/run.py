"""A training run from dataset to model, with its folder and report.

The run folder holds `model.safetensors` (the best weights by validation, or where the end of the run learns from the
held-out images too, as `Recipe.refit` says, the last ones), `recipe.toml`, `run.json` (what was asked for),
`events.jsonl`, `history.jsonl`, `report.html` and `checkpoint/`; each is written to a temporary name and renamed, so
that a run can be killed at any moment and resumed. `log.txt` grows line by line. Where several networks answer together
(`Recipe.members`), each is a run of its own in `members/1`, `members/2` and so on, and the folder holds what they make
together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ushape.data.dataset import Dataset
from ushape.errors import ModelFileError, RecipeError
from ushape.model import Evaluation, Model, load
from ushape.model_file import model_path, read_settings
from ushape.network.hardware import choose_device, set_threads
from ushape.reporting import write_run_report
from ushape.training.checkpoint import write_lines, write_text
from ushape.training.clock import Clock, is_tenth
from ushape.training.joining import join
from ushape.training.label_session import LabelSession
from ushape.training.listening import Listener, interruptible
from ushape.training.planning import Planned, make_plan
from ushape.training.recipe import write_recipe
from ushape.training.rules import TOGETHER
from ushape.training.session import Session

__all__ = ["Finished", "check_minutes", "train", "train_run"]

DEFAULT_MINUTES = 10.0
SHORTEST_MINUTES = 0.25


class Logged(Listener):
    """Passes on what it hears, and writes it to the run's `log.txt`, line by line as it comes."""

    def __init__(self, listener: Listener, path: Path) -> None:
        self.listener, self.path = listener, path

    def write(self, text: str) -> None:
        """Add a line with the time of day; what cannot be written is no reason to stop training."""
        with suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text.strip()}\n")

    def words(self, text: str) -> None:
        """Write and pass on."""
        self.write(text)
        self.listener.words(text)

    def progress(self, step: int, stop: int, loss: float, validation: float | None, seconds_left: float) -> None:
        """Write where there is a validation score and after every tenth of the steps, and pass on."""
        if validation is not None:
            self.write(f"step {step} of {stop}: loss {loss:.4f}, validation {validation:.4f}")
        elif is_tenth(step, stop):
            self.write(f"step {step} of {stop}: loss {loss:.4f}")
        self.listener.progress(step, stop, loss, validation, seconds_left)

    def close(self) -> None:
        """Pass on."""
        self.listener.close()


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
    if any((folder / name).exists() for name in ("model.safetensors", "checkpoint", "members")):
        raise RecipeError(
            f"expected a new folder for the run, found an earlier run in {folder}; continue it with --resume, or "
            "name another folder with -o"
        )


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make the folder; RecipeError while another process trains in it. One that died has no lock any more."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RecipeError(
            f"expected a folder that no other run is writing to, found one at work in {folder}; wait until it has "
            "ended, or name another folder with -o"
        ) from None
    except (NotImplementedError, OSError):
        pass  # some network drives have no locks
    try:
        yield
    finally:
        lock.release()
        # Windows lets no file be removed that another run is just trying to lock.
        with suppress(OSError):
            (folder / ".lock").unlink()


@dataclass(frozen=True)
class Finished:
    """How a run ended.

    judged      the model that the evaluation is of; another one where `model` has learnt from these images too
    evaluation  of the validation images: used for choosing weights and thresholds, so no independent result
    """

    model: Model
    judged: Model
    folder: Path | None
    evaluation: Evaluation
    steps: int
    seconds: float
    problems: tuple[str, ...]
    interrupted: bool = False

    @property
    def refit_from(self) -> int | None:
        """The step after which the model learnt from the validation images too; the evaluation is of weights before.

        None where it never did.
        """
        step: int | None = self.model.facts["refit from step"]
        return step


def check_minutes(minutes: float | None) -> None:
    """RecipeError for a time in which nothing can be trained."""
    if minutes is not None and not minutes >= SHORTEST_MINUTES:
        raise RecipeError(f"expected at least {SHORTEST_MINUTES} minutes, found {minutes}; raise --minutes")


def check_budget(asked: Asked) -> None:
    """RecipeError for a budget that is contradictory or too small."""
    minutes, steps = asked.minutes, asked.steps
    if minutes is not None and steps is not None:
        raise RecipeError(f"expected either minutes or steps, found {minutes} minutes and {steps} steps; drop one")
    if steps is not None and steps < 1:
        raise RecipeError(f"expected at least 1 step, found {steps}; raise --steps")
    check_minutes(minutes)
    if asked.seed < 0:
        raise RecipeError(f"expected a seed of at least 0, found {asked.seed}; choose another with --seed")


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
        before = read_asked(folder)
        if before is None:
            raise RecipeError(f"expected an interrupted run in {folder} to resume, found none; train without --resume")
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


def read_asked(folder: Path) -> Asked | None:
    """What the run in a folder was asked for; None where none is, RecipeError where the file is damaged."""
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        return Asked(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RecipeError(
            f"{path}: expected what the run was asked for, found a damaged file ({error}); train anew into another "
            "folder"
        ) from error


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
    start: Path | Model | None = None,
    clock: Clock | None = None,
    listener: Listener | None = None,
    command: str = "",
) -> Finished:
    """Train, and write the run folder (unless `keep_folder` is off); see `train` for the arguments."""
    clock = clock or Clock()
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
        if start is not None:
            raise RecipeError(
                "expected no model to start from, since the run that is resumed has kept its own, found one; resume "
                "without --from, or train a new run"
            )
        asked, recipe = asked.resumed_from(output), str(output / "recipe.toml")
    elif output is not None:
        refuse_earlier_run(output)
    if asked.minutes is None and asked.steps is None:
        asked = replace(asked, minutes=DEFAULT_MINUTES)
    if isinstance(start, Path):
        start = load(start, device="cpu")
    planned = make_plan(
        dataset,
        validation=validation,
        recipe=recipe,
        settings=settings,
        # What is resumed has its recipe; nothing need be measured for it.
        minutes=None if resume else asked.minutes,
        device=device,
        start=None if resume else start,
    )
    folder = output
    if folder is None and keep_folder:
        folder = new_run_folder(dataset.name.replace(":", "-"))
    with nullcontext() if folder is None else alone_in(folder):
        if folder is not None and not resume:
            # Another run may have come and gone while the data were read.
            refuse_earlier_run(folder)
        return perform(asked, planned, folder, clock, listener or Listener(), device, resume)


def perform(
    asked: Asked, planned: Planned, folder: Path | None, clock: Clock, listener: Listener, device: str, resume: bool
) -> Finished:
    """Train what was planned, or go on with it, and write the folder."""
    if folder is not None:
        listener = Logged(listener, folder / "log.txt")
    for text in (*planned.recipe.reasons, *(f"warning: {each}" for each in (*planned.problems, *planned.concerns))):
        listener.words(f"  {text}")
    if planned.recipe.members > 1:
        return train_several(asked, planned, folder, clock, listener, device, resume)
    return train_one(asked, planned, folder, clock, listener, device, resume)[1]


def train_one(
    asked: Asked, planned: Planned, folder: Path | None, clock: Clock, listener: Listener, device: str, resume: bool
) -> tuple[Session, Finished]:
    """Train one network, or go on with it, and write its folder."""
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
        if planned.start is not None:
            # Where it started from is in no other file: a run that is killed early resumes from these weights.
            session.save_checkpoint()
        write_text(folder / "run.json", json.dumps(asdict(asked)))
    if resume and session.resume():
        listener.words(f"  resumed after step {session.state.step}")
    try:
        interrupted = not session.loop()
    except RecipeError:
        # Learning went astray: what was best until then is worth a model all the same.
        with suppress(OSError, ModelFileError):
            if session.best and folder is not None:
                conclude(session, asked.command, interrupted=True)
        raise
    finally:
        listener.close()
    return session, conclude(session, asked.command, interrupted)


def conclude(run: Session, command: str, interrupted: bool) -> Finished:
    """Tune, score, and write model and report."""
    model, judged, evaluation, labels = run.finish()
    if run.folder is not None:
        model.save(run.folder / "model.safetensors")
        if not interrupted:
            run.event("finished")
        run.save_checkpoint()
        write_run_report(run.folder / "report.html", run, evaluation, labels, command)
    seconds = run.pace.clock.seconds()
    return Finished(model, judged, run.folder, evaluation, run.state.step, seconds, run.planned.problems, interrupted)


def train_several(
    asked: Asked, planned: Planned, folder: Path | None, clock: Clock, listener: Listener, device: str, resume: bool
) -> Finished:
    """Train the recipe's members one after another, each in a folder of its own, and make one model of them.

    Each has about the same share of the minutes, and a seed of its own. One that has ended is not trained again when
    the run is resumed.
    """
    n = planned.recipe.members
    reasons = tuple(reason for reason in planned.recipe.reasons if TOGETHER not in reason)
    alone = replace(planned, recipe=replace(planned.recipe, members=1, reasons=reasons))
    if asked.minutes is not None and asked.minutes < n * SHORTEST_MINUTES:
        raise RecipeError(
            f"expected at least {n * SHORTEST_MINUTES:g} minutes for {n} networks, found {asked.minutes:g}; raise "
            "--minutes, or train fewer"
        )
    if folder is not None:
        if resume and read_asked(folder) != asked:
            # The share of each network is another one now.
            for path in (folder / "members").glob("*/run.json"):
                path.unlink()
        write_text(folder / "recipe.toml", write_recipe(planned.recipe))
        write_text(folder / "run.json", json.dumps(asdict(asked)))
    session: Session | None = None
    done: list[Finished] = []
    with interruptible() as stop:
        while len(done) < n and not stop.is_set():
            listener.words(f"  network {len(done) + 1} of {n}")
            own = None if folder is None else folder / "members" / str(len(done) + 1)
            if own is not None:
                own.mkdir(parents=True, exist_ok=True)
            begun = read_asked(own) if resume and own is not None else None
            minutes = share_of(asked.minutes, n, done, session) if begun is None else begun.minutes
            one = replace(asked, seed=n * asked.seed + len(done), minutes=minutes)
            try:
                last, finished = train_one(one, alone, own, Clock() if done else clock, listener, device, resume)
            except RecipeError:
                with suppress(OSError, ModelFileError):
                    if session is not None:
                        conclude_several(asked, planned, folder, session, done, listener)
                raise
            if session is None or not finished.interrupted:
                session = last.as_of((), minutes, 0.0)
            # Its images would take their memory twice over while the next one learns.
            del last
            done.append(finished)
    assert session is not None
    return conclude_several(asked, planned, folder, session, done, listener)


def share_of(minutes: float | None, n: int, done: Sequence[Finished], session: Session | None) -> float | None:
    """The minutes of the next of n networks: what is left, less the time to score all of them, shared out."""
    if minutes is None or session is None:
        return None if minutes is None else minutes / n
    seconds = sum(each.seconds for each in done)
    scoring = session.as_of((0,) * n, minutes, seconds).ending_seconds()
    return max(SHORTEST_MINUTES, (minutes - (seconds + scoring) / 60) / (n - len(done)))


def conclude_several(
    asked: Asked, planned: Planned, folder: Path | None, last: Session, done: Sequence[Finished], listener: Listener
) -> Finished:
    """Tune and score the networks together, and write their model and report.

    last  the session of the last of them that is kept, which knows the held-out images
    """
    # A network that was interrupted answers only where it is the only one.
    kept = [each for each in done if not each.interrupted] or list(done)
    interrupted = len(kept) < planned.recipe.members or any(each.interrupted for each in kept)
    run = last.as_of([each.steps for each in kept], asked.minutes, sum(each.seconds for each in done))
    # The held-out images, or windows of them, are those that the networks were judged by.
    run.planned = replace(run.planned, recipe=planned.recipe)
    run.folder, run.seed = folder, asked.seed
    run.refit_from = next((step for each in kept if (step := each.refit_from) is not None), None)
    run.is_refitted = run.refit_from is not None
    judged, model = (join([getattr(each, kind) for each in kept]) for kind in ("judged", "model"))
    evaluation, labels = run.score(judged)
    model = replace(model, decision=run.decision)
    model.facts = run.facts(evaluation.scores) | {"recipe": write_recipe(planned.recipe), "steps": sum(run.joined)}
    run.event("interrupted" if interrupted else "finished", networks=len(kept))
    if folder is not None:
        if interrupted and networks_in(folder) > len(kept):
            listener.words(
                f"  the model of {networks_in(folder)} networks from before is kept until all are done again"
            )
        else:
            model.save(folder / "model.safetensors")
            write_run_report(folder / "report.html", run, evaluation, labels, asked.command)
        # That it has ended is told when all else is there.
        write_lines(folder / "events.jsonl", run.events)
    seconds = run.pace.clock.seconds()
    return Finished(model, judged, folder, evaluation, sum(run.joined), seconds, planned.problems, interrupted)


def networks_in(folder: Path) -> int:
    """How many networks answer together in the model of a run folder; 0 where there is no model."""
    try:
        return int(read_settings(model_path(folder))["network"].get("members", 1))
    except ModelFileError:
        return 0


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
    start: Path | str | Model | None = None,
    listener: Listener | None = None,
) -> Model:
    """Train a model on a dataset, a folder or a catalog name.

    minutes     time budget with everything included, an upper bound; 10 where neither it nor `steps` is given
    steps       train exactly so many steps instead; on a CPU the same steps and seed give the same weights
    validation  data to choose the best weights and the thresholds by; default: a part of `dataset` is held out
    recipe      `auto`, `paper` or a TOML file
    settings    fields of the recipe to change, such as "network.depth=4"
    output      run folder to write; None: nothing is written
    resume      continue the interrupted run in `output`
    start       a model, a model file or a run folder whose network and weights training starts from
    """
    from ushape.data.catalog import open_dataset

    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset)
    if validation is not None and not isinstance(validation, Dataset):
        validation = open_dataset(validation, task=dataset.task, classes=dataset.classes)
    return train_run(
        dataset,
        output=None if output is None else Path(output),
        validation=validation,
        recipe=recipe,
        settings=settings,
        minutes=minutes,
        steps=steps,
        seed=seed,
        device=device,
        resume=resume,
        start=Path(start) if isinstance(start, str) else start,
        keep_folder=output is not None,
        listener=listener,
    ).model
