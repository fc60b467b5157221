"""Several networks in one run: each is a run of its own, they answer together, and nothing is trained twice."""

import gc
import json
import math
import signal
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from conftest import disc_dataset
from test_model import disc_foreground
from test_training_session import TINY, assert_equal_tensors
from ushape import run_folder, run_networks
from ushape.errors import RecipeError
from ushape.model import load
from ushape.run import train_run
from ushape.training import clock as clocks
from ushape.training import planning, validating
from ushape.training import session as sessions
from ushape.training.clock import Clock
from ushape.training.examples import DataSummary
from ushape.training.joining import join
from ushape.training.listening import Listener
from ushape.training.loop import train_steps
from ushape.training.planning import make_plan
from ushape.training.rules import TRAINING_SHARE, WIDTHS, Speed, plan_recipe, work

pytestmark = pytest.mark.usefixtures("one_thread")
TWO = [*TINY, "members=2", "refit=0.5"]


def run(folder=None, **options):
    options = {"steps": 8, "seed": 3, "settings": TWO, "keep_folder": folder is not None} | options
    return train_run(disc_dataset(6), output=folder, device="cpu", **options)


def two_classes():
    """Discs as the second of two classes."""
    discs = disc_dataset(6)
    samples = tuple(replace(sample, mask=partial(disc_foreground, sample)) for sample in discs.samples)
    return replace(discs, samples=samples, task="semantic")


def tensors(model):
    return model.whole_network.state_dict()


class Heard(Listener):
    """Remembers words and steps, and presses Ctrl-C at a step of a network."""

    def __init__(self, network=0, step=0):
        self.at, self.words_heard, self.steps = (network, step), [], []

    def words(self, text):
        self.words_heard.append(text.strip())

    def progress(self, step, stop, loss, validation, seconds_left):
        network = sum(text.startswith("network ") for text in self.words_heard)
        self.steps.append((network, step))
        if (network, step) == self.at:
            signal.raise_signal(signal.SIGINT)


def test_each_network_is_a_run_of_its_own_and_they_answer_together(tmp_path):
    finished = run(tmp_path / "run")
    alone = [run(seed=seed, settings=[*TINY, "refit=0.5"]) for seed in (6, 7)]
    assert finished.steps == finished.model.facts["steps"] == 16
    assert (finished.refit_from, finished.model.facts["seed"]) == (4, 3)
    assert_equal_tensors(tensors(finished.model), tensors(join([each.model for each in alone])))
    for number, each in enumerate(alone, start=1):
        folder = tmp_path / "run" / "members" / str(number)
        assert_equal_tensors(tensors(load(folder)), tensors(each.model))
        assert (folder / "report.html").exists()
        assert "members = 1\n" in (folder / "recipe.toml").read_text()
    kept = load(tmp_path / "run", device="cpu")
    assert_equal_tensors(tensors(kept), tensors(finished.model))
    assert kept.decision == finished.model.decision == finished.judged.decision
    assert "members = 2\n" in (tmp_path / "run" / "recipe.toml").read_text()
    assert json.loads((tmp_path / "run" / "events.jsonl").read_text().splitlines()[-1])["event"] == "finished"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "2 networks learned to find objects" in page
    assert "8, 8 steps" in page


def test_the_scores_are_of_the_averaged_answers_before_the_held_out_images_were_learnt_from():
    finished = run()
    alone = [run(seed=seed, settings=[*TINY, "refit=0.5"]) for seed in (6, 7)]
    assert_equal_tensors(tensors(finished.judged), tensors(join([each.judged for each in alone])))
    held = disc_dataset(6).subset(
        [s for s in disc_dataset(6).samples if s.name in {row["name"] for row in finished.evaluation.rows}]
    )
    assert finished.judged.evaluate(held).scores == pytest.approx(finished.evaluation.scores)
    assert not torch.equal(finished.judged.network.head.weight, finished.model.network.head.weight)


@pytest.mark.parametrize(("network", "step"), [(1, 5), (2, 3)])
def test_a_run_that_was_stopped_leaves_a_model_and_resumes_to_the_same_tensors(tmp_path, network, step):
    stopped = run(tmp_path / "run", listener=Heard(network, step))
    assert stopped.interrupted
    # The second network had hardly begun, so the first one answers alone.
    assert load(tmp_path / "run").others == ()
    assert stopped.steps == (5 if network == 1 else 8)
    heard = Heard()
    resumed = run(tmp_path / "run", settings=(), steps=None, resume=True, listener=heard)
    assert not resumed.interrupted
    assert_equal_tensors(tensors(resumed.model), tensors(run().model))
    assert heard.steps[0] == ((1, 6) if network == 1 else (2, 4))


def test_a_run_that_has_ended_trains_nothing_when_it_is_resumed(tmp_path):
    first, heard = run(tmp_path / "run"), Heard()
    again = run(tmp_path / "run", settings=(), steps=None, resume=True, listener=heard)
    assert heard.steps == []
    assert_equal_tensors(tensors(again.model), tensors(first.model))


def test_a_network_that_goes_astray_costs_none_of_the_others(tmp_path, monkeypatch):
    def astray(state, batches, recipe, seed, *given):
        for record in train_steps(state, batches, recipe, seed, *given):
            yield replace(record, loss=record.loss * math.nan) if seed == 7 and record.step == 5 else record

    monkeypatch.setattr(sessions, "train_steps", astray)
    with pytest.raises(RecipeError, match="expected a finite loss"):
        run(tmp_path / "run")
    assert_equal_tensors(tensors(load(tmp_path / "run")), tensors(load(tmp_path / "run" / "members" / "1")))
    # Nobody may take the run for one that has ended.
    assert ends(tmp_path / "run") == ["interrupted"]
    assert ends(tmp_path / "run" / "members" / "1") == ["finished"]


def ends(folder):
    events = [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()]
    return [event for event in events if event in ("finished", "interrupted")]


def test_ctrl_c_at_the_last_step_of_one_starts_no_other(tmp_path):
    heard = Heard(1, 8)
    stopped = run(tmp_path / "run", listener=heard)
    assert stopped.interrupted
    assert {network for network, _ in heard.steps} == {1}
    assert load(tmp_path / "run").others == ()
    resumed = run(tmp_path / "run", settings=(), steps=None, resume=True)
    assert_equal_tensors(tensors(resumed.model), tensors(run().model))
    assert ends(tmp_path / "run") == ["finished"]


def test_a_model_of_all_is_not_given_up_for_a_run_that_goes_on_and_is_stopped(tmp_path):
    first = run(tmp_path / "run")
    stopped = run(tmp_path / "run", settings=(), steps=14, resume=True, listener=Heard(1, 11))
    assert stopped.interrupted
    assert_equal_tensors(tensors(load(tmp_path / "run")), tensors(first.model))
    longer = run(tmp_path / "run", settings=(), steps=None, resume=True)
    assert longer.steps == 28
    assert_equal_tensors(tensors(load(tmp_path / "run")), tensors(longer.model))


def test_windows_of_large_images_are_what_is_scored_in_the_end_too(monkeypatch):
    monkeypatch.setattr(validating, "LEAST_WINDOW", 32 * 32)
    monkeypatch.setattr(sessions.Pace, "affordable_share", lambda *_: 0.0)
    monkeypatch.setattr(planning, "measure_speed", lambda *_: Speed(1e-9))
    shapes = []
    real = sessions.Session.score

    def noted(session, model):
        # What is judged is what the report shows.
        assert session.validation.examples == session.planned.validation
        shapes.append({example.mask.shape for example in session.validation.examples})
        return real(session, model)

    monkeypatch.setattr(sessions.Session, "score", noted)
    for module in (run_folder, run_networks):
        monkeypatch.setattr(module, "SHORTEST_MINUTES", 0.01)
    run(steps=None, minutes=0.2)
    assert len(shapes) == 3
    assert shapes[0] == shapes[1] == shapes[2] != {(64, 64)}


def test_too_few_minutes_for_so_many_are_refused():
    with pytest.raises(RecipeError, match=r"expected at least 0.5 minutes for 2 networks, found 0.4"):
        run(steps=None, minutes=0.4)


BY_HAND = {0: [], 1: ["members=1"], 3: ["members=3"]}


def test_the_width_is_that_for_the_minutes_of_each(monkeypatch):
    monkeypatch.setattr(planning, "measure_speed", lambda *_: Speed(1e-9))
    planned = {n: make_plan(two_classes(), settings=s, minutes=30, device="cpu").recipe for n, s in BY_HAND.items()}
    assert planned[3].network.channels == planned[0].network.channels < planned[1].network.channels
    assert any("3 networks, trained" in reason for reason in planned[0].reasons)
    assert not any("networks, trained" in reason for reason in planned[1].reasons)
    assert planning.members_asked_for(["network.depth=3", "members = 2"]) == 2
    assert planning.members_asked_for(["members=two"]) is None
    assert planning.members_asked_for([]) is None


def test_a_recipe_in_a_file_has_the_width_for_the_minutes_of_each(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "measure_speed", lambda *_: Speed(1e-9))

    def planned(text, minutes=30):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return make_plan(two_classes(), recipe=str(path), minutes=minutes, device="cpu").recipe

    auto = {n: make_plan(two_classes(), settings=s, minutes=30, device="cpu").recipe for n, s in BY_HAND.items()}
    one, three = planned("members = 1"), planned("dice = 1.0")
    assert (one.members, one.network.channels) == (1, auto[1].network.channels)
    assert (three.members, three.network.channels) == (3, auto[0].network.channels)
    assert [any("3 networks, trained" in reason for reason in each.reasons) for each in (one, three)] == [False, True]
    assert planned("members = 3", minutes=3).network.channels < planned("members = 1", minutes=3).network.channels


def test_one_network_only_starts_from_a_model():
    start = run(settings=TINY).model
    with pytest.raises(RecipeError, match="expected one network where training starts from a model, found 2"):
        run(start=start)


def test_of_several_networks_the_first_is_started_from_and_that_is_told():
    start, told = run().model, []

    class Told(Listener):
        def words(self, text):
            told.append(text)

    run(start=start, settings=TINY, listener=Told())
    assert [text.endswith(", the first of 2 networks") for text in told if "started from" in text] == [True]


def test_the_minutes_are_shared(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    for module in (run_networks, sessions):
        monkeypatch.setattr(module, "Clock", lambda earlier=0.0: Clock(now[0], earlier))
    monkeypatch.setattr(planning, "measure_speed", lambda *_: Speed(1e-9))
    real, budgets, ends = sessions.Session.__init__, [], []

    class Ends(Listener):
        def progress(self, step, stop, loss, validation, seconds_left):
            ends.append(now[0] + seconds_left)

    def noted(session, *given, **options):
        budgets.append(options["minutes"])
        real(session, *given, **options)

    def ticking(*given):
        for record in train_steps(*given):
            now[0] += 0.5
            yield record

    monkeypatch.setattr(sessions.Session, "__init__", noted)
    monkeypatch.setattr(sessions, "train_steps", ticking)
    settings = [*TINY, "members=3"]
    finished = run(steps=None, minutes=1.5, settings=settings, clock=Clock(now[0]), listener=Ends())
    assert len(budgets) == 3
    assert budgets[0] == 0.5
    # The first took what it could; the others share what is left, less the time that scoring all of them takes.
    assert 0.4 < budgets[1] <= 0.55
    assert 0.4 < budgets[2] <= 0.55
    assert 60 < finished.seconds <= 90
    # It is told when all of them will have ended, once the clock has set the number of steps of each.
    foretold = [end for end in ends if not math.isnan(end)]
    assert len(foretold) > 30
    assert sum(not 85 <= end <= 90.5 for end in foretold) <= 3


def test_a_run_by_the_clock_goes_on_with_its_shares_until_others_are_asked_for(tmp_path, monkeypatch):
    for module in (run_folder, run_networks):
        monkeypatch.setattr(module, "SHORTEST_MINUTES", 0.01)
    monkeypatch.setattr(clocks, "REPORT_SECONDS", 0.2)
    monkeypatch.setattr(planning, "measure_speed", lambda *_: Speed(1e-9))

    def at(text, **options):
        heard = AtWord(text)
        return run(tmp_path / "run", steps=None, listener=heard, **options), heard

    stopped, _ = at("network 2 of 2", minutes=0.1)
    assert stopped.interrupted
    assert asked_minutes(tmp_path / "run", 1) == 0.05
    ended, heard = at("", settings=(), resume=True)
    assert not ended.interrupted
    # The first had ended, and nothing is added to it.
    assert {network for network, _ in heard.steps} == {2}
    assert asked_minutes(tmp_path / "run", 1) == 0.05
    _, heard = at("", settings=(), resume=True)
    assert heard.steps == []
    # More minutes are shared anew, also where the sitting that began with them was stopped.
    at("network 1 of 2", minutes=0.2, settings=(), resume=True)
    assert asked_minutes(tmp_path / "run", 1) == 0.1
    more, _ = at("", settings=(), resume=True)
    assert not more.interrupted
    assert 0.06 < asked_minutes(tmp_path / "run", 2) < 0.15
    assert more.steps > ended.steps


def asked_minutes(folder, number):
    return json.loads((folder / "members" / str(number) / "run.json").read_text())["minutes"]


class AtWord(Heard):
    """Presses Ctrl-C where these words are heard."""

    def __init__(self, text):
        super().__init__()
        self.text = text

    def words(self, text):
        super().words(text)
        if text.strip() == self.text:
            signal.raise_signal(signal.SIGINT)


def test_while_one_learns_the_images_of_the_one_before_are_gone(monkeypatch):
    alive, real = [], sessions.Session.__init__

    def noted(session, *given, **options):
        gc.collect()
        alive.append([each() is not None for each in known])
        real(session, *given, **options)
        known.append(weakref.ref(session))

    known = []
    monkeypatch.setattr(sessions.Session, "__init__", noted)
    run(settings=[*TINY, "members=3"], steps=2)
    assert alive == [[], [False], [False, False]]


def test_an_earlier_run_is_not_written_over(tmp_path):
    (tmp_path / "run" / "members").mkdir(parents=True)
    with pytest.raises(RecipeError, match="found an earlier run"):
        run(tmp_path / "run")


def summary(n=20, dims=2, task="semantic", classes=("a", "b")):
    return DataSummary("d", task, classes, n, 1, ((64,) * dims,) * n)


@pytest.mark.parametrize(
    ("minutes", "members"), [(None, 1), (1, 1), (6.5, 1), (6.6, 2), (9.8, 2), (10, 3), (30, 3), (600, 3)]
)
def test_one_network_for_each_few_minutes(minutes, members):
    seconds = None if minutes is None else 60 * minutes * TRAINING_SHARE
    recipe = plan_recipe(summary(), seconds=seconds)
    assert recipe.members == members
    told = [reason for reason in recipe.reasons if "networks, trained one after another" in reason]
    assert [reason.partition(" ")[0] for reason in told] == ([str(members)] if members > 1 else [])


def test_a_slow_machine_has_as_many_as_see_enough_steps():
    seconds = 60 * 10 * TRAINING_SHARE
    planned = plan_recipe(summary())
    pixels = planned.batch * math.prod(planned.patch)
    # Steps of the narrowest network that the ten minutes hold, where 500 are enough for each.
    speeds = {n: Speed(seconds / (n * pixels * work(WIDTHS[-1]))) for n in (700, 1100, 1600, 9000)}
    found = {n: plan_recipe(summary(), seconds=seconds, speed=speed).members for n, speed in speeds.items()}
    assert found == {700: 1, 1100: 2, 1600: 3, 9000: 3}


def test_many_images_volumes_objects_and_a_start_have_one():
    seconds = 60 * 30 * TRAINING_SHARE
    assert plan_recipe(summary(50), seconds=seconds).members == 3
    assert plan_recipe(summary(51), seconds=seconds).members == 1
    assert plan_recipe(summary(dims=3), seconds=seconds).members == 1
    assert plan_recipe(summary(task="instances"), seconds=seconds).members == 1
    assert plan_recipe(summary(classes=("a", "b", "c")), seconds=seconds).members == 1
    assert plan_recipe(summary(), seconds=seconds, members=1).members == 1
    start = run(settings=TINY).model
    assert make_plan(two_classes(), minutes=30, device="cpu").recipe.members == 3
    assert make_plan(two_classes(), minutes=30, device="cpu", start=start).recipe.members == 1


@pytest.mark.parametrize("members", [0, -1])
def test_fewer_than_one_is_refused(members):
    with pytest.raises(RecipeError, match="members to be at least 1"):
        make_plan(disc_dataset(6), settings=[f"members={members}"], device="cpu")


def test_predictions_of_several_are_as_large_as_the_image():
    image = np.random.default_rng(0).integers(0, 255, (41, 57)).astype(np.uint8)
    assert run().model.predict(image).labels.shape == (41, 57)
