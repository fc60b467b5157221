"""Times become tables, drawn here by hand."""

from dataclasses import replace

import pytest

from speed.interleave import Outcome
from speed.tables import COLUMNS, Result, Table, draw, insert_results, read_results, render, write_result

CEILINGS = {"float32": 100.0, "bfloat16": 200.0}
MACHINE = {
    "processor": "P", "flags": ["avx2"], "cores": 2, "memory": 0.0, "torch": "2", "threads": 2, "environment": {}
}  # fmt: skip


def work(gflop, dtype, **more):
    return {"GFLOP": gflop, "dtype": dtype, **more}


OURS = Outcome("ushape", [0.02, 0.01, 0.03], work(2, "bfloat16", parameters=31_000_000))
PLAIN = Outcome("plain", [0.05], work(2.5, "float32", parameters=31_500_000))
GONE = Outcome("gone", [], {}, "does not import here: a|b")


def drawn(table):
    return [line for line in draw(table, CEILINGS).splitlines() if line.startswith("|")]


def test_a_table_as_it_should_be():
    columns = ("ms", "x ours", "GFLOP/s", "of the ceiling", "parameters", "dtype")
    table = Table("Steps", columns, [OURS, PLAIN, GONE], "A note.")
    assert draw(table, CEILINGS) == "\n".join(
        [
            "**Steps**",
            "",
            "|  | ms | x ours | GFLOP/s | of the ceiling | parameters | dtype |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            "| ushape | 20.0 (10.0 to 30.0) | 1.00 | 100 | 50% | 31.0 M | bfloat16 |",
            "| plain | 50.0 (50.0 to 50.0) | 2.50 | 50.0 | 50% | 31.5 M | float32 |",
            "| gone | does not import here: a/b |  |  |  |  |  |",
            "",
            "A note.",
        ]
    )


def test_the_spread_is_of_all_runs_where_they_are_few():
    five = Outcome("a", [0.04, 0.01, 0.03, 0.02, 0.05])
    assert drawn(Table("", ("ms",), [five, replace(five, seconds=five.seconds[:4])]))[2:] == [
        "| a | 30.0 (20.0 to 40.0) |",
        "| a | 25.0 (10.0 to 40.0) |",
    ]


def test_rates_peaks_and_agreement():
    one = Outcome("a", [2.0, 4.0], {"images": 9, "pixels": 6e6, "peak": [2e8, 3e8], "difference": 1.5e-6, "changed": 0})
    other = Outcome("b", [6.0], {"images": 9, "pixels": 6e6, "peak": [6e8], "difference": 0.02, "changed": 0.0123})
    columns = ["s", "images/s", "Mpx/s", "peak MB", "memory x ours", "largest difference", "labels changed", "runs"]
    assert drawn(Table("", columns, [one, other]))[2:] == [
        "| a | 3.00 (2.00 to 4.00) | 3.00 | 2.00 | 300 | 1.00 | 1.5e-06 | 0.0000% | 2 |",
        "| b | 6.00 (6.00 to 6.00) | 1.50 | 1.00 | 600 | 2.00 | 2.0e-02 | 1.2300% | 1 |",
    ]


def test_what_is_not_known_is_a_dash():
    assert drawn(Table("", ("GFLOP", "of the ceiling", "mine"), [Outcome("a", [1.0], {"mine": "5 %"})]))[2:] == [
        "| a | - | - | 5 % |"
    ]


def test_without_ours_nothing_is_compared_with_it():
    table = Table("", ("s", "x ours", "memory x ours"), [GONE, replace_facts(PLAIN, peak=[1.0])])
    assert drawn(table)[3] == "| plain | 0.05 (0.05 to 0.05) | - | - |"


def replace_facts(outcome, **more):
    return replace(outcome, facts=outcome.facts | more)


@pytest.mark.parametrize("seconds, text", [(0.5, "500"), (0.0123, "12.3"), (0.00123, "1.23")])
def test_three_digits(seconds, text):
    assert drawn(Table("", ("ms",), [Outcome("a", [seconds])]))[2] == f"| a | {text} ({text} to {text}) |"


def result(name="step", form="quick", **changes):
    made = Result(name, f"The {name}", "About it.", form, MACHINE, CEILINGS, [Table("Steps", ("s",), [OURS])])
    return replace(made, seconds=300.0, commit="abc", date="2030-01-02T03:04", versions={"monai": "1.5"}, **changes)


def test_a_result_is_kept_and_read_again(tmp_path):
    path = write_result(tmp_path / "new", result())
    assert path.name == "step.json"
    assert read_results(tmp_path / "new") == ([result(tables=[Table("Steps", ["s"], [OURS])])], [])
    assert [each.name for each in path.parent.iterdir()] == ["step.json"]


def test_all_that_stands_between_the_markers():
    text = render(result(dirty=True))
    assert text.startswith("About it.\n\nMachine: P (avx2), 2 cores;")
    assert "Its ceilings, by a matrix product: 100 GFLOP/s in float32 and 200 GFLOP/s in bfloat16." in text
    assert "| ushape | 0.02 (0.01 to 0.03) |" in text
    assert text.endswith("Form `quick`, 5 minutes, commit abc+, 2030-01-02. Beside it: monai 1.5.")


def test_results_go_into_the_page_and_replace_their_older_selves(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text("# Performance\n\nWords.\n", "utf-8")
    assert insert_results(page, [result(), result("sizes"), result("widths", "tiny")]) == ["step", "sizes"]
    first = page.read_text("utf-8")
    assert first.startswith("# Performance\n\nWords.\n\n## The step\n\n<!-- speed step -->\nAbout it.")
    assert first.count("<!-- speed") == 2
    insert_results(page, [result(about="Another.")])
    second = page.read_text("utf-8")
    assert second == first.replace("About it.", "Another.", 1)


def test_every_column_that_scripts_ask_for_is_known():
    """A column is one of COLUMNS or a fact that the scripts note under that very name."""
    import speed_predict
    import speed_sizes
    import speed_step

    facts = {"dtype", "image"}
    for columns in (speed_step.COLUMNS, speed_predict.COLUMNS, speed_sizes.COLUMNS):
        assert set(columns) - set(COLUMNS) <= facts
