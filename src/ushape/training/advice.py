"""A plan in words: the data, each decision with its reason, what to expect, and the recipe to keep or to change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ushape.training.planning import Planned
from ushape.training.recipe import write_recipe

__all__ = ["describe_decisions", "describe_plan"]

FEW_HELD_OUT = 3
"""Held-out images up to which their scores say little."""
FEW_IMAGES = 8
"""Training images up to which more of them are worth more than more minutes."""


def size_text(sizes: Sequence[tuple[int, ...]]) -> str:
    """'512 x 512 px', or the range of sizes."""
    least, most = (tuple(f(sides) for sides in zip(*sizes, strict=True)) for f in (min, max))
    text = " x ".join(map(str, least))
    return f"{text} px" if least == most else f"{text} to {' x '.join(map(str, most))} px"


def about_data(planned: Planned) -> list[str]:
    """What there is to learn from."""
    summary, n_training, n_held = planned.summary, len(planned.training), len(planned.validation)
    kinds = {1: "grey", 3: "colour"}
    what = f"{kinds.get(summary.channels, f'{summary.channels}-channel')} {'image' if summary.dims == 2 else 'volume'}"
    what += "s" * (n_training != 1)
    lines = [f"{n_training} {what} of {size_text(summary.sizes)} to train on, {n_held} held out to choose by"]
    if summary.task == "classification":
        return [f"{lines[0]}; {len(summary.classes)} classes"]
    if n_held <= FEW_HELD_OUT:
        which = "validation" if planned.validated_on else "held-out"
        todo = "annotate more of them" if planned.validated_on else "annotate more, or name others with --val"
        lines.append(f"the scores of {n_held} {which} image{'s' if n_held > 1 else ''} say little: {todo}")
    if n_training <= FEW_IMAGES:
        lines.append("with so few images each further annotated one is worth more than further minutes")
    return lines


def about_network(planned: Planned) -> str:
    """How far the network sees, and how large it is."""
    recipe, summary = planned.recipe, planned.summary
    network = recipe.network.build(summary.channels, recipe.encoding.n_channels, summary.dims)
    weights = sum(parameter.numel() for parameter in network.parameters())
    counted = f"{weights / 1e6:.1f} million" if weights >= 1e5 else f"{weights:,}".replace(",", " ")
    on_disk = f"{math.ceil(4 * weights / 1e6)} MB" if weights >= 1e5 else f"{math.ceil(4 * weights / 1e3)} kB"
    several = f"each of the {recipe.members} networks" if recipe.members > 1 else "the network"
    told = f"{several} has {counted} weights ({on_disk} on disk)"
    if recipe.network.head != "pixels":
        return told
    return f"{told} and sees {recipe.geometry.reach} px to each side of a pixel"


def describe_decisions(planned: Planned) -> str:
    """What there is to learn from, and what would be trained and why."""
    numbered = [f"{number}. {reason}" for number, reason in enumerate(planned.recipe.reasons, start=1)]
    about = [f"- {line}" for line in [*about_data(planned), about_network(planned)]]
    return "\n".join([*about, "", "What would be trained, and why:", *numbered])


def describe_plan(planned: Planned) -> str:
    """All of it, for a person."""
    # Not the sentences again.
    recipe = write_recipe(replace(planned.recipe, reasons=()))
    return "\n".join(
        [
            describe_decisions(planned),
            "",
            "The recipe (kept in FILE.toml and changed, it is trained by --recipe FILE.toml):",
            "",
            recipe.replace("reasons = []\n", ""),
        ]
    )
