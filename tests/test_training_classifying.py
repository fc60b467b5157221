"""Rules for classes of whole images, their hold-out, and a whole small run."""

import math
import os
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import ushape
from ushape.data.dataset import Dataset, Sample
from ushape.errors import DataError, RecipeError
from ushape.model import Model, Preparation
from ushape.preparation import shrunk
from ushape.run import train_run
from ushape.training.classifying import (
    ask_neighbours,
    augmentation_for,
    pixels_per_image,
    split_labels,
    strength_for,
    to_label_tensors,
    whether_mirrored,
    working_size,
)
from ushape.training.clock import JUDGING_SHARE, Clock
from ushape.training.examples import Example, Neighbours, make_preparation, read_examples
from ushape.training.label_session import LabelSession
from ushape.training.listening import Listener
from ushape.training.planning import make_plan, measure_label_speed
from ushape.training.rules import Speed, plan_recipe

SETTINGS = ("network.channels=8", "batch=8")


def stripes(index: int, size: int = 12) -> np.ndarray:
    """(1, H, W) uint8: stripes across for even indices, upright for odd ones, on noise."""
    rng = np.random.default_rng(index)
    image = rng.normal(100, 20, (size, size))
    image[(np.arange(size) + index // 2) % 4 < 2] += 80
    return (image if index % 2 else image.T).clip(0, 255).astype(np.uint8)[None]


def striped(n: int, first: int = 0) -> Dataset:
    samples = tuple(Sample(f"s{i}", partial(stripes, i), label=i % 2) for i in range(first, first + n))
    return Dataset("stripes", samples, "classification", ("upright", "across"))


def test_sizes_are_the_median_with_the_pixels_of_128_by_128_at_most():
    assert working_size([(28, 28)] * 3) == (28, 28)
    assert working_size([(8, 8)]) == (8, 8)
    assert working_size([(500, 1000), (250, 500), (300, 600)]) == (91, 181)
    assert working_size([(512, 512)]) == (128, 128)
    assert working_size([(256, 256, 256)]) == (128, 128, 128)
    # A line of text can still be read.
    assert working_size([(60, 2000)]) == (22, 739)


def test_the_working_grid_is_halved_for_images_of_24_pixels_and_padded_for_the_poolings():
    assert pixels_per_image([(8, 9)]) == 8 * 10
    assert pixels_per_image([(28, 28)]) == 16 * 16
    assert pixels_per_image([(64, 64)]) == 32 * 32
    assert pixels_per_image([(12, 40)]) == 12 * 40


def arrows(side: str, index: int) -> np.ndarray:
    image = np.random.default_rng(index).normal(0, 0.1, (1, 24, 24))
    image[:, 6:18, slice(0, 12) if side == "left" else slice(12, 24)] += 1
    return image


def example(image, label):
    return Example(Sample("a", lambda: image, label=label), image, np.asarray(label, np.int32))


def test_mirroring_is_asked_of_the_images():
    handed = [example(arrows(side, i), label) for i in range(30) for label, side in enumerate(("left", "right"))]
    share, kept, _ = ask_neighbours(handed)
    assert 0.3 < share < 0.7
    assert kept < 0.7
    share, kept, _ = ask_neighbours(read_examples(striped(60).samples)[0])
    assert 0.3 < share < 0.7
    assert kept > 0.95
    assert ask_neighbours(handed[:40]) is None
    rng = np.random.default_rng(0)
    assert ask_neighbours([example(rng.normal(size=(1, 24, 24)), i % 2) for i in range(60)]) is None


def test_what_looks_like_nothing_when_mirrored_has_no_mirrored_neighbours():
    """One class high, one low, all of them on the left."""
    images = [np.random.default_rng(i).normal(0, 0.1, (1, 24, 24)) for i in range(60)]
    for i, image in enumerate(images):
        image[:, slice(2, 12) if i % 2 else slice(12, 22), :8] += 1
    assert ask_neighbours([example(image, i % 2) for i, image in enumerate(images)])[:2] == (0, 1)


def bars(spread: float) -> list[Example]:
    """60 bars, upright or across by class, each leaning by up to `spread` degrees to either side, on some noise."""
    found, rng = [], np.random.default_rng(1)
    rows, columns = np.mgrid[:24, :24] - 11.5
    for i in range(60):
        angle = math.radians(rng.uniform(-spread, spread) + 90 * (i % 2))
        across = rows * math.sin(angle) + columns * math.cos(angle)
        along = rows * math.cos(angle) - columns * math.sin(angle)
        image = np.exp(-((across / 3) ** 2) - (along / 9) ** 2) + rng.normal(0, 0.05, (24, 24))
        found.append(example(image[None], i % 2))
    return found


def test_turning_is_asked_of_the_images():
    assert ask_neighbours(bars(2)).turned < 0.05
    # Nearer to a third would be those of one side alone.
    assert ask_neighbours(bars(30)).turned > 0.7


def test_whether_to_mirror():
    assert whether_mirrored(Neighbours(0.4, 1.0, 0.5)) == (
        True,
        "mirrored left and right too: the nearest neighbour is a mirrored one for 40% of the images, and tells the "
        "class as well; what is classified is looked at both ways",
    )
    for mirrored, words in (
        (None, "nothing tells whether that keeps the class"),
        (Neighbours(0.25, 1.0, 0.5), "a mirrored one is the nearest neighbour of 25% of the images only"),
        (Neighbours(0.5, 0.9, 0.5), "nearest neighbours, mirrored ones among them, tell the class 90% as often"),
    ):
        mirror, told = whether_mirrored(mirrored)
        assert not mirror
        assert words in told


def names(labels):
    return [str(i) for i in range(len(labels))]


def test_every_class_is_held_out_evenly():
    labels = np.array([0] * 50 + [1] * 10 + [2] * 2 + [3])
    training, held = split_labels(labels, 0.2, names(labels))
    assert np.bincount(labels[held], minlength=4).tolist() == [10, 2, 1, 0]
    assert sorted([*training, *held]) == list(range(63))
    assert np.diff(held[:10]).tolist() == [5] * 9


def test_groups_stay_together_and_no_class_leaves_training():
    labels = np.arange(60) % 3
    groups = [f"patient{i // 5}" for i in range(60)]
    training, held = split_labels(labels, 0.2, groups)
    assert len(held) >= 5
    assert not {groups[i] for i in training} & {groups[i] for i in held}
    assert set(labels[training]) == {0, 1, 2}
    both = np.array([0, 1, 0, 1])
    training, held = split_labels(both, 0.5, ["a", "a", "b", "b"])
    assert set(both[training]) == {0, 1}


def test_a_group_of_most_images_is_learnt_from():
    labels = np.repeat([0, 1], 1000)
    groups = [f"{label}{'few' if i % 1000 < 10 else 'many'}" for i, label in enumerate(labels)]
    training, held = split_labels(labels, 0.2, groups)
    assert (len(training), len(held)) == (1980, 20)


def test_no_more_is_held_out_than_tells_something():
    labels = np.arange(60_000) % 10
    _, held = split_labels(labels, 0.2, names(labels))
    assert len(held) == 5000


def test_tensors_hold_prepared_images_and_their_classes():
    examples, _ = read_examples(striped(4).samples)
    preparation = Preparation(mean=(100.0,), std=(50.0,), normalisation="dataset", size=(8, 8))
    images, labels = to_label_tensors(examples, preparation, torch.device("cpu"))
    assert (images.shape, images.dtype) == ((4, 1, 8, 8), torch.float16)
    assert labels.tolist() == [0, 1, 0, 1]
    assert images[1].float().numpy() == pytest.approx(preparation(stripes(1)), abs=2e-3)


def test_the_plan_tells_its_rules():
    planned = make_plan(striped(80))
    recipe = planned.recipe
    assert (recipe.network.head, recipe.encoding.kind, recipe.patch) == ("bottom", "label", (12, 12))
    assert recipe.augmentation.mirror
    assert any("mirrored left and right too: the nearest neighbour" in reason for reason in recipe.reasons)
    assert len(planned.validation) == 16
    few = make_plan(striped(40)).recipe
    assert not few.augmentation.mirror
    assert any("not mirrored: nothing tells whether that keeps the class" in reason for reason in few.reasons)
    assert {e.sample.label for e in planned.validation} == {0, 1}


def test_the_width_follows_the_time():
    summary = make_plan(striped(40)).summary
    summary = replace(summary, n_images=1000)
    widths = [plan_recipe(summary, seconds=s, speed=Speed(1e-9)).network.channels for s in (1, 5, 100)]
    assert widths == sorted(widths)
    assert (widths[0], widths[-1]) == (16, 64)


def test_images_vary_the_more_the_oftener_they_are_seen():
    strengths = [strength_for(rounds, None)[0] for rounds in (0.3, 6, 10, 19, 500, math.inf)]
    assert strengths == [0.25, 0.25, 0.5, 1, 1, 1]
    full, told = augmentation_for((28, 28), None, math.inf)
    assert (full.rotation, full.zoom, full.shift, full.elastic, full.contrast) == (12, 1.15, 1.96, 0.84, 1.25)
    assert "gently" not in told
    half, told = augmentation_for((28, 28), None, 10)
    assert (half.rotation, half.shift, half.elastic, half.noise, half.brightness) == (6, 0.98, 0.42, 0.025, 0.05)
    assert half.zoom**2 == pytest.approx(full.zoom, abs=2e-3)
    assert half.contrast**2 == pytest.approx(full.contrast, abs=2e-3)
    assert "and bent, gently, because each is seen a few times only; they are not mirrored" in told


def test_upright_images_vary_gently_however_often_they_are_seen():
    upright, at_any_angle = Neighbours(0.1, 1.0, 0.05), Neighbours(0.1, 1.0, 0.6)
    assert [strength_for(rounds, upright)[0] for rounds in (0.3, 10, 19, 500)] == [0.25, 0.5, 0.5, 0.5]
    assert [strength_for(rounds, at_any_angle)[0] for rounds in (0.3, 10, 19, 500)] == [0.25, 0.5, 1, 1]
    assert (
        "and bent, gently, because they stand upright (a turned one is the nearest neighbour of 5% of them only); they "
        "are not mirrored" in augmentation_for((28, 28), upright, 500)[1]
    )
    assert "because each is seen a few times only" in augmentation_for((28, 28), upright, 10)[1]


def test_little_time_means_gentle_variation():
    summary = replace(make_plan(striped(40)).summary, n_images=1000)
    rotations = [plan_recipe(summary, seconds=s, speed=Speed(1e-6)).augmentation.rotation for s in (1, 1e5)]
    assert rotations == [3, 12]
    assert plan_recipe(summary).augmentation.rotation == 12


def test_the_speed_is_that_of_the_classifiers_own_step(monkeypatch):
    summary = make_plan(striped(40)).summary
    monkeypatch.setattr("ushape.training.planning.time_a_step", lambda *_: 6.0)
    speed = measure_label_speed(torch.device("cpu"), summary)
    recipe = plan_recipe(summary)
    assert speed.step_seconds(recipe.network.channels, recipe.batch * 12 * 12) == pytest.approx(6.0)
    monkeypatch.undo()
    assert 0 < measure_label_speed(torch.device("cpu"), summary).seconds_per_work < 1


def test_one_class_is_nothing_to_tell_apart():
    data = striped(6)
    data = replace(data, samples=tuple(s for s in data.samples if s.label == 0))
    with pytest.raises(
        DataError, match=r"^stripes: expected images of at least 2 classes, found one class only in the 3"
    ):
        make_plan(data)


def test_the_papers_recipe_needs_masks():
    with pytest.raises(
        RecipeError, match=r"^expected masks for the paper's recipe, found images with one class each; u"
    ):
        make_plan(striped(6), recipe="paper")


def test_a_head_without_its_encoding_is_refused():
    with pytest.raises(
        RecipeError, match=r"^expected network.head pixels for maps and another for the encoding label, "
    ):
        make_plan(striped(6), settings=("network.head=pixels",))


def unreadable() -> np.ndarray:
    raise DataError("expected an image, found none; look there")


def test_training_learns_saves_and_classifies(tmp_path):
    finished = train_run(striped(60), output=tmp_path / "run", steps=60, settings=SETTINGS, device="cpu")
    assert finished.evaluation.scores["accuracy"] > 0.9
    model = ushape.load(tmp_path / "run")
    evaluation = model.evaluate(striped(20, first=100))
    assert evaluation.scores["accuracy"] > 0.9
    assert evaluation.confusion.sum() == 20
    assert {"name", "class", "estimate", "confidence", "right"} == set(evaluation.rows[0])
    prediction = model.predict(stripes(101)[0])
    assert prediction.labels.shape == ()
    assert model.classes[int(prediction.labels)] == "across"
    assert prediction.probabilities.sum() == pytest.approx(1, abs=1e-4)
    assert prediction.instances is None
    # No image is no row, also in the middle of an evaluation whose images cannot be read.
    assert model.classify([]).shape == (0, 2)
    gone = (Sample("s0", unreadable, label=0), Sample("s1", unreadable, label=1))
    with pytest.raises(
        DataError, match=r"^stripes: expected images with a class .* \(s0: expected an image, found none"
    ):
        model.evaluate(Dataset("stripes", gone, "classification", model.classes))
    # Stripes may be mirrored, so the model has learnt both ways and is asked both ways.
    assert model.preparation.both_ways
    once, flipped = (model.classify([image], once=True) for image in (stripes(101), stripes(101)[..., ::-1]))
    assert np.abs(once - flipped).max() > 0
    assert model.classify([stripes(101)]) == pytest.approx((once + flipped) / 2, abs=1e-6)


def test_what_is_timed_is_what_watching_does(monkeypatch):
    """One look at an image, that is: at the end each is looked at in several ways, which the plan counts."""
    real, looks = Model.classify, []

    def noted(model, images, *, once=False):
        looks.append(once)
        return real(model, images, once=once)

    monkeypatch.setattr(Model, "classify", noted)
    planned = make_plan(striped(60), settings=(*SETTINGS, "network.scale=2", "augmentation.mirror=false"))
    session = LabelSession(
        planned, None, Clock(), Listener(), seed=0, device=torch.device("cpu"), minutes=1.0, steps=None
    )
    held = session.validation
    held.watch_what_is_affordable(session.model(session.state.average))
    assert looks == [True, True]
    assert held.n_views == len(session.preparation.views(np.zeros((1, 12, 12), np.float32))) == 5
    session.pace.image_seconds = 0.01
    # An eighth of a minute, in as many ways.
    held.examples *= 1000
    assert len(held.judged()) == int(60 * JUDGING_SHARE / (0.01 * held.n_views))


def test_a_coarser_working_grid_is_laid_several_ways():
    planned = make_plan(striped(10), settings=("network.scale=2", "augmentation.mirror=false"))
    preparation = make_preparation(planned.recipe, planned.summary, planned.training)
    assert (preparation.moved, preparation.both_ways) == (1, False)


class Interrupting(Listener):
    """Presses Ctrl-C once, at a step."""

    def __init__(self, at):
        self.at = at

    def progress(self, step, stop, loss, validation, seconds_left):
        if step == self.at:
            os.kill(os.getpid(), signal.SIGINT)


def test_the_same_seed_gives_the_same_classifier_and_an_interrupted_one_resumes(tmp_path):
    data, options = striped(30), {"device": "cpu", "steps": 8, "settings": SETTINGS}
    whole = train_run(data, keep_folder=False, **options).model.network.state_dict()
    again = train_run(data, keep_folder=False, **options).model.network.state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    stopped = train_run(data, output=tmp_path / "run", listener=Interrupting(3), **options)
    assert (stopped.interrupted, stopped.steps) == (True, 3)
    resumed = train_run(data, output=tmp_path / "run", resume=True, device="cpu").model.network.state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_photographs_are_kept_small_and_seen_alike(tmp_path):
    rng = np.random.default_rng(0)
    photo = np.kron(rng.integers(0, 255, (3, 60, 80)), np.ones((1, 20, 20))).astype(np.uint8)
    sample = Sample("a", lambda: photo, label=0)
    [example], _ = read_examples([sample])
    assert example.image.shape == (3, 300, 400)
    assert example.image.dtype == np.uint8
    preparation = Preparation(channels=3, size=(96, 128))
    assert preparation(example.image) == pytest.approx(preparation(photo), abs=0.15)
    assert shrunk(photo, 700) is photo
    assert shrunk(np.arange(16.0).reshape(1, 4, 4), 2).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]


def test_a_classifier_is_not_turned():
    model = train_run(striped(20), keep_folder=False, steps=2, settings=SETTINGS, device="cpu").model
    with pytest.raises(
        RecipeError, match=r"^expected 1 rotation for a classifier, found 8; a turned image may be of an"
    ):
        model.evaluate(striped(4), symmetries=8)
