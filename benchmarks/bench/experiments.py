"""Named lists of experiments: `experiments.toml` read into the runs that it asks for.

A list is a product: its variants (a recipe with settings) times its splits, budgets and seeds. Two lists may ask for
the same run; it is made once. What a run is called (`Run.slug`) follows from what it was asked for and from nothing
else, so that its folder and its row are found again.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from bench.provenance import short_hash
from bench.splits import Split, Stage
from ushape.errors import RecipeError
from ushape.prediction.rotations import check_rotations

__all__ = ["EXPERIMENTS", "Experiment", "Run", "Variant", "experiments_named", "read_experiments"]

EXPERIMENTS = Path(__file__).parent.parent / "experiments.toml"


@dataclass(frozen=True)
class Variant:
    """A way to train and to predict.

    name       as it stands in tables
    recipe     `auto` or `paper`
    settings   what is changed in it, as with `--set`
    rotations  that predictions are averaged over: 1, 2, 4 or 8 flips and quarter turns, or the paper's 7 angles; the
               recipe's own number where none is named
    splits     the only splits that it is for; () for all of the list
    steps      that it is trained, whatever they take, instead of the minutes of the list: what takes the same time
               alone may then run beside other work
    """

    name: str
    recipe: str = "auto"
    settings: tuple[str, ...] = ()
    rotations: int | None = None
    splits: tuple[str, ...] = ()
    steps: int | None = None

    def __post_init__(self) -> None:
        # Else it would be told after hours of training.
        if self.rotations is not None:
            check_rotations(self.rotations)


@dataclass(frozen=True)
class Run:
    """One training and one scoring of what was learnt.

    minutes, steps  the budget: one of the two
    """

    split: Split
    stage: Stage
    variant: Variant
    seed: int
    minutes: float | None = None
    steps: int | None = None

    @property
    def budget(self) -> str:
        """As it is read: '10 minutes'."""
        n, unit = (self.minutes, "minute") if self.steps is None else (self.steps, "step")
        return f"{n:g} {unit}" + ("" if n == 1 else "s")

    @property
    def about(self) -> dict[str, Any]:
        """What a row says of it, whoever trains."""
        trained_on, scored_on = self.split.parts(self.stage)
        return {
            "split": self.split.name,
            "trained on": str(trained_on),
            "scored on": str(scored_on),
            "stage": self.stage,
            "budget": self.budget,
            "seed": self.seed,
        }

    @property
    def training(self) -> str:
        """What its training is called: runs that differ in the prediction only share it."""
        trained_on = self.split.parts(self.stage)[0]
        asked = json.dumps([str(trained_on), self.variant.recipe, list(self.variant.settings)])
        part = "learn" if self.stage == "tune" else "train"
        names = [self.split.name, part, self.variant.recipe, self.budget.replace(" ", ""), f"seed{self.seed}"]
        return "-".join([*names, short_hash(asked)[:8]])

    @property
    def slug(self) -> str:
        """What the run's row is called."""
        return f"{self.training}-{self.stage}" + (f"-x{n}" if (n := self.variant.rotations) else "")


@dataclass(frozen=True)
class Experiment:
    """A named list of runs.

    title     what it is about, a line
    splits    names in `splits.toml`
    minutes   budgets
    seeds     of each run, where `seeds_of` says nothing about its split
    variants  ways to train; the recipe `auto` alone where none is named
    means     rows of tables that are means over several splits, by what they are called
    test      whether the test part may be looked at; choices are made on tune
    about     what a reader of the table should know
    """

    name: str
    title: str
    splits: tuple[str, ...]
    minutes: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (0,)
    seeds_of: Mapping[str, Sequence[int]] | None = None
    variants: tuple[Variant, ...] = (Variant("auto"),)
    means: Mapping[str, Sequence[str]] | None = None
    test: bool = False
    about: str = ""

    def runs(self, splits: Mapping[str, Split], stage: Stage, steps: int | None = None) -> list[Run]:
        """Its runs in order, the shortest budgets first; `steps` replaces every variant's budget.

        A split without a part to tune on has runs for the test part only. RecipeError when the list must not look at
        test parts.
        """
        if stage == "test" and not self.test:
            raise RecipeError(
                f"{self.name}: expected a list that may be scored on test parts, found one that choices are made by; "
                "run it without --test"
            )

        def budgets(variant: Variant) -> list[tuple[float | None, int | None]]:
            n_steps = variant.steps if steps is None else steps
            return [(minutes, None) for minutes in self.minutes] if n_steps is None else [(None, n_steps)]

        rounds = max(len(budgets(variant)) for variant in self.variants)
        return [
            Run(splits[name], stage, variant, seed, *budget)
            for i in range(rounds)
            for variant in self.variants
            for budget in budgets(variant)[i : i + 1]
            for name in variant.splits or self.splits
            if stage == "test" or splits[name].tune is not None
            for seed in (self.seeds_of or {}).get(name, self.seeds)
        ]

    def with_settings(self, settings: Sequence[str]) -> Experiment:
        """The same with more settings in every variant."""
        changed = [replace(v, settings=(*v.settings, *settings)) for v in self.variants]
        return replace(self, variants=tuple(changed))


def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def read_experiment(name: str, values: dict[str, Any], known: Mapping[str, Split]) -> Experiment:
    """One table of the file; RecipeError names what is not known."""
    variants = [Variant(**tuples(each)) for each in values.pop("variant", [{"name": "auto"}])]
    unknown = set(values) - {field.name for field in fields(Experiment)}
    unknown |= {split for each in (values["splits"], *(v.splits for v in variants)) for split in each} - set(known)
    if unknown:
        raise RecipeError(f"{name}: expected known fields and splits, found {', '.join(sorted(unknown))}; correct them")
    return Experiment(name, variants=tuple(variants), **tuples(values))


def read_experiments(splits: Mapping[str, Split], path: Path = EXPERIMENTS) -> dict[str, Experiment]:
    """All lists by name."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: read_experiment(name, values, splits) for name, values in tables.items()}


def experiments_named(names: Sequence[str], known: Mapping[str, Experiment]) -> list[Experiment]:
    """The lists with these names, all of them where none is named; RecipeError for a name that is none."""
    for name in names:
        if name not in known:
            raise RecipeError(f"expected one of the lists {', '.join(known)}, found {name!r}; correct the name")
    return [known[name] for name in names or known]
