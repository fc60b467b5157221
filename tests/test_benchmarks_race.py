"""The race's command: a run becomes a row, scored as our models are, and rows become tables.

Whole runs of MONAI and nnU-Net need the peers' environment, and are skipped elsewhere.
"""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import race
from bench.experiments import Experiment
from bench.records import Records
from bench.splits import Part, Split, opened
from conftest import disc_dataset, disc_image
from racing import nnunet, plain, table
from racing.contest import Finish, Peer, need, rival, versions
from racing.peers import PEERS
from speed.counting import count_parameters
from speed.peers import TextbookUNet
from ushape.data.dataset import Dataset, Sample
from ushape.errors import RecipeError
from ushape.scoring.objects import count_objects, object_scores
from ushape.targets.maps import Encoding, encode

pytestmark = pytest.mark.usefixtures("one_thread")
MISSING = "the peers' environment has it (make .venv-peers)"
TINY = Peer("plain", "a plain loop", ("torch",), partial(plain.run_plain, channels=4))
FEW_SECONDS = "0.02"


def write_objects(folder, n=10):
    """A folder of grey images with masks of ids."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(n):
        image, mask = disc_image(number)
        Image.fromarray(image[0]).save(folder / "images" / f"{folder.name}{number}.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{folder.name}{number}.png")
    (folder / "dataset.toml").write_text('task = "instances"\n')


def write_membranes(folder, n=12):
    """A stack with two classes."""
    folder.mkdir(parents=True)
    pairs = [disc_image(number) for number in range(n)]
    tifffile.imwrite(folder / "train-volume.tif", np.stack([image[0] for image, _ in pairs]))
    masks = np.stack([np.where(mask > 0, 255, 0).astype(np.uint8) for _, mask in pairs])
    tifffile.imwrite(folder / "train-labels.tif", masks)


@pytest.fixture
def folders(tmp_path):
    opened.cache_clear()
    write_objects(tmp_path / "learn")
    write_objects(tmp_path / "look", 3)
    write_membranes(tmp_path / "stack")
    yield tmp_path
    opened.cache_clear()


@pytest.fixture
def splits(folders):
    stack = str(folders / "stack")
    learn, look = Part(str(folders / "learn")), Part(str(folders / "look"))

    def block(*positions):
        return Part(stack, (positions,))

    return {
        "objects": Split("objects", learn, look, ("SEG", "AP@0.5"), learn, look),
        "stack": Split(
            "stack", block(0, 8), block(10, 11), ("V_rand thinned",), block(0, 5), block(7, 8), gap=1, membranes=True
        ),
    }


@pytest.fixture
def command(folders, splits, monkeypatch):
    """(run the command, its records)."""
    monkeypatch.setattr(race, "read_splits", lambda: splits)
    monkeypatch.setitem(race.PEERS, "plain", TINY)
    records = Records(folders / "rows", folders / "looks.jsonl")

    def call(*arguments):
        return race.main([*arguments, "--folder", str(folders / "runs")], records)

    return call, records


def rows_in(records):
    return [json.loads(path.read_text()) for path in sorted(records.rows.glob("*.json"))]


# A run becomes a row.


def test_a_run_becomes_a_row(command, splits):
    call, records = command
    assert call("plain", "objects", "--minutes", FEW_SECONDS, "--seed", "3") == 0
    (row,) = rows_in(records)
    run = table.run_of(TINY, splits["objects"], "tune", 0.02, 3)
    assert records.row(run) == row
    assert row["split"] == "objects"
    assert row["trained on"] == splits["objects"].learn.data
    assert row["scored on"] == splits["objects"].tune.data
    assert (row["recipe"], row["budget"], row["seed"]) == ("plain", "0.02 minutes", 3)
    assert set(row["scores"]) == {"val", "tune"}
    assert set(row["scores"]["tune"]) >= {"SEG", "AP@0.5", "F1@0.5"}
    assert row["steps"] >= 1
    assert row["seconds"] > 0
    assert row["seconds an image"] > 0
    assert row["trained"]["parameters"] == count_parameters(TextbookUNet(1, 3, 4, 5, padded=True))
    assert (row["trained"]["patch"], row["trained"]["batch"]) == ([64, 64], 1)
    assert row["trained"]["images learnt from"] == 8
    assert row["trained"]["images held out"] == 2
    assert row["versions"] == row["inputs"]["recipe"] == f"torch {torch.__version__.partition('+')[0]}"
    assert "float32" in row["machine"]
    assert "bfloat16" not in row["machine"]
    assert "membranes" not in row
    assert not records.looks.exists()


def test_a_run_whose_row_is_there_is_skipped_unless_it_is_renewed(command, monkeypatch, capsys):
    call, records = command
    assert call("plain", "objects", "--minutes", FEW_SECONDS) == 0
    (before,) = rows_in(records)
    monkeypatch.setitem(race.PEERS, "plain", replace(TINY, run=lambda start: pytest.fail("ran again")))
    assert call("plain", "objects", "--minutes", FEW_SECONDS) == 0
    assert "its row is there; --renew repeats it" in capsys.readouterr().out
    assert rows_in(records) == [before]
    asked = []
    monkeypatch.setitem(race.PEERS, "plain", replace(TINY, run=lambda start: asked.append(start) or perfect(start)))
    assert call("plain", "objects", "--minutes", FEW_SECONDS, "--renew") == 0
    assert len(asked) == 1
    assert rows_in(records) != [before]


def test_a_run_is_repeated_when_the_program_of_the_peers_has_changed(command, monkeypatch):
    """A learning rate or a number of epochs there decides about a row."""
    call, records = command
    assert call("plain", "objects", "--minutes", FEW_SECONDS) == 0
    (before,) = rows_in(records)
    assert before["inputs"]["program"] == race.program_version()
    asked = []
    monkeypatch.setitem(race.PEERS, "plain", replace(TINY, run=lambda start: asked.append(start) or perfect(start)))
    monkeypatch.setattr(race, "program_version", lambda: "other")
    assert call("plain", "objects", "--minutes", FEW_SECONDS) == 0
    assert len(asked) == 1


def perfect(start):
    """A peer that knows the truth."""
    known = {nnunet.digest(sample.read_image()): sample.read_mask() for sample in start.scored.samples}

    def maps_of(image):
        mask = known[nnunet.digest(image)]
        return np.stack([mask == 0, mask > 0]).astype(np.float32)

    def labels_of(maps):
        return next(mask for mask in known.values() if ((mask > 0) == (maps[1] > 0.5)).all()).astype(np.int32)

    made = rival(start.training, Encoding("semantic"), maps_of, labels_of=labels_of)
    return Finish(made, 7, 1.5, {"parameters": 12}, {"own": 0.25})


@pytest.mark.parametrize("stage", ["tune", "test"])
def test_a_look_at_test_is_logged_as_one(command, splits, stage, monkeypatch):
    call, records = command
    monkeypatch.setitem(race.PEERS, "plain", replace(TINY, run=perfect))
    assert call("plain", "objects", "--stage", stage) == 0
    (row,) = rows_in(records)
    assert row["scores"] == {"val": {"own": 0.25}, stage: row["scores"][stage]}
    assert row["scores"][stage]["SEG"] == row["scores"][stage]["AP@0.5"] == 1
    assert records.n_looks(str(splits["objects"].test)) == (stage == "test")
    if stage == "test":
        look = json.loads(records.looks.read_text())
        assert (look["experiment"], look["variant"], look["scores"]["SEG"]) == ("race", TINY.title, 1)


def test_membranes_are_scored_as_in_our_own_rows(command, monkeypatch):
    call, records = command
    monkeypatch.setitem(race.PEERS, "plain", replace(TINY, run=perfect))
    assert call("plain", "stack", "--minutes", "2") == 0
    (row,) = rows_in(records)
    scores = row["scores"]["tune"]
    assert scores["pixel error"] == scores["least pixel error"] == 0
    assert scores["V_rand thinned"] == 1
    assert len(row["membranes"]["slices"]) == 2
    assert row["seconds an image"] >= 0


def test_classes_are_learnt_from_a_stack(command):
    call, records = command
    assert call("plain", "stack", "--minutes", FEW_SECONDS) == 0
    (row,) = rows_in(records)
    assert 0 < row["scores"]["tune"]["pixel error"] < 1
    assert row["trained"]["images learnt from"] + row["trained"]["images held out"] <= 6


def test_an_interrupted_run_leaves_no_row(command, monkeypatch, capsys):
    def interrupted(start):
        raise KeyboardInterrupt

    call, records = command
    monkeypatch.setitem(race.PEERS, "plain", replace(TINY, run=interrupted))
    assert call("plain", "objects") == 130
    assert "no row was written" in capsys.readouterr().err
    assert rows_in(records) == []


def test_what_lay_in_the_folder_is_gone_when_a_run_begins(command, folders, splits, monkeypatch):
    call, _ = command
    own = folders / "runs" / table.run_of(TINY, splits["objects"], "tune", 15, 0).slug
    (own / "raw").mkdir(parents=True)
    seen = []

    def look(start):
        seen.extend(start.folder.iterdir())
        (start.folder / "results").mkdir()
        (start.folder / "log.txt").write_text("words")
        return perfect(start)

    monkeypatch.setitem(race.PEERS, "plain", replace(TINY, run=look))
    assert call("plain", "objects") == 0
    assert seen == []
    assert [path.name for path in own.iterdir()] == ["log.txt"]


def test_a_trial_is_no_benchmark(command, folders, monkeypatch):
    call, records = command
    monkeypatch.setitem(race.PEERS, "plain", replace(TINY, run=perfect))
    assert call("plain", "objects", "--trial") == 0
    assert rows_in(records) == []
    assert len(list((folders / "runs" / "trials").glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("abacus", "objects"), "expected a peer out of nnunet, monai, monai-large, plain, found abacus; correct"),
        (("plain", "clouds"), "expected a split out of objects, stack, found clouds; correct the name"),
        (("plain",), "expected a split out of objects, stack, found None; correct the name"),
        (("plain", "objects", "--minutes", "0"), "expected more than 0 minutes, found 0.0; raise --minutes"),
    ],
)
def test_mistakes_are_told_in_a_sentence(command, capsys, arguments, sentence):
    call, records = command
    assert call(*arguments) == 1
    assert sentence in capsys.readouterr().err
    assert rows_in(records) == []


def test_a_missing_package_is_told_in_a_sentence():
    with pytest.raises(RecipeError, match=r"^expected the package no_abacus for this peer, found none .*venv-peers"):
        need("no_abacus")


def test_versions_leave_out_what_is_not_installed():
    assert versions(("no-abacus", "torch")).startswith("torch ")


# Scored as our models are.


def test_a_frame_with_missing_objects_counts_as_for_our_models():
    """An invented object costs nothing where nobody knows all objects, and pixels to ignore are ignored."""
    reference = np.zeros((20, 40), np.int32)
    reference[2:8, 2:8], reference[:, 30:] = 1, -1
    estimate = np.zeros((20, 40), np.int32)
    estimate[2:8, 2:8], estimate[12:18, 2:8], estimate[2:8, 32:38] = 1, 2, 3
    image = np.zeros((1, 20, 40), np.uint8)
    for complete in (False, True):
        sample = Sample("frame", lambda: image, lambda: reference, complete=complete)
        silver = Sample("silver", lambda: image, lambda: reference, scored=False)
        dataset = Dataset("frames", (sample, silver), "instances", ("background", "object"))
        made = rival(dataset, Encoding("semantic"), lambda image: image, labels_of=lambda maps: estimate)
        found = made.evaluate(dataset)
        assert [row["name"] for row in found.rows] == ["frame"]
        assert made.decide(image).instances is estimate
        assert found.scores == object_scores([count_objects(reference, estimate, complete=complete)])
        assert found.scores.get("F1@0.5", np.nan) == pytest.approx(2 / 3 if complete else np.nan, nan_ok=True)
        assert found.scores["SEG"] == 1


def test_a_peers_maps_are_read_in_our_way_where_it_has_none():
    dataset = disc_dataset(1)
    sample = dataset.samples[0]
    encoding = Encoding("border", border_width=1)
    classes = encode(sample.read_mask(), encoding).classes
    maps = np.stack([classes == number for number in range(3)]).astype(np.float32)
    scores = rival(dataset, encoding, lambda image: maps).evaluate(dataset).scores
    assert scores["AP@0.9"] == 1


# Tables.


OURS = Experiment("minutes", "Minutes", ("objects", "stack"), (3.0, 10.0), test=True)


def fill(records, run, scores, **changes):
    trained, scored = run.split.parts(run.stage)
    row = {
        "split": run.split.name,
        "trained on": str(trained),
        "scored on": str(scored),
        "scores": {run.stage: scores},
        "steps": 35,
        "seconds": 899.6,
        "seed": run.seed,
        "machine": "a laptop",
        "code": "now",
        "commit": "abc",
        "dirty": False,
        "inputs": {"recipe": "now"},
        "date": "2026-01-02",
    }
    records.write(run, row | changes)


def test_the_race_as_it_should_be_told(splits, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.tables.code_version", lambda: "now")
    records = Records(tmp_path / "rows", tmp_path / "looks.jsonl")
    for run in OURS.runs(splits, "tune"):
        fill(records, run, {"SEG": 0.8, "AP@0.5": 0.7, "V_rand thinned": 0.9})
    assert table.render_race(OURS, splits, PEERS, records) == ""
    trained = {"parameters": 33_500_000, "patch": [512, 512], "batch": 2, "seconds an iteration": 17.25}
    facts = {"trained": trained, "versions": "nnunetv2 2.8.1"}
    peer = table.run_of(PEERS["nnunet"], splits["objects"], "tune", table.MINUTES, 0)
    fill(records, peer, {"SEG": 0.6, "AP@0.5": 0.5}, **facts)
    text = table.render_race(OURS, splits, PEERS, records)
    assert [line for line in text.splitlines() if line.startswith("|")][2:] == [
        "| objects | auto | 3 minutes | 0.800 | 0.700 | 35 | 900 | 0 | abc |",
        "| objects | auto | 10 minutes | 0.800 | 0.700 | 35 | 900 | 0 | abc |",
        "| objects | nnU-Net, 2d, fold 0 | 15 minutes | 0.600 | 0.500 | 35 | 900 | 0 | abc |",
    ]
    assert (
        "- nnU-Net, 2d, fold 0 on objects, seed 0 (nnunetv2 2.8.1): parameters 33.5 million, patch 512 x 512, batch 2, "
        "seconds an iteration 17.25"
    ) in text
    assert "3 of 6 runs are still missing." in text
    assert "Scored on test" not in text


def test_another_seed_of_a_peer_is_shown_where_it_is(splits, tmp_path):
    records = Records(tmp_path / "rows", tmp_path / "looks.jsonl")
    for seed, value in ((0, 0.1), (2, 0.3)):
        run = table.run_of(PEERS["plain"], splits["stack"], "test", table.MINUTES, seed)
        fill(records, run, {"V_rand thinned": value, "pixel error": 0.5})
    records.log_look(run, "race", {})
    text = table.render_race(OURS, splits, PEERS, records)
    head, _, line = [line for line in text.splitlines() if line.startswith("|")]
    assert "| pixel error | V_rand thinned |" in head
    assert "| 0.5000 | 0.200 (0.100 to 0.300) | 35 | 900 | 0, 2 | 1 | abc° |" in line


def test_the_table_is_put_into_the_page(command, splits, folders, monkeypatch):
    call, records = command
    monkeypatch.setattr(race, "read_experiments", lambda known: {"minutes": OURS})
    page = folders / "page.md"
    page.write_text("# Results\n")
    assert call("--tables", "--page", str(page)) == 0
    assert page.read_text() == "# Results\n"
    fill(records, table.run_of(PEERS["plain"], splits["objects"], "tune", table.MINUTES, 0), {"SEG": 0.5})
    assert call("--tables", "--page", str(page)) == 0
    assert "## The race\n\n<!-- benchmark race -->\n`python benchmarks/run.py minutes`" in page.read_text()


def test_rows_of_other_data_are_marked_and_other_packages_are_none(command, splits, folders, monkeypatch):
    call, records = command
    monkeypatch.setattr(race, "read_experiments", lambda known: {"minutes": OURS})
    page = folders / "page.md"
    run = table.run_of(PEERS["plain"], splits["objects"], "tune", table.MINUTES, 0)
    inputs = race.inputs_of(PEERS["plain"], run, *race.open_stage(run.split, "tune"))
    for changed, mark in (
        ({}, "°"),
        ({"recipe": "torch 1.0"}, "°"),
        ({"data": "other"}, "°‡"),
        ({"program": "b"}, "°‡"),
    ):
        fill(records, run, {"SEG": 0.5}, inputs=inputs | changed)
        assert call("--tables", "--page", str(page)) == 0
        assert f"| 0 | abc{mark} |" in page.read_text()


def test_every_peer_and_its_command_stand_in_the_page_of_benchmarks():
    text = (race.REPOSITORY / "docs" / "benchmarks.md").read_text("utf-8")
    for name in PEERS:
        assert f"benchmarks/race.py {name} " in text
    for package in ("nnunetv2", "monai"):
        assert f"{package}==" in (race.REPOSITORY / "benchmarks" / "peers.lock").read_text("utf-8")


# The peers' own packages.


@pytest.mark.parametrize("name", ["monai", "monai-large"])
@pytest.mark.parametrize("split", ["objects", "stack"])
def test_the_tutorial_runs_from_end_to_end(command, name, split):
    pytest.importorskip("monai", reason=MISSING)
    call, records = command
    assert call(name, split, "--minutes", "0.1") == 0
    (row,) = rows_in(records)
    # The discs' images are smaller than the tutorial's crops.
    assert (row["trained"]["patch"], row["trained"]["batch"]) == ([64, 64], 8)
    assert row["steps"] >= 1
    assert "monai" in row["versions"]


@pytest.mark.parametrize("split", ["objects", "stack"])
def test_nnunet_runs_from_end_to_end(command, split):
    pytest.importorskip("nnunetv2", reason=MISSING)
    call, records = command
    assert call("nnunet", split, "--minutes", "0.001") == 0
    (row,) = rows_in(records)
    # Its time is over before it begins: the iteration that is timed, and an epoch of one.
    assert (row["steps"], row["trained"]["epochs"]) == (2, 1)
    assert row["trained"]["batch"] >= 2
    assert row["seconds an image"] > 0
    assert "membranes" in row or split == "objects"
