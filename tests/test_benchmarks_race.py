"""The race: budgets, layouts and loops without the peers' packages; whole runs of those that are installed.

`monai`, `nnunetv2` and `acvl_utils` lie in the peers' environment, where the tests that need them are run.
"""

import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import nn

import race
from bench.experiments import Experiment
from bench.records import Records
from bench.splits import Part, Split, opened
from conftest import disc_dataset, disc_image
from racing import loop, nnunet, plain, table, tutorial
from racing.contest import Finish, Peer, Start, need, rival, versions
from racing.lesson import IGNORED, dihedral, encoding_for, make_lesson, tuned_decision
from racing.nnunet_trainer.race_budget import iterations_now, plan_epochs, validations
from racing.peers import PEERS
from speed.counting import count_parameters
from speed.peers import TextbookUNet
from ushape.data.catalog import open_dataset
from ushape.data.dataset import Dataset, Sample
from ushape.errors import RecipeError
from ushape.scoring.objects import count_objects, object_scores
from ushape.targets.maps import Encoding, encode
from ushape.training.examples import DataSummary, read_examples
from ushape.training.rules import choose_encoding

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


# What the peers without a planner are taught.


def test_large_objects_are_told_as_auto_tells_them():
    large = DataSummary("x", "instances", ("background", "object"), 9, 1, ((512, 512),), diameter=112.0)
    assert encoding_for(large) == choose_encoding(large)[0] == Encoding("border", border_width=4)
    small = replace(large, diameter=14.0)
    assert choose_encoding(small)[0].kind == "distance"
    assert encoding_for(small) == Encoding("border", border_width=1)


def test_classes_weigh_alike():
    rare = DataSummary("x", "semantic", ("a", "b"), 9, 1, ((64, 64),), shares=(0.99, 0.01))
    assert choose_encoding(rare)[0].class_weights
    assert encoding_for(rare) == Encoding("semantic", n_classes=2)


def test_a_lesson_holds_out_a_fifth_and_keeps_pixels_to_ignore():
    image, mask = disc_image(0)
    mask = mask.copy()
    mask[:10] = -1
    samples = tuple(Sample(f"{number}", lambda: image, lambda: mask) for number in range(10))
    lesson = make_lesson(Dataset("x", samples, "instances", ("background", "object")))
    assert (len(lesson.training), len(lesson.validation)) == (8, 2)
    assert (lesson.channels, lesson.n_classes, lesson.smallest_side) == (1, 3, 64)
    page = lesson.training[0]
    assert (page.classes[:10] == IGNORED).all()
    assert set(np.unique(page.classes[10:])) == {0, 1, 2}
    assert ((page.classes > 0) == (mask > 0)).all()


def test_grey_stored_as_colours_has_one_channel():
    image, mask = disc_image(0)
    samples = tuple(Sample(f"{number}", lambda: np.repeat(image, 3, axis=0), lambda: mask) for number in range(10))
    lesson = make_lesson(Dataset("x", samples, "instances", ("background", "object")))
    assert (lesson.channels, lesson.training[0].image.shape) == (1, (1, 64, 64))


def test_thresholds_are_tuned_for_objects_and_not_for_classes():
    lesson = make_lesson(disc_dataset(10))
    known = {nnunet.digest(page.image): page.classes for page in lesson.validation}

    def blurred(image):
        """Sure where it is right, and a little sure of foreground elsewhere: below 0.3 everything is one object."""
        classes = known[nnunet.digest(image)]
        foreground = np.where(classes > 0, 0.95, 0.45).astype(np.float32)
        inside = np.where(classes == 1, 0.9, 0.05).astype(np.float32)
        return np.stack([1 - foreground, inside, foreground - inside])

    decision = tuned_decision(lesson, blurred)
    assert 0.5 <= decision.mask_threshold <= 0.7
    semantic = replace(lesson, encoding=Encoding("semantic"))
    assert tuned_decision(semantic, lambda image: pytest.fail("nothing to tune")) is None


def test_the_eight_ways_to_see_an_image():
    image = np.arange(12).reshape(1, 3, 4)
    ways = {dihedral(image, number).tobytes() + bytes(dihedral(image, number).shape) for number in range(8)}
    assert len(ways) == 8
    assert (dihedral(image, 0) == image).all()


# The loop and its clock.


class Clockwork:
    """A clock that only steps and validations move."""

    def __init__(self, monkeypatch, budget):
        self.now, self.budget = 0.0, budget
        monkeypatch.setattr(loop.time, "perf_counter", lambda: self.now)

    def left(self):
        return self.budget - self.now


def fit_by(clockwork, scores, *, step=1.0, validation=3.0, length=4, every=1):
    """(progress, weight in the end): each step adds 1 to the only weight."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    told = iter(scores)

    def epoch():
        for _ in range(length):
            clockwork.now += step
            with torch.no_grad():
                network.weight += 1
            yield

    def validate():
        clockwork.now += validation
        return next(told)

    done = loop.fit(network, epoch, validate, clockwork.left, every)
    return done, float(network.weight.detach())


def test_the_best_weights_are_kept(monkeypatch):
    done, weight = fit_by(Clockwork(monkeypatch, 28), [0.5, 0.9, 0.7, 0.8])
    assert weight == done.best_step == 8
    assert (done.best, done.steps, done.epochs) == (0.9, 15, 3)
    assert done.validating == 12


def test_the_last_validation_is_within_the_time(monkeypatch):
    for budget in range(12, 40):
        clockwork = Clockwork(monkeypatch, budget)
        fit_by(clockwork, [0.1] * 99)
        assert budget - 4 <= clockwork.now <= budget


def test_epochs_without_validation(monkeypatch):
    clockwork = Clockwork(monkeypatch, 21)
    done, weight = fit_by(clockwork, [0.1, 0.2, 0.3], every=2)
    # Eight steps, a validation, none behind the third epoch, and so many more that the last one fits.
    assert (done.steps, done.best, weight) == (14, 0.2, 14)
    assert clockwork.now == 20


def test_there_is_one_step_and_one_validation_at_least(monkeypatch):
    done, weight = fit_by(Clockwork(monkeypatch, 0), [np.nan])
    assert (done.steps, weight) == (1, 1)


# The plain loop.


def test_grey_values_go_from_0_to_1():
    assert plain.scaled(np.array([[[0, 255]]], np.uint8)).tolist() == [[[0, 1]]]
    assert plain.scaled(np.array([[[0, 65535]]], np.uint16)).tolist() == [[[0, 1]]]
    assert plain.scaled(np.array([[[-2.0, 0, 2]]])).tolist() == [[[0, 0.5, 1]]]
    assert plain.scaled(np.ones((1, 2, 2))).tolist() == [[[0, 0], [0, 0]]]


def test_crops_are_as_large_as_fits_and_image_and_classes_stay_together():
    classes = np.arange(530 * 70).reshape(530, 70)
    page = plain.Page(classes[None].astype(np.float64), classes, classes.astype(np.int32))
    sizes = set()
    for seed in range(16):
        image, found = plain.crop(page, np.random.default_rng(seed))
        sizes.add(found.shape)
        assert image.shape == (1, *found.shape)
        assert np.allclose(image[0] * classes.max(), found, atol=1)
    assert sizes == {(512, 64), (64, 512)}


def test_an_image_of_any_size_is_predicted_at_its_size():
    network = TextbookUNet(1, 3, 2, 5, padded=True)
    maps = plain.predict(network, np.zeros((1, 37, 50), np.uint8))
    assert maps.shape == (3, 37, 50)
    assert np.allclose(maps.sum(axis=0), 1, atol=1e-5)
    assert plain.padded(np.zeros((1, 37, 48), np.float32)).shape == (1, 48, 48)


def test_the_plain_network_has_31_million_parameters():
    with torch.device("meta"):
        network = TextbookUNet(1, 3, plain.CHANNELS, plain.DEPTH, padded=True)
    assert 31.0e6 <= count_parameters(network) < 31.1e6


def test_pixels_to_ignore_do_not_count_in_the_plain_loop():
    lesson = make_lesson(disc_dataset(10))
    page = replace(lesson.training[0], classes=lesson.training[0].classes.copy())
    page.classes[:20] = IGNORED
    torch.manual_seed(0)
    network = TextbookUNet(1, 3, 2, 5, padded=True)
    estimate, known = plain.predict(network, page.image).argmax(axis=0)[20:], page.classes[20:]
    by_hand = [
        2 * ((estimate == n) & (known == n)).sum() / ((estimate == n).sum() + (known == n).sum()) for n in range(3)
    ]
    assert plain.mean_dice(network, replace(lesson, validation=(page,))) == pytest.approx(np.mean(by_hand))


class Ticks:
    """A clock that a second passes by whenever it is looked at, as it is after each step."""

    now = 0

    def seconds(self):
        self.now += 1
        return self.now


def test_the_plain_loop_learns(tmp_path):
    start = Start(disc_dataset(10), disc_dataset(3, 100), 5, 0, tmp_path, Ticks())
    done = plain.run_plain(start, channels=8)
    assert 250 < done.steps < 300
    assert done.chosen["mean Dice of the maps' classes"] > 0.6
    assert done.rival.evaluate(start.scored).scores["AP@0.5"] > 0.6


# nnU-Net: budget, layout, commands.


def test_the_time_becomes_epochs():
    # 800 s hold 750 iterations of a second with their validation: 50 epochs.
    assert plan_epochs(800, 1.0) == 50
    # 37 iterations of 20 s: seven epochs of five.
    assert plan_epochs(800, 20.0) == 7
    assert plan_epochs(100, 60.0) == 1
    assert plan_epochs(-5, 60.0) == 1


def test_the_epochs_fill_the_time_that_is_left():
    assert iterations_now(800, 50, 1.067) == 14
    assert iterations_now(800, 7, 21.3) == 5
    # The last epoch, when all before it took longer than thought.
    assert iterations_now(40, 1, 21.3) == 1
    assert iterations_now(-40, 1, 21.3) == 1
    assert [validations(n) for n in (1, 5, 14, 250)] == [1, 1, 3, 50]


def test_a_schedule_that_is_held_against_the_clock_ends_with_it():
    """Whatever the first iteration seemed to take."""
    for guessed, true in ((30.0, 20.0), (20.0, 30.0), (1.0, 1.3)):
        left, each = 800.0, guessed
        epochs = plan_epochs(left, guessed)
        for epoch in range(epochs):
            n = iterations_now(left, epochs - epoch, each)
            left, each = left - n * true, true
        assert 0 <= left < true


def test_a_mask_of_classes_becomes_nnunets_and_back():
    mask = np.array([[0, 1, -1], [2, 2, 0]], np.int32)
    labels = nnunet.to_nnunet(mask, "semantic", 3)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 1, 3], [2, 2, 0]]
    maps = np.stack([labels == number for number in range(3)]).astype(np.float32)
    assert (nnunet.from_nnunet(maps, "semantic") == np.where(mask < 0, 0, mask)).all()


def test_objects_become_core_and_border_and_pixels_to_ignore_stay_so(monkeypatch):
    given = []
    monkeypatch.setattr(nnunet, "core_and_border", lambda ids: given.append(ids) or np.where(ids > 0, 2, 0))
    monkeypatch.setattr(nnunet, "cores_to_instances", lambda labels: 5 * labels.astype(np.int32))
    mask = np.array([[0, 7, -1]], np.int32)
    assert nnunet.to_nnunet(mask, "instances", 3).tolist() == [[0, 2, 3]]
    assert given[0].tolist() == [[0, 7, 0]]
    maps = np.array([[[0.9, 0.1]], [[0.1, 0.3]], [[0.0, 0.6]]], np.float32)
    assert nnunet.from_nnunet(maps, "instances").tolist() == [[0, 10]]


def test_the_layout_is_read_as_nnunets(tmp_path):
    """By our own reader of such folders."""
    image, mask = disc_image(0)
    classes = (mask > 0).astype(np.int32)
    classes[:5] = -1
    samples = tuple(Sample(f"slice {number}", lambda: image, lambda: classes) for number in range(6))
    dataset = Dataset("x", samples, "semantic", ("membrane", "cell"))
    examples, _ = read_examples(samples)
    nnunet.write_raw(tmp_path / "raw", dataset, examples, 1)
    assert sorted(path.name for path in (tmp_path / "raw" / "imagesTr").iterdir())[:2] == [
        "case_0000_0000.tif",
        "case_0001_0000.tif",
    ]
    told = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert told["labels"] == {"background": 0, "cell": 1, "ignore": 2}
    assert (told["numTraining"], told["file_ending"], told["channel_names"]) == (6, ".tif", {"0": "channel 0"})
    again = open_dataset(tmp_path / "raw")
    assert len(again) == 6
    assert (again.samples[3].read_image() == image).all()
    assert (again.samples[3].read_mask() == classes).all()


def test_a_label_to_ignore_is_named_only_where_it_occurs():
    assert nnunet.description(("background", "core", "border"), 2, 5, ignored=False)["labels"] == {
        "background": 0,
        "core": 1,
        "border": 2,
    }
    assert nnunet.description(("background", "core", "border"), 2, 5, ignored=True)["labels"]["ignore"] == 3


def test_channels_are_files(tmp_path):
    nnunet.write_image(tmp_path, 12, np.zeros((2, 4, 5), np.uint16))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case_0012_0000.tif", "case_0012_0001.tif"]
    assert tifffile.imread(tmp_path / "case_0012_0001.tif").shape == (4, 5)


def test_probabilities_are_read_without_their_third_axis(tmp_path):
    maps = np.random.default_rng(0).random((3, 1, 4, 5))
    np.savez_compressed(tmp_path / "case.npz", probabilities=maps)
    found = nnunet.read_maps(tmp_path / "case.npz")
    assert found.dtype == np.float32
    assert np.allclose(found, maps[:, 0])


def test_nnunet_is_asked_as_its_documentation_says(tmp_path):
    asked = nnunet.commands(tmp_path)
    assert list(asked) == ["plan", "train", "predict"]
    assert Path(asked["plan"][0]).name == "nnUNetv2_plan_and_preprocess"
    assert asked["plan"][1:5] == ["-d", "1", "-c", "2d"]
    assert Path(asked["train"][1]).exists()
    assert Path(asked["train"][2]) == tmp_path / "preprocessed" / "Dataset001_race"
    assert Path(asked["predict"][0]).name == "nnUNetv2_predict"
    # Mirroring is on, and the checkpoint is the last one, unless it is told otherwise.
    assert not {"--disable_tta", "-chk", "-tr", "-step_size"} & set(asked["predict"])
    told = nnunet.environment(tmp_path, 12.5, 3)
    assert Path(told["nnUNet_preprocessed"]) == tmp_path / "preprocessed"
    assert (told["RACE_DEADLINE"], told["RACE_SEED"]) == ("12.5", "3")
    assert told["nnUNet_n_proc_DA"] == told["nnUNet_def_n_proc"] == str(len(os.sched_getaffinity(0)))


def test_a_command_that_fails_is_told_with_its_log(tmp_path):
    log = tmp_path / "log.txt"
    code = "import os; print(os.environ['WORD'], flush=True)"
    nnunet.perform([sys.executable, "-c", code], {"WORD": "good"}, log)
    with pytest.raises(RecipeError, match=r"expected it to end well, found the exit status 3; its words are in .*log"):
        nnunet.perform([sys.executable, "-c", f"{code}; raise SystemExit(3)"], {"WORD": "bad"}, log)
    assert log.read_text().split() == ["good", "bad"]


def test_only_images_that_are_scored_are_predicted():
    image, mask = disc_image(0)
    samples = (
        Sample("scored", lambda: image, lambda: mask),
        Sample("silver", lambda: pytest.fail("read"), lambda: mask, scored=False),
        Sample("bare", lambda: pytest.fail("read")),
    )
    assert len(nnunet.scored_images(Dataset("x", samples, "instances", ("background", "object")))) == 1


def test_an_image_is_found_by_its_pixels():
    image = disc_image(0)[0]
    assert nnunet.digest(image) == nnunet.digest(image.copy())
    assert nnunet.digest(image) != nnunet.digest(disc_image(1)[0])
    assert nnunet.digest(np.zeros((1, 2, 8), np.uint8)) != nnunet.digest(np.zeros((1, 4, 4), np.uint8))


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
    assert "| 0.500 | 0.200 (0.100 to 0.300) | 35 | 900 | 0, 2 | 1 | abc° |" in line


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


def test_every_peer_and_its_command_stand_in_the_page_of_benchmarks():
    text = (race.REPOSITORY / "docs" / "benchmarks.md").read_text("utf-8")
    for name in PEERS:
        assert f"benchmarks/race.py {name} " in text
    for package in ("nnunetv2", "monai"):
        assert f"{package}==" in (race.REPOSITORY / "benchmarks" / "peers.lock").read_text("utf-8")


# MONAI's tutorial.


def test_one_channel_is_told_as_two_classes():
    logits = torch.tensor([0.0, 3.0, -3.0]).reshape(1, 1, 1, 3)
    found = tutorial.probabilities_of(logits)
    assert torch.allclose(found[0, 1, 0], logits.sigmoid().flatten())
    assert torch.allclose(found.sum(dim=1), torch.ones(1, 1, 3))
    several = torch.randn(1, 3, 2, 2)
    assert torch.equal(tutorial.probabilities_of(several), several.softmax(dim=1))


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_to_ignore_do_not_count_in_the_tutorial(channels):
    pytest.importorskip("monai", reason=MISSING)
    torch.manual_seed(0)
    loss, logits = tutorial.loss_for(channels), torch.randn(2, channels, 8, 8)
    classes = torch.randint(0, max(2, channels), (2, 1, 8, 8))
    classes[:, :, :3] = IGNORED
    changed = logits.clone()
    changed[:, :, :3] += 5
    assert loss(logits, classes) == pytest.approx(float(loss(changed, classes)))
    changed[:, :, 5:] += 5
    changed[:, :1, 5:] += 5
    assert loss(logits, classes) != pytest.approx(float(loss(changed, classes)))


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


# nnU-Net itself.


def test_touching_objects_survive_core_and_border():
    pytest.importorskip("acvl_utils", reason=MISSING)
    mask = np.zeros((40, 60), np.int32)
    mask[5:35, 5:30], mask[5:35, 30:55], mask[0:3, 0:3] = 4, 9, 2
    labels = nnunet.to_nnunet(mask, "instances", 3)
    assert ((labels > 0) == (mask > 0)).all()
    assert (labels[5:35, 28:32] == 2).all()
    assert (labels[10:30, 10:28] == 1).all()
    maps = np.stack([labels == number for number in range(3)]).astype(np.float32)
    found = nnunet.from_nnunet(maps, "instances")
    scores = object_scores([count_objects(np.where(mask == 2, 0, mask), np.where(mask == 2, 0, found))])
    assert scores["AP@0.9"] == 1


@pytest.mark.parametrize("split", ["objects", "stack"])
def test_nnunet_runs_from_end_to_end(command, split):
    pytest.importorskip("nnunetv2", reason=MISSING)
    call, records = command
    assert call("nnunet", split, "--minutes", "0.1") == 0
    (row,) = rows_in(records)
    # Its time is over before it begins: the iteration that is timed, and an epoch of one.
    assert (row["steps"], row["trained"]["epochs"]) == (2, 1)
    assert row["trained"]["batch"] >= 2
    assert row["seconds"] > 6
    assert row["seconds an image"] > 0
    assert "membranes" in row or split == "objects"
