"""Each bad input gets its sentence and its exit status, loses nothing, and what can be done is done."""

import re
from functools import cache
from pathlib import Path

import pytest

from bad_inputs import CASES, cell, row, run

PAGE = Path(__file__).parent.parent / "docs" / "bad_inputs.md"
FEWEST = 60
MACHINE_PATH = re.compile(r"/(?:tmp|home|root|Users|private|var|work)/")


@cache
def rows() -> set[str]:
    """The lines of the tables, without their numbers."""
    return {re.sub(r"^\| \d+ ", "", line) for line in PAGE.read_text(encoding="utf-8").splitlines()}


def parameter(case):
    marks = [pytest.mark.xfail(strict=True, reason=case.bug)] if case.bug else []
    return pytest.param(case, id=f"{case.area}: {case.title}", marks=marks)


@pytest.mark.parametrize("case", [parameter(case) for case in CASES])
def test_a_bad_input(case, tmp_path):
    if case.needs:
        pytest.importorskip(case.needs)
    outcome = run(case, tmp_path)
    assert not outcome.trace
    assert "Traceback" not in outcome.printed
    assert outcome.status == case.status, outcome.printed
    assert outcome.changed == ()
    assert outcome.written == tuple(sorted(case.written))
    for name, text in case.proof.items():
        held = (tmp_path / name).read_text(encoding="utf-8") if name else outcome.printed
        assert text in held
    # One sentence each: what is wrong and, behind a semicolon, what to do about it or what is done.
    wrong = [told for told in outcome.told if told.startswith(("error", "warning"))]
    assert all(";" in told for told in wrong if case.status != 2), wrong
    assert any(told.startswith("error") for told in wrong) == (case.status != 0)
    if case.bug:
        assert case.wanted in " ".join(wrong)
    else:
        assert row(case, outcome) in rows(), "make docs/bad_inputs.md anew and look at what changed"


def test_no_two_bad_inputs_are_called_alike():
    assert len({(case.area, case.title) for case in CASES}) == len(CASES) >= FEWEST


def test_the_page_holds_these_cases_and_no_others():
    told = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(told) == sum(not case.bug for case in CASES)
    assert not MACHINE_PATH.search(PAGE.read_text(encoding="utf-8"))


def test_a_cell_shows_text_as_it_is():
    assert cell("<id>/*.tif | a_b `c` [0]") == r"&lt;id&gt;/\*.tif \| a\_b &#96;c&#96; \[0\]"
