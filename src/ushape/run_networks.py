"""What a run trains: one network, or several that answer together.

Each of several networks is a run of one, with a folder of its own in the run's `members`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ushape.errors import ModelFileError, RecipeError
from ushape.model import Evaluation, Model
from ushape.model_file import model_path, read_settings
from ushape.network.hardware import choose_device
from ushape.reporting import write_run_report
from ushape.run_folder import SHORTEST_MINUTES, Asked, read_asked
from ushape.training.checkpoint import write_lines, write_text
from ushape.training.clock import Clock
from ushape.training.joining import join
from ushape.training.label_session import LabelSession
from ushape.training.listening import Listener, interruptible
from ushape.training.planning import Planned
from ushape.training.recipe import write_recipe
from ushape.training.rules import TOGETHER
from ushape.training.session import Session

__all__ = ["Finished", "train_one", "train_several"]


class Ahead(Listener):
    """Passes on what it hears of one of several networks; the time that is left is that of the others to come, too.

    minutes  of this one, and about of each other; None where steps are counted
    """

    def __init__(self, listener: Listener, networks: int, minutes: float | None) -> None:
        self.listener, self.networks, self.minutes = listener, networks, minutes
        self.begun = time.perf_counter()

    def words(self, text: str) -> None:
        """Pass on."""
        self.listener.words(text)

    def progress(self, step: int, stop: int, loss: float, validation: float | None, seconds_left: float) -> None:
        """Pass on; the others are thought to take as long as this one."""
        each = time.perf_counter() - self.begun + seconds_left if self.minutes is None else 60 * self.minutes
        self.listener.progress(step, stop, loss, validation, seconds_left + self.networks * each)

    def close(self) -> None:
        """Pass on."""
        self.listener.close()


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
                own_clock, ahead = Clock() if done else clock, Ahead(listener, n - len(done) - 1, minutes)
                last, finished = train_one(one, alone, own, own_clock, ahead, device, resume)
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
    model = replace(model, decision=run.validation.decision)
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
