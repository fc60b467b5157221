"""Rows become tables, drawn here by hand; the words around them stay."""

from dataclasses import replace

import pytest

from bench import tables
from bench.experiments import Experiment, Run, Variant
from bench.records import Records
from bench.splits import Part, Split
from bench.tables import insert_table, render, with_range
from ushape.errors import DataError
from ushape.scoring.membranes import MEMBRANE_THRESHOLDS


def split_of(name, test="data:test"):
    parts = {"learn": Part(f"{name}:learn"), "tune": Part(f"{name}:tune")}
    return Split(name, Part(f"{name}:train"), Part(test), ("SEG", "F1"), **parts)


SPLITS = {"a": split_of("a"), "b": split_of("b", "b:test")}
LISTED = Experiment("mine", "My list", ("a", "b"), (10.0,), (0, 1), test=True, means={"both": ("a", "b")})


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "code_version", lambda: "now")
    return Records(tmp_path / "rows", tmp_path / "looks.jsonl")


def row(run, scores, **changes):
    trained, scored = run.split.parts(run.stage)
    return {
        "split": run.split.name,
        "trained on": str(trained),
        "scored on": str(scored),
        "scores": {run.stage: scores},
        "steps": 100,
        "seconds": 599.6,
        "seed": run.seed,
        "machine": "a laptop",
        "code": "now",
        "commit": "abc",
        "dirty": False,
        "inputs": {"recipe": "now"},
        "date": "2026-01-02",
    } | changes


def fill(records, stage, values):
    """Rows with these SEG, in the order of the list's runs; None: no row."""
    for run, value in zip(LISTED.runs(SPLITS, stage), values, strict=True):
        if value is not None:
            records.write(run, row(run, {"SEG": value, "F1": 0.5}))


def lines(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def test_a_table_as_it_should_be(records):
    fill(records, "tune", [0.8, 0.9, 0.7, 0.7])
    assert lines(render(LISTED, SPLITS, records)) == [
        "| data | recipe | budget | SEG | F1 | steps | seconds | seeds | commit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| a | auto | 10 minutes | 0.850 (0.800 to 0.900) | 0.500 | 100 | 600 | 0, 1 | abc |",
        "| b | auto | 10 minutes | 0.700 | 0.500 | 100 | 600 | 0, 1 | abc |",
        "| both | auto | 10 minutes | 0.775 (0.700 to 0.900) | 0.500 | 100 | 600 | 0, 1 | abc |",
    ]


def test_the_words_under_a_table(records):
    fill(records, "tune", [0.8, 0.9, None, None])
    text = render(LISTED, SPLITS, records)
    assert "Scored on tune: used for choosing." in text
    assert "Trained on and scored on: a: a:learn to a:tune." in text
    assert "Machine: a laptop." in text
    assert "2 of 4 runs are still missing." in text
    assert "| b |" not in text
    assert "both" not in text


def test_a_mean_over_splits_takes_seeds_that_all_of_them_have(records):
    fill(records, "tune", [0.8, 0.9, 0.6, None])
    assert "| both | auto | 10 minutes | 0.700 (0.600 to 0.800) |" in render(LISTED, SPLITS, records)


def test_a_line_is_of_one_kind_of_device(records):
    """The minutes of a GPU hold many times the steps."""
    fill(records, "tune", [0.8, 0.9, None, None])
    first, second, *_ = LISTED.runs(SPLITS, "tune")
    assert "| a | auto | 10 minutes | 0.850 (0.800 to 0.900) |" in render(LISTED, SPLITS, records)
    records.write(second, row(second, {"SEG": 0.9, "F1": 0.5}, machine="cuda, NVIDIA H200", date="2026-01-01"))
    records.write(first, row(first, {"SEG": 0.8, "F1": 0.5}, machine="cpu with 2 threads, float32"))
    assert "| a | auto | 10 minutes | 0.800 |" in render(LISTED, SPLITS, records)


def test_a_line_is_of_one_recipe_the_newest(records):
    fill(records, "tune", [0.8, 0.9, 0.7, 0.7])
    _, second, third, _ = LISTED.runs(SPLITS, "tune")
    records.write(second, row(second, {"SEG": 0.3, "F1": 0.5}, inputs={"recipe": "then"}, date="2026-01-01"))
    text = render(LISTED, SPLITS, records)
    assert "| a | auto | 10 minutes | 0.800 | 0.500 | 100 | 600 | 0 | abc |" in lines(text)
    # Only the seed that both splits have by the recipe of today.
    assert "| both | auto | 10 minutes | 0.750 (0.700 to 0.800) | 0.500 | 100 | 600 | 0 | abc |" in lines(text)
    assert "1 of 4 runs are still missing." in text
    # Recipes may differ between lines.
    records.write(third, row(third, {"SEG": 0.6, "F1": 0.5}, inputs={"recipe": "later"}, date="2026-01-03"))
    assert "| b | auto | 10 minutes | 0.600 | 0.500 | 100 | 600 | 0 | abc |" in lines(render(LISTED, SPLITS, records))


def test_looks_at_each_part_stand_in_the_table(records):
    fill(records, "test", [0.8, 0.9, 0.7, 0.7])
    runs = LISTED.runs(SPLITS, "test")
    for run in (runs[0], runs[1], runs[0], runs[2]):
        records.log_look(run, "mine", {"SEG": 0.5})
    text = render(LISTED, SPLITS, records)
    assert "Scored on test, each look counted." in text
    assert [line.split(" | ")[8] for line in lines(text)] == ["looks", "---", "3", "1", "3 + 1"]


def test_rows_of_older_code_and_of_changes_are_marked(records):
    runs = LISTED.runs(SPLITS, "tune")
    records.write(runs[0], row(runs[0], {"SEG": 0.8}, code="before"))
    records.write(runs[2], row(runs[2], {"SEG": 0.8}, dirty=True))
    text = render(LISTED, SPLITS, records)
    assert [line.split(" | ")[-1] for line in lines(text)[2:4]] == ["abc° |", "abc+ |"]
    assert "°: other code than this made the row." in text
    assert "+: with changes that were not committed." in text


def test_rows_of_other_inputs_are_marked_where_somebody_asks(records):
    fill(records, "tune", [0.8, 0.9, 0.7, 0.7])
    asked = replace(records, inputs_today=lambda run: {"recipe": "later" if run.split.name == "a" else "now"})
    told = "‡: of another recipe or of other data than today's."
    assert [line.split(" | ")[-1] for line in lines(render(LISTED, SPLITS, asked))[2:]] == ["abc‡ |", "abc |", "abc‡ |"]
    assert told in render(LISTED, SPLITS, asked)
    assert told not in render(LISTED, SPLITS, records)
    run = LISTED.runs(SPLITS, "tune")[2]
    records.write(run, row(run, {"SEG": 0.8, "F1": 0.5}, code="before"))
    assert [line.split(" | ")[-1] for line in lines(render(LISTED, SPLITS, asked))[2:]] == [
        "abc‡ |",
        "abc° |",
        "abc°‡ |",
    ]


def test_test_parts_that_other_splits_choose_by_are_named(records):
    learn, tune = Part("set:2", ((0, 3),)), Part("set:2", ((6, 9),))
    splits = {
        "one": Split("one", Part("set:1"), Part("set:2"), ("SEG",), Part("set:1", ((0, 3),)), Part("set:1", ((6, 9),))),
        "two": Split("two", Part("set:2"), Part("other"), ("SEG",), learn, tune),
    }
    listed = Experiment("l", "t", ("one", "two"), (1,), test=True)
    told = "Other splits choose by some of what is scored here: two by set:2 6-9."
    for name in splits:
        run = listed.runs({name: splits[name]} | splits, "test")[list(splits).index(name)]
        records.write(run, row(run, {"SEG": 0.8}))
    assert told in lines_under(render(listed, splits, records))
    # Not where choices are made anyway, nor where no other split has a part of it.
    run = listed.runs(splits, "tune")[0]
    records.write(run, row(run, {"SEG": 0.8}))
    assert render(listed, splits, records).count("Other splits") == 1
    alone = Experiment("l", "t", ("two",), (1,), test=True)
    assert "Other splits" not in render(alone, splits, records)


def lines_under(text):
    return [line for line in text.splitlines() if not line.startswith("|")]


def test_scores_of_membranes_are_told_to_be_at_their_best_threshold(records):
    told = "each at the best of ten thresholds, found on the very slices that are scored"
    fill(records, "tune", [0.8, 0.9, 0.7, 0.7])
    assert told not in render(LISTED, SPLITS, records)
    splits = {"a": replace(SPLITS["a"], membranes=True), "b": SPLITS["b"]}
    assert told in render(LISTED, splits, records)
    assert len(MEMBRANE_THRESHOLDS) == 10


def test_splits_with_other_scores_have_a_table_of_their_own(records):
    splits = {"a": SPLITS["a"], "b": Split("b", Part("x"), Part("y"), ("AP",), Part("z"), Part("w"))}
    for run in LISTED.runs(splits, "tune"):
        records.write(run, row(run, {"SEG": 0.8, "AP": 0.3}))
    heads = [line for line in lines(render(LISTED, splits, records)) if line.startswith("| data")]
    assert [head.split(" | ")[3] for head in heads] == ["SEG", "AP"]


def test_a_score_that_is_undefined_is_a_dash(records):
    run = LISTED.runs(SPLITS, "tune")[0]
    records.write(run, row(run, {"SEG": 0.8}))
    assert "| 0.800 | - |" in render(LISTED, SPLITS, records)


def test_variants_and_budgets_have_lines_of_their_own(records):
    variants = (Variant("plain"), Variant("turned", rotations=8))
    listed = Experiment("l", "t", ("a",), (1, 3), variants=variants)
    for run in listed.runs(SPLITS, "tune"):
        records.write(run, row(run, {"SEG": 0.8, "F1": 0.5}))
    rows = [line.split(" | ")[1:3] for line in lines(render(listed, SPLITS, records))[2:]]
    assert rows == [["plain", "1 minute"], ["turned", "1 minute"], ["plain", "3 minutes"], ["turned", "3 minutes"]]


def test_nothing_is_rendered_without_rows(records):
    assert render(LISTED, SPLITS, records) == ""


def test_ranges():
    assert with_range([]) == "-"
    assert with_range([0.25]) == "0.250"
    assert with_range([0.1, 0.3]) == "0.200 (0.100 to 0.300)"
    assert with_range([0.1, 0.10001]) == "0.100"
    assert with_range([1.4, 9.6], "{:.0f}") == "6 (1 to 10)"


def test_small_scores_have_more_digits(records):
    splits = {"a": Split("a", Part("x"), Part("y"), ("warping error",), Part("z"), Part("w"))}
    listed = Experiment("l", "t", ("a",), (1,))
    records.write(listed.runs(splits, "tune")[0], row(listed.runs(splits, "tune")[0], {"warping error": 0.000353}))
    assert "| 0.00035 |" in render(listed, splits, records)


def test_seeds_that_no_two_splits_share_have_no_mean(records):
    fill(records, "tune", [0.8, None, None, 0.7])
    assert not [line for line in lines(render(LISTED, SPLITS, records)) if line.startswith("| both")]


# The page.


def test_only_what_was_rendered_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\nBefore.\n")
    insert_table(page, LISTED, "first")
    assert page.read_text() == (
        "# Page\n\nBefore.\n\n## My list\n\n<!-- benchmark mine -->\nfirst\n<!-- end of benchmark mine -->\n"
    )
    page.write_text(page.read_text().replace("Before.", "By hand.") + "\nAfter, by hand.\n")
    insert_table(page, LISTED, "second\nline")
    text = page.read_text()
    assert "first" not in text
    assert "<!-- benchmark mine -->\nsecond\nline\n<!-- end of benchmark mine -->" in text
    assert text.startswith("# Page\n\nBy hand.\n\n## My list\n")
    assert text.endswith("\nAfter, by hand.\n")
    insert_table(page, LISTED, "second\nline")
    assert page.read_text() == text


def test_lists_do_not_disturb_each_other(tmp_path):
    page = tmp_path / "page.md"
    other = Experiment("other", "Other", ("a",))
    for listed in (LISTED, other):
        insert_table(page, listed, "old")
    insert_table(page, LISTED, "new")
    assert page.read_text().count("old") == 1
    assert page.read_text().index("new") < page.read_text().index("old")


def test_a_missing_end_marker_is_told_and_nothing_is_lost(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- benchmark mine -->\nold\n\nWords.\n")
    with pytest.raises(DataError, match="expected <!-- end of benchmark mine --> behind"):
        insert_table(page, LISTED, "new")
    assert page.read_text().endswith("Words.\n")


def test_a_run_is_named_by_what_it_was_asked_for():
    run = Run(SPLITS["a"], "tune", Variant("x", rotations=8), 2, minutes=10)
    assert run.slug.startswith("a-learn-auto-10minutes-seed2-")
    assert run.slug.endswith("-tune-x8")
