"""The loops of the race: what is taught, the clock, the plain loop and MONAI's tutorial."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from conftest import disc_dataset, disc_image
from racing import loop, plain, tutorial
from racing.contest import Start
from racing.lesson import IGNORED, dihedral, encoding_for, make_lesson, tuned_decision
from racing.nnunet import digest
from speed.counting import count_parameters
from speed.peers import TextbookUNet
from ushape.data.dataset import Dataset, Sample
from ushape.targets.instances import default_decision
from ushape.targets.maps import Encoding
from ushape.training.examples import DataSummary
from ushape.training.rules import choose_encoding

pytestmark = pytest.mark.usefixtures("one_thread")
MISSING = "the peers' environment has it (make .venv-peers)"


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


def test_decisions_are_tuned_for_objects_and_two_classes_and_not_for_more():
    lesson = make_lesson(disc_dataset(10))
    known = {digest(page.image): page.classes for page in lesson.validation}

    def cutting(image):
        """Right, but at 0.6 in two columns through each disc: merged above more than that, discs stay cut."""
        classes = known[digest(image)]
        foreground = np.where(classes > 0, 1, 0).astype(np.float32)
        inside = foreground.copy()
        inside[:, 16::30] *= 0.6
        inside[:, 17::30] *= 0.6
        return np.stack([1 - foreground, inside, foreground - inside])

    decision = tuned_decision(lesson, cutting)
    assert decision.merging < 0.6 < default_decision(lesson.encoding).merging
    semantic = replace(lesson, encoding=Encoding("semantic", n_classes=3))
    assert tuned_decision(semantic, lambda image: pytest.fail("nothing to tune")) is None

    def unsure(image):
        """Right, but never surer than 0.46 of what is there."""
        foreground = np.where(known[digest(image)] > 0, 0.46, 0.1).astype(np.float32)
        return np.stack([1 - foreground, foreground])

    two = replace(lesson, encoding=Encoding("semantic"), validation=tuple(map(as_classes, lesson.validation)))
    decision = tuned_decision(two, unsure)
    assert decision.mask_threshold < 0.46
    assert decision.min_size == 0


def as_classes(page):
    return replace(page, mask=np.minimum(page.mask, 1))


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
