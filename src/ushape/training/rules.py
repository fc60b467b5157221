"""Which recipe for these data, on this machine, in this time: a few plain rules, each with its reason.

`plan_recipe` is the recipe `auto`: what the data look like, the device's measured speed and the budget decide, and each
rule says its outcome in a sentence (`Recipe.reasons`), which `ushape plan` prints. `paper_recipe` is the recipe of the
2015 paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ushape.errors import RecipeError
from ushape.geometry import Geometry
from ushape.prediction.rotations import PAPER_ROTATIONS
from ushape.targets.maps import Encoding
from ushape.training.augment import Augmentation
from ushape.training.classifying import pixels_per_image, plan_classifier
from ushape.training.examples import DataSummary
from ushape.training.recipe import RATES, NetworkSettings, OptimiserSettings, Recipe

__all__ = ["ONE_IMAGE", "Speed", "class_weights", "fewer_levels", "paper_recipe", "plan_recipe", "work"]


@dataclass(frozen=True)
class Speed:
    """Measured on this machine: what a training step takes.

    seconds_per_work    of a pixel, per unit of `work`
    seconds_per_update  of the weights' update, whatever the pixels, per channel^3: Muon multiplies kernels
    seconds_per_step    of everything else, whatever the pixels and channels
    """

    seconds_per_work: float
    seconds_per_update: float = 0.0
    seconds_per_step: float = 0.0

    def step_seconds(self, channels: int, pixels: int) -> float:
        """Estimated seconds of one step over `pixels` pixels (of the working grid, all patches together).

        Wide levels cost with the square of the channels; narrow ones are bound by memory, about linearly.
        """
        update = self.seconds_per_step + self.seconds_per_update * channels**3
        return self.seconds_per_work * pixels * work(channels) + update


MEMORY_BOUND = 24
"""Channels at which moving the activations costs as much as multiplying them, on CPUs with bfloat16 units."""


def work(channels: int) -> float:
    """Relative cost of a pixel in a network that is `channels` wide."""
    return channels * (channels + MEMORY_BOUND)


WIDTHS = (64, 48, 32, 24, 16)
"""Channels to choose from, multiples of 8 so that the matrix units are full."""
STEPS_WANTED = 1000
"""A network should see at least this many steps in its budget; a narrower one that does learns more."""
SMALL_STEPS_WANTED = 3000
"""The same of steps that have a quarter of the pixels."""
ROUNDS_WANTED = 8
"""A classifier should see each image at least so often."""
HALF_FROM, QUARTER_FROM = 57, 160
"""Pixels across from which objects are seen at half the resolution and at a quarter: 28 px are enough for their shape,
and few enough for the whole of one to be seen. Cells of 113 to 120 px still gain from half (docs/results.md). Each time
objects are twice as large again, so is the scale, so that a patch still holds one: cells of 448 px are seen as well at
an eighth as ones of 112 px at half, and at a quarter much worse."""
LARGEST_SCALE = 16
"""The doctor warns of objects that are more than the network sees at it (`ushape.data.doctor_masks`)."""
THINNEST = 3
"""Pixels across of the rarer of two classes on the working grid, at least: thinner ones would break."""
TRAINING_SHARE = 0.85
"""Share of the budget that is left for the steps themselves, for the choice of the width."""
WORKING_PATCH = {2: 256, 3: 64}
"""Side of a patch on the working grid, by number of axes; in 2-D half of it where that is coarser than the image."""
STEP_PIXELS = {2: 2 * 256**2, 3: 2 * 40**3}
"""Pixels in a step, about, by number of axes: more, smaller steps learn more in the same time (docs/results.md), and
two patches are enough for the statistics of batch normalisation."""
LARGE_DIAMETER = 60
"""Pixels across from which objects are told by their rim: large cells are irregular, so that depth has several summits
in one object, and a rim of some pixels takes little of them. Small ones would be all rim."""
REFIT_SHARE = OptimiserSettings.decay
"""Share of the steps, at the end, that learn from the held-out images too: those in which the rate falls."""
REFIT_UP_TO = 50
"""Images up to which that pays: a fifth of some twenty is much, and of a hundred nuclei images nothing was gained."""
MEMBER_MINUTES = 3.3
"""Minutes from whose double on there are several networks instead of one that is trained longer, so that ten minutes
hold three: of few images of two classes one has learnt by then about what it can. Three of 16 channels erred less on
membranes in ten minutes than one of 32, on two of three parts (docs/results.md)."""
MEMBER_STEPS = 0.5
"""Share of the steps wanted that each of several networks should see: 1100 of 3000 were nearly enough for membranes."""
MOST_MEMBERS = 3
"""Networks that answer together, at most: each takes its time in every prediction, and nine were no better."""
TOGETHER = "networks, trained one after another"
"""By which the sentence about them is known among a recipe's reasons."""
RARE_SHARE = 0.05
"""Share of the pixels below which a class is rare, so that classes are weighted."""
RAREST_SHARE = 0.01
"""A class that is rarer than this weighs no more for it: some stray pixels are not worth a hundred others."""
WEIGHT_EXPONENT = 0.5
"""Half the way to equal weight for all classes: full balance makes rare classes too large."""
GAP_SHARE = 1 / 6
"""Share of a single image that may lie in the gap between what is learnt and what is held out."""
ONE_IMAGE = Augmentation(zoom=1.5, contrast=1.6, gamma=1.6, brightness=0.3, noise=0.3)
"""Augmentation where there is one image: on the phantom 0.72 AP@0.5 instead of 0.68 (docs/results.md)."""
ELASTIC_PER_SIDE = 10 / 256
"""Deviation of the displacements by the shorter side of a patch, up to the paper's 10 px: on the nodes of a small patch
10 px would fold the image over, 26 % of a patch of 32 x 32 px and 15 % of one of 40 x 56 x 40."""
ALIKE, LESS_ALIKE = 0.3, 0.2
"""Correlation of masks of different images from which they lie alike, and how much less of it is left when they are
mirrored or turned where that matters. Between 0.71, 0.07 and 0.12 of the hippocampus and 0.0 of nuclei."""
ALIKE_ROTATION = 15.0
"""Degrees by which images that lie alike are turned, at most: 0.03 Dice were lost to free rotation, and 0.015 more to
mirrors (hippocampus, one seed; docs/results.md)."""
RIMS_PER_DIAMETER = 28
"""A rim is the diameter divided by this: 4 px for cells of 110 px."""


def working_scale(diameter: float | None) -> int:
    """The integer factor by which images with objects so large are looked at coarser: 1, 2, 4, 8 or 16."""
    if diameter is None or diameter < HALF_FROM:
        return 1
    if diameter < QUARTER_FROM:
        return 2
    scale = 4
    while scale < LARGEST_SCALE and diameter >= QUARTER_FROM * scale / 2:
        scale *= 2
    return scale


def choose_scale(summary: DataSummary) -> tuple[int, str]:
    """(working scale, sentence): how coarse the data may be looked at; results are at full size."""
    if summary.diameter is not None:
        scale = working_scale(summary.diameter)
        return scale, (
            f"working scale {scale}: typical objects of {summary.diameter:.0f} px are seen at about "
            f"{summary.diameter / scale:.0f} px; results are at full size"
        )
    # Structures are measured in images only; no coarser than half was tried.
    if summary.pieces is None or summary.thickness is None:
        return 1, "working scale 1: nothing is known about the size of objects, so no detail is given up"
    told = f"pieces of {summary.pieces:.0f} px, and the rarer class {summary.thickness:.0f} px across"
    if summary.pieces >= HALF_FROM and summary.thickness >= 2 * THINNEST:
        return 2, (
            f"working scale 2: {told}, are still seen well at half the resolution, where pieces are kept whole and "
            "apart better; results are at full size"
        )
    return 1, f"working scale 1: {told}, might be lost on a coarser grid"


def minutes_wanted(step_seconds: float, steps: int) -> str:
    """The budget that holds so many steps, in words."""
    minutes = max(1, math.ceil(steps * step_seconds / TRAINING_SHARE / 60))
    return f"{minutes} minute{'s' if minutes > 1 else ''}"


def choose_width(
    speed: Speed | None, seconds: float | None, pixels: int, wanted: int = STEPS_WANTED, members: int = 1
) -> tuple[int, str]:
    """(channels, sentence): the widest network that still sees enough steps, `wanted` of them.

    seconds  of each of `members` networks
    """
    if speed is None or seconds is None:
        return 32, "32 channels: the default where no time budget was measured against"
    wider = None
    for channels in WIDTHS:
        steps = int(seconds / speed.step_seconds(channels, pixels))
        if steps >= wanted:
            break
        wider = channels
    held = "the budget holds" if members == 1 else "the time of each network holds"
    told = f"at about {speed.step_seconds(channels, pixels):.2f} s a step on this machine {held} about {steps}"
    if wider is None:
        return channels, f"{channels} channels, the paper's width: {told} steps of it"
    if steps < wanted:
        return channels, (
            f"{channels} channels, the fewest to choose from: {told} steps only; the {wanted} that a network "
            f"should see would take about {minutes_wanted(speed.step_seconds(channels, pixels), wanted)}"
        )
    return channels, (
        f"{channels} channels: {told} steps; the next wider network, of {wider} channels, would see fewer than the "
        f"{wanted} wanted, which take it about {minutes_wanted(speed.step_seconds(wider, pixels), wanted)}"
    )


def choose_rounds(speed: Speed | None, seconds: float | None, pixels: int) -> tuple[int, float, str]:
    """(channels, rounds, sentence): the widest network that goes through all images, `pixels` together, often enough.

    Without a budget to measure against the rounds are infinitely many.
    """
    if speed is None or seconds is None:
        return 32, math.inf, "32 channels: the default where no time budget was measured against"
    for channels in WIDTHS:
        rounds = seconds / speed.step_seconds(channels, pixels)
        if rounds >= ROUNDS_WANTED:
            break
    widest = ", the paper's width" if channels == WIDTHS[0] else ""
    told = f"{channels} channels{widest}: on this machine the budget holds about {rounds:.0f} rounds through the images"
    if channels != WIDTHS[0]:
        told += f", and a wider network would make fewer than {ROUNDS_WANTED}"
    return channels, rounds, told


def class_weights(shares: Sequence[float], exponent: float) -> tuple[float, ...]:
    """What a pixel of each class weighs: its share to the power of -`exponent`, the mean over all pixels being 1.

    A class that never occurs weighs 1. Empty where no class is rare, so that nothing needs balancing.
    """
    present = [share for share in shares if share > 0]
    if not present or min(present) >= RARE_SHARE:
        return ()
    raw = [max(share, RAREST_SHARE) ** -exponent if share > 0 else 1.0 for share in shares]
    mean = sum(share * weight for share, weight in zip(shares, raw, strict=True))
    return tuple(round(weight / mean, 4) if share > 0 else 1.0 for share, weight in zip(shares, raw, strict=True))


def choose_encoding(summary: DataSummary) -> tuple[Encoding, str]:
    """(encoding, sentence) for the task."""
    if summary.task == "semantic" or summary.diameter is None:
        n = len(summary.classes)
        weights = class_weights(summary.shares, WEIGHT_EXPONENT)
        told = f"the masks hold {n} classes, so each pixel is given one"
        if weights:
            share, name = min((s, name) for s, name in zip(summary.shares, summary.classes, strict=True) if s)
            rare = f"{name}, {100 * share:.3g} % of the pixels, {max(weights):.3g} times as much as the mean"
            told += f"; rare ones weigh more ({rare})"
        return Encoding("semantic", n_classes=n, class_weights=weights), told
    if summary.diameter >= LARGE_DIAMETER:
        width = round(summary.diameter / RIMS_PER_DIAMETER)
        return Encoding("border", border_width=width), (
            f"the masks hold large objects (about {summary.diameter:.0f} px across), so the network learns background, "
            f"inside and a rim of {width} px, and what lies inside a rim is one object"
        )
    cap = float(max(3, round(summary.diameter / 4)))
    return Encoding("distance", distance_cap=cap), (
        f"the masks hold small objects (about {summary.diameter:.0f} px across), so the network learns the foreground "
        f"and, up to {cap:.0f} px, the depth inside each object, whose summits tell touching objects apart"
    )


def choose_orientation(summary: DataSummary) -> tuple[bool, float, str]:
    """(whether patches are mirrored, degrees that they are turned by, sentence): less where images lie alike."""
    asked, full = summary.orientation, Augmentation()
    free = "mirrored and turned by any angle"
    if asked is None:
        return full.mirror, full.rotation, f"{free} (there are too few whole masks to ask whether images lie alike)"
    mirror = asked.plain < ALIKE or asked.plain - asked.mirrored < LESS_ALIKE
    turns = asked.plain < ALIKE or asked.plain - asked.turned < LESS_ALIKE
    if mirror and turns:
        return full.mirror, full.rotation, f"{free}, since masks are then as much, or as little, alike as they are"
    told = (
        f"masks of different images agree by {asked.plain:.2f}, mirrored by {asked.mirrored:.2f} and turned by "
        f"{asked.turned:.2f}"
    )
    rotation, angle = (full.rotation, "any angle") if turns else (ALIKE_ROTATION, f"up to {ALIKE_ROTATION:g} degrees")
    return mirror, rotation, f"{'' if mirror else 'not '}mirrored, and turned by {angle}, since {told}"


def choose_rotations(summary: DataSummary) -> tuple[int, str]:
    """(turned and mirrored copies that predictions average over, sentence): 8 for images of two classes, else 1."""
    free = choose_orientation(summary)[:2] == (Augmentation().mirror, Augmentation().rotation)
    if summary.task != "semantic" or summary.dims != 2 or len(summary.classes) != 2 or not free:
        return 1, ""
    return 8, (
        "predictions are averages over 8 turned and mirrored copies of an image: of two classes one often keeps the "
        "pieces of the other apart, and the average has fewer gaps; --rotations 1 predicts 8 times faster"
    )


def choose_members(summary: DataSummary, seconds: float | None, least: float = 0.0) -> tuple[int, str]:
    """(networks, sentence): one for each few minutes, where the images are few and of two classes.

    least  seconds that a network needs on this machine
    """
    # More images, and objects whose outlines get finer with time, may be worth a longer training of a wider network.
    of_two_classes = summary.task == "semantic" and len(summary.classes) == 2
    if seconds is None or summary.dims != 2 or not of_two_classes or summary.n_images > REFIT_UP_TO:
        return 1, ""
    each = max(60 * TRAINING_SHARE * MEMBER_MINUTES, least)
    members = min(MOST_MEMBERS, round(seconds / each, 6) // 1)
    if members < 2:
        return 1, ""
    n = int(members)
    return n, (
        f"{n} {TOGETHER} with seeds of their own, whose answers are averaged: from so few images one learns in some "
        f"{MEMBER_MINUTES:.0f} minutes what it can, and the mean of several mostly errs less; predicting takes {n} "
        "times as long as with one of them, and --set members=1 trains one all the time, wider where that fits"
    )


def fewer_levels(depth: int, scale: int, side: int) -> int:
    """The most levels, up to `depth`, whose margin takes no more than GAP_SHARE of an image's side; at least 3."""
    fitting = [d for d in range(3, depth + 1) if Geometry(d, "same", scale).margin <= GAP_SHARE * side]
    return max(fitting, default=3)


def plan_recipe(
    summary: DataSummary, *, seconds: float | None = None, speed: Speed | None = None, members: int | None = None
) -> Recipe:
    """The `auto` recipe for these data, this many seconds and this machine's speed.

    members  networks that share the seconds; None: as many as the rule says
    """
    if summary.task == "classification":
        channels, rounds, reason = choose_rounds(speed, seconds, pixels_per_image(summary.sizes) * summary.n_images)
        return plan_classifier(summary, channels, rounds, reason)
    scale, reason = choose_scale(summary)
    reasons = [reason]
    encoding, reason = choose_encoding(summary)
    reasons.append(reason)
    depth = 5 if summary.dims == 2 else 4
    augmentation = Augmentation()
    if summary.has_one_annotated:
        most, depth = depth, fewer_levels(depth, scale, max(summary.median_size))
        augmentation = ONE_IMAGE
        fewer = f"{depth} levels, so that the gap between what is learnt and what is held out stays narrow, and "
        reasons.append(f"one annotated image: {fewer * (depth < most)}stronger changes of zoom and grey values")
    geometry = Geometry(depth, "same", scale)
    # On a coarser grid many steps of a quarter of the work learn more than four times the context (docs/results.md).
    # Tried in 2-D only.
    small = scale > 1 and summary.dims == 2
    largest = WORKING_PATCH[summary.dims] * scale // (2 if small else 1)
    patch = tuple(min(largest, geometry.legal_at_least(n)) for n in summary.median_size)
    step_pixels = STEP_PIXELS[summary.dims] * scale**summary.dims // (4 if small else 1)
    batch = max(2, min(32, step_pixels // math.prod(patch)))
    enough = "enough for the whole context of a pixel, and " * (min(patch) > 2 * geometry.reach)
    reasons.append(
        f"batches of {batch} patches of {' x '.join(map(str, patch))} px: {enough}few pixels in a step, because many "
        "small steps learn more than few large ones in the same time"
    )
    augmentation = replace(augmentation, elastic=min(augmentation.elastic, round(ELASTIC_PER_SIDE * min(patch), 1)))
    mirror, rotation, reason = choose_orientation(summary)
    augmentation = replace(augmentation, mirror=mirror, rotation=rotation)
    reasons.append(
        f"each patch is {reason}; it is zoomed by up to {augmentation.zoom:g}, deformed by about "
        f"{augmentation.elastic:g} px and changed in its grey values"
    )
    working_pixels = batch * math.prod(patch) // scale**summary.dims
    wanted = SMALL_STEPS_WANTED if small else STEPS_WANTED
    if members is None:
        narrowest = 0.0 if speed is None else speed.step_seconds(WIDTHS[-1], working_pixels)
        members, reason = choose_members(summary, seconds, MEMBER_STEPS * wanted * narrowest)
        reasons += [reason] if reason else []
    each = None if seconds is None else seconds / members
    channels, reason = choose_width(speed, each, working_pixels, wanted, members)
    reasons.append(reason)
    reasons.append(
        "padded convolutions with batch normalisation, Muon and a moving average of weights: they learnt most in "
        "little time; predictions are exact across tiles all the same"
    )
    rotations, reason = choose_rotations(summary)
    reasons += [reason] if reason else []
    return Recipe(
        name="auto",
        network=NetworkSettings(channels=channels, depth=depth, scale=scale),
        encoding=encoding,
        patch=patch,
        batch=batch,
        optimiser=OptimiserSettings("muon", RATES["muon"]),
        augmentation=augmentation,
        rotations=rotations,
        members=members,
        refit=REFIT_SHARE if summary.n_images <= REFIT_UP_TO else 0.0,
        reasons=tuple(reasons),
    )


def paper_recipe(summary: DataSummary) -> Recipe:
    """The recipe of the 2015 paper (P1-P17); what the paper leaves open is marked as a choice in the reasons."""
    if summary.task == "classification":
        raise RecipeError(
            "expected masks for the paper's recipe, found images with one class each; use the recipe auto"
        )
    if summary.dims != 2:
        raise RecipeError("expected 2-D images for the paper's recipe, found volumes; use the recipe auto")
    encoding = Encoding("ridge")
    if summary.task != "instances":
        # P14: w_c balances the classes' frequencies, rare or not.
        weights = tuple(1 / (len(summary.shares) * share) if share else 1.0 for share in summary.shares)
        n_classes = len(summary.classes)
        # Of two classes, as membranes and cells, the connected pieces of the second one are the paper's cells.
        gap_weight = 10.0 if n_classes == 2 else 0.0
        encoding = Encoding("semantic", n_classes=n_classes, class_weights=weights, gap_weight=gap_weight)
    return Recipe(
        name="paper",
        network=NetworkSettings(channels=64, depth=5, padding="valid", norm="none", dropout=0.5, scale=1),
        encoding=encoding,
        patch=(572, 572),
        batch=1,
        optimiser=OptimiserSettings(
            name="sgd",
            learning_rate=3e-3,
            momentum=0.99,
            weight_decay=0.0,
            warm_up=50,
            decay=0.5,
            average=0.0,
            clip=0.5,
        ),
        augmentation=Augmentation(zoom=1.0, elastic=10.0, elastic_nodes=3),
        foreground=0.0,
        # P18, for which the paper's experiment is one of two classes.
        rotations=PAPER_ROTATIONS if summary.task == "semantic" and len(summary.classes) == 2 else 1,
        reasons=(
            "the network, the single large tile, momentum 0.99 and the deformation are the paper's",
            "the separation ridge and the weight map are the paper's"
            if summary.task == "instances"
            else "the classes are balanced and, where there are two, gaps between pieces weigh more, as in the paper",
            "choices, since the paper is silent: learning rate 0.003 after a rise over 50 steps, with a linear decay "
            "over the last 50 %, gradients no longer than 0.5 (without that limit many ReLUs die in the first steps "
            "and stay dead), free rotation and mirrors, changes of brightness, contrast, gamma and noise, dropout at "
            "rate 0.5, a ridge 1 px thick, each image normalised to mean 0 and standard deviation 1, a fifth of the "
            "images held out to choose the best weights and the thresholds",
        ),
    )
