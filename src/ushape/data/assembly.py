"""Files that belong together become a dataset: planes are counted, masks recognised, samples made.

The values of up to 50 masks are read, spread evenly, because what masks are has to be known before the first batch.
Masks of the folder's other parts are looked at as well, so that a class has one number in all of them. Where the values
are classes, those of the other masks are listed too, because a class may be rare.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Dataset, Sample, Task
from ushape.data.description import DESCRIPTION_FILE, ClassRule, Description
from ushape.data.evidence import odd_ones
from ushape.data.ghosts import count_values
from ushape.data.images import read_image
from ushape.data.known import known_mapping
from ushape.data.masks import MaskFacts, MaskRule, read_facts, read_mask_by_rule, read_values, recognise_masks
from ushape.data.matching import Match
from ushape.data.notes import Notes, counted, first_of, told
from ushape.data.planes import Pair, pairs_of, spread
from ushape.data.values import listed
from ushape.errors import DataError

__all__ = ["Request", "assemble", "read_channels", "sample_of"]

Mask = NDArray[np.int32]

MAX_MASKS_READ = 50  # to recognise what the masks are
MAX_OTHER_MASKS_READ = 25  # of the folder's other parts
MAX_VALUES_LISTED = 8  # of a mask that fits no rule
MAX_VOXELS_READ = 2**28  # about what 50 masks of 2300 x 2300 have
MAX_MASKS_LISTED = 2000  # whose values are listed to find rare classes
MAX_VOXELS_LISTED = 2**29
# A third value beside these is a slip more often than a class; it is told when the mask is needed.
PAINTED = ({0, 255}, {0, 65535}, {0, 1, 255})

NOTHING_SAID = Description()


@dataclass(frozen=True)
class Request:
    """What is to become of a folder: the dataset's name, the folder, and what is said about it.

    task      "semantic" or "instances" where the masks are to be read as another thing than recognised
    by_value  the layout itself says that each mask value is a class (nnU-Net)
    source    where the description comes from, in words
    classes   the names of the labels, where whole images have one
    known     the names of the classes that the masks are known to have
    """

    name: str
    path: Path
    task: Task | None = None
    description: Description = NOTHING_SAID
    by_value: bool = False
    source: str = DESCRIPTION_FILE
    classes: tuple[str, ...] = ()
    known: tuple[str, ...] = ()


def _to_read(pairs: Sequence[Pair], most: int, most_voxels: int) -> list[Pair]:
    """The pairs whose masks are read: up to `most`, fewer where they are huge, spread evenly."""
    masked = [pair for pair in pairs if pair.mask is not None]
    n_voxels = max((pair.n_voxels for pair in masked), default=1)
    return [masked[i] for i in spread(len(masked), min(most, max(3, most_voxels // max(1, n_voxels))))]


def _read_facts(pairs: Sequence[Pair], most: int, notes: Notes) -> tuple[dict[Pair, MaskFacts], set[Path]]:
    """The facts of some masks, and the mask files that turned out to be unusable."""
    facts: dict[Pair, MaskFacts] = {}
    broken: set[Path] = set()
    for pair in _to_read(pairs, most, MAX_VOXELS_READ):
        assert pair.mask is not None
        if pair.mask in broken:
            continue
        try:
            facts[pair] = read_facts(pair.mask, page=pair.mask_page, axes=pair.mask_axes)
        except DataError as error:
            broken.add(pair.mask)
            notes.problems.append(f"{error} (the image is kept without it)")
    return facts, broken


def _in_words(fact: MaskFacts) -> str:
    return listed(fact.values) if len(fact.values) <= MAX_VALUES_LISTED else f"{len(fact.values)} different values"


def _without_odd_ones(
    request: Request, facts: dict[Pair, MaskFacts], others: list[MaskFacts], broken: set[Path], notes: Notes
) -> tuple[dict[Pair, MaskFacts], list[MaskFacts]]:
    """The facts that a rule can be made of; a mask that fits none of the others is broken, and a problem.

    Nothing is odd where somebody said what the values are, or that each connected piece is an object.
    """
    said = request.description
    if request.by_value or said.says_values or said.ignore or "instances" in (request.task, said.task):
        return facts, others
    odd = odd_ones([*facts.values(), *others])
    pairs = dict(zip(facts, odd, strict=False))
    kept = {pair: fact for pair, fact in facts.items() if not pairs[pair]}
    left_out = {pair.mask for pair in facts if pairs[pair]}
    if not kept or left_out & {pair.mask for pair in kept}:
        return facts, others
    usual = next((fact for fact in kept.values() if fact.ids), None)
    for pair, fact in facts.items():
        if pairs[pair] and pair.mask is not None and pair.mask not in broken and usual is not None:
            broken.add(pair.mask)
            notes.problems.append(
                f"{pair.mask}: expected a mask like most others, which hold {_in_words(usual)}, found "
                f"{_in_words(fact)}; export it as the others were (the image is kept without it)"
            )
    return kept, [fact for fact, is_odd in zip(others, odd[len(facts) :], strict=True) if not is_odd]


def _facts_of_others(others: Sequence[Match], axes: str | None) -> list[MaskFacts]:
    """The facts of some masks of the folder's other parts; what is wrong there is told when they are opened."""
    masked = [match for match in others if match.mask is not None]
    chosen = [masked[i] for i in spread(len(masked), MAX_OTHER_MASKS_READ)]
    pairs = pairs_of(chosen, axes, Notes())
    return list(_read_facts(pairs, MAX_OTHER_MASKS_READ, Notes())[0].values())


def _note_empty(facts: dict[Pair, MaskFacts], rule: MaskRule, notes: Notes) -> None:
    empty = [pair.name for pair, fact in facts.items() if rule.is_empty(fact)]
    if empty:
        notes.findings.append(
            f"{len(empty)} of {len(facts)} masks read are all background ({told(empty)}): right if nothing is there, "
            "otherwise annotate them or leave them out."
        )


def _described(request: Request, facts: Sequence[MaskFacts]) -> Description:
    """The request's description; where the layout says that values are classes, with a class for each value."""
    description, task = request.description, request.task or request.description.task
    values = sorted({v for fact in facts for v in fact.values if v not in description.ignore} | {0})
    by_known = not description.classes and known_mapping(values, request.known) is not None
    if not request.by_value or description.says_values or task == "instances" or len(values) < 3 or by_known:
        return description
    names = [rule.name for rule in description.classes]
    if len(names) != len(values):
        names = ["background", *(f"class {v}" for v in values[1:])]
    classes = tuple(ClassRule(name, (value,)) for name, value in zip(names, values, strict=True))
    return replace(description, task="semantic", classes=classes)


def _rule(request: Request, own: list[MaskFacts], others: list[MaskFacts]) -> MaskRule | None:
    """The rule for the masks of all parts; None without any, and when only other parts have some and they fit none."""
    if not own and not others:
        return None
    try:
        description = _described(request, [*own, *others])
        return recognise_masks([*own, *others], str(request.path), request.task, description, request.known)
    except DataError:
        if own:
            raise
        return None


def _values_of(pair: Pair) -> set[int]:
    """The values of a mask as they stand in its file; none where it cannot be read, which is told when it is needed."""
    assert pair.mask is not None
    try:
        values = read_values(pair.mask, pair.mask_page, pair.mask_axes, snap=False)
    except DataError:
        return set()
    return {int(v) for v in count_values(values)[0]}


def _may_lack_classes(request: Request, rule: MaskRule) -> bool:
    """Whether other masks may hold further classes: not where values were said, nor beside 0 and 255."""
    if rule.reading != "values" or request.description.says_values:
        return False
    return {v for v, c in rule.mapping if c >= 0} not in PAINTED


def _values_of_others(
    pairs: Sequence[Pair], facts: dict[Pair, MaskFacts], broken: set[Path]
) -> Iterator[tuple[Pair, set[int]]]:
    """The values of the masks that were not read yet; decoding runs on all cores."""
    chosen = _to_read(pairs, MAX_MASKS_LISTED, MAX_VOXELS_LISTED)
    unread = [pair for pair in chosen if pair not in facts and pair.mask not in broken]
    with ThreadPoolExecutor() as pool:
        yield from zip(unread, pool.map(_values_of, unread), strict=True)


def _rule_of_all(
    request: Request,
    pairs: Sequence[Pair],
    facts: dict[Pair, MaskFacts],
    others: list[MaskFacts],
    broken: set[Path],
) -> tuple[MaskRule | None, dict[Pair, MaskFacts]]:
    """The rule, and the facts it was made of: also of masks with a value that no mask before them held.

    A mask that fits no rule, or would make something else of all of them, is left aside and told when it is needed.
    """
    rule = _rule(request, list(facts.values()), others)
    if rule is None or not facts or not _may_lack_classes(request, rule):
        return rule, facts
    seen = {v for fact in facts.values() for v in fact.values} | {-1, *request.description.ignore}
    n_read = 0
    for pair, values in _values_of_others(pairs, facts, broken):
        if values <= seen or n_read >= MAX_MASKS_READ:
            continue
        n_read += 1
        more = facts | _read_facts([pair], 1, Notes())[0]
        try:
            wider = _rule(request, list(more.values()), others)
        except DataError:
            continue
        if wider is not None and (wider.task, wider.reading) == (rule.task, rule.reading):
            rule, facts = wider, more
            seen |= {v for fact in more.values() for v in fact.values}
    return rule, facts


def read_channels(paths: tuple[Path, ...], *, page: int | None = None, axes: str | None = None) -> NDArray[Any]:
    """One image (C, *space) of several files, one or more channels in each; all in the type that holds them all."""
    return np.concatenate([read_image(path, page=page, axes=axes) for path in paths])


def sample_of(pair: Pair, rule: MaskRule | None) -> Sample:
    """The sample of a pair; without mask where there is none, or no rule to read it by."""
    mask: partial[Mask] | None = None
    files = pair.images
    if pair.mask is not None and rule is not None:
        mask = partial(read_mask_by_rule, pair.mask, pair.mask_page, rule, axes=pair.mask_axes)
        files = (*pair.images, pair.mask)
    if len(pair.images) == 1:
        image: partial[NDArray[Any]] = partial(read_image, pair.images[0], page=pair.page, axes=pair.axes)
    else:
        image = partial(read_channels, pair.images, page=pair.page, axes=pair.axes)
    return Sample(pair.name, image, mask, group=pair.group, position=pair.page or 0, files=files, label=pair.label)


def assemble(request: Request, matches: Sequence[Match], notes: Notes, others: Sequence[Match] = ()) -> Dataset:
    """A dataset of these files; masks are read when they are needed, by the rule that their values suggest.

    others  what belongs to the folder's other parts: their masks have a say in what the masks mean

    DataError when no image can be read, and when the masks fit no rule.
    """
    axes = request.description.axes
    pairs = pairs_of(matches, axes, notes)
    if not pairs:
        raise DataError(f"{request.path}: expected images that can be read, found none ({first_of(notes.problems)})")
    if request.classes:
        samples = tuple(sample_of(pair, None) for pair in pairs)
        found = tuple(notes.findings), tuple(notes.problems)
        return Dataset(request.name, samples, "classification", request.classes, *found)
    facts, broken = _read_facts(pairs, MAX_MASKS_READ, notes)
    facts, of_others = _without_odd_ones(request, facts, _facts_of_others(others, axes), broken, notes)
    rule, facts = _rule_of_all(request, pairs, facts, of_others, broken)
    if rule is not None and facts:
        _note_empty(facts, rule, notes)
        notes.findings[:0] = [finding.replace(DESCRIPTION_FILE, request.source) for finding in rule.findings]
    else:
        notes.findings.insert(0, f"No masks: {counted(len(pairs), 'image')} for prediction.")
    return Dataset(
        request.name,
        tuple(sample_of(pair, rule if pair.mask not in broken else None) for pair in pairs),
        rule.task if rule is not None else request.task or request.description.task or "semantic",
        rule.classes if rule is not None else ("background", "foreground"),
        tuple(notes.findings),
        tuple(notes.problems),
        rule.colours if rule is not None else (),
        rule.values if rule is not None else (),
    )
