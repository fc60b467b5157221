"""The `dataset.toml` that reads a dataset the way it was read without one: what was understood, ready to be corrected.

The keys are those of `description`. Whatever is not known stands there as a comment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ushape.data.colours import hex_of_colour, is_packed, unpack_colour
from ushape.data.dataset import Dataset
from ushape.data.description import DESCRIPTION_FILE, Description
from ushape.data.masks import MaskRule, find_rule
from ushape.errors import DataError

__all__ = ["draft_description", "write_draft"]

# How people number the samples of one stack, field or patient; tried in this order.
GROUP_PATTERNS = ("^(.*)_[0-9]+$", "^(.*)-[0-9]+$", "^(.*?)[_-]", "^(.*)[_-]", "^([A-Za-z]+)", "^([^.]+)")
MAX_GROUPS_TOLD = 5


def _text(text: str) -> str:
    """A TOML string; JSON writes strings the same way."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    """The text on one line, without what TOML forbids in comments."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def _one_or_list(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"[{', '.join(items)}]"


def _value(value: int) -> str:
    """A mask value in TOML, packed colours as text."""
    return _text(hex_of_colour(unpack_colour(value))) if is_packed(value) else str(value)


def _ignore_lines(rule: MaskRule | None) -> list[str]:
    ignored = [*rule.ignore, *(v for v, c in rule.mapping if c < 0)] if rule is not None else []
    comment = "  # mask values of pixels without annotation (-1 always is one)"
    if not ignored:
        return [f"# ignore = 255{comment}"]
    return [f"ignore = {_one_or_list([_value(v) for v in dict.fromkeys(ignored)])}{comment}"]


def _class_lines(dataset: Dataset, rule: MaskRule | None) -> list[str]:
    """One [[classes]] table for each class, with its values and colours where they are known."""
    lines = []
    for index, name in enumerate(dataset.classes):
        mine = [v for v, c in rule.mapping if c == index] if rule is not None else []
        values = [_value(v) for v in mine if not is_packed(v)]
        colours = [_value(v) for v in mine if is_packed(v)]
        if not colours and dataset.colours:
            colours = [_text(hex_of_colour(dataset.colours[index]))]
        lines += ["", "[[classes]]", f"name = {_text(name)}"]
        lines += [f"{'value' if len(values) == 1 else 'values'} = {_one_or_list(values)}"] if values else []
        lines += [f"{'colour' if len(colours) == 1 else 'colours'} = {_one_or_list(colours)}"] if colours else []
    return lines


def _group_line(dataset: Dataset) -> str:
    groups = {s.name: s.group for s in dataset.samples if s.group}
    comment = "# samples of one group stay together when some are held out: "
    for pattern in GROUP_PATTERNS if groups else ():
        description = Description(groups=pattern)
        if all(description.group_of(s.name) == s.group for s in dataset.samples):
            return f"groups = {_text(pattern)}  {comment}this part of their names is the same"
    example = f"# groups = {_text(GROUP_PATTERNS[0])}  {comment}the part of their names in brackets is the same"
    if not groups:
        return example
    some = ", ".join(sorted(set(groups.values()))[:MAX_GROUPS_TOLD])
    return f"{example}\n# Now the groups are {_comment(some)}, as the files tell."


def _spacing_lines(dataset: Dataset) -> list[str]:
    spacings = {s.spacing for s in dataset.samples}
    comment = "  # size of a pixel along each axis: height, width"
    spacing = spacings.pop() if len(spacings) == 1 else None
    if spacing is None:
        return [f"# spacing = [0.5, 0.5]{comment}", '# unit = "um"']
    return [f"spacing = [{', '.join(map(repr, spacing.values))}]{comment}", f"unit = {_text(spacing.unit)}"]


def draft_description(dataset: Dataset, rule: MaskRule | None = None) -> str:
    """TOML text for a `dataset.toml` beside the images; the folder is read with it as it was read without.

    rule  what the masks mean; by default the one that the dataset's masks are read by
    """
    rule = rule or find_rule(dataset)
    understood = [f"#   {_comment(finding)}" for finding in dataset.findings]
    return "\n".join(
        [
            f"# What {DESCRIPTION_FILE} says overrules what would be guessed. This draft says what was understood:",
            *understood,
            "",
            f"task = {_text(dataset.task)}  # semantic (each pixel has a class), instances (objects), classification",
            *_ignore_lines(rule),
            _group_line(dataset),
            *_spacing_lines(dataset),
            '# axes = "ZYX"  # what the dimensions of the image files are, where they do not say it',
            *_class_lines(dataset, rule),
            "",
        ]
    )


def write_draft(folder: Path, dataset: Dataset, rule: MaskRule | None = None) -> Path:
    """Write the draft as dataset.toml into the folder; returns its path. DataError where there is one already."""
    path = folder / DESCRIPTION_FILE
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder to write dataset.toml into, found none; name the data's folder")
    if path.exists():
        raise DataError(f"{path}: expected no description from before, found one; edit it, or remove it first")
    temporary = path.with_name(f".{DESCRIPTION_FILE}.part")
    temporary.write_text(draft_description(dataset, rule), encoding="utf-8")
    os.replace(temporary, path)
    return path
