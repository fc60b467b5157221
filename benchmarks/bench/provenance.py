"""Where a row came from: recipe, data, code, commit and machine, each as a short text that can be compared.

A row is repeated when an input changed: the data, the split, the budget, the seed, or what the recipe says for these
data (`RecipeContents`: planned for a machine of a fixed speed, so that two machines agree on it). A change of the code
does not by itself repeat hours of training, since most changes change no result: the row keeps the hash of the code
that made it (`code_version`), tables mark rows of older code, and `--renew` repeats them.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

import ushape
from ushape.data.dataset import Dataset
from ushape.network.hardware import choose_device, describe_device
from ushape.training.examples import DataSummary, read_examples
from ushape.training.planning import members_asked_for, understand
from ushape.training.recipe import Recipe, with_settings, write_recipe
from ushape.training.rules import TRAINING_SHARE, Speed, paper_recipe, plan_recipe

__all__ = ["REPOSITORY", "RecipeContents", "code_version", "commit", "machine", "recipe_fingerprint", "short_hash"]

REPOSITORY = Path(__file__).parent.parent.parent
RESULT_CODE = (
    *("data", "targets", "scoring", "network", "prediction", "training"),
    *("geometry.py", "preparation.py", "tally.py", "model.py", "run.py", "run_folder.py", "run_networks.py"),
)
"""What of the package can change a result: not the command line, the pictures or the files that are written."""
PROGRAMS = ("benchmarks/run.py", "benchmarks/paper.py")
REFERENCE_SPEED = Speed(3e-9, 2.7e-6)
"""Of no machine in particular: about that of a processor with two cores and bfloat16 units."""


LATER = ("clip = 0.0", "members = 1", "refit = 0.0")
"""Fields, at values that change nothing, that came after rows were written: those rows are as good as before."""


def short_hash(text: str) -> str:
    """Sixteen hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def without_words(source: str) -> str:
    """Python code without comments, docstrings and layout: none of them changes a result."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            told = [each for each in node.body if not is_text(each)]
            node.body = told or [ast.Pass()]
    return ast.unparse(tree)


def is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a string that nothing is done with."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


@cache
def code_version(package: Path | None = None) -> str:
    """A hash of the code that can change a result."""
    package = package or Path(ushape.__file__).parent
    files = [path for name in RESULT_CODE for path in sorted((package / name).rglob("*.py")) or [package / name]]
    texts = [f"{path.relative_to(package).as_posix()}\n{without_words(path.read_text('utf-8'))}" for path in files]
    return short_hash("\n".join(texts))


@cache
def commit(*also: str) -> tuple[str, bool]:
    """(the short name of the commit, whether `src` or `benchmarks` hold what is not in it); ('', True) without git.

    also  paths that must be in it, beside those of the experiments
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    name = git("rev-parse", "--short=10", "HEAD")
    # Rows and looks are written by the runs themselves.
    changed = git("status", "--porcelain", "--", "src", "benchmarks/*.toml", "benchmarks/bench", *PROGRAMS, *also)
    return name, bool(changed) or not name


def processor(told: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, and its family and model: one name may stand for two, one twice as fast.

    told  where Linux tells about processors, a line `name : value` for each fact, one processor after the other
    """
    try:
        lines = told.read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines):
        facts.setdefault(name.strip(), value.strip())
    kind = [f"{word} {facts[key]}" for word, key in (("family", "cpu family"), ("model", "model")) if key in facts]
    return facts.get("model name", platform.machine()) + (f" ({', '.join(kind)})" if kind else "")


def machine(device: str = "") -> str:
    """One line: the device, the processor and how many of its cores may be used, and torch's version.

    device  what computes, and in which numbers, where that is not what this machine is fastest with
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{device or describe_device(choose_device())}, {processor()}, {cores} cores, torch {torch.__version__}"


def recipe_fingerprint(recipe: Recipe) -> str:
    """A hash of what a recipe says, without the reasons; a field of `LATER` that changes nothing says nothing."""
    lines = write_recipe(replace(recipe, reasons=())).splitlines(keepends=True)
    return short_hash("".join(line for line in lines if line.strip() not in LATER))


def summary_of(dataset: Dataset) -> DataSummary:
    """What the planning rules look at; all images are read."""
    return understand(dataset, read_examples(dataset.samples)[0])


def plan_for(summary: DataSummary, name: str, settings: Sequence[str], minutes: float | None) -> Recipe:
    """The recipe for these data on the machine of reference."""
    if name == "paper":
        return with_settings(paper_recipe(summary), settings)
    seconds = None if minutes is None else 60 * minutes * TRAINING_SHARE
    speed, members = None if minutes is None else REFERENCE_SPEED, members_asked_for(settings)
    planned = plan_recipe(summary, seconds=seconds, speed=speed, members=members)
    return with_settings(planned, settings)


class RecipeContents:
    """What recipes say, with a memory, in a file: data sets are large, and read only where something has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, str] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self.summaries: dict[str, DataSummary] = {}

    def __call__(self, dataset: Dataset, name: str, settings: Sequence[str], minutes: float | None) -> str:
        """The hash of what the recipe says for these data in these minutes."""
        data = dataset.fingerprint
        key = short_hash(json.dumps([code_version(), data, name, list(settings), minutes]))
        if key not in self.known:
            if data not in self.summaries:
                self.summaries[data] = summary_of(dataset)
            self.known[key] = recipe_fingerprint(plan_for(self.summaries[data], name, settings, minutes))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.known), "utf-8")
        return self.known[key]
