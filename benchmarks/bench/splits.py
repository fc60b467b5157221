"""The parts of the data sets: `splits.toml` read, opened and held apart.

Two stages use a split. On `tune` choices are made: the network is trained on `learn` and scored on `tune`, both inside
the training part. A look at `test` trains on all of `train`. Samples of one group (a stack, a sequence, a field of
view) are not independent: two parts share no group, or keep a gap of unused positions in it.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from bench.fields import fields_of
from ushape.data.catalog import open_dataset
from ushape.data.dataset import Dataset, Sample
from ushape.errors import DataError

__all__ = [
    "SPLITS",
    "Part",
    "Split",
    "Stage",
    "chosen_by",
    "common",
    "fifth_of",
    "open_part",
    "open_stage",
    "part_called",
    "read_splits",
    "too_near",
]

SPLITS = Path(__file__).parent.parent / "splits.toml"
FIFTHS = 5
CALLED = re.compile(
    r"(?P<data>.+?)(?: (?P<positions>\d+-\d+(?:, \d+-\d+)*))?(?: fifths (?P<fifths>\d(?:, \d)*))?", re.DOTALL
)
Stage = Literal["tune", "test"]


@dataclass(frozen=True)
class Part:
    """Some samples of a data set.

    data       a name or a folder, as `ushape.open_dataset` takes it
    positions  first and last position of each block that is taken; () for all
    fifths     which fifths of the fields of view are taken, 0 to 4; () for all
    """

    data: str
    positions: tuple[tuple[int, int], ...] = ()
    fifths: tuple[int, ...] = ()

    def __str__(self) -> str:
        blocks = ", ".join(f"{first}-{last}" for first, last in self.positions)
        fifths = ", ".join(map(str, self.fifths))
        return self.data + (f" {blocks}" if blocks else "") + (f" fifths {fifths}" if fifths else "")

    def takes(self, sample: Sample) -> bool:
        """Whether a sample, its group being its field of view, belongs to the part."""
        inside = any(first <= sample.position <= last for first, last in self.positions)
        return (inside or not self.positions) and (not self.fifths or fifth_of(sample.group) in self.fifths)


@dataclass(frozen=True)
class Split:
    """The parts of one data set; see `splits.toml`.

    learn, tune  None where no choices are made on this split
    gap          unused positions between two parts of one group, at least
    scores       names of the scores that stand in tables
    membranes    whether classes 0 and 1 are membrane and cell, so that the scores of membranes are wanted
    """

    name: str
    train: Part
    test: Part
    scores: tuple[str, ...]
    learn: Part | None = None
    tune: Part | None = None
    gap: int = 0
    membranes: bool = False

    def parts(self, stage: Stage) -> tuple[Part, Part]:
        """(trained on, scored on); DataError for a split without a part to tune on."""
        if stage == "test":
            return self.train, self.test
        if self.learn is None or self.tune is None:
            raise DataError(
                f"{self.name}: expected the parts learn and tune, found none of them; choose on another split, or look "
                "at the test part with --test"
            )
        return self.learn, self.tune


def fifth_of(field: str) -> int:
    """Which fifth a field belongs to: 0 to 4 by a hash of its name, whichever other fields are there."""
    return hashlib.sha256(field.encode()).digest()[0] % FIFTHS


def read_part(values: Mapping[str, Any]) -> Part:
    """A part as it stands in TOML."""
    blocks = tuple((int(first), int(last)) for first, last in values.get("positions", ()))
    return Part(values["data"], blocks, tuple(values.get("fifths", ())))


def read_splits(path: Path = SPLITS) -> dict[str, Split]:
    """All splits by name."""
    splits = {}
    for name, values in tomllib.loads(path.read_text(encoding="utf-8")).items():
        unknown = set(values) - {field.name for field in fields(Split)}
        if unknown:
            raise DataError(f"{path}: expected only known fields in [{name}], found {', '.join(sorted(unknown))}")
        told: dict[str, Any] = {key: read_part(value) for key, value in values.items() if isinstance(value, dict)}
        told |= {key: values[key] for key in ("gap", "membranes") if key in values}
        splits[name] = Split(name, scores=tuple(values["scores"]), **told)
    return splits


def part_called(text: str) -> Part:
    """The part that `str` calls so."""
    found = CALLED.fullmatch(text)
    if found is None:
        raise DataError(f"expected what a part is called, such as 'isbi2012 0-7, 22-29', found {text!r}; correct it")
    blocks = [block.split("-") for block in (found["positions"] or "").split(", ") if block]
    fifths = [int(fifth) for fifth in (found["fifths"] or "").split(", ") if fifth]
    return Part(found["data"], tuple((int(first), int(last)) for first, last in blocks), tuple(fifths))


def narrower(first: str, second: str) -> str | None:
    """Of two names of data the one that lies inside the other; None where neither does.

    What stands behind the colon takes some of the samples, and each of its words fewer: `dsb2018:fluorescence` lies
    inside `dsb2018`, and `dic-hela:01-gold` inside `dic-hela:01`, which lies beside `dic-hela:02`.
    """
    (data, _, part), (other, _, others) = first.partition(":"), second.partition(":")
    words, more = ({word for word in each.split("-") if word} for each in (part, others))
    if data != other:
        return None
    if words <= more:
        return second
    return first if more <= words else None


def common(first: Part, second: Part) -> Part | None:
    """What two parts share, as far as their names tell it; None where they share nothing.

    Where one is named by positions and the other by fields of view, they are taken to share what both names say: it
    would be the worse mistake to call two parts apart that are not.
    """
    data = narrower(first.data, second.data)
    positions, fifths = first.positions or second.positions, first.fifths or second.fifths
    if first.positions and second.positions:
        pairs = [(max(a, c), min(b, d)) for a, b in first.positions for c, d in second.positions]
        positions = tuple(pair for pair in pairs if pair[0] <= pair[1])
    if first.fifths and second.fifths:
        fifths = tuple(fifth for fifth in first.fifths if fifth in second.fifths)
    if data is None or (first.positions and not positions) or (first.fifths and not fifths):
        return None
    return Part(data, positions, fifths)


def chosen_by(part: Part, splits: Iterable[Split]) -> dict[str, Part]:
    """What of a part is in the tune parts of splits, by the split's name; other splits are left out."""
    found = {split.name: common(part, split.tune) for split in splits if split.tune is not None}
    return {name: shared for name, shared in found.items() if shared is not None}


@lru_cache(maxsize=32)
def opened(data: str, by_field: bool) -> Dataset:
    """A data set, opened once; its samples' groups are their fields of view where that is asked for."""
    dataset = open_dataset(data)
    if not by_field:
        return dataset
    named = zip(dataset.samples, fields_of(dataset.samples), strict=True)
    return dataset.subset([replace(sample, group=field) for sample, field in named])


def open_part(part: Part) -> Dataset:
    """The samples of a part; DataError when there is none."""
    dataset = opened(part.data, by_field=bool(part.fifths))
    chosen = dataset.subset([sample for sample in dataset.samples if part.takes(sample)])
    if not chosen.samples:
        raise DataError(f"{part}: expected images in this part, found none; correct its positions in splits.toml")
    return replace(chosen, name=str(part))


def too_near(first: Dataset, second: Dataset, gap: int = 0) -> list[tuple[str, str]]:
    """Pairs of names, one of each dataset, that are of one group and have fewer than `gap` positions between them."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in first.samples:
        groups[sample.group or sample.name].append(sample)
    return [
        (near.name, sample.name)
        for sample in second.samples
        for near in groups[sample.group or sample.name]
        if abs(near.position - sample.position) <= gap
    ]


def open_stage(split: Split, stage: Stage) -> tuple[Dataset, Dataset]:
    """(to train on, to score on); DataError where the two are not apart."""
    training, scored = (open_part(part) for part in split.parts(stage))
    near = too_near(training, scored, split.gap)
    if near:
        raise DataError(
            f"{split.name}: expected a gap of {split.gap} between what is trained on and what is scored, found "
            f"{near[0][0]} and {near[0][1]} nearer than that; correct splits.toml"
        )
    return training, scored
