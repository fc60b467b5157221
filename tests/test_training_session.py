"""Runs: bit-identical by seed and steps, resumed after a kill with the same tensors, held to the clock."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from conftest import disc_dataset
from ushape.data.dataset import Dataset
from ushape.errors import ModelFileError, RecipeError
from ushape.model import Model, load
from ushape.network.unet import UNet
from ushape.run import train_run
from ushape.training.clock import Clock, Pace
from ushape.training.listening import Listener
from ushape.training.session import Session
from ushape.training.validating import Validation

TINY = ["network.channels=4", "network.depth=3", "patch=[32, 32]", "batch=2"]


def tiny_run(folder: Path | None = None, **options):
    options = {"steps": 12, "seed": 3, "settings": TINY} | options
    if folder is None:
        options["keep_folder"] = False
    return train_run(disc_dataset(6), output=folder, validation=disc_dataset(2, seed=50), device="cpu", **options)


def tensors_of(finished):
    return finished.model.network.state_dict()


def assert_equal_tensors(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_the_same_steps_and_seed_give_bit_identical_weights():
    first, again = tiny_run(), tiny_run()
    assert_equal_tensors(tensors_of(first), tensors_of(again))
    other = tensors_of(tiny_run(seed=4))
    assert any(not torch.equal(other[name], tensor) for name, tensor in tensors_of(first).items())


CHILD = """
import sys, pathlib
sys.path.insert(0, sys.argv[2])
import ushape.training.session as session
session.CHECKPOINT_SECONDS = 0.0
from test_training_session import tiny_run
tiny_run(pathlib.Path(sys.argv[1]), steps=60)
"""


@pytest.mark.parametrize("kill_at", [1, 17, 41])
def test_a_run_killed_at_any_moment_resumes_to_the_same_tensors(tmp_path, kill_at):
    tests = str(Path(__file__).parent)
    killed = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "killed"), tests], env=os.environ)
    checkpoint = tmp_path / "killed" / "checkpoint" / "state.safetensors"
    history = tmp_path / "killed" / "history.jsonl"
    deadline = time.monotonic() + 120
    while killed.poll() is None and time.monotonic() < deadline:
        if checkpoint.exists() and history.exists() and last_step(history) >= kill_at:
            break
        time.sleep(0.002)
    killed.kill()
    killed.wait()
    assert checkpoint.exists()
    assert not (tmp_path / "killed" / "model.safetensors").exists(), "the run ended before it was killed"
    resumed = tiny_run(tmp_path / "killed", settings=(), steps=None, resume=True)
    whole = tiny_run(tmp_path / "whole", steps=60)
    assert resumed.steps == whole.steps == 60
    assert_equal_tensors(tensors_of(resumed), tensors_of(whole))
    both = [load_file(tmp_path / name / "checkpoint" / "state.safetensors") for name in ("killed", "whole")]
    assert_equal_tensors(*both)


def last_step(history: Path) -> int:
    lines = history.read_text().splitlines()
    return json.loads(lines[-1])["step"] if lines else 0


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_every_kind_of_optimiser_resumes_to_the_same_tensors(tmp_path, name):
    settings = [*TINY, f"optimiser.name={name}", "optimiser.learning_rate=0.01", "network.dropout=0.5"]

    class Impatient(Listener):
        def progress(self, step, stop, loss, validation, seconds_left):
            if step == 7:
                signal.raise_signal(signal.SIGINT)

    stopped = tiny_run(tmp_path / "run", settings=settings, listener=Impatient())
    assert stopped.interrupted
    assert stopped.steps == 7
    assert (tmp_path / "run" / "model.safetensors").exists()
    resumed = tiny_run(tmp_path / "run", settings=(), steps=None, resume=True)
    assert_equal_tensors(tensors_of(resumed), tensors_of(tiny_run(settings=settings)))


def test_a_checkpoint_of_another_optimiser_is_refused(tmp_path):
    tiny_run(tmp_path / "run", settings=[*TINY, "optimiser.name=muon"])
    recipe = tmp_path / "run" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('name = "muon"', 'name = "adamw"'))
    with pytest.raises(ModelFileError, match=r"its optimiser is Muon, not AdamW"):
        tiny_run(tmp_path / "run", settings=(), steps=20, resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_middle_of_a_step_finishes_the_step_first(tmp_path, monkeypatch, number):
    """So does a cluster's sign that the time of the job is over."""
    forward, seen = UNet.core, []

    def interrupted(network, images):
        seen.append(network.training)
        if network.training and seen.count(True) == 5:
            signal.raise_signal(number)
        return forward(network, images)

    with monkeypatch.context() as patch:
        patch.setattr(UNet, "core", interrupted)
        stopped = tiny_run(tmp_path / "run")
    assert stopped.interrupted
    assert stopped.steps == 5
    resumed = tiny_run(tmp_path / "run", settings=(), steps=None, resume=True)
    assert_equal_tensors(tensors_of(resumed), tensors_of(tiny_run()))


def test_a_run_stopped_before_its_first_validation_resumes_as_if_it_had_not_been(tmp_path, monkeypatch):
    """What is judged because the run was stopped there chooses nothing: forced here to score highest."""
    looks = []
    monkeypatch.setattr(Validation, "watch", lambda held, model: looks.append(held) or 1 / len(looks))

    class Impatient(Listener):
        def progress(self, step, stop, loss, validation, seconds_left):
            if step == 3:
                signal.raise_signal(signal.SIGINT)

    stopped = tiny_run(tmp_path / "run", steps=40, listener=Impatient())
    assert (stopped.interrupted, stopped.steps) == (True, 3)
    assert load(tmp_path / "run").facts["steps"] == 3
    resumed = tiny_run(tmp_path / "run", settings=(), steps=None, resume=True)
    looks.clear()
    whole = tiny_run(steps=40)
    assert_equal_tensors(tensors_of(resumed), tensors_of(whole))


def spoil(monkeypatch, from_step: int) -> None:
    """Make the loss no number from a step on, in that step's weights too."""
    import ushape.training.loop as loop

    real, calls = loop.total_loss, []

    def spoilt(*args, **options):
        calls.append(None)
        return real(*args, **options) * (math.nan if len(calls) >= from_step else 1)

    monkeypatch.setattr(loop, "total_loss", spoilt)


@pytest.mark.parametrize("refit", [0, 0.5])
def test_a_run_that_goes_astray_keeps_what_was_best_until_then(tmp_path, monkeypatch, refit):
    monkeypatch.setattr("ushape.training.session.CHECKPOINT_SECONDS", 0.0)
    # Of 400 steps every second one is reported, so that a checkpoint falls between the mistake and its discovery.
    spoil(monkeypatch, 301)
    with pytest.raises(RecipeError, match=r"found nan at step 302, and kept the best weights until then; train a new"):
        train_run(disc_dataset(6), output=tmp_path / "run", steps=400, device="cpu", settings=[*TINY, f"refit={refit}"])
    model = load(tmp_path / "run")
    assert all(tensor.isfinite().all() for tensor in model.network.state_dict().values())
    assert model.facts["refit from step"] is None
    saved = load_file(tmp_path / "run" / "checkpoint" / "state.safetensors")
    assert all(tensor.isfinite().all() for tensor in saved.values())


def test_a_full_disk_does_not_stop_a_run(tmp_path, monkeypatch):
    heard = []

    class Ear(Listener):
        def words(self, text):
            heard.append(text)

    def full(*args, **options):
        raise SafetensorError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ushape.training.session.CHECKPOINT_SECONDS", 0.0)
        patch.setattr("ushape.training.checkpoint.save_file", full)
        finished = tiny_run(tmp_path / "run", listener=Ear())
    warnings = [text for text in heard if "could not save after step 5: " in text]
    assert len(warnings) == 1
    assert "check the path and the space" in warnings[0]
    assert_equal_tensors(tensors_of(finished), load(tmp_path / "run").network.state_dict())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells which files are mapped")
def test_nothing_holds_the_checkpoint_that_was_read(tmp_path, monkeypatch):
    """Windows would not let it be replaced."""
    tiny_run(tmp_path / "run", settings=[*TINY, "optimiser.name=adamw"])
    mapped, real = [], Session.loop

    def loop(session):
        mapped.append(Path("/proc/self/maps").read_text())
        return real(session)

    monkeypatch.setattr(Session, "loop", loop)
    tiny_run(tmp_path / "run", settings=(), steps=14, resume=True)
    assert str(tmp_path / "run" / "checkpoint" / "state.safetensors") not in mapped[0]


def test_a_finished_run_can_be_extended(tmp_path):
    first = tiny_run(tmp_path / "run")
    longer = tiny_run(tmp_path / "run", settings=(), steps=20, resume=True)
    assert longer.steps == 20
    assert not torch.equal(tensors_of(longer)["head.weight"], tensors_of(first)["head.weight"])


def test_a_damaged_checkpoint_is_named(tmp_path):
    tiny_run(tmp_path / "run")
    (tmp_path / "run" / "checkpoint" / "state.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match=r"state.safetensors: expected the checkpoint of a run with this recipe"):
        tiny_run(tmp_path / "run", settings=(), steps=None, resume=True)


def test_a_clock_sets_the_number_of_steps_and_every_change_is_an_event(tmp_path):
    finished = tiny_run(tmp_path / "run", steps=None, minutes=0.25)
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    plans = [event for event in events if event["event"] == "plan"]
    assert len(plans) > 1
    assert finished.steps == plans[-1]["stop"] != plans[0]["stop"]
    assert all(first["step"] <= second["step"] for first, second in pairwise(plans))


def test_at_its_end_a_run_is_not_made_longer(monkeypatch):
    """The rate is zero there and would jump to its height; said to have time for two more steps."""
    monkeypatch.setattr("ushape.training.session.REVISE_SECONDS", 0.0)
    monkeypatch.setattr(Pace, "stop", lambda pace, step, *others: 12 if step < 12 else step + 2)
    assert tiny_run(steps=None, minutes=0.25).steps == 12


def test_a_run_by_the_clock_that_had_come_to_its_end_learns_no_more(tmp_path, monkeypatch):
    """Killed while it was judged, say: what is resumed has the same weights. More minutes are another matter."""
    monkeypatch.setattr(Pace, "stop", lambda pace, step, *others: 12 if step < 12 else step + 5)
    first = tiny_run(tmp_path / "run", steps=None, minutes=0.25)
    again = tiny_run(tmp_path / "run", settings=(), steps=None, resume=True)
    assert first.steps == again.steps == 12
    assert_equal_tensors(tensors_of(first), tensors_of(again))
    assert tiny_run(tmp_path / "run", settings=(), steps=None, minutes=0.5, resume=True).steps > 12


def test_what_a_gpu_has_only_been_asked_for_counts_as_time(monkeypatch):
    """Of 12 steps each is reported, so that each is waited for; the first one is no measure."""
    monkeypatch.setattr("ushape.training.session.finish", lambda device: time.sleep(0.1))
    paces = []
    real = Session.follow

    def follow(session, first, asked):
        paces.append(session.pace)
        return real(session, first, asked)

    monkeypatch.setattr(Session, "follow", follow)
    tiny_run()
    assert paces[0].step_seconds > 0.1


def test_too_few_steps_are_told(monkeypatch):
    class Told(Listener):
        def words(self, text: str) -> None:
            told.append(text)

    told: list[str] = []
    tiny_run(steps=None, minutes=0.25, clock=Clock(earlier=3600), listener=Told())
    assert any(re.search(r"warning: 0.25 minutes had room for \d steps only", text) for text in told)
    told.clear()
    tiny_run(listener=Told())
    assert not any("had room for" in text for text in told)


def test_time_of_earlier_sittings_counts_and_an_exhausted_budget_ends_at_once():
    finished = tiny_run(steps=None, minutes=0.25, clock=Clock(earlier=3600))
    assert finished.steps < 10


def test_one_image_can_be_learnt_by_heart():
    one = disc_dataset(1)
    finished = train_run(
        one,
        validation=one,
        keep_folder=False,
        steps=150,
        device="cpu",
        settings=[*TINY, "network.channels=8", "batch=4"],
    )
    assert finished.evaluation.scores["AP@0.5"] == 1.0
    assert finished.evaluation.scores["SEG"] > 0.85


def test_the_average_starts_at_the_weights_and_follows_them():
    from ushape.network.unet import UNet
    from ushape.training.examples import DataSummary
    from ushape.training.loop import new_state, update_average
    from ushape.training.rules import plan_recipe

    recipe = plan_recipe(DataSummary("d", "semantic", ("a", "b"), 1, 1, ((64, 64),)))
    recipe = replace(recipe, network=replace(recipe.network, channels=4))
    state = new_state(UNet(channels=4, depth=2, padding="same", norm="batch"), recipe, torch.device("cpu"))
    name = "head.weight"
    before = state.average[name].clone()
    with torch.no_grad():
        state.network.head.weight += 1
    state.step = 1_000_000
    update_average(state, 0.9)
    torch.testing.assert_close(state.average[name], before + 0.1)


def disc_classes(n: int, seed: int = 0) -> Dataset:
    """The discs as a class of pixels."""
    objects = disc_dataset(n, seed)
    samples = [replace(s, mask=lambda s=s: (s.read_mask() > 0).astype("int32")) for s in objects.samples]
    return replace(objects, samples=tuple(samples), task="semantic")


def test_of_two_classes_the_threshold_is_tuned_on_validation_and_kept(monkeypatch, tmp_path):
    found = []

    def tuned(maps, references, score):
        found.append((len(maps), score(list(references), list(references))))
        return 0.65

    monkeypatch.setattr("ushape.training.judging.tune_threshold", tuned)
    validation = disc_classes(2, seed=50)
    options = {"steps": 2, "device": "cpu", "settings": TINY}
    finished = train_run(disc_classes(4), validation=validation, output=tmp_path / "run", **options)
    # Of both validation images, by a score that is 1 where all is right.
    assert found == [(2, 1.0)]
    assert finished.model.decision.mask_threshold == 0.65
    assert load(tmp_path / "run", device="cpu").decision.mask_threshold == 0.65
    three = [replace(data, classes=("background", "disc", "ring")) for data in (disc_classes(4), validation)]
    finished = train_run(three[0], validation=three[1], keep_folder=False, **options)
    assert (len(found), finished.model.decision.mask_threshold) == (1, 0.5)


def test_turned_copies_are_averaged_at_the_end_and_not_while_watching(monkeypatch):
    looked, counted = [], []

    def spied(owner, name, seen):
        original = getattr(owner, name)

        def spy(self, *given, **options):
            seen.append((name, given, options))
            return original(self, *given, **options)

        monkeypatch.setattr(owner, name, spy)

    spied(Model, "maps_of_prepared", looked)
    spied(Pace, "judge_seconds", counted)
    spied(Pace, "ending_seconds", counted)
    data, validation = disc_classes(4), disc_classes(2, seed=50)
    settings = [*TINY, "rotations=2"]
    finished = train_run(data, validation=validation, keep_folder=False, steps=10, device="cpu", settings=settings)
    assert finished.model.rotations == 2
    # Two images are watched ten times, and each is judged once, as the model predicts.
    assert [options.get("symmetries") for _, _, options in looked] == [1] * 20 + [None] * 2
    # What that costs is counted.
    assert {given[-1] for _, given, _ in counted} == {2}
    assert {name for name, _, _ in counted} == {"judge_seconds", "ending_seconds"}
