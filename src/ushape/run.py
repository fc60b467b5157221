"""A training run from dataset to model, with its folder and report.

The run folder holds `model.safetensors` (the best weights by validation, or where the end of the run learns from the
held-out images too, as `Recipe.refit` says, the last ones), `recipe.toml`, `run.json` (what was asked for),
`events.jsonl`, `history.jsonl`, `report.html` and `checkpoint/`; each is written to a temporary name and renamed, so
that a run can be killed at any moment and resumed. `log.txt` grows line by line. Where several networks answer together
(`Recipe.members`), each is a run of its own in `members/1`, `members/2` and so on, and the folder holds what they make
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from ushape.data.dataset import Dataset
from ushape.errors import RecipeError
from ushape.model import Model, load
from ushape.network.hardware import set_threads
from ushape.run_folder import Asked, Logged, alone_in, check_minutes, new_run_folder, refuse_earlier_run
from ushape.run_networks import Finished, train_one, train_several
from ushape.training.clock import Clock
from ushape.training.listening import Listener
from ushape.training.planning import Planned, make_plan

__all__ = ["train", "train_run"]

DEFAULT_MINUTES = 10.0


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

    minutes     time budget with everything included, an upper bound; 10 where neither it nor `steps` is given. Reading
                data counts where they are named; a Dataset has been opened already
    steps       train exactly so many steps instead; on a CPU the same steps and seed give the same weights
    validation  data to choose the best weights and the thresholds by; default: a part of `dataset` is held out
    recipe      `auto`, `paper` or a TOML file
    settings    fields of the recipe to change, such as "network.depth=4"
    output      run folder to write; None: nothing is written
    resume      continue the interrupted run in `output`
    start       a model, a model file or a run folder whose network and weights training starts from
    """
    from ushape.data.catalog import open_dataset

    clock = Clock()
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
        clock=clock,
        listener=listener,
    ).model
