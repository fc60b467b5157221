"""The paper's experiments again, on published training data: membranes, cells in phase contrast and in DIC, and nuclei.

    python benchmarks/paper.py em|phc|dic|nuclei... [--recipe paper|best] [--until MINUTES]
    python benchmarks/paper.py em --dry-run           what would run, and how many minutes it takes
    python benchmarks/paper.py --tables               tables into docs/results.md

Every run trains on one part and is scored on another one, and each scoring is a look at a test part. What has to be
there for a line of the table runs first: the first seed, the whole budget. Runs, rows and looks are those of
benchmarks/run.py, and so is how they go on after an interruption; docs/benchmarks.md tells more.

The widths follow the device: the paper's 64 channels on a GPU; on a CPU 8 for the recipe `paper`, and for `best` what
its rules choose for the minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.execution import Bench
from bench.experiments import Experiment, Run, Variant
from bench.membranes import LEAST_PIXEL_ERROR, pooled_scores
from bench.records import Records
from bench.splits import Split, read_splits
from bench.tables import (
    Line,
    commits,
    digits,
    insert_table,
    lines_of,
    looks_at,
    markdown,
    mean_lines,
    notes,
    with_range,
)
from run import add_sitting, chosen_runs, dry_run, guarded, records_for, sit
from ushape.network.hardware import choose_device

Recipe = Literal["paper", "best"]
Device = Literal["cpu", "cuda"]
RECIPES: tuple[Recipe, ...] = ("paper", "best")
DEVICES: tuple[Device, ...] = ("cpu", "cuda")

TEN = 10.0
MINUTES: dict[Recipe, tuple[float, ...]] = {"paper": (TEN, 15.0), "best": (TEN, 30.0)}
"""Budgets of each training. The ten minutes are runs of their own, since a recipe's schedule follows its budget."""
SEEDS = (0, 1, 2)
WIDTHS: dict[tuple[Recipe, Device], tuple[str, ...]] = {
    ("paper", "cpu"): ("network.channels=8",),
    ("best", "cuda"): ("network.channels=64",),
}
"""Where the width is not the recipe's own. At 8 channels a step on a tile of 572 x 572 takes two cores about 0.07 s;
steps, not channels, are what some minutes are short of, and a quarter of an hour gains nothing from twice the width
(docs/results.md)."""
HIDDEN = "hidden test set"


@dataclass(frozen=True)
class Study:
    """One of the experiments, and what the paper says of it.

    title      of its table
    splits     what is trained on and scored; a line is about all of them together
    truth      what the masks of `splits` are
    scores     columns of the table: (head, name in a row)
    gold       the same splits, trained on expert annotations only; none where there are no others
    rotations  that `paper` and `best` average over
    best       what the best recipe changes in `auto`
    published  lines of the paper's table: a name, and what stands under the heads that it has a number for
    """

    title: str
    splits: tuple[str, ...]
    truth: str
    scores: tuple[tuple[str, str], ...]
    gold: tuple[str, ...] = ()
    rotations: tuple[int, int] = (1, 8)
    best: tuple[str, ...] = ()
    published: tuple[tuple[str, dict[str, str]], ...] = ()

    def variant(self, recipe: Recipe, device: Device) -> Variant:
        """How a recipe is trained on a kind of device."""
        width = WIDTHS.get((recipe, device), ())
        if recipe == "paper":
            return Variant("paper", "paper", width, self.rotations[0])
        return Variant("best", "auto", (*self.best, *width), self.rotations[1])

    def experiments(self, name: str, recipe: Recipe, device: Device) -> Iterator[tuple[str, Experiment]]:
        """(truth, list of runs) of a recipe; gold truth alone has the whole budget only."""
        base = Experiment(
            name, self.title, self.splits, seeds=SEEDS, variants=(self.variant(recipe, device),), test=True
        )
        yield self.truth, replace(base, minutes=MINUTES[recipe], means={self.title: self.splits})
        if self.gold:
            yield "gold", replace(base, splits=self.gold, minutes=MINUTES[recipe][-1:], means={self.title: self.gold})


def both_ways(data: str) -> dict[str, tuple[str, ...]]:
    """Splits that train on one sequence and score on the other."""
    splits = (f"{data}-01", f"{data}-02")
    return {"splits": splits, "gold": tuple(f"{split}-gold" for split in splits)}


OVERLAP = (("SEG (mean IoU)", "SEG"), ("F1@0.5", "F1@0.5"))
STUDIES = {
    "em": Study(
        "EM (P18): ISBI 2012, three folds of ten slices",
        ("isbi2012-fold1", "isbi2012-fold2", "isbi2012-fold3"),
        "gold",
        (
            ("warping error", "warping error"),
            ("splits and mergers", "split and merger error"),
            ("Rand error", "Rand error"),
            ("pixel error, 1 - F", "pixel F error"),
            ("wrong pixels", LEAST_PIXEL_ERROR),
            ("V_rand thinned", "V_rand thinned"),
            ("V_info thinned", "V_info thinned"),
        ),
        rotations=(7, 8),
        published=(
            ("human", {"warping error": "0.000005", "Rand error": "0.0021", "pixel error, 1 - F": "0.0010"}),
            ("U-Net, the paper", {"warping error": "0.000353", "Rand error": "0.0382", "pixel error, 1 - F": "0.0611"}),
            ("DIVE-SCI", {"warping error": "0.000355", "Rand error": "0.0305", "pixel error, 1 - F": "0.0584"}),
            ("IDSIA", {"warping error": "0.000420", "Rand error": "0.0504", "pixel error, 1 - F": "0.0613"}),
        ),
    ),
    "phc": Study(
        "PhC-U373 (P19), both ways",
        truth="gold + silver",
        scores=OVERLAP,
        published=(("U-Net, the paper", {OVERLAP[0][0]: "0.9203"}), ("second best of 2015", {OVERLAP[0][0]: "0.83"})),
        **both_ways("phc-u373"),
    ),
    "dic": Study(
        "DIC-HeLa (P20), both ways",
        truth="gold + silver",
        scores=OVERLAP,
        published=(("U-Net, the paper", {OVERLAP[0][0]: "0.7756"}), ("second best of 2015", {OVERLAP[0][0]: "0.46"})),
        **both_ways("dic-hela"),
    ),
    "nuclei": Study(
        "Nuclei in fluorescence (dsb2018), held-out fields of view; not in the paper",
        ("dsb2018-fluorescence",),
        "gold",
        (("AP@0.5 pooled", "AP@0.5"), ("AP@0.9 pooled", "AP@0.9")),
    ),
}
PAGE = Experiment("paper", "The paper's experiments again", ())
ABOUT = """`python benchmarks/paper.py em phc dic nuclei`. The paper's figures are of hidden test sets, ours of parts
held out of the published training data: other images, so the two are not comparable, and stand side by side for
orientation only.

A figure is the mean over all parts and seeds, with the lowest and the highest in brackets. Of EM it is the mean over
the slices of all folds together, at the one of ten thresholds that is best for it, as in the challenge; in brackets
folds by themselves, each at its own best threshold. The challenge's warping error leaves holes and islands out, ours by
Jain's definition does not: its kin is the column of splits and mergers. Its pixel error is 1 - the F-score of cell
pixels, by its script over all slices together, here the mean over slices; beside it stands the share of wrong pixels.
Truth: what was trained on, experts' masks alone (gold) or other programs' beside them (silver), whose makers had
trained on both sequences; gold alone is what is scored. Settings were chosen on slices 0 to 3 and 16 to 21 of ISBI 2012
and on the last frames of each sequence of cells, which here are scored too, by networks that never saw them. Width:
channels of the first level, 64 in the paper, and of how many networks, where several answer together; the recipe
`paper` has the paper's tile at any width, one of 572 x 572 pixels a step. Budget: of each training; the ten minutes are
trainings of their own. Seconds an image: one prediction, without rotations. The paper (P21) tells of under a second for
512 x 512 pixels on a GPU of 2015, and of about ten hours of training."""


def read_command(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(STUDIES)}; default: all")
    parser.add_argument("--recipe", choices=RECIPES, help="one of the recipes; default: both")
    add_sitting(parser)
    parser.set_defaults(test=True)
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in STUDIES]
    if unknown:
        parser.error(f"expected {', '.join(STUDIES)}, found {unknown[0]!r}")
    return asked


def planned_runs(asked: argparse.Namespace, device: Device) -> list[tuple[str, Run]]:
    """(study, run) of all that was asked for, the most wanted first: seed by seed, whole budgets before short ones."""
    recipes = [asked.recipe] if asked.recipe else RECIPES
    studies = [(name, STUDIES[name]) for name in asked.names or STUDIES]
    experiments = [
        e for name, study in studies for recipe in recipes for _, e in study.experiments(name, recipe, device)
    ]

    def rank(each: tuple[str, Run]) -> tuple[int, bool, bool]:
        name, run = each
        return run.seed, run.minutes == TEN, run.split.name in STUDIES[name].gold

    return sorted(chosen_runs(experiments, asked), key=rank)


def pooled(line: Line) -> list[dict[str, float]]:
    """Scores of membranes of all slices of the folds together, for each seed."""
    seeds = dict.fromkeys(row["seed"] for row in line.rows)
    return [pooled_scores([row for row in line.rows if row["seed"] == seed]) for seed in seeds]


def score_cells(line: Line, names: Iterable[str]) -> list[str]:
    """Each score: over all parts and seeds, and their range."""
    if "membranes" not in line.rows[0]:
        return [with_range(line.values(name), digits(name)) for name in names]
    together, cells = pooled(line), []
    for name in names:
        mean = sum(scores[name] for scores in together) / len(together)
        low, high = min(line.values(name)), max(line.values(name))
        cells.append("{} ({} to {})".format(*map(digits(name).format, (mean, low, high))))
    return cells


def width_of(network: dict[str, int]) -> str:
    """The channels of the first level, and of how many networks that answer together: '3 x 32'."""
    members = network.get("members", 1)
    return f"{members} x {network['channels']}" if members > 1 else str(network["channels"])


def line_cells(line: Line, truth: str, study: Study, records: Records) -> list[str]:
    """A line of a study's table."""
    widths, seeds = (
        ", ".join(dict.fromkeys(map(str, values)))
        for values in ([width_of(row["network"]) for row in line.rows], [row["seed"] for row in line.rows])
    )
    return [
        line.variant + (f", {n} rotations" if (n := line.rows[0].get("rotations", 1)) > 1 else ""),
        truth,
        widths,
        line.budget,
        seeds,
        *score_cells(line, [name for _, name in study.scores]),
        with_range([row["steps"] for row in line.rows], "{:.0f}"),
        with_range([row["seconds an image"] for row in line.rows], "{:.2f}"),
        looks_at(line, records),
        commits(line),
    ]


HEADS = ("recipe", "truth", "width", "budget", "seeds", "steps", "seconds an image", "looks", "commit")
BEFORE_SCORES = 5


def published_cells(name: str, figures: dict[str, str], heads: Sequence[str]) -> list[str]:
    """A line of the paper's table, under the heads of ours."""
    return [f"{name} ({HIDDEN})", *(figures.get(head, "-") for head in heads[1:])]


def study_text(name: str, splits: dict[str, Split], records: Records) -> str:
    """A study's table beside the paper's, and what stands under it; empty without a line of ours."""
    study = STUDIES[name]
    heads = [*HEADS[:BEFORE_SCORES], *(head for head, _ in study.scores), *HEADS[BEFORE_SCORES:]]
    rows: list[list[str]] = []
    shown: list[Line] = []
    n_asked = 0
    for recipe in RECIPES:
        for device in DEVICES:
            for truth, experiment in study.experiments(name, recipe, device):
                runs = experiment.runs(splits, "test")
                found = lines_of(runs, records)
                lines = mean_lines(experiment, found)
                # Runs of a device that nobody has used yet are not missing.
                n_asked += len(runs) if found else 0
                shown += lines
                rows += [line_cells(line, truth, study, records) for line in lines]
    if not rows:
        return ""
    rows += [published_cells(*line, heads) for line in study.published]
    n_missing = n_asked - sum(len(line.rows) for line in shown)
    return f"**{study.title}**\n\n{markdown(heads, rows)}\n\n{notes(shown, n_missing)}"


def perform(asked: argparse.Namespace, records: Records) -> int:
    """Do what the command line asks; the exit status."""
    if asked.tables:
        marking = replace(records, inputs_today=Bench(records, asked.folder).inputs_today)
        texts = [text for name in STUDIES if (text := study_text(name, read_splits(), marking))]
        if texts:
            insert_table(asked.page, PAGE, "\n\n".join([ABOUT, *texts]))
        return 0
    if not asked.names:
        print("\n".join(f"{name:<12} {study.title}" for name, study in STUDIES.items()))
        return 0
    chosen = planned_runs(asked, "cuda" if choose_device().type == "cuda" else "cpu")
    bench = Bench(records, asked.folder, asked.renew, program="paper.py")
    return dry_run(bench, chosen) if asked.dry_run else sit(bench, chosen, asked.until)


def main(arguments: Sequence[str] | None = None, records: Records | None = None) -> int:
    """Read the command line and do what it asks; the exit status."""
    asked = read_command(arguments)
    return guarded(lambda: perform(asked, records_for(asked, records or Records())))


if __name__ == "__main__":
    sys.exit(main())
