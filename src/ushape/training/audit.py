"""The data doctor's round before training: the samples have been read, so nothing is read twice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ushape.data.dataset import Dataset
from ushape.data.doctor import Facts, Finding, inspect_arrays, judge
from ushape.training.examples import Example, spread

__all__ = ["audit"]

AUDITED = 200
"""Samples looked at before training, at most, evenly spread; `ushape check` looks at all of them."""


def facts_of(example: Example) -> Facts:
    """What the doctor keeps of an example."""
    mask = None if example.sample.label is not None else example.mask
    return inspect_arrays(example.sample, example.image, mask)


def audit(
    dataset: Dataset, examples: Sequence[Example], problems: Sequence[str]
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """(all findings, those that no reader has told yet), the worst first.

    problems  of the dataset and of reading its samples; they are among all findings
    """
    chosen = spread(examples, AUDITED)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        facts = list(pool.map(facts_of, chosen))
    # Samples without annotation are not among the examples; the doctor looks at the dataset for how many there are.
    return (
        judge(facts, replace(dataset, problems=tuple(problems))),
        judge(facts, replace(dataset, findings=(), problems=())),
    )
