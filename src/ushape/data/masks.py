"""What the values of masks mean, recognised from the masks themselves.

People save masks in four ways, and the values tell them apart:

    two values anywhere                                          background and foreground, whatever the two are
    ids 1..n afresh in each image, each of them connected        instances
    the same few values in most images                           classes
    anything else                                                refused with a sentence

One value has two uses by convention: where the others run 0..n, 255 marks pixels to ignore (as in Pascal VOC).
The finding is a `MaskRule`, which also reads a mask file by that rule: (*space) int32, 0 background, -1 ignore.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from ushape.data.dataset import Task
from ushape.data.images import read_mask
from ushape.errors import DataError

__all__ = ["MaskFacts", "MaskRule", "mask_facts", "read_mask_by_rule", "recognise_masks"]

Mask = NDArray[np.int32]
Reading = Literal["values", "ids", "pieces", "foreground"]

MAX_CLASSES = 64  # more different values than this are not "few"
IGNORE_VALUE = 255
CONNECTED_SHARE = 0.9  # of all objects: hand-drawn instances have stray pixels now and then
# Instances are numbered 1..n with another n in each image. The same n <= 3 in at least 5 images are classes that
# happen to have one region each (optic disc and cup), rather than always the same number of objects.
CONSTANT_MASKS, CONSTANT_IDS = 5, 3


@dataclass(frozen=True)
class MaskFacts:
    """What recognition needs of one mask: its values (without -1), and how many ids > 0 are one connected piece."""

    values: tuple[int, ...]
    n_connected: int

    @property
    def ids(self) -> tuple[int, ...]:
        """The values above 0."""
        return tuple(v for v in self.values if v > 0)


@dataclass(frozen=True)
class MaskRule:
    """How the masks of one dataset are read.

    reading  "values": each file value becomes a class by `mapping`; "ids": values are objects already;
             "pieces": each connected piece above background is an object; "foreground": every id becomes class 1
    mapping  (file value, class) pairs; class -1 is ignore
    finding  one sentence for the user
    """

    task: Task
    classes: tuple[str, ...]
    reading: Reading
    mapping: tuple[tuple[int, int], ...]
    finding: str


def _pieces(mask: Mask) -> Mask:
    """Connected pieces of equal value > 0, numbered from 1; pieces that touch at a corner are connected."""
    find_pieces: Any = label  # scikit-image has no types here
    return np.asarray(find_pieces(np.maximum(mask, 0), background=0, connectivity=mask.ndim), np.int32)


def mask_facts(mask: Mask) -> MaskFacts:
    """The facts of one mask (*space)."""
    values = tuple(int(v) for v in np.unique(mask) if v >= 0)
    pieces = _pieces(mask)
    value_of_piece = np.zeros(int(pieces.max(initial=0)) + 1, np.int64)
    value_of_piece[pieces.ravel()] = mask.ravel()
    _, n_of_each = np.unique(value_of_piece[1:], return_counts=True)
    return MaskFacts(values, int((n_of_each == 1).sum()))


def _listed(values: Sequence[int]) -> str:
    """A few values in words: '0, 1 and 255'."""
    words = [str(v) for v in values]
    if len(words) > 8:
        words = [*words[:6], "...", words[-1]]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _looks_like_instances(facts: Sequence[MaskFacts]) -> bool:
    drawn = [f for f in facts if f.ids]
    n_ids = sum(len(f.ids) for f in drawn)
    if not n_ids or sum(f.n_connected for f in drawn) < CONNECTED_SHARE * n_ids:
        return False
    if len(drawn) >= CONSTANT_MASKS and len(drawn[0].ids) <= CONSTANT_IDS and len({f.ids for f in drawn}) == 1:
        return False
    afresh = sum(f.ids == tuple(range(1, len(f.ids) + 1)) for f in drawn)
    n_different = len({i for f in drawn for i in f.ids})
    return 2 * afresh >= len(drawn) or n_different > MAX_CLASSES


def _binary_rule(values: Sequence[int]) -> MaskRule:
    """Rule for two values, one value, or a mixture of masks with 0/1 and masks with 0/255."""
    low = values[0] if len(values) > 1 else 0
    mapping = tuple((v, 0 if v == low else 1) for v in sorted({low, *values}))
    what = f"two values ({_listed(values)})" if len(values) == 2 else f"only {_listed(values)}"
    if len(values) == 3:
        what = "two values each (0 and 1, or 0 and 255)"
    finding = f"The masks hold {what}: read as background and foreground."
    return MaskRule("semantic", ("background", "foreground"), "values", mapping, finding)


def _class_rule(values: Sequence[int]) -> MaskRule:
    """Rule for a few values: numbered 0, 1, 2, ... in their order, the lowest is background."""
    kept = list(values)
    ignored = len(kept) >= 3 and kept[-1] == IGNORE_VALUE and kept[:-1] == list(range(len(kept) - 1))
    if ignored:
        kept.pop()
    mapping = tuple((v, i) for i, v in enumerate(kept)) + (((IGNORE_VALUE, -1),) if ignored else ())
    classes = ("background", *(f"class {v}" for v in kept[1:]))
    finding = f"The masks hold the same {len(kept)} values ({_listed(kept)}): read as classes"
    if kept != list(range(len(kept))):
        finding += f", numbered 0 to {len(kept) - 1} without holes, {kept[0]} as background"
    if ignored:
        finding += "; pixels of value 255 are ignored"
    return MaskRule("semantic", classes, "values", mapping, finding + ".")


def _instance_rule(reading: Reading, finding: str) -> MaskRule:
    return MaskRule("instances", ("background", "object"), reading, (), finding)


def _rule_by_values(facts: Sequence[MaskFacts], where: str) -> MaskRule:
    """The rule that the values suggest, when nobody said what they are."""
    values = sorted({v for f in facts for v in f.values}) or [0]
    mixed = set(values) == {0, 1, IGNORE_VALUE} and all(len(f.values) <= 2 for f in facts)
    if len(values) <= 2 or mixed:
        return _binary_rule(values)
    n_ids, n_connected = sum(len(f.ids) for f in facts), sum(f.n_connected for f in facts)
    if _looks_like_instances(facts) or (len(values) > MAX_CLASSES and 2 * n_connected >= n_ids):
        finding = f"The masks hold ids, nearly each of them one connected object ({n_ids} in {len(facts)} masks)"
        return _instance_rule("ids", finding + ": read as instances.")
    if len(values) <= MAX_CLASSES:
        return _class_rule(values)
    raise DataError(
        f"{where}: expected masks of two values, of a few classes or of connected objects, found {len(values)} "
        "different values that are neither; save the masks without smoothing or compression loss"
    )


def recognise_masks(facts: Sequence[MaskFacts], where: str, task: Task | None = None) -> MaskRule:
    """What the masks with these facts are.

    where  the folder, for the message
    task   overrules the guess: "instances" takes two-valued masks apart into connected pieces, "semantic" joins
           all objects to one foreground

    DataError when the values fit nothing.
    """
    if task == "instances":
        if len({v for f in facts for v in f.values}) <= 2:
            return _instance_rule("pieces", "Each connected piece of the masks' foreground is read as one object.")
        return _instance_rule("ids", "The values of the masks are read as ids of objects, as asked.")
    rule = _rule_by_values(facts, where)
    if task == "semantic" and rule.task == "instances":
        finding = "The masks hold ids of objects; all are read as one foreground, as asked."
        return MaskRule("semantic", ("background", "foreground"), "foreground", (), finding)
    return rule


def _map_values(mask: Mask, mapping: tuple[tuple[int, int], ...], path: Path) -> Mask:
    values, places = np.unique(mask, return_inverse=True)
    classes = dict(mapping) | {-1: -1}
    unknown = [int(v) for v in values if int(v) not in classes]
    if unknown:
        raise DataError(
            f"{path}: expected only the mask values {_listed([v for v, _ in mapping])}, found also {_listed(unknown)}; "
            "correct the mask, or leave it out"
        )
    return np.array([classes[int(v)] for v in values], np.int32)[places].reshape(mask.shape)


def read_mask_by_rule(path: Path, page: int | None, rule: MaskRule) -> Mask:
    """A mask file as (*space) int32 by the dataset's rule; DataError for a value that the rule does not know."""
    mask = read_mask(path, page=page)
    if rule.reading == "values":
        return _map_values(mask, rule.mapping, path)
    if rule.reading == "ids":
        return mask
    if rule.reading == "pieces":
        return _pieces(np.minimum(mask, 1))
    return np.minimum(mask, 1).astype(np.int32)
