"""Score masks on disk, made by any tool.

Two files, or two folders whose files are paired by their names. Files of several pages are scored page by page, unless
the estimate says that they are slices of one volume. What cannot be scored is reported and the others are done.

What the values are: with `classes`, classes of pixels; otherwise ids of objects. Where both sides hold two values at
most, no more than one of them is told apart from the background: then objects are its connected pieces, and pixels are
scored beside them. Where one side alone holds two values, these number nothing, and its objects are its pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.data.evidence import IGNORE_VALUE, void_value
from ushape.data.headers import stem_of
from ushape.data.images import read_layout, read_mask
from ushape.data.masks import recognise_masks
from ushape.data.naming import MASK_WORDS, images_in, without_word
from ushape.data.values import listed, read_facts
from ushape.errors import DataError, UshapeError
from ushape.files.pages import Pages
from ushape.files.sentences import Reasons
from ushape.files.table import write_table
from ushape.tally import Evaluation, Tally, pieces

__all__ = ["evaluation_to_dict", "make_room_for_rows", "score_files", "write_rows"]

MASKS_LOOKED_AT = 20
"""Masks that are asked whether they look like classes, at most."""
FEWEST_TO_TELL = 3
"""Fewer masks than this tell too little."""

Labels = NDArray[np.int32]

MOST_CLASSES = 1000
"""More classes than this are ids of objects, given by mistake."""


@dataclass(frozen=True)
class Pair:
    """A reference file and its estimate.

    pages           number and name of each page that is scored by itself, or (None, name) for all of them together
    reference_axes  what the reference's dimensions are, where the estimate says it
    """

    reference: Path
    estimate: Path
    pages: tuple[tuple[int | None, str], ...]
    reference_axes: str | None = None

    def open(self) -> Callable[[int | None], tuple[Labels, Labels]]:
        """What reads both masks of a page; it raises DataError when one cannot be read or their sizes differ."""
        first_of = Pages(read_mask, self.reference, self.reference_axes)
        second_of = Pages(read_mask, self.estimate)

        def masks_of(page: int | None) -> tuple[Labels, Labels]:
            first, second = first_of(page), second_of(page)
            if first.shape != second.shape:
                raise DataError(
                    f"{self.estimate}: expected the reference's size {first.shape}, found {second.shape}; "
                    "score each estimate against the mask of the same image"
                )
            return first, second

        return masks_of


def some_values(mask: Labels) -> set[int]:
    """The values from 0 up; of a mask with larger ones than 255 the lowest, the highest, and one between them."""
    counted = mask[mask >= 0]
    if not counted.size:
        return set()
    low, high = int(counted.min()), int(counted.max())
    if high <= IGNORE_VALUE:
        return set(np.flatnonzero(np.bincount(counted)).tolist())
    between = counted[(counted != low) & (counted != high)]
    return {low, high, *between[:1].tolist()}


@dataclass
class Side:
    """The values of all masks of one side: all up to 255, and of larger ones some."""

    values: set[int] = field(default_factory=set)

    def add(self, mask: Labels) -> None:
        """Take in another mask; -1 is no value."""
        self.values |= some_values(mask)

    @property
    def highest(self) -> int:
        """The highest value."""
        return max(self.values, default=0)

    @property
    def is_two_valued(self) -> bool:
        """Whether one value at most is told apart from the lowest."""
        return len(self.values) <= 2

    @property
    def has_no_ids(self) -> bool:
        """Whether it is two-valued: 0 and 255, or 0 and 1, which number nothing when they are all there is."""
        return self.is_two_valued and self.highest > 0

    def foreground(self, mask: Labels) -> Labels:
        """A two-valued mask as 0 and 1; -1 stays."""
        lowest = min(self.values) if len(self.values) == 2 else 0
        return np.where(mask < 0, np.int32(-1), (mask > lowest).astype(np.int32))


def key_of(stem: str) -> str:
    """What a stem is paired by where it has no equal: without a word for masks at its front or end."""
    return (without_word(stem, MASK_WORDS) or stem).casefold()


def masks_in(folder: Path) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """(mask files, problems) of a folder, both by stem; a second file of a stem is a problem."""
    masks: dict[str, Path] = {}
    problems: dict[str, list[str]] = {}
    for path in images_in(folder):
        stem = stem_of(path)
        if stem in masks:
            problems.setdefault(stem, []).append(
                f"{path}: expected one mask called {stem}, found {masks[stem].name} as well, which is used; "
                "rename or remove one of the two"
            )
        else:
            masks[stem] = path
    return masks, problems


def owner_of(stems: Sequence[str]) -> str:
    """Which of several references with one estimate it is of: a mask by its name, beside an image, or else the first.

    So x_masks.png is scored and not x.png, where both lie in one folder as with Cellpose.
    """
    masks = [stem for stem in stems if key_of(stem) != stem.casefold()]
    return masks[0] if len(masks) == 1 else stems[0]


def pair_masks(reference: Path, estimate: Path) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """((name, reference, estimate), problems) of two files, or of the files of two folders whose names agree.

    Equal stems go first; otherwise x_mask.png and x.tif belong together where no other file has such a name.
    """
    for path in (reference, estimate):
        if not path.exists():
            raise DataError(f"{path}: expected a mask or a folder of masks, found nothing; check the path")
    if reference.is_file() and estimate.is_file():
        return [(stem_of(reference), reference, estimate)], []
    if reference.is_file() or estimate.is_file():
        raise DataError(
            f"{reference}, {estimate}: expected two masks or two folders, found one of each; name two of a kind"
        )
    (references, of_references), (estimates, of_estimates) = masks_in(reference), masks_in(estimate)
    problems = [told for sentences in of_references.values() for told in sentences]
    by_key: dict[str, list[Path]] = {}
    for stem, path in estimates.items():
        by_key.setdefault(key_of(stem), []).append(path)
    found_for = {stem: [estimates[stem]] if stem in estimates else by_key.get(key_of(stem), []) for stem in references}
    owners: dict[Path, list[str]] = {}
    for stem, alike in found_for.items():
        if len(alike) == 1:
            owners.setdefault(alike[0], []).append(stem)
    pairs = []
    for stem, path in references.items():
        alike = found_for[stem]
        owner = owner_of(owners[alike[0]]) if len(alike) == 1 else ""
        if owner == stem:
            pairs.append((stem, path, alike[0]))
            problems += of_estimates.get(stem_of(alike[0]), [])
        elif owner:
            problems.append(
                f"{path}: expected an estimate of its own in {estimate}, found {alike[0].name}, which is scored "
                f"against {references[owner].name}; predict the missing image, or remove what is no mask"
            )
        else:
            found = f"{alike[0].name} and {alike[1].name}" if alike else "none"
            problems.append(
                f"{path}: expected an estimate called {stem} in {estimate}, found {found}; predict the missing image, "
                "or rename or remove what does not belong together"
            )
    if not pairs:
        missing = f"no {next(iter(references))}" if references else f"no masks in {reference}"
        more = f" (and {len(references) - 1} more missing)" if len(references) > 1 else ""
        raise DataError(
            f"{estimate}: expected an estimate with the name of a reference mask, found {missing}{more}; predict the "
            "images or name the folders that belong together"
        )
    return pairs, problems


def with_pages(name: str, reference: Path, estimate: Path) -> Pair:
    """What is scored of two files: all, or each page; DataError where they have different numbers of pages."""
    first, second = read_layout(reference), read_layout(estimate)
    if first.n_pages == second.n_pages == 1:
        return Pair(reference, estimate, ((0, name),))
    if first.n_pages != second.n_pages:
        raise DataError(
            f"{estimate}: expected {first.n_pages} pages like the reference's, found {second.n_pages}; score each "
            "estimate against the mask of the same image"
        )
    if "P" not in second.axes:
        # A volume, even where the reference does not say what its pages are.
        axes = first.axes.replace("P", "Z") if "Z" not in first.axes else None
        return Pair(reference, estimate, ((None, name),), axes)
    digits = len(str(first.n_pages - 1))
    return Pair(reference, estimate, tuple((page, f"{name}_{page:0{digits}d}") for page in range(first.n_pages)))


def with_classes(pair: Pair, first: Labels, second: Labels) -> tuple[Labels, Labels]:
    """The masks, when all their values can be classes."""
    second = np.where(first == -1, 0, second)
    if second.min(initial=0) < 0:
        raise DataError(
            f"{pair.estimate}: expected classes from 0 up in an estimate, found {second.min()}; give each pixel a class"
        )
    for path, mask in ((pair.reference, first), (pair.estimate, second)):
        if mask.max(initial=0) >= MOST_CLASSES:
            raise DataError(
                f"{path}: expected classes from 0 to {MOST_CLASSES - 1}, found {mask.max()}; drop --classes if "
                "the values are ids of objects"
            )
    return first, second


@dataclass
class Comparison:
    """All pairs, looked through once to know what their values are; scored in a second pass, one in memory at a time.

    classes   the values are classes
    problems  what cannot be scored
    """

    classes: bool
    problems: list[str]
    pairs: list[Pair] = field(default_factory=list)
    reference: Side = field(default_factory=Side)
    estimate: Side = field(default_factory=Side)
    ignores_void: bool = False

    def look_for_void(self) -> None:
        """Find out whether 255 marks pixels to ignore in the references, by the rules for training."""
        values = sorted(self.reference.values)
        if len(values) < 3 or values[-1] != IGNORE_VALUE:
            return
        if self.classes:
            self.ignores_void = values[:-1] == list(range(len(values) - 1))
        elif IGNORE_VALUE - 1 not in values:
            with suppress(UshapeError):
                facts = [read_facts(path) for path in dict.fromkeys(pair.reference for pair in self.pairs)]
                self.ignores_void = void_value(facts) is not None
        if self.ignores_void:
            self.reference.values.remove(IGNORE_VALUE)

    def look_through(self, name: str, reference: Path, estimate: Path) -> None:
        """Take in a pair of files; of its pages those that can be scored."""
        reasons, good = Reasons(estimate, (reference,)), []
        with reasons.gathering():
            pair = with_pages(name, reference, estimate)
            masks_of = pair.open()
            for page, page_name in pair.pages:
                with reasons.gathering(page if len(pair.pages) > 1 else None):
                    first, second = self.checked(pair, *masks_of(page))
                    self.reference.add(first)
                    self.estimate.add(second)
                    good.append((page, page_name))
            self.pairs.append(replace(pair, pages=tuple(good)))
        self.problems += reasons.told()

    def checked(self, pair: Pair, first: Labels, second: Labels) -> tuple[Labels, Labels]:
        """The masks of a pair, when their values can be what they are taken for."""
        return with_classes(pair, first, second) if self.classes else (first, second)

    def masks(self) -> Iterator[tuple[str, Labels, Labels]]:
        """(name, reference, estimate) of all that can be scored, as they are counted."""
        for pair in self.pairs:
            masks_of = pair.open()
            for page, name in pair.pages:
                first, second = masks_of(page)
                if self.ignores_void:
                    first = np.where(first == IGNORE_VALUE, np.int32(-1), first)
                yield name, *self.understood(*self.checked(pair, first, second))

    @property
    def two_valued(self) -> bool:
        """Whether objects are connected pieces on both sides."""
        return not self.classes and self.reference.is_two_valued and self.estimate.is_two_valued

    def findings(self) -> Iterator[str]:
        """How the values were understood, where that is not plain."""
        if self.ignores_void:
            yield f"Pixels of value {IGNORE_VALUE} in the reference are ignored, as in training."
        if self.classes:
            return
        if self.two_valued:
            yield "Both sides hold two values: objects are their connected pieces, and pixels are scored beside them."
            return
        for what, side in (("reference", self.reference), ("estimate", self.estimate)):
            if side.has_no_ids:
                low, high = min(side.values), max(side.values)
                yield f"The {what} holds no ids but the values {low} and {high}: its objects are connected pieces."

    def tally(self) -> Tally:
        """What counts these masks."""
        if self.two_valued:
            return Tally("semantic", ("background", "object"))
        if not self.classes:
            return Tally("instances", ("background", "object"))
        n_classes = max(2, 1 + max(self.reference.highest, self.estimate.highest))
        return Tally("semantic", [f"class {index}" for index in range(n_classes)])

    def understood(self, first: Labels, second: Labels) -> tuple[Labels, Labels]:
        """The masks of a pair as they are counted."""
        if self.classes:
            return first, second
        if self.two_valued:
            return self.reference.foreground(first), np.maximum(self.estimate.foreground(second), 0)
        first = pieces(self.reference.foreground(first)) if self.reference.has_no_ids else first
        second = pieces(self.estimate.foreground(second)) if self.estimate.has_no_ids else second
        return first, second


def look_like_classes(paths: Sequence[Path]) -> bool:
    """Whether masks would be read as more than two classes if they were trained on; a few of them are looked at."""
    facts = []
    for path in paths[:MASKS_LOOKED_AT]:
        with suppress(UshapeError):
            facts.append(read_facts(path))
    with suppress(UshapeError):
        rule = recognise_masks(facts, "masks") if len(facts) >= FEWEST_TO_TELL else None
        return rule is not None and rule.task == "semantic" and len(rule.classes) > 2
    return False


def unknown_values(evaluation: Evaluation) -> str:
    """A sentence where estimates hold classes that no reference has: the two sides may number them differently."""
    confusion = evaluation.confusion
    if confusion is None:
        return ""
    references, estimates = confusion.sum(axis=1) > 0, confusion.sum(axis=0) > 0
    if not (estimates & ~references).any():
        return ""
    strange, usual = (listed(np.flatnonzero(side).tolist()) for side in (estimates & ~references, references))
    return (
        f"the estimates hold the values {strange}, which no reference has (there: {usual}); if they number the same "
        "classes differently, bring them to the same numbers, or leave out --classes where both sides have two values"
    )


def score_files(
    reference: Path, estimate: Path, *, classes: bool = False, say: Callable[[str], None] = lambda _: None
) -> Evaluation:
    """Score mask files, or two folders of them paired by name; pairs that cannot be scored are reported.

    classes  the values are classes of pixels and not ids of objects
    say      called with what was understood of the masks, for a person

    DataError when nothing can be scored.
    """
    reference, estimate = Path(reference), Path(estimate)
    files, problems = pair_masks(reference, estimate)
    comparison = Comparison(classes, problems)
    for name, first, second in files:
        comparison.look_through(name, first, second)
    comparison.look_for_void()
    if not any(pair.pages for pair in comparison.pairs):
        raise DataError(f"{estimate}: expected masks that can be scored, found none ({problems[0]})")
    for finding in comparison.findings():
        say(finding)
    if not classes and not comparison.two_valued and look_like_classes([first for _, first, _ in files]):
        say(
            "warning: the reference looks like classes of pixels, the same few values in each mask and each in pieces, "
            "and is scored as objects; add --classes if it holds classes"
        )
    tally = comparison.tally()
    for masks in comparison.masks():
        tally.add(*masks, complete=True)
    evaluation = tally.evaluation(problems)
    strange = unknown_values(evaluation) if classes else ""
    if strange:
        say(f"warning: {strange}")
    return evaluation


def evaluation_to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON has it: scores and intervals by name, images as rows, problems as sentences."""

    def plain(value: Any) -> Any:
        return value.item() if isinstance(value, np.generic) else value

    return {
        "scores": {name: plain(value) for name, value in evaluation.scores.items()},
        "intervals": {name: [float(low), float(high)] for name, (low, high) in evaluation.intervals.items()},
        "images": [{name: plain(value) for name, value in row.items()} for row in evaluation.rows],
        "problems": list(evaluation.problems),
        **({"unscorable": list(evaluation.unscorable)} if evaluation.unscorable else {}),
        **({} if evaluation.confusion is None else {"confusion": evaluation.confusion.tolist()}),
    }


def make_room_for_rows(path: Path) -> None:
    """Make the folder of `write_rows`' file. Asked first, so that nothing computed is lost to a wrong name.

    DataError where a file cannot be there.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: expected a file for the rows, found a folder; name a file in it, such as scores.csv")
    path.parent.mkdir(parents=True, exist_ok=True)


def write_rows(path: Path, evaluation: Evaluation) -> None:
    """The scores of each image as CSV: one row per image, one column per score, empty where a score is undefined.

    The file appears, or replaces another, only when it is complete.
    """
    make_room_for_rows(path)
    write_table(Path(path), evaluation.rows)
