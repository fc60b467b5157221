"""nnU-Net in the race: seconds become epochs, masks its layout and back, and its commands are asked as documented."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from conftest import disc_image
from racing import nnunet
from racing.nnunet_trainer.race_budget import iterations_now, plan_epochs, validations
from ushape.data.catalog import open_dataset
from ushape.data.dataset import Dataset, Sample
from ushape.errors import RecipeError
from ushape.scoring.objects import count_objects, object_scores
from ushape.training.examples import read_examples

MISSING = "the peers' environment has it (make .venv-peers)"


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
