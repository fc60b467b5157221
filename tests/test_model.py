"""A model is a network that knows images: channels, normalisation, decisions, one file."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from conftest import disc_dataset, disc_image
from ushape.errors import DataError, ModelFileError
from ushape.model import FORMAT_VERSION, Model, Preparation, describe_model, load, to_channels_first
from ushape.network.unet import UNet
from ushape.targets.instances import Decision
from ushape.targets.maps import Encoding


def small_model(task="semantic", channels=1, **changes):
    torch.manual_seed(0)
    encoding = Encoding("distance") if task == "instances" else Encoding("semantic", n_classes=2)
    network = UNet(channels, encoding.n_channels, channels=4, depth=3, padding="same", norm="batch", dropout=0.0)
    model = Model(
        network=network.eval(),
        preparation=Preparation(channels=channels),
        task=task,
        classes=("background", "object"),
        encoding=encoding,
        decision=Decision(min_size=3),
        device="cpu",
    )
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((30, 40), None, (1, 30, 40)),
        ((30, 40, 3), None, (3, 30, 40)),
        ((3, 30, 40), None, (3, 30, 40)),
        ((40, 30), "XY", (1, 30, 40)),
        ((5, 30, 40, 2), "ZYXC", (2, 5, 30, 40)),
    ],
)
def test_arrays_as_people_have_them(shape, axes, expected):
    assert to_channels_first(np.zeros(shape), axes).shape == expected


def test_ambiguous_axes_are_asked_for():
    with pytest.raises(DataError, match=r"^expected an image \(H, W\), .* found shape \(50, 30, 40\); say what"):
        to_channels_first(np.zeros((50, 30, 40)))
    with pytest.raises(DataError, match=r"^expected axes that name each of the 2 dimensions .* found 'YXC'"):
        to_channels_first(np.zeros((30, 40)), "YXC")


def test_normalisation_is_of_the_whole_image_and_blind_to_units():
    image = noise(2, 50, 60)
    prepared = Preparation(channels=2)(image)
    np.testing.assert_allclose(prepared.mean(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(prepared.std(axis=(1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(Preparation(channels=2)(image.astype(np.uint16) * 257), prepared, atol=1e-4)


def test_a_constant_image_becomes_zeros_and_not_noise():
    assert not Preparation()(np.full((1, 9, 9), 77, np.uint8)).any()
    assert not Preparation()(np.zeros((1, 9, 9), np.float32)).any()


def test_normalisation_by_the_dataset_uses_its_numbers():
    by_dataset = Preparation(normalisation="dataset", mean=(10.0,), std=(5.0,))
    np.testing.assert_allclose(by_dataset(np.full((1, 4, 4), 20, np.uint8)), 2)


def test_grey_and_colour_meet():
    grey, colour = noise(1, 20, 20), noise(3, 20, 20)
    assert Preparation(channels=3).with_channels(grey).shape == (3, 20, 20)
    assert Preparation(channels=1).with_channels(np.repeat(grey, 3, axis=0)).shape == (1, 20, 20)
    with pytest.raises(
        DataError, match=r"^expected an image with 1 channel, as in training, found 3 channels that differ; convert it"
    ):
        Preparation(channels=1).with_channels(colour)


@pytest.mark.parametrize("size", [(1, 1), (7, 33), (100, 64)])
def test_an_image_of_any_size_gets_labels_of_its_size(size):
    prediction = small_model().predict(noise(*size))
    assert prediction.labels.shape == size
    assert prediction.probabilities.shape == (2, *size)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=1e-4)


def test_alpha_is_dropped():
    rgba = noise(20, 24, 4)
    model = small_model(channels=3)
    np.testing.assert_array_equal(model.predict(rgba).labels, model.predict(rgba[..., :3]).labels)


def test_averaging_over_symmetries_turns_with_the_image():
    model, image = small_model(precision="float32"), noise(40, 40)
    there = model.predict(image, symmetries=8).probabilities
    turned = model.predict(np.rot90(image), symmetries=8).probabilities
    np.testing.assert_allclose(np.rot90(there, axes=(1, 2)), turned, atol=1e-4)


def test_the_tile_size_changes_nothing_but_rounding():
    image = noise(150, 130)
    whole = small_model(precision="float32").predict(image).probabilities
    tiled = small_model(precision="float32", tile_size=88).predict(image).probabilities
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize("task", ["semantic", "instances"])
def test_a_saved_model_predicts_bit_identically_in_a_fresh_process(tmp_path, task):
    model, image = small_model(task), noise(70, 50)
    path = model.save(tmp_path / "model.safetensors")
    np.save(tmp_path / "image.npy", image)
    code = (
        "import sys, numpy as np, torch, ushape\n"
        "torch.set_num_threads(int(sys.argv[2]))\n"
        "model = ushape.load(sys.argv[1] + '/model.safetensors', device='cpu')\n"
        "np.save(sys.argv[1] + '/out.npy', model.predict(np.load(sys.argv[1] + '/image.npy')).probabilities)"
    )
    arguments = [str(tmp_path), str(torch.get_num_threads())]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), model.predict(image).probabilities)
    assert load(path).decision == model.decision
    assert not list(tmp_path.glob("*.part"))


def test_a_model_file_holds_json_and_tensors_only(tmp_path):
    path = small_model().save(tmp_path / "model.safetensors")
    with safe_open(path, framework="np") as file:
        settings = json.loads(file.metadata()["ushape"])
    assert settings["format"] == FORMAT_VERSION
    assert settings["network"]["depth"] == 3


def rewritten(path, change):
    """The model file with its JSON changed."""
    with safe_open(path, framework="pt") as file:
        settings = json.loads(file.metadata()["ushape"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(settings)
    save_file(tensors, path, metadata={"ushape": json.dumps(settings)})
    return path


def test_a_newer_format_is_refused(tmp_path):
    path = rewritten(small_model().save(tmp_path / "m.safetensors"), lambda s: s.update(format=99))
    with pytest.raises(
        ModelFileError, match=r"m.safetensors: expected model format 1 or older, found 99; update ushape"
    ):
        load(path)


def test_an_incomplete_file_is_refused(tmp_path):
    path = rewritten(small_model().save(tmp_path / "m.safetensors"), lambda s: s.pop("decision"))
    with pytest.raises(ModelFileError, match=r"m.safetensors: expected a complete model file, found one that lacks"):
        load(path)
    path = rewritten(small_model().save(tmp_path / "n.safetensors"), lambda s: s["network"].update(channels=8))
    with pytest.raises(ModelFileError, match=r"n.safetensors: expected a complete model file, found one that lacks"):
        load(path)


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"none: expected a model file or a run folder .* found neither"):
        load(tmp_path / "none")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(
        ModelFileError, match=r"text.safetensors: expected a model file \(safetensors\), found something"
    ):
        load(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match=r"expected a model that ushape saved, found tensors of another program"):
        load(tmp_path / "other.safetensors")


def test_evaluation_scores_every_image_and_goes_past_a_bad_one(tmp_path):
    from dataclasses import replace

    dataset = disc_dataset(3)
    colour = replace(dataset.samples[1], image=lambda: noise(3, 64, 64))
    dataset = replace(dataset, samples=(dataset.samples[0], colour, dataset.samples[2]))
    evaluation = small_model("instances").evaluate(dataset)
    assert [row["name"] for row in evaluation.rows] == ["disc0", "disc2"]
    assert evaluation.scores["n_images"] == 2
    assert len(evaluation.problems) == 1
    assert evaluation.problems[0].startswith("disc1: expected an image with 1 channel")


def test_a_model_is_not_scored_on_another_task():
    with pytest.raises(
        DataError, match=r"^discs: expected data for semantic, as the model was trained for, found inst"
    ):
        small_model().evaluate(disc_dataset(1))


def test_two_classes_have_their_pieces_as_instances():
    model = small_model()
    _, mask = disc_image(0)
    maps = np.stack([1.0 - (mask > 0), mask > 0]).astype(np.float32)
    prediction = model.decide(maps)
    assert prediction.instances.max() == 4
    np.testing.assert_array_equal(prediction.labels, mask > 0)


def test_a_model_says_what_it_is(tmp_path):
    settings, text = describe_model(small_model().save(tmp_path / "m.safetensors"))
    assert settings["task"] == "semantic"
    assert "tiled prediction  equals the whole image" in text
