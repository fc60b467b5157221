"""Models that were trained alike make one: its answers, its decision, its file; and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from test_model import noise, small_model
from test_model_engines import WITH_OPENVINO, small_classifier
from ushape.errors import ModelFileError, RecipeError
from ushape.model import load
from ushape.model_file import describe_model, key_of_file, read_settings, read_tensors, write_model
from ushape.network.unet import UNet
from ushape.picture.inside import skip_losses
from ushape.preparation import Preparation
from ushape.targets.instances import Decision
from ushape.training.joining import join
from ushape.training.transfer import take_weights


def models(n, task="semantic", **changes):
    """Small models with weights of their own."""
    made = []
    for seed in range(n):
        model = small_model(task, precision="float32", **changes)
        torch.manual_seed(100 + seed)
        network = UNet(**model.network.settings).eval()
        made.append(replace(model, network=network))
    return made


def log_odds(maps):
    return np.log(maps[1]) - np.log(maps[0])


def test_the_log_odds_are_the_mean_of_the_models():
    three, image = models(3), noise(70, 50)
    each = [log_odds(model.predict(image).probabilities) for model in three]
    together = join(three).predict(image).probabilities
    np.testing.assert_allclose(log_odds(together), np.mean(each, axis=0), atol=1e-4)
    np.testing.assert_allclose(together.sum(axis=0), 1, atol=1e-5)
    assert np.abs(each[0] - each[1]).max() > 0.1


@pytest.mark.parametrize("task", ["semantic", "instances"])
def test_tiles_fit_together_as_those_of_one(task):
    model = join(models(2, task))
    image = noise(1, 90, 76)
    whole, cut = model.maps(image), replace(model, tile_size=model.tile_geometry.smallest_tile).maps(image)
    np.testing.assert_allclose(whole, cut, atol=1e-5)


def test_what_is_decided_is_the_middle_of_what_each_decided():
    decisions = [Decision(mask_threshold=m, min_size=n, merging=0.5) for m, n in ((0.4, 10), (0.6, 11), (0.5, 30))]
    three = [replace(model, decision=decision) for model, decision in zip(models(3), decisions, strict=True)]
    assert join(three).decision == Decision(mask_threshold=0.5, min_size=11, merging=0.5)
    two = join(three[:2]).decision
    assert (two.mask_threshold, two.min_size, type(two.min_size)) == (0.5, 10, int)


def test_the_file_keeps_all_of_them(tmp_path):
    model = join(models(3))
    path = model.save(tmp_path / "m.safetensors")
    read, image = load(path, device="cpu"), noise(60, 60)
    assert len(read.others) == 2
    np.testing.assert_array_equal(read.predict(image).probabilities, model.predict(image).probabilities)
    assert not any(module.training for module in read.whole_network.modules())
    assert read_settings(path)["format"] == 2
    assert read_settings(models(1)[0].save(tmp_path / "one.safetensors"))["format"] == 1
    assert read.fingerprint == model.fingerprint != join(models(2)).fingerprint
    assert "members 3" in describe_model(path)[1]
    assert key_of_file(path) == read.engines.key_of(read.tile_network, read.n_class_channels)


def test_joined_models_can_be_joined_again():
    four = models(4)
    np.testing.assert_allclose(
        join([join(four[:2]), join(four[2:])]).predict(noise(30, 30)).probabilities,
        join(four).predict(noise(30, 30)).probabilities,
        atol=1e-6,
    )


def test_a_file_that_lacks_one_of_them_is_refused(tmp_path):
    model = join(models(2))
    two = model.save(tmp_path / "two.safetensors")
    settings = model.settings
    settings["network"] = settings["network"] | {"members": 3}
    write_model(tmp_path / "three.safetensors", settings, read_tensors(two))
    with pytest.raises(ModelFileError, match="complete model file"):
        load(tmp_path / "three.safetensors")


@WITH_OPENVINO
def test_another_engine_says_the_same():
    model, image = join(models(2)), noise(80, 64)
    other = replace(model, engine="openvino").predict(image)
    np.testing.assert_allclose(other.probabilities, model.predict(image).probabilities, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": ("background", "other")}, "another classes"),
        ({"preparation": Preparation(channels=3)}, "another preparation"),
        ({"network": UNet(1, 2, 8, 3, "same", "batch", 0.0)}, "another network"),
    ],
)
def test_models_that_were_not_trained_alike_are_refused(changes, told):
    one, other = models(2)
    with pytest.raises(RecipeError, match=told):
        join([one, replace(other, **changes)])


def test_classifiers_are_refused():
    with pytest.raises(RecipeError, match="expected segmenters"):
        join([small_classifier(), small_classifier()])


def test_pictures_and_transfer_look_at_the_first():
    two, image = models(2), noise(1, 64, 64)
    whole = join(two)
    np.testing.assert_allclose(whole.features(image), two[0].features(image), atol=1e-5)
    cut, alone = skip_losses(whole, image[0]), skip_losses(two[0], image[0])
    assert [loss.changed for loss in cut] == [loss.changed for loss in alone]
    network = UNet(**two[0].network.settings)
    assert "100 % of them" in take_weights(network, whole.network, same_answers=True)
