"""Bad inputs and what comes of them, as a table: `python tests/bad_inputs.py > docs/bad_inputs.md`.

Each case of `bad_folders`, `bad_images`, `bad_masks`, `bad_models` and `bad_commands` is run in an empty folder, in
this process. `test_bad_inputs` runs the same cases and compares them with the table, so no sentence changes unseen.
"""

from __future__ import annotations

import html
import os
import re
import shlex
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pytest
from typer.testing import CliRunner

import bad_commands
import bad_folders
import bad_images
import bad_masks
import bad_models
from bad_cases import TINY, Case
from ushape.cli import app
from ushape.files.origin import NOTES

AREAS = (
    bad_folders.CASES,
    bad_images.CASES,
    bad_masks.CASES,
    bad_models.CASES,
    bad_commands.CASES,
    bad_commands.SCORES,
)
CASES = tuple(case for area in AREAS for case in area.all)

INTRODUCTION = """# Bad inputs

What `ushape` prints when something is wrong with the data, the files or the command, and what it does all the same.
Made by `python tests/bad_inputs.py > docs/bad_inputs.md`, which runs all commands; tests run them, too, and compare.

Exit status 0 is done, 1 the input was wrong or some inputs failed, 2 bad usage. None of these commands printed a
traceback or changed a file that was there before. The commands are shown without the word ushape; trainings ran with
`--steps 1` and a tiny network, into the folder `run`. "..." stands for words of another library, which may change.
"""
HEAD = "\n## {area}\n\n| | input | ushape ... | printed | status | done all the same |\n|--:|---|---|---|--:|---|"
NOT_YET = "\nCases that are known to go wrong, and stand in no table yet: {cases}."

# How errors and warnings begin; `check` lists its findings without a colon.
TOLD = re.compile(r" *(error|warning|Error): (.+)")
FINDING = re.compile(r"(error|warning|note) +(.+)")


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    told     errors, warnings and what else belongs to the answer, as "warning: ...", in order
    printed  all that was printed
    written  files that are new but for the note beside results; a run is one folder, an empty folder is one file
    changed  files that were there before and are different or gone
    trace    a traceback, '' without one
    """

    status: int
    told: tuple[str, ...]
    printed: str
    written: tuple[str, ...]
    changed: tuple[str, ...]
    trace: str


def files_under(folder: Path) -> dict[str, bytes]:
    """The content of all files, and of all folders that are empty, by their paths in the folder."""
    paths = [path for path in folder.rglob("*") if path.is_file() or not any(path.iterdir())]
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b"" for path in paths}


def told_of(line: str, case: Case) -> str:
    """A line as the table shows it; '' where it does not."""
    found = TOLD.fullmatch(line)
    if found is None and case.command.startswith("check"):
        found = FINDING.fullmatch(line)
    text = f"{found[1].lower()}: {found[2]}" if found else line.strip()
    if (found is None or found[1] == "note") and not (case.also and text.startswith(case.also)):
        return ""
    return re.sub(case.foreign, "...", text) if case.foreign else text


def run(case: Case, here: Path) -> Outcome:
    """Write the files of a case to an empty folder and run its command there."""
    case.arrange(here)
    before = files_under(here)
    with chdir(here), case.while_run(), pytest.MonkeyPatch.context() as patch:
        # A machine with no public data on it. What Matplotlib keeps for itself is no part of that.
        patch.setenv("MPLCONFIGDIR", matplotlib.get_configdir())
        patch.setenv("USHAPE_DATA", "public")
        patch.setenv("XDG_CACHE_HOME", "cache")
        result = CliRunner().invoke(app, shlex.split(case.command))
    after = files_under(here)
    error = result.exception
    trace = "" if error is None or isinstance(error, SystemExit) else "".join(traceback.format_exception(error))
    printed = (result.stderr + result.stdout).replace(f"{here}{os.sep}", "").replace(str(here), ".")
    told = tuple(filter(None, (told_of(line, case) for line in printed.splitlines())))
    written = {"run/" if name.startswith("run/") else name for name in after if name not in before}
    # Whose results they are is noted beside all predictions.
    written -= {f"out/{note}" for note in NOTES}
    changed = tuple(sorted(name for name, content in before.items() if after.get(name) != content))
    return Outcome(result.exit_code, told, printed, tuple(sorted(written)), changed, trace)


def cell(text: str) -> str:
    """Text in a cell of a Markdown table, as it is."""
    return re.sub(r"([\\*_|\[\]])", r"\\\1", html.escape(text, quote=False)).replace("`", "&#96;")


def row(case: Case, outcome: Outcome) -> str:
    """The line of the table for a case, without its number."""
    command = case.command.replace(TINY, "").replace("|", "\\|")
    told = "<br>".join(map(cell, outcome.told)) or "nothing"
    return f"| {cell(case.title)} | `{command}` | {told} | {outcome.status} | {cell(case.done)} |"


def table(outcomes: Sequence[tuple[Case, Outcome]]) -> str:
    """The whole page."""
    lines, number = [INTRODUCTION.strip()], 0
    for area in AREAS:
        lines.append(HEAD.format(area=area.area))
        for case, outcome in outcomes:
            if case.area == area.area and not case.bug:
                number += 1
                lines.append(f"| {number} {row(case, outcome)}")
    bugs = [f"{case.title} ({case.bug})" for case, _ in outcomes if case.bug]
    return "\n".join([*lines, *([NOT_YET.format(cases="; ".join(bugs))] if bugs else [])])


def outcome_of(case: Case) -> Outcome:
    """What comes of a case in a folder that is removed."""
    with tempfile.TemporaryDirectory() as folder:
        return run(case, Path(folder).resolve())


if __name__ == "__main__":
    print(table([(case, outcome_of(case)) for case in CASES]))
