"""The paper's experiments: what runs, in which order, and how rows become a table beside the paper's."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

import paper
import run as command
import ushape
from bench import provenance, tables
from bench.experiments import Experiment
from bench.membranes import MembraneTally, pooled_scores
from bench.records import Records
from bench.splits import Part, Split, open_part, opened, read_splits
from conftest import disc_image
from ushape.data.dataset import Sample
from ushape.model import Prediction
from ushape.scoring.membranes import count_membranes, membrane_scores
from ushape.training import rules
from ushape.training.recipe import with_settings

CELLS = rules.DataSummary("c", "instances", ("background", "object"), 9, 1, ((512, 512),), 110.0)
MEMBRANES = rules.DataSummary("m", "semantic", ("a", "b"), 9, 1, ((512, 512),), None, (0.3, 0.7))
FACTS = Path(__file__).parent.parent / "docs" / "paper.md"


def asked(*words):
    return paper.read_command(words)


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "code_version", lambda: "now")
    return Records(tmp_path / "rows", tmp_path / "looks.jsonl")


def lists(study, recipe, device="cpu"):
    return dict(paper.STUDIES[study].experiments(study, recipe, device))


# What runs.


def test_the_width_follows_the_device_and_nothing_else_of_the_papers_recipe_is_changed():
    for study in paper.STUDIES.values():
        for summary in (CELLS, MEMBRANES):
            whole = rules.paper_recipe(summary)
            plans = {d: with_settings(whole, study.variant("paper", d).settings) for d in paper.DEVICES}
            assert plans["cuda"] == whole
            narrow = replace(whole, network=replace(whole.network, channels=8))
            assert replace(plans["cpu"], reasons=whole.reasons) == narrow
            best = provenance.plan_for(summary, "auto", study.variant("best", "cuda").settings, 30)
            assert best.network.channels == 64


def test_the_papers_membranes_are_averaged_over_seven_angles_and_nothing_else_is():
    rotations = {name: study.variant("paper", "cpu").rotations for name, study in paper.STUDIES.items()}
    assert rotations == {"em": 7, "phc": 1, "dic": 1, "nuclei": 1}


def test_the_folds_score_each_slice_once_and_keep_a_gap_of_two():
    splits = [read_splits()[name] for name in paper.STUDIES["em"].splits]
    scored = [range(first, last + 1) for split in splits for first, last in split.test.positions]
    assert sorted(n for block in scored for n in block) == list(range(30))
    for split, block in zip(splits, scored, strict=True):
        trained = {n for first, last in split.train.positions for n in range(first, last + 1)}
        assert min(abs(n - m) for n in trained for m in block) == 3
        assert split.gap == 2
        assert split.membranes


@pytest.mark.parametrize("study", ["phc", "dic"])
def test_sequences_are_scored_both_ways_and_gold_truth_is_trained_on_beside(study):
    splits = read_splits()
    both, gold = (
        [splits[name] for name in names] for names in (paper.STUDIES[study].splits, paper.STUDIES[study].gold)
    )
    assert [split.train for split in both] == [split.test for split in reversed(both)]
    assert [f"{split.train}-gold" for split in both] == [str(split.train) for split in gold]
    assert [split.test for split in both] == [split.test for split in gold]


def test_the_most_wanted_runs_come_first():
    runs = [each for _, each in paper.planned_runs(asked("dic", "--recipe", "best"), "cpu")]
    told = [(run.split.name.removeprefix("dic-hela-"), run.minutes, run.seed) for run in runs]
    assert told[:6] == [
        ("01", 30, 0),
        ("02", 30, 0),
        ("01-gold", 30, 0),
        ("02-gold", 30, 0),
        ("01", 10, 0),
        ("02", 10, 0),
    ]
    assert told[6:] == [(name, minutes, seed) for seed in (1, 2) for name, minutes, _ in told[:6]]
    assert {run.stage for run in runs} == {"test"}


def test_gold_truth_alone_comes_after_every_study_has_its_line():
    runs = [each for _, each in paper.planned_runs(asked("phc", "dic", "--only", "15minutes"), "cpu")]
    assert ["gold" in each.split.name for each in runs] == 3 * (4 * [False] + 4 * [True])


def test_both_recipes_of_all_studies_run_where_none_is_named():
    runs = [each for _, each in paper.planned_runs(asked(), "cpu")]
    assert {run.variant.name for run in runs} == set(paper.RECIPES)
    assert {run.split.name for run in runs} == {n for s in paper.STUDIES.values() for n in (*s.splits, *s.gold)}
    assert {run.minutes for run in runs if run.variant.name == "paper"} == {10, 15}


def test_a_part_of_the_runs_can_be_asked_for():
    runs = [each for _, each in paper.planned_runs(asked("em", "--only", "fold2", "--recipe", "paper"), "cpu")]
    assert [(run.split.name, run.minutes, run.seed) for run in runs] == [
        ("isbi2012-fold2", minutes, seed) for seed in (0, 1, 2) for minutes in (15, 10)
    ]


def test_an_unknown_study_is_told(capsys):
    with pytest.raises(SystemExit):
        asked("en")
    assert "expected em, phc, dic, nuclei, found 'en'" in capsys.readouterr().err


# Pooled over slices.


def curves(**scores):
    """A row's membranes with two thresholds, from the values of each slice."""
    return {"membranes": {"thresholds": [0.0, 0.5], "slices": scores}}


def test_the_threshold_is_the_best_of_all_slices_together_and_not_of_each_fold():
    first = curves(a={"pixel error": [0.1, 0.3], "V_rand thinned": [0.9, 0.5]})
    second = curves(
        b={"pixel error": [0.5, 0.2], "V_rand thinned": [0.1, 0.6]},
        c={"pixel error": [0.6, 0.1], "V_rand thinned": [0.2, 0.7]},
    )
    scores = pooled_scores([first, second])
    assert scores["least pixel error"] == pytest.approx(0.2)
    assert scores["V_rand thinned"] == pytest.approx(0.6)
    assert scores["n_slices"] == 3
    # By itself the first fold would have taken the other threshold.
    assert pooled_scores([first])["least pixel error"] == 0.1


def test_slices_are_counted_by_the_map_of_cells():
    mask = np.ones((6, 7), np.int32)
    mask[:, 3] = 0
    cell = np.where(mask == 1, 0.75, 0.25).astype(np.float32)
    tally = MembraneTally()
    tally(Sample("s", lambda: mask[None], lambda: mask), Prediction(mask, np.stack([1 - cell, cell]), None))
    kept = tally.contents["slices"]["s"]
    thresholds = tally.contents["thresholds"]
    assert [t for t, error in zip(thresholds, kept["pixel error"], strict=True) if error == 0] == [
        0.3,
        0.4,
        0.5,
        0.6,
        0.7,
    ]
    assert pooled_scores([{"membranes": tally.contents}])["threshold of V_rand thinned"] == 0.3


# The table.


def fill(records, experiment, scores, **changes):
    """A row for each run of a list; `scores` of its split."""
    for run in experiment.runs(read_splits(), "test"):
        if (found := scores(run)) is None:
            continue
        trained, scored = run.split.parts("test")
        row = {
            "split": run.split.name,
            "trained on": str(trained),
            "scored on": str(scored),
            "scores": {"test": found},
            "steps": 900,
            "seconds": 900.0,
            "seconds an image": 2.345,
            "seed": run.seed,
            "rotations": run.variant.rotations or 1,
            "network": {"channels": 16},
            "machine": "a laptop",
            "code": "now",
            "commit": "abc",
            "dirty": False,
            "inputs": {"recipe": "now"},
            "date": "2026-01-02",
        }
        records.write(run, row | changes | ({"membranes": slices(run)["membranes"]} if run.split.membranes else {}))


FOLDS = paper.STUDIES["em"].splits
ERRORS = (
    "pixel error",
    "pixel F error",
    "Rand error",
    "warping error",
    "split and merger error",
    "V_rand thinned",
    "V_info thinned",
)


def slices(run):
    """A slice of each fold; the folds disagree about the threshold."""
    values = {"isbi2012-fold1": [0.1, 0.3], "isbi2012-fold2": [0.4, 0.2], "isbi2012-fold3": [0.4, 0.1]}[run.split.name]
    return curves(**{f"s{run.seed}": dict.fromkeys(ERRORS, values)})


def lines(text, start):
    return [line for line in text.splitlines() if line.startswith(f"| {start}")]


def test_folds_are_pooled_beside_the_papers_table(records):
    (experiment,) = lists("em", "paper").values()
    fill(records, replace(experiment, minutes=(15,)), lambda run: pooled_scores([slices(run)]))
    text = paper.study_text("em", read_splits(), records)
    (line,) = lines(text, "paper")
    assert line == (
        "| paper, 7 rotations | gold | 16 | 15 minutes | 0, 1, 2 | 0.20000 (0.10000 to 0.20000) "
        "| 0.20000 (0.10000 to 0.20000) | 0.200 (0.100 to 0.200) | 0.2000 (0.1000 to 0.2000) "
        "| 0.2000 (0.1000 to 0.2000) | 0.300 (0.300 to 0.400) | 0.300 (0.300 to 0.400) | 900 | 2.35 | 0 + 0 + 0 | abc |"
    )
    assert lines(text, "U-Net") == [
        "| U-Net, the paper (hidden test set) | - | - | - | - | 0.000353 | - | 0.0382 | 0.0611"
        " | - | - | - | - | - | - | - |"
    ]
    assert len(lines(text, "recipe")) == 1
    assert len({row.count("|") for row in lines(text, "")}) == 1
    assert "9 of 18 runs are still missing." in text


def test_both_ways_are_averaged_and_seeds_that_lack_one_are_left_out(records):
    experiment = lists("dic", "best")["gold + silver"]

    def scores(run):
        given = {("dic-hela-01", 0): 0.9, ("dic-hela-02", 0): 0.8, ("dic-hela-01", 1): 0.1}.get(
            (run.split.name, run.seed)
        )
        return None if given is None or run.minutes == 10 else {"SEG": given, "F1@0.5": 1.0}

    fill(records, experiment, scores)
    text = paper.study_text("dic", read_splits(), records)
    (line,) = lines(text, "best")
    assert line.startswith(
        "| best, 8 rotations | gold + silver | 16 | 30 minutes | 0 | 0.850 (0.800 to 0.900) | 1.000 | 900 "
    )
    assert "| U-Net, the paper (hidden test set) | - | - | - | - | 0.7756 | - |" in text
    fill(records, lists("dic", "best", "cuda")["gold"], lambda run: {"SEG": 0.7}, network={"channels": 64})
    text = paper.study_text("dic", read_splits(), records)
    assert [line.split(" | ")[1:4] for line in lines(text, "best")] == [
        ["gold + silver", "16", "30 minutes"],
        ["gold", "64", "30 minutes"],
    ]


def test_half_a_study_is_no_line(records):
    fill(records, lists("em", "paper")["gold"], lambda run: {} if run.split.name != FOLDS[1] else None)
    assert paper.study_text("em", read_splits(), records) == ""


def test_tables_stand_on_the_page_and_say_that_the_test_sets_differ(records, tmp_path, capsys):
    page = tmp_path / "page.md"
    assert paper.main(["--tables", "--page", str(page)], records) == 0
    assert not page.exists()
    fill(records, lists("nuclei", "paper")["gold"], lambda run: {"AP@0.5": 0.8, "AP@0.9": 0.2})
    assert paper.main(["--tables", "--page", str(page)], records) == 0
    text = page.read_text("utf-8")
    assert "hidden test sets" in text
    assert "not comparable" in " ".join(text.split())
    assert "| paper | gold | 16 | 10 minutes | 0, 1, 2 | 0.800 | 0.200 |" in text
    assert "<!-- benchmark paper -->" in text
    assert paper.main([], records) == 0
    assert "em           EM (P18)" in capsys.readouterr().out


def test_what_is_published_stands_in_the_list_of_facts():
    facts = dict(re.findall(r"^\| (P\d+) \|(.*)$", FACTS.read_text("utf-8"), re.MULTILINE))
    for name, fact in {"em": "P18", "phc": "P19", "dic": "P20"}.items():
        fact_text, row, _ = facts[fact].strip(" |").split(" | ")
        assert row == f"`{name}`"
        (figures,) = [figures for told, figures in paper.STUDIES[name].published if told.startswith("U-Net")]
        assert all(figure in fact_text for figure in figures.values())
        assert fact in paper.STUDIES[name].title
    assert facts["P21"].split(" | ")[1].strip(" `") in paper.STUDIES


# The command.


@pytest.fixture
def membranes(tmp_path, monkeypatch):
    """The command with one study, `tiny`, of a stack of 7 slices."""
    folder = tmp_path / "data"
    folder.mkdir()
    pairs = [disc_image(i, 64) for i in range(7)]
    tifffile.imwrite(folder / "train-volume.tif", np.stack([image[0] for image, _ in pairs]))
    masks = np.stack([np.where(mask > 0, 255, 0).astype(np.uint8) for _, mask in pairs])
    tifffile.imwrite(folder / "train-labels.tif", masks)
    train, test = (Part(str(folder), (block,)) for block in ((0, 3), (5, 6)))
    split = Split("discs", train, test, ("Rand error",), gap=1, membranes=True)
    study = paper.Study("Tiny", ("discs",), "gold", (("Rand error", "Rand error"),), rotations=(7, 1))
    monkeypatch.setattr(paper, "STUDIES", {"tiny": study})
    for module in (paper, command):
        monkeypatch.setattr(module, "read_splits", lambda: {"discs": split})
    opened.cache_clear()
    yield split
    opened.cache_clear()


def test_a_trial_is_trained_scored_as_membranes_and_looked_at(membranes, tmp_path, capsys):
    records = Records(tmp_path / "rows", tmp_path / "looks.jsonl")
    where = ["--folder", str(tmp_path / "runs")]
    assert paper.main(["tiny", "--dry-run", "--recipe", "paper", *where], records) == 0
    assert "6 runs, 75 minutes of training to come" in capsys.readouterr().out
    small = [word for each in ("network.channels=4", "network.depth=3", "patch=[76, 76]") for word in ("--set", each)]
    trial = ["tiny", "--recipe", "paper", "--only", "seed0", "--steps", "2", *small]
    assert paper.main([*trial, *where], records) == 0
    (folder,) = (tmp_path / "runs").glob("discs*")
    assert "python benchmarks/paper.py tiny" in (folder / "run.json").read_text("utf-8")
    assert not records.rows.exists()
    (look,) = map(json.loads, records.looks.read_text("utf-8").splitlines())
    (path,) = (tmp_path / "runs" / "trials").iterdir()
    assert path.stem.endswith("test-x7")
    row = json.loads(path.read_text("utf-8"))
    assert row["seconds an image"] >= 0
    assert row["rotations"] == 7
    # The same by hand: seven angles, the map of class 1, both slices.
    samples = open_part(membranes.test).samples
    model = ushape.load(folder)
    maps = [model.predict(each.read_image(), symmetries=7).probabilities[1] for each in samples]
    curves = [count_membranes(each.read_reference(), cell) for each, cell in zip(samples, maps, strict=True)]
    wanted = membrane_scores(curves)
    scores = row["scores"]["test"]
    assert list(row["membranes"]["slices"]) == [each.name for each in samples]
    assert look["scores"]["Rand error"] == pytest.approx(wanted["Rand error"], abs=1e-6)
    for name in ERRORS:
        column = "least pixel error" if name == "pixel error" else name
        assert scores[column] == pytest.approx(wanted[name], abs=2e-6)
    assert "pixel error" in scores


def test_the_page_of_the_table_is_no_list():
    assert Experiment("paper", paper.PAGE.title, ()) == paper.PAGE


def test_the_width_says_how_many_networks_answer_together():
    assert paper.width_of({"channels": 32}) == "32"
    assert paper.width_of({"channels": 32, "members": 3}) == "3 x 32"
