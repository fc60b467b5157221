"""What a run leaves for a person: `report.html`, filled from the session that has ended."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.model import Evaluation
from ushape.network.hardware import describe_device, peak_memory
from ushape.picture.mistakes import Mistake
from ushape.picture.report import Panel, Report, write_report
from ushape.scoring.sizes import Sizes, measure_sizes
from ushape.training.examples import Example
from ushape.training.planning import Planned
from ushape.training.session import Session, versions

__all__ = ["write_run_report"]

Labels = dict[str, NDArray[np.int32]]

FIRST = {
    "instances": ("AP@0.5", "AP@0.75", "F1@0.5", "SEG"),
    "semantic": ("mean Dice", "mean IoU", "pixel error", "AP@0.5"),
    "classification": ("accuracy", "balanced accuracy", "mean F1", "expected calibration error"),
}
"""The scores in large type, by task."""


def score_of(row: dict[str, Any], task: str, example: Example) -> tuple[str, float]:
    """(name, value) of the score that pictures are ordered by; NaN where there is none.

    An image in which nothing is and nothing was found has no score either, but is right.
    """
    name = "AP@0.5" if task == "instances" else "mean Dice"
    is_reference = example.sample.complete and bool((example.mask >= 0).any())
    return name, float(row.get(name, 1.0 if is_reference else math.nan))


def panels(planned: Planned, evaluation: Evaluation, labels: Labels) -> tuple[Panel, ...]:
    """The validation images with what was found in them; none where whole images were classified."""
    task = planned.summary.task
    if task == "classification":
        return ()
    examples = {example.sample.name: example for example in planned.validation}
    made = []
    for row in evaluation.rows:
        example = examples[row["name"]]
        name, value = score_of(row, task, example)
        image, mask, estimate, note = example.image, example.mask, labels[row["name"]], ""
        if mask.ndim == 3:
            middle, note = mask.shape[0] // 2, f"slice {mask.shape[0] // 2 + 1} of {mask.shape[0]}"
            image, mask, estimate = image[:, middle], mask[middle], estimate[middle]
        made.append(Panel(row["name"], name, value, image, mask, estimate, instances=task == "instances", note=note))
    return tuple(made)


def mistakes_of(planned: Planned, evaluation: Evaluation) -> tuple[Mistake, ...]:
    """The images that were given a wrong class; of volumes the middle slice."""
    if planned.summary.task != "classification":
        return ()
    images = {example.sample.name: example.image for example in planned.validation}
    made = []
    for row in evaluation.rows:
        if not row["right"]:
            image = images[row["name"]]
            image = image[:, image.shape[1] // 2] if image.ndim == 4 else image
            made.append(Mistake(row["name"], image, row["class"], row["estimate"], row["confidence"]))
    return tuple(made)


def sizes_of(planned: Planned, labels: Labels) -> Sizes:
    """Of the objects, or of the pieces of the one class beside the background; in the files' unit where it is known."""
    summary, sizes = planned.summary, Sizes()
    if summary.task == "classification" or (summary.task == "semantic" and len(summary.classes) != 2):
        return sizes
    spacing = None if summary.spacing is None else summary.spacing.values
    for example in planned.validation:
        # What an incomplete reference lacks would look like objects that were invented.
        if example.sample.name in labels and example.sample.complete:
            estimate = labels[example.sample.name]
            sizes += measure_sizes(example.mask, estimate, instances=summary.task == "instances", spacing=spacing)
    return sizes


def decision_of(run: Session) -> dict[str, str]:
    """How maps become labels; nothing is decided about classes of whole images."""
    if run.task == "classification":
        return {}
    return {"decision": ", ".join(f"{name} {value}" for name, value in run.validation.decision.to_dict().items())}


def data_of(run: Session, n_scored: int) -> str:
    """How many images there were, and for what; `n_scored` of those held out have their scores here."""
    n, n_held, n_whole = (len(each) for each in (run.planned.training, run.planned.validation, run.planned.whole))
    told = f"{n} image{'s' * (n != 1)} to train on, {n_held} held out"
    if min(len(run.validation.watched), n_scored) < n_held:
        # Fewer are looked at where the minutes, or hundreds of images, ask for it.
        n_watched, n_tuned = len(run.validation.watched), run.validation.n_tuned
        tuned = f", {n_tuned} the thresholds" * bool(n_tuned)
        told += f" ({n_watched} of them chose the weights{tuned}, {n_scored} are scored here)"
    return f"{told}; trained on all {n_whole} after step {run.refit_from}" if run.is_refitted else told


def facts_of(run: Session, n_scored: int) -> dict[str, str]:
    """What the report tells of time, machine and versions."""
    seconds, each = run.pace.clock.seconds(), run.pace.step_seconds
    speed = f"{1 / each:.2f} steps a second" if each else "not measured"
    budget = f"{run.steps} steps" if run.pace.minutes is None else f"{run.pace.minutes:g} minutes"
    n_steps = ", ".join(map(str, run.joined or (run.state.step,)))
    together = f"{len(run.joined)}, whose answers are averaged; the curve is of the last one, and each has its own page"
    network = ", ".join(f"{name} {value}" for name, value in run.state.network.settings.items())
    return {
        "budget": budget,
        "time used": f"{seconds / 60:.1f} minutes, {n_steps} steps, {speed}",
        "memory used": peak_memory(run.device),
        "device": describe_device(run.device),
        "network": network,
        **({"networks": f"{together} in the folder members"} if len(run.joined) > 1 else {}),
        "data": data_of(run, n_scored),
        **decision_of(run),
        "seed": str(run.seed),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def summary_of(run: Session) -> str:
    """What was trained on what, in a sentence."""
    summary, n_held = run.planned.summary, len(run.planned.validation)
    goal = {
        "instances": "find objects one by one",
        "semantic": f"tell {len(summary.classes)} classes of pixels",
        "classification": f"tell {len(summary.classes)} classes of images",
    }[summary.task]
    n = len(run.planned.training)
    held = f"{n_held} other{'s were' if n_held > 1 else ' was'} held out to judge it"
    if n_held and any(example.sample.name.endswith(", held out") for example in run.planned.validation):
        held = "a quarter of it was held out to judge it"
    learner = f"{len(run.joined)} networks" if len(run.joined) > 1 else "A network"
    return (
        f"{learner} learned to {goal} in {n} image{'s' * (n > 1)} of {summary.name}, in "
        f"{run.pace.clock.seconds() / 60:.1f} minutes; {held}{', and learnt from too in the end' * run.is_refitted}."
    )


def score_note(run: Session) -> str:
    """Which images and which weights the scores are of."""
    note = "Scores of the images held out for validation. They also chose the best weights and the thresholds, "
    if run.is_refitted:
        up_to = "before the end of each training" if len(run.joined) > 1 else f"up to step {run.refit_from}"
        return (
            f"{note}and are of the best weights {up_to}, when none of these images had been learnt "
            "from in this run. After it they were, and the model has the weights that came of that, which these scores "
            "are not of; score it on new images with `ushape evaluate`."
        )
    if run.refit_from is not None:
        note = f"What was learnt from all images after step {run.refit_from} was worse, and was not kept. {note}"
    return f"{note}so expect a little less on new images; score those with `ushape evaluate`."


def write_run_report(path: Path, run: Session, evaluation: Evaluation, labels: Labels, command: str) -> None:
    """The run as one HTML page."""
    planned, summary = run.planned, run.planned.summary
    first = [name for name in FIRST[summary.task] if name in evaluation.scores]
    told = {text.rstrip(".") for text in planned.findings}
    report = Report(
        title=f"{summary.name}: {planned.recipe.name} recipe",
        command=command,
        plan=planned.recipe.reasons,
        findings=planned.findings,
        scores={name: evaluation.scores[name] for name in first} | evaluation.scores,
        score_note=score_note(run),
        rows=evaluation.rows,
        gallery=panels(planned, evaluation, labels),
        mistakes=mistakes_of(planned, evaluation),
        history=run.history,
        events=run.events,
        facts=facts_of(run, len(evaluation.rows)),
        summary=summary_of(run),
        intervals=evaluation.intervals,
        checks=[finding for finding in planned.doctor if finding.sentence not in told],
        classes=summary.classes,
        colours=summary.colours,
        confusions=evaluation.confusions,
        sizes=sizes_of(planned, labels),
        unit="px" if summary.spacing is None else summary.spacing.unit,
        calibration=evaluation.calibration,
    )
    write_report(path, report)
