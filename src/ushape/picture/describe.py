"""A U-Net in words and numbers: the table that stands beside its picture.

Conventions: those of `ushape.picture.trace`. Sizes are written as in the paper's figure, 572² for 572x572; bytes in
powers of ten, 1 MB = 1,000,000 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ushape.picture.trace import Network, Side, Step, Trace, receptive_field, trace

__all__ = ["architecture_facts", "describe_architecture", "in_words", "readable", "written"]

EXPONENTS = {2: "²", 3: "³"}

COLUMNS = (
    "level",
    "channels",
    "size down",
    "cut off by the skip",
    "size up",
    "parameters",
    "GFLOP",
    "training",
    "prediction",
    "sees",
)


def written(size: Sequence[int]) -> str:
    """572² for a square, 60³ for a cube, 284×188 for what has no such name."""
    return f"{size[0]}{EXPONENTS[len(size)]}" if len(set(size)) == 1 else "×".join(map(str, size))


def readable(value: float, unit: str) -> str:
    """Three digits and the unit that suits them: 279 MB, 1.26 GFLOP."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # What would be rounded to 1000 of a unit is 1 of the next.
        if value >= 0.9995 * factor:
            scaled = value / factor
            places = 0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2
            return f"{scaled:.{places}f} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def in_words(lengths: tuple[int, int]) -> str:
    """'188 to 204', or one number where both are the same."""
    return str(lengths[0]) if lengths[0] == lengths[1] else f"{lengths[0]} to {lengths[1]}"


def architecture_facts(network: Network, size: int | Sequence[int]) -> dict[str, Any]:
    """The numbers of a network for an input of this size, ready for JSON.

    SizeError as from `trace`.
    """
    traced = trace(network, size)
    first, last = traced.steps[0], traced.steps[-1]
    return {
        "network": traced.settings,
        "input": {"channels": first.channels, "size": list(first.size)},
        "output": {"channels": last.channels, "size": list(last.size)},
        "parameters": traced.parameters,
        "operations": traced.operations,
        "receptive_field": list(traced.receptive_field),
        "stride": traced.geometry.stride,
        "training_bytes": sum(traced.training_bytes),
        "prediction_bytes": sum(traced.prediction_bytes),
        "weight_bytes": 4 * traced.parameters,
        "levels": [_level(traced, level) for level in range(traced.depth)],
        "steps": [_step(step) for step in traced.steps],
    }


def _level(traced: Trace, level: int) -> dict[str, Any]:
    """One level: both of its sides and what runs between them."""
    here = [step for step in traced.steps if step.level == level]
    blocks = [
        [step for step in here if step.kind == "convolution" and (step.side == "up") == up] for up in (False, True)
    ]
    left, right = blocks
    side: Side = "up" if right else "bottom"
    skip = traced.skips[level] if right else None
    return {
        "level": level,
        "channels": left[-1].channels,
        "size_down": list(left[-1].size),
        "size_up": list(right[-1].size) if right else None,
        "skip": {"size": list(skip.size), "cropped": list(skip.cropped), "offset": list(skip.offset)} if skip else None,
        "parameters": sum(step.parameters for step in here),
        "operations": sum(step.operations for step in here),
        "training_bytes": traced.training_bytes[level],
        "prediction_bytes": traced.prediction_bytes[level],
        "receptive_field": list(receptive_field(traced.geometry, level, side)),
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "kind": step.kind,
        "level": step.level,
        "side": step.side,
        "layer": step.name,
        "channels": step.channels,
        "size": list(step.size),
        "parameters": step.parameters,
        "operations": step.operations,
    }


def describe_architecture(network: Network, size: int | Sequence[int]) -> str:
    """The same as a table to read, a row for each level, with a line above and a legend below.

    SizeError as from `trace`.
    """
    facts = architecture_facts(network, size)
    rows = [COLUMNS, *(_row(level) for level in facts["levels"]), _total(facts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([_headline(facts), "", lines[0], rule, *lines[1:-1], rule, lines[-1], "", *_legend(facts)])


def _headline(facts: dict[str, Any]) -> str:
    """What goes in and what comes out."""
    settings, ends = facts["network"], (facts["input"], facts["output"])
    image, logits = (f"{end['channels']} x {' x '.join(map(str, end['size']))}" for end in ends)
    options = [f"padding {settings['padding']}", f"norm {settings['norm']}", f"dropout {settings['dropout']:g}"]
    if settings["scale"] > 1:
        options.append(f"scale {settings['scale']}")
    kind = "U-Net classifier" if "head" in settings else "U-Net"
    return (
        f"{kind} of depth {settings['depth']} with {settings['channels']} channels at the first level "
        f"({', '.join(options)}): image {image} -> logits {logits}"
    )


def _row(level: dict[str, Any]) -> tuple[str, ...]:
    skip = level["skip"]
    return (
        str(level["level"]),
        str(level["channels"]),
        written(level["size_down"]),
        _each(skip["offset"]) if skip else "",
        written(level["size_up"]) if level["size_up"] else "",
        f"{level['parameters']:,}",
        _billions(level["operations"]),
        readable(level["training_bytes"], "B"),
        readable(level["prediction_bytes"], "B"),
        in_words(level["receptive_field"]),
    )


def _each(lengths: Sequence[int]) -> str:
    """One number where all axes have the same."""
    return "×".join(map(str, dict.fromkeys(lengths) if len(set(lengths)) == 1 else lengths))


def _total(facts: dict[str, Any]) -> tuple[str, ...]:
    numbers = (f"{facts['parameters']:,}", _billions(facts["operations"]))
    memory = tuple(readable(facts[name], "B") for name in ("training_bytes", "prediction_bytes"))
    return ("all", "", "", "", "", *numbers, *memory, in_words(facts["receptive_field"]))


def _billions(operations: int) -> str:
    """Two places, more where there would be nothing but zeros."""
    return f"{operations / 1e9:.2f}" if operations >= 5e6 else f"{operations / 1e9:.2g}"


def _legend(facts: dict[str, Any]) -> list[str]:
    """What the columns mean."""
    weights = readable(facts["weight_bytes"], "B")
    return [
        "size down, size up: of the maps at the end of a level's block, on the way down and up",
        "cut off by the skip: pixels on each side of each axis, to fit the maps that come from below",
        "GFLOP: thousand millions of operations of the convolutions, two for each multiply-add",
        "training: float32 activations of one image that are kept for the way back; gradients and optimiser on top",
        f"prediction: float32 activations alive when most are; the weights, {weights}, on top",
        "sees: image pixels, along one axis, that a value at the end of the level depends on (its receptive field)",
    ]
