"""The held-out images: what looking at them takes, which of them and how much of each the minutes have room for."""

import weakref
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import disc_dataset, disc_image
from test_training_session import TINY
from ushape.data.dataset import Sample
from ushape.model import Model
from ushape.run import train_run
from ushape.targets.maps import Encoding
from ushape.training.clock import Clock, Pace
from ushape.training.listening import Listener
from ushape.training.planning import make_plan
from ushape.training.rules import Speed
from ushape.training.session import Session
from ushape.training.validating import Validation


def test_many_held_out_images_do_not_use_up_a_short_budget(monkeypatch):
    """Whatever the machine's speed, which is not measured: an image is said to take a twentieth of a second."""
    monkeypatch.setattr("ushape.training.planning.measure_speed", lambda *_: Speed(1e-9))
    real = Validation.estimate

    def slow(validation, model, example):
        found = real(validation, model, example)
        validation.pace.image_seconds = 0.05
        return found

    monkeypatch.setattr(Validation, "estimate", slow)
    finished = train_run(
        disc_dataset(4),
        validation=disc_dataset(400, seed=50),
        keep_folder=False,
        minutes=0.25,
        device="cpu",
        settings=TINY,
    )
    assert finished.steps > 12
    # An eighth of 15 seconds.
    assert len(finished.evaluation.rows) < 40


def sized_session(sides, monkeypatch, held_out=False):
    """Of discs on images of such sides, which judge: a pixel is said to take a microsecond to predict, two to read."""
    real = Validation.estimate

    def slow(validation, model, example):
        found = real(validation, model, example)
        validation.pace.image_seconds, validation.pace.decide_seconds = (n * 1e-6 * example.mask.size for n in (1, 2))
        return found

    monkeypatch.setattr(Validation, "estimate", slow)
    monkeypatch.setattr(Validation, "most_watched", 2)
    monkeypatch.setattr("ushape.training.clock.REPORT_SECONDS", 0.0)
    samples = (Sample(f"{k}", partial(disc_side, k, n, 0), partial(disc_side, k, n, 1)) for k, n in enumerate(sides))
    data = replace(disc_dataset(1), samples=tuple(samples))
    settings = [*TINY, *(["refit=0.5"] if held_out else [])]
    planned = make_plan(data if held_out else disc_dataset(3), validation=None if held_out else data, settings=settings)
    return Session(planned, None, Clock(), Listener(), seed=0, device=torch.device("cpu"), minutes=9.0, steps=None)


@pytest.mark.parametrize("sides", [(128, 64, 64, 64), (64, 64, 128, 64)])
@pytest.mark.parametrize("changed", ["nothing", "fewer", "windows"])
def test_what_an_image_takes_is_of_the_average_size_of_those_that_are_watched(sides, changed, monkeypatch):
    if changed == "fewer":
        monkeypatch.setattr("ushape.training.validating.WATCHING_SHARE", 1e-9)
    if changed == "windows":
        monkeypatch.setattr("ushape.training.validating.LEAST_WINDOW", 48 * 48)
        monkeypatch.setattr(Pace, "affordable_share", lambda *_: 0.0)
    session = sized_session(sides, monkeypatch)
    held, model = session.validation, session.model(session.state.average)

    def check():
        size = np.mean([example.mask.size for example in held.watched])
        assert session.pace.image_seconds == pytest.approx(1e-6 * size)
        assert session.pace.decide_seconds == pytest.approx(2e-6 * size)

    held.watch_what_is_affordable(model)
    check()
    assert len(held.watched) == (1 if changed == "fewer" else 2)
    assert (max(example.mask.size for example in held.watched) < 64 * 64) == (changed == "windows")
    held.watch(model)
    check()


@pytest.mark.parametrize(("n_classes", "n_kept"), [(2, 2), (3, 1)])
def test_maps_are_kept_only_where_several_thresholds_read_them(n_classes, n_kept, monkeypatch):
    """With many classes those of all watched images are large: only the one at hand is there."""
    session = sized_session((64, 64, 64, 64), monkeypatch)
    held, model, seen = session.validation, session.model(session.state.average), []
    held.recipe = replace(held.recipe, encoding=Encoding("semantic", n_classes=n_classes))
    held.judge = replace(held.judge, task="semantic", classes=("a", "b", "c")[:n_classes])
    held.watched = [replace(example, mask=np.minimum(example.mask, 1)) for example in held.watched]
    made, kept = held.estimates, []

    def estimates(model):
        for maps, labels in made(model):
            maps = maps[:1].repeat(n_classes, axis=0)
            seen.append(weakref.ref(maps))
            yield maps, np.minimum(labels, 1)
            del maps
            kept.append(sum(each() is not None for each in seen))

    monkeypatch.setattr(held, "estimates", estimates)
    monkeypatch.setattr(Model, "decide", lambda self, maps: SimpleNamespace(labels=np.zeros(maps.shape[1:], np.int32)))
    assert 0 <= held.watch(model) <= 1
    assert kept == [1, n_kept]


@pytest.mark.parametrize("held_out", [False, True])
def test_the_end_is_planned_by_the_pixels_of_the_images(held_out, monkeypatch):
    session = sized_session((128, 64, 64, 64) if not held_out else (64, 128) * 8, monkeypatch, held_out)
    held = session.validation
    held.watch_what_is_affordable(session.model(session.state.average))
    watched, pixels = (sum(example.mask.size for example in examples) for examples in (held.watched, held.examples))
    assert len(held.judged()) == len(held.tuned()) == len(held.examples) > len(held.watched) == 2
    # Held-out images that were learnt from are watched by the weights before and after.
    looks = (2 if held_out else 1) * (1 + session.pace.n_watching * 2) * watched
    scores = (1 + 2 + held.judge.n_tried * 2) * pixels
    assert session.ending_seconds() == pytest.approx(1.1e-6 * (looks + scores))


def disc_side(seed, side, which):
    return disc_image(seed, side)[which]


def test_a_large_held_out_image_is_looked_at_in_part(tmp_path, monkeypatch):
    """Whatever the machine's speed: a megapixel is said to take four seconds to look at, of fifteen in all."""
    real, seen = Validation.estimate, []

    def slow(validation, model, example):
        found = real(validation, model, example)
        seen.append(example.mask.shape)
        validation.pace.image_seconds = validation.pace.decide_seconds = 2e-6 * example.mask.size
        return found

    monkeypatch.setattr(Validation, "estimate", slow)
    monkeypatch.setattr("ushape.training.validating.LEAST_WINDOW", 100 * 100)
    monkeypatch.setattr("ushape.training.validating.TIMED_PIXELS", 64 * 64)
    image, mask = (np.tile(each, (4, 5)) for each in disc_image(50))
    sample = Sample("large", lambda: image, lambda: mask)
    large = replace(disc_dataset(1), name="large", samples=(sample,))
    given = {"output": tmp_path / "run", "validation": large, "device": "cpu"}
    finished = train_run(disc_dataset(3), minutes=0.25, settings=TINY, **given)
    assert finished.steps > 12
    # Ten looks in 4 % of 15 s: 0.06 s each, of a prediction and three decisions, for 7500 pixels: less than the least.
    assert seen[:2] == [(64, 64)] * 2
    assert set(seen[2:]) == {(100, 100)}
    assert "a window of at most 0.01 megapixels is looked at" in (tmp_path / "run" / "log.txt").read_text("utf-8")
    assert "a window of at most" in (tmp_path / "run" / "report.html").read_text("utf-8")
    # A resumed run looks at the same one.
    seen.clear()
    train_run(disc_dataset(3), minutes=0.3, resume=True, **given)
    assert set(seen) == {(64, 64), (100, 100)}
