"""The data doctor: what is wrong with a dataset, in one sentence each, before hours are spent on it.

    examine(dataset)              reads every sample, on all cores, and judges
    inspect_arrays, judge         the same in two steps, for whoever has read the samples anyway

A finding is an "error" (this cannot be used, and is left out where there is more), a "warning" (probably not what was
meant) or a "note". It names the file, says what was found and what training does about it. What the reader repaired
in memory (0/255, alpha, palettes) is among the notes; nothing on disk is changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ushape.data.dataset import Dataset
from ushape.data.doctor_facts import Facts, inspect_arrays, inspect_sample
from ushape.data.doctor_findings import Finding, Severity, Study, told
from ushape.data.doctor_images import IMAGE_CHECKS
from ushape.data.doctor_masks import LABEL_CHECKS, MASK_CHECKS

__all__ = ["Facts", "Finding", "Severity", "examine", "inspect_arrays", "inspect_sample", "judge"]

ORDER: tuple[Severity, ...] = ("error", "warning", "note")
ALIKE = 4  # first words of two sentences with the same advice that make them the same complaint about two files


def _parsed(problem: str, dataset: Dataset) -> Finding:
    """'where: what was expected and found; what to do' as a finding."""
    where, _, rest = problem.partition(": ")
    if not rest:
        where, rest = dataset.name, problem
    sentence, _, action = rest.rpartition("; ") if "; " in rest else (rest, "", "")
    # The readers keep an image without a mask that fits; whatever else they complain about is left out.
    return Finding("warning" if "kept" in rest else "error", where, sentence, action or "left out")


def _without_details(text: str) -> str:
    return re.sub(r"\d+", "#", text)


def _of_problems(problems: Sequence[str], dataset: Dataset) -> list[Finding]:
    """One finding for all problems that differ in the file only."""
    alike: dict[tuple[str, str], list[Finding]] = {}
    for finding in (_parsed(problem, dataset) for problem in dict.fromkeys(problems)):
        start = " ".join(finding.sentence.split()[:ALIKE])
        alike.setdefault((_without_details(start), _without_details(finding.action)), []).append(finding)
    return [_merged(findings) for findings in alike.values()]


def _merged(findings: Sequence[Finding]) -> Finding:
    first = findings[0]
    if len(findings) == 1:
        return first
    same = all(finding.sentence == first.sentence for finding in findings)
    sentence = first.sentence if same else f"{first.sentence} (the first; the others alike)"
    return Finding(first.severity, told([Path(f.where).name for f in findings]), sentence, first.action)


def _sorted_out(facts: Sequence[Facts], dataset: Dataset) -> Study:
    used = tuple(f for f in facts if f.usable)
    return Study(dataset, used, tuple(f for f in facts if not f.usable))


def judge(facts: Sequence[Facts], dataset: Dataset) -> tuple[Finding, ...]:
    """The findings on a dataset with these facts, the worst first; alike ones of many files are one.

    facts    of all of its samples or of some of them
    dataset  its findings become notes and its problems errors or warnings; it is not read
    """
    study = _sorted_out(facts, dataset)
    found = [Finding("note", dataset.name, text.rstrip(".")) for text in dataset.findings]
    found += _of_problems([*dataset.problems, *(f.problem for f in study.refused if f.problem)], dataset)
    for check in (*IMAGE_CHECKS, *MASK_CHECKS, *LABEL_CHECKS):
        found += check(study)
    return tuple(sorted(found, key=lambda finding: ORDER.index(finding.severity)))


def examine(dataset: Dataset) -> tuple[Finding, ...]:
    """Read every sample once, on all cores, and judge; a file that cannot be read is a finding."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        facts = list(pool.map(inspect_sample, dataset.samples))
    return judge(facts, dataset)
