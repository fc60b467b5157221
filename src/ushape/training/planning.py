"""What would be trained: the data are read, judged and split, and a recipe is chosen for them.

`make_plan` applies the rules of `ushape.training.rules`, the paper's recipe or a TOML file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ushape.data.dataset import Dataset, Task
from ushape.data.doctor import Finding
from ushape.data.images import pixel_digest
from ushape.errors import DataError, RecipeError
from ushape.model import Model, Preparation
from ushape.network.hardware import best_dtype, choose_device
from ushape.targets.maps import EncodingKind
from ushape.training.audit import audit
from ushape.training.augment import Augmentation
from ushape.training.batches import Batch, Batches, TrainingImage
from ushape.training.classifying import ask_neighbours, pixels_per_image
from ushape.training.examples import DataSummary, Example, read_examples, summarise, what_to_add, with_structures
from ushape.training.holdout import hold_out
from ushape.training.label_batches import LabelBatches
from ushape.training.loop import new_state, train_steps
from ushape.training.orientation import ask_orientation
from ushape.training.recipe import Recipe, read_recipe, with_settings
from ushape.training.rules import TOGETHER, TRAINING_SHARE, Speed, paper_recipe, plan_recipe, work
from ushape.training.schedule import Plan
from ushape.training.series import find_series
from ushape.training.transfer import gentle, like_network_of

__all__ = ["Planned", "make_plan", "measure_label_speed", "measure_speed", "members_asked_for", "understand"]

STEPS_TIMED = 6
"""Steps of which the fastest counts: the first ones of a process are slow, and other work disturbs some."""
SECONDS_TIMED = 0.5
"""A slow machine takes no more steps than fill this time, so that a short budget is not spent on timing."""
ENCODINGS: dict[Task, tuple[EncodingKind, ...]] = {
    "instances": ("ridge", "border", "distance"),
    "semantic": ("semantic",),
    "classification": ("label",),
}
"""What a network can be asked for, by what the masks hold."""
ASKED_OF_ALL = ("channels", "neighbours", "pieces", "thickness", "orientation")
"""What decides about the recipe and is not asked again of the images that are left to learn from."""


@dataclass(frozen=True)
class Planned:
    """A recipe with the data it was made for.

    findings  what was understood of the data
    problems  what could not be used
    start     the model whose weights training starts from; None for random ones
    doctor    all that the data doctor has to say, what was understood and what could not be used included
    concerns  what of it is an error or a warning and stands neither in `findings` nor in `problems`
    validated_on  the name of the data that were given to validate on; empty where a part of the data is held out
    whole     all images, the held-out ones included, where a part was held out that the end of the run learns from too
    digests   of the pixels of all images that are learnt from or judged by, where there are masks, MOST_DIGESTS at most
    """

    recipe: Recipe
    summary: DataSummary
    training: list[Example]
    validation: list[Example]
    findings: tuple[str, ...]
    problems: tuple[str, ...]
    fingerprint: str
    start: Model | None = None
    doctor: tuple[Finding, ...] = ()
    concerns: tuple[str, ...] = ()
    validated_on: str = ""
    whole: tuple[Example, ...] = ()
    digests: tuple[str, ...] = ()


MOST_DIGESTS = 2000
"""Images that a model file remembers: 40 kB."""


def digests_of(examples: Sequence[Example]) -> tuple[str, ...]:
    """Of the pixels of each image with a mask; images of classes are not kept as they were read."""
    segmented = [example for example in examples if example.sample.label is None]
    return tuple(sorted({pixel_digest(example.image) for example in segmented[:MOST_DIGESTS]}))


def measure_speed(device: torch.device, dims: int) -> Speed:
    """Time some small training steps of a segmenter; one to two seconds, several on a slow machine."""
    channels, side = (32, 128) if dims == 2 else (16, 32)
    recipe = plan_recipe(DataSummary("", "semantic", ("a", "b"), 2, 1, ((side,) * dims,)))
    recipe = replace(recipe, network=replace(recipe.network, channels=channels), batch=4)
    rng = np.random.default_rng(0)
    planes = torch.from_numpy(rng.normal(size=(3, *(side,) * dims)).astype(np.float32)).to(device)
    planes[2] = 0
    image = TrainingImage(planes, 1, (), 1.0)

    def seconds(width: int, patch: tuple[int, ...], batch: int) -> float:
        batches = Batches([image], recipe.geometry, patch, batch, Augmentation(), 0)
        asked = replace(recipe, network=replace(recipe.network, channels=width), patch=patch, batch=batch)
        return time_a_step(asked, 1, batches, device)

    # Steps over next to no pixels take what the update takes, of two widths; one over many pixels tells the rest.
    few, many = (recipe.geometry.legal_at_least(2**recipe.geometry.depth),) * dims, recipe.patch
    narrow, short, long = seconds(channels // 2, few, 2), seconds(channels, few, 2), seconds(channels, many, 4)
    few_pixels, many_pixels = 2 * math.prod(few), 4 * math.prod(many)
    per_work = max(long - short, 0.1 * long) / (work(channels) * (many_pixels - few_pixels))
    narrow -= per_work * work(channels // 2) * few_pixels
    short -= per_work * work(channels) * few_pixels
    per_update = max(0.0, short - narrow) / (channels**3 - (channels // 2) ** 3)
    return Speed(per_work, per_update, max(0.0, short - per_update * channels**3))


def measure_label_speed(device: torch.device, summary: DataSummary) -> Speed:
    """Time some training steps of a classifier of such images; about a second."""
    recipe = plan_recipe(summary)
    n_classes = len(summary.classes)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(recipe.batch, summary.channels, *recipe.patch)).astype(np.float32)
    labels = torch.arange(recipe.batch, device=device) % n_classes
    weights = torch.ones(n_classes, device=device)
    tensors = torch.from_numpy(images).to(device)
    batches = LabelBatches(tensors, labels, weights, recipe.batch, recipe.augmentation, 0)
    pixels = recipe.batch * pixels_per_image(summary.sizes)
    seconds = time_a_step(recipe, summary.channels, batches, device)
    return Speed(seconds / (pixels * work(recipe.network.channels)))


def time_a_step(recipe: Recipe, in_channels: int, batches: Callable[[int], Batch], device: torch.device) -> float:
    """Seconds of the fastest of a few steps; of fewer, but two at least, where they take long."""
    network = recipe.network.build(in_channels, recipe.encoding.n_channels, len(recipe.patch))
    state = new_state(network, recipe, device)
    state.plans = [Plan(0, STEPS_TIMED, STEPS_TIMED)]
    times = []
    begun = time.perf_counter()
    for record in train_steps(state, batches, recipe, 0, device, best_dtype(device)):
        record.loss.item()
        times.append(time.perf_counter() - begun)
        # Not counting the first one, which warms up.
        if sum(times[1:]) > SECONDS_TIMED:
            break
        begun = time.perf_counter()
    return min(times)


def members_asked_for(settings: Sequence[str]) -> int | None:
    """How many networks are set by hand, which share the minutes; None where none is, or what is set is no number."""
    values = [value for name, _, value in (setting.partition("=") for setting in settings) if name.strip() == "members"]
    return int(values[-1]) if values and values[-1].strip().isdecimal() and int(values[-1]) > 0 else None


def choose_recipe(
    name: str,
    settings: Sequence[str],
    summary: DataSummary,
    seconds: float | None,
    device: torch.device,
    start: Model | None = None,
) -> Recipe:
    """The recipe called `name` (`auto`, `paper` or a TOML file) for these data, with the settings applied."""
    if name == "paper":
        recipe = paper_recipe(summary)
    else:
        speed = None
        if seconds is not None:
            classifies = summary.task == "classification"
            speed = measure_label_speed(device, summary) if classifies else measure_speed(device, summary.dims)
        # From one start several networks would hardly differ.
        members = members_asked_for(settings) if start is None else 1
        recipe = plan_recipe(summary, seconds=seconds, speed=speed, members=members)
        if start is not None:
            recipe = gentle(recipe)
        if name != "auto":
            auto, path = recipe, Path(name)
            recipe = read_recipe(path, replace(auto, name=path.stem))
            if members is None and recipe.members != auto.members:
                # The file says how many share the minutes; where it names no width, it is the one for each.
                auto = plan_recipe(summary, seconds=seconds, speed=speed, members=recipe.members)
                recipe = read_recipe(path, replace(auto, name=path.stem))
            recipe = replace(recipe, reasons=(*recipe.reasons, *(r for r in auto.reasons if TOGETHER in r)))
    if start is not None:
        recipe = like_network_of(recipe, start)
    recipe = with_settings(recipe, settings)
    if start is not None and recipe.members > 1:
        raise RecipeError(
            f"expected one network where training starts from a model, found {recipe.members} members; leave them out"
        )
    if recipe.encoding.kind not in ENCODINGS[summary.task]:
        raise RecipeError(
            f"expected encoding.kind to be {' or '.join(ENCODINGS[summary.task])} for {summary.task}, found "
            f"{recipe.encoding.kind}; leave it out, or say with --task what the masks are"
        )
    if recipe.encoding.kind in ("semantic", "label") and recipe.encoding.n_classes != len(summary.classes):
        raise RecipeError(
            f"expected encoding.n_classes to be {len(summary.classes)} as in the data, found "
            f"{recipe.encoding.n_classes}; leave it out"
        )
    if len(recipe.patch) != summary.dims:
        raise RecipeError(
            f"expected a patch of {summary.dims} sides for these data, found {recipe.patch}; give as many"
        )
    return recipe


def like_training(training: Dataset, validation: Dataset) -> Dataset:
    """The validation data with the training data's classes; DataError when they ask something else of a network."""
    if training.task != validation.task:
        raise DataError(
            f"{validation.name}: expected validation data for {training.task} like the training data, found data for "
            f"{validation.task}; validate on data of the same kind"
        )
    return validation.with_classes(training.classes)


def fitting(examples: Sequence[Example], summary: DataSummary) -> tuple[list[Example], list[str]]:
    """(examples, problems): held-out images that the network can take, and a sentence for each that it cannot."""
    preparation = Preparation(channels=summary.channels, dims=summary.dims)
    good, problems = [], []
    for example in examples:
        try:
            preparation.with_channels(example.image)
            good.append(example)
        except DataError as error:
            problems.append(f"{example.sample.where}: {error} (left out)")
    return good, problems


REFIT = "of the steps learn from the held-out images too"
"""By which the sentence is known among the reasons of a recipe that was written down."""


def with_refit(recipe: Recipe, held_out: bool) -> Recipe:
    """The recipe with the sentence that it learns from the held-out images in the end, where it does, and only then.

    held_out  whether a part of the data is held out; what was named to validate on is never learnt from
    """
    reasons = tuple(reason for reason in recipe.reasons if REFIT not in reason)
    recipe = replace(recipe, refit=recipe.refit if held_out else 0.0, reasons=reasons)
    if not recipe.refit:
        return recipe
    told = (
        f"the last {100 * recipe.refit:.3g} % {REFIT}: their scores and the thresholds are of weights that had not yet "
        "learnt from them"
    )
    return replace(recipe, reasons=(*reasons, told))


def told_of_start(recipe: Recipe, start: Model | None, dataset: Dataset, held_out: Sequence[Example]) -> Recipe:
    """The recipe, with a sentence where the model to start from may have learnt from images that are held out.

    Of the same data the same images are held out, as a rule, which it has learnt from only where it learnt from all in
    the end, or was validated on others.
    """
    if start is None:
        return recipe
    known = set(start.facts.get("image digests", ()))
    if start.has_learnt_all(dataset) or (start.has_seen(dataset) and start.facts.get("validated on")):
        told = "the model to start from has learnt from all of these images"
    elif not start.has_seen(dataset) and (n := len(known.intersection(digests_of(held_out)))):
        told = (
            f"the model to start from has learnt from {n} of the {len(held_out)} held-out images or was chosen by them"
        )
    else:
        return recipe
    told += ", so the scores of those held out say how well it remembers; name other data with --val"
    return replace(recipe, reasons=(*recipe.reasons, told))


def understand(dataset: Dataset, examples: Sequence[Example]) -> DataSummary:
    """All that the rules look at; DataError when the images cannot be trained on together."""
    summary = with_structures(summarise(dataset, examples), examples)
    if summary.task == "classification":
        return replace(summary, neighbours=ask_neighbours(examples))
    series = {member: members[0].sample.name for members in find_series(examples) for member in members}
    groups = [series.get(example, example.sample.group or example.sample.name) for example in examples]
    classes = len(summary.classes) if summary.task == "semantic" else 0
    return replace(summary, orientation=ask_orientation([e.mask for e in examples], groups, classes=classes))


def make_plan(
    dataset: Dataset,
    *,
    validation: Dataset | None = None,
    recipe: str = "auto",
    settings: Sequence[str] = (),
    minutes: float | None = None,
    device: str = "auto",
    start: Model | None = None,
) -> Planned:
    """Read the data and decide what would be trained on it; nothing is trained.

    start  a model whose network and weights training starts from
    """
    if validation is not None:
        if any(setting.partition("=")[0].strip() == "refit" for setting in settings):
            raise RecipeError(
                "expected no refit where data are named to validate on, which are never learnt from, found both; drop "
                "one"
            )
        validation = like_training(dataset, validation)
    examples, problems = read_examples(dataset.samples)
    read = examples
    summary = understand(replace(dataset, problems=(*dataset.problems, *problems)), examples)
    seconds = None if minutes is None else 60 * minutes * TRAINING_SHARE
    chosen = choose_recipe(recipe, settings, summary, seconds, choose_device(device), start)
    findings = list(dataset.findings)
    if validation is None:
        examples, held_out, sentence = hold_out(dataset, examples, chosen.validation, chosen.geometry.margin)
        chosen = told_of_start(chosen, start, dataset, held_out)
        findings += [sentence] if sentence else []
        asked = {name: getattr(summary, name) for name in ASKED_OF_ALL}
        summary = replace(summarise(dataset, examples), **asked)
    else:
        held_out, more = read_examples(validation.samples)
        problems += more
    held_out, more = fitting(held_out, summary)
    problems += more
    chosen = with_refit(chosen, held_out=validation is None)
    whole = tuple(fitting(read, summary)[0]) if chosen.refit else ()
    if not held_out:
        raise DataError(
            f"{(validation or dataset).name}: expected annotated images to validate on, found none that could be used"
            + (f" ({problems[-1]})" if problems else f"; {what_to_add(dataset.task)}")
        )
    told = (*dataset.problems, *(validation.problems if validation else ()), *problems)
    held_names = {(example.sample.name, example.sample.files) for example in held_out}
    seen = [example.sample.name for example in examples if (example.sample.name, example.sample.files) in held_names]
    doctor, untold = audit(replace(dataset, findings=tuple(findings)), read, told)
    concerns = [str(finding) for finding in untold if finding.severity != "note"]
    if seen:
        concerns.append(
            f"{seen[0]}: the validation data hold {len(seen)} of the training images, so their scores say how well "
            "these were learnt by heart; name other data with --val"
        )
    return Planned(
        chosen,
        summary,
        examples,
        held_out,
        tuple(findings),
        told,
        dataset.fingerprint,
        start,
        doctor,
        tuple(concerns),
        validated_on="" if validation is None else validation.name,
        whole=whole,
        digests=digests_of(read if validation is None else [*read, *held_out]),
    )
