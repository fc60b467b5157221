"""What is measured before a run, and what a step is expected to take after it."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from conftest import disc_dataset
from ushape.errors import RecipeError
from ushape.training import planning
from ushape.training.examples import DataSummary
from ushape.training.planning import make_plan, measure_speed, time_a_step
from ushape.training.rules import Speed, plan_recipe, work

CPU = torch.device("cpu")


@pytest.mark.parametrize("dims", [2, 3])
def test_pixels_and_the_update_are_told_apart(monkeypatch, dims):
    true, steps = Speed(3e-9, 4e-6, 0.02), []

    def time_a_step(recipe, in_channels, batches, device):
        pixels = recipe.batch * math.prod(recipe.patch)
        assert batches(0).images.shape == (recipe.batch, in_channels, *recipe.patch)
        steps.append((recipe.network.channels, recipe.optimiser.name, pixels))
        return true.step_seconds(recipe.network.channels, pixels)

    monkeypatch.setattr(planning, "time_a_step", time_a_step)
    found = measure_speed(CPU, dims)
    assert found.seconds_per_work == pytest.approx(true.seconds_per_work, rel=1e-6)
    assert found.seconds_per_update == pytest.approx(true.seconds_per_update, rel=1e-6)
    assert found.seconds_per_step == pytest.approx(true.seconds_per_step, rel=1e-6)
    assert {name for _, name, _ in steps} == {"muon"}
    assert steps[0][2] == steps[1][2] < steps[2][2] / 7


def test_a_disturbed_measurement_still_gives_a_speed(monkeypatch):
    times = iter([3.0, 2.0, 1.0])
    monkeypatch.setattr(planning, "time_a_step", lambda *_: next(times))
    found = measure_speed(CPU, 2)
    assert found.seconds_per_work > 0
    assert min(found.seconds_per_update, found.seconds_per_step) >= 0


def test_the_update_counts_whatever_the_pixels_and_grows_with_the_cube_of_the_width():
    speed = Speed(1e-9, 1e-6, 0.5)
    assert speed.step_seconds(16, 0) == pytest.approx(0.5 + 1e-6 * 16**3)
    assert speed.step_seconds(32, 0) == pytest.approx(0.5 + 8e-6 * 16**3)
    assert speed.step_seconds(16, 1000) - speed.step_seconds(16, 0) == pytest.approx(1e-9 * 1000 * work(16))


@pytest.mark.parametrize(("seconds", "n_steps"), [(0.01, planning.STEPS_TIMED), (0.2, 4), (3.0, 2)])
def test_slow_steps_are_timed_less_often(monkeypatch, seconds, n_steps):
    """As many as fill half a second after the first one, which warms up."""
    clock, taken = SimpleNamespace(now=0.0), []

    def train_steps(*_):
        for k in range(planning.STEPS_TIMED):
            clock.now += 9.0 if k == 0 else seconds
            taken.append(k)
            yield SimpleNamespace(loss=torch.zeros(()))

    monkeypatch.setattr(planning, "train_steps", train_steps)
    monkeypatch.setattr(planning.time, "perf_counter", lambda: clock.now)
    recipe = plan_recipe(DataSummary("", "semantic", ("a", "b"), 2, 1, ((32, 32),)))
    assert time_a_step(recipe, 1, lambda _: None, CPU) == pytest.approx(seconds)
    assert len(taken) == n_steps


def test_this_machine_has_a_speed():
    speed = measure_speed(CPU, 2)
    assert 0 < speed.seconds_per_work < 1e-5
    assert 0 < speed.step_seconds(16, 2 * 64**2) < 60


@pytest.mark.parametrize("kind", ["distance", "border", "ridge"])
def test_objects_are_not_learnt_where_the_masks_hold_classes(kind):
    data = replace(disc_dataset(4), task="semantic", classes=("background", "object"))
    with pytest.raises(RecipeError, match=rf"^expected encoding.kind to be semantic for semantic, found {kind}; leave"):
        make_plan(data, settings=(f"encoding.kind={kind}",))


@pytest.mark.parametrize("settings", [("encoding.kind=semantic",), ("encoding.kind=label", "network.head=bottom")])
def test_classes_are_not_learnt_where_the_masks_hold_objects(settings):
    with pytest.raises(RecipeError, match=r"^expected encoding.kind to be ridge or border or distance for instances"):
        make_plan(disc_dataset(4), settings=settings)
