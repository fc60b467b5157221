"""Every fact of the paper names tests that prove it, and those tests exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = dict(re.findall(r"^\| (P\d+) \|(.*)$", (ROOT / "docs" / "paper.md").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("number", range(1, 18))
def test_a_fact_has_its_code_and_its_tests(number):
    row = ROWS[f"P{number}"]
    proofs = re.findall(r"`(tests/\w+\.py)::(\w+)`", row)
    assert proofs, f"P{number} has lost its test"
    for path, name in proofs:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"P{number}: no {name} in {path}"
    code = re.findall(r"\| `([\w/]+\.py)` \|", row)
    assert code
    assert all((ROOT / "src" / "ushape" / path).is_file() for path in code)
