"""Weights from another network: the same body for segmenters and classifiers, refitted ends."""

import pytest
import torch

from conftest import disc_dataset
from test_training_classifying import striped
from ushape.errors import RecipeError
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet
from ushape.run import train_run
from ushape.training.listening import Listener
from ushape.training.planning import make_plan
from ushape.training.transfer import refitted, take_weights

PADDED = {"channels": 4, "depth": 3, "padding": "same", "norm": "batch"}
SETTINGS = ("network.channels=4", "network.depth=3", "patch=[32, 32]")


def same(first, second, name, other=None):
    return torch.equal(first.state_dict()[name], second.state_dict()[other or name])


def test_a_classifier_takes_the_body_of_a_segmenter_and_keeps_its_own_head():
    source, target = UNet(1, 2, **PADDED), Classifier(1, 5, channels=4, depth=3)
    before = target.linear.weight.clone()
    sentence = take_weights(target, source, same_answers=True)
    assert same(target, source, "unet.bottom.0.weight", "bottom.0.weight")
    assert same(target, source, "unet.up.1.block.0.weight", "up.1.block.0.weight")
    assert torch.equal(target.linear.weight, before)
    assert sentence.startswith("started from another model's weights (99.")
    assert sentence.endswith("new are linear.weight, linear.bias)")


def test_a_segmenter_takes_the_body_of_a_classifier():
    source, target = Classifier(1, 5, channels=4, depth=3), UNet(1, 2, **PADDED)
    take_weights(target, source, same_answers=True)
    assert same(source, target, "unet.down.0.0.weight", "down.0.0.weight")


def test_the_first_layer_is_refitted_to_other_channels():
    source, target = UNet(1, 2, **PADDED), UNet(3, 2, **PADDED)
    assert "new are" not in take_weights(target, source, same_answers=True)
    grey = torch.randn(1, 1, 16, 16)
    source.eval(), target.eval()
    assert torch.allclose(target(grey.expand(1, 3, 16, 16)), source(grey), atol=1e-4)
    weight = torch.randn(4, 3, 3, 3)
    assert torch.allclose(refitted(weight, torch.zeros(4, 2, 3, 3)).sum(1), weight.sum(1), atol=1e-6)


def test_a_head_for_other_classes_starts_anew():
    source, target = UNet(1, 2, **PADDED), UNet(1, 4, **PADDED)
    before = target.head.weight.clone()
    assert take_weights(target, source, same_answers=True).endswith("new are head.weight, head.bias)")
    assert torch.equal(target.head.weight, before)
    other = UNet(1, 2, **PADDED)
    before = other.head.weight.clone()
    assert take_weights(other, source, same_answers=False).endswith("new are head.weight, head.bias)")
    assert torch.equal(other.head.weight, before)


def test_a_network_of_another_kind_gives_nothing():
    with pytest.raises(
        RecipeError, match=r"^expected a model whose network resembles the one to be trained, found none"
    ):
        take_weights(UNet(1, 2, **PADDED), torch.nn.Linear(2, 2), same_answers=True)


def test_training_starts_from_the_model_with_its_network():
    first = train_run(disc_dataset(4), keep_folder=False, steps=2, settings=SETTINGS, device="cpu").model
    planned = make_plan(disc_dataset(4), start=first, settings=("batch=2",))
    assert (planned.recipe.network.channels, planned.recipe.network.depth) == (4, 3)
    assert all(planned.recipe.geometry.is_legal(n) for n in planned.recipe.patch)
    assert (planned.recipe.optimiser.name, planned.recipe.optimiser.learning_rate) == ("adamw", 0.002)
    assert any("starts from a model" in reason for reason in planned.recipe.reasons)
    assert make_plan(disc_dataset(4), recipe="paper", start=first).recipe.optimiser.name == "sgd"
    still = ("optimiser.learning_rate=1e-12", "optimiser.average=0.0")
    second = train_run(disc_dataset(4), keep_folder=False, steps=1, settings=still, start=first, device="cpu").model
    assert torch.allclose(
        second.network.state_dict()["bottom.0.weight"], first.network.state_dict()["bottom.0.weight"], atol=1e-6
    )


def test_a_classifier_starts_from_a_segmenter():
    first = train_run(disc_dataset(4), keep_folder=False, steps=2, settings=SETTINGS, device="cpu").model
    planned = make_plan(striped(10), start=first, settings=("batch=8",))
    assert (planned.recipe.network.head, planned.recipe.network.channels) == ("bottom", 4)
    model = train_run(striped(10), keep_folder=False, steps=1, start=first, settings=("batch=8",), device="cpu").model
    assert model.task == "classification"


def test_a_volume_network_has_no_weights_for_images():
    flat, deep = UNet(1, 2, **PADDED), UNet(1, 2, **PADDED, dims=3)
    with pytest.raises(RecipeError, match=r"^expected a model whose network resembles"):
        take_weights(flat, deep, same_answers=True)


class Killed(Listener):
    """Ends the run without any saving, at its first report."""

    def progress(self, step, stop, loss, validation, seconds_left):
        raise RuntimeError("killed")


def test_a_run_that_was_killed_before_its_first_checkpoint_resumes_from_where_it_started(tmp_path):
    data, options = disc_dataset(4), {"device": "cpu", "steps": 3}
    first = train_run(data, keep_folder=False, seed=5, settings=SETTINGS, **options).model
    first.save(tmp_path / "first.safetensors")
    whole = train_run(data, keep_folder=False, start=first, **options).model.network.state_dict()
    with pytest.raises(RuntimeError, match="killed"):
        train_run(data, output=tmp_path / "run", start=tmp_path / "first.safetensors", listener=Killed(), **options)
    resumed = train_run(data, output=tmp_path / "run", resume=True, device="cpu").model.network.state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_learning_rate_in_a_recipe_file_is_kept(tmp_path):
    first = train_run(disc_dataset(4), keep_folder=False, steps=2, settings=SETTINGS, device="cpu").model
    path = tmp_path / "mine.toml"
    path.write_text("[optimiser]\nlearning_rate = 1e-4\n", encoding="utf-8")
    recipe = make_plan(disc_dataset(4), recipe=str(path), start=first).recipe
    assert (recipe.optimiser.name, recipe.optimiser.learning_rate) == ("adamw", 1e-4)
    assert any("so AdamW moves the weights" in reason for reason in recipe.reasons)
    path.write_text('[optimiser]\nname = "muon"\nlearning_rate = 3e-3\n', encoding="utf-8")
    optimiser = make_plan(disc_dataset(4), recipe=str(path), start=first).recipe.optimiser
    assert (optimiser.name, optimiser.learning_rate) == ("muon", 3e-3)


def test_it_is_told_that_the_network_is_the_models():
    first = train_run(disc_dataset(4), keep_folder=False, steps=2, settings=SETTINGS, device="cpu").model
    planned = make_plan(disc_dataset(4), start=first)
    told = [reason for reason in planned.recipe.reasons if "that of the model to start from" in reason]
    assert len(told) == 1
    assert "channels 4, depth 3" in told[0]
