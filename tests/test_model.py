"""A model is a network that knows images: channels, normalisation, decisions, one file."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import ushape.model
from conftest import disc_dataset, disc_image
from ushape.errors import DataError, ModelFileError, RecipeError
from ushape.model import Model, Preparation, load, score_masks, to_channels_first
from ushape.model_file import describe_model
from ushape.network.skips import without_skips
from ushape.network.unet import UNet
from ushape.prediction.engines import TorchEngine
from ushape.prediction.tiled import predict_whole
from ushape.targets.instances import Decision
from ushape.targets.maps import Encoding


def small_model(task="semantic", channels=1, dims=2, **changes):
    torch.manual_seed(0)
    encoding = Encoding("distance") if task == "instances" else Encoding("semantic", n_classes=2)
    network = UNet(channels, encoding.n_channels, 4, 3 if dims == 2 else 2, "same", "batch", 0.0, dims)
    model = Model(
        network=network.eval(),
        preparation=Preparation(channels=channels, dims=dims),
        task=task,
        classes=("background", "object"),
        encoding=encoding,
        decision=Decision(min_size=3),
        device="cpu",
    )
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def disc_foreground(sample):
    return np.minimum(sample.read_mask(), 1)


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((30, 40), None, (1, 30, 40)),
        ((30, 40, 3), None, (3, 30, 40)),
        ((30, 40, 2), None, (2, 30, 40)),
        ((30, 40, 1), None, (1, 30, 40)),
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
    # Nor are values that differ little from one another nothing, where their type tells them apart.
    image = 1e9 + noise(1, 50, 60).astype(np.float64)
    np.testing.assert_allclose(Preparation()(image).std(), 1, atol=1e-4)


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


def test_only_alpha_is_dropped():
    with pytest.raises(DataError, match="found 4 channels that differ"):
        small_model(channels=1).predict(noise(20, 24, 4))
    with pytest.raises(DataError, match="expected an image with 3 channels, as in training, found 4 channels"):
        small_model(channels=3).predict(noise(4, 20, 24), axes="CYX")
    grey = np.repeat(noise(20, 24, 1), 4, axis=-1) // [1, 1, 1, 2]
    model = small_model(channels=1)
    np.testing.assert_array_equal(model.predict(grey).labels, model.predict(grey[..., 0]).labels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_that_are_no_numbers_are_refused(value, channels):
    image = noise(channels, 20, 24).astype(np.float32)
    image[0, 2, 3:5] = value
    with pytest.raises(DataError, match=r"^expected finite pixel values, found 2 NaN or infinite ones; replace them"):
        small_model(channels=channels).predict(image, axes="CYX")


def test_averaging_over_symmetries_turns_with_the_image():
    model, image = small_model(precision="float32"), noise(40, 40)
    there = model.predict(image, symmetries=8).probabilities
    turned = model.predict(np.rot90(image), symmetries=8).probabilities
    np.testing.assert_allclose(np.rot90(there, axes=(1, 2)), turned, atol=1e-4)


def test_what_the_recipe_averages_over_is_what_the_model_does_and_can_be_overruled(tmp_path):
    model = small_model(rotations=8)
    loaded = load(model.save(tmp_path / "model.safetensors"))
    assert loaded.rotations == 8
    assert "8, averaged when" in describe_model(tmp_path / "model.safetensors")[1]
    image = noise(40, 52)
    once, averaged = (loaded.predict(image, symmetries=n).probabilities for n in (1, 8))
    assert np.abs(once - averaged).max() > 1e-4
    np.testing.assert_array_equal(loaded.predict(image).probabilities, averaged)


def test_the_tile_size_changes_nothing_but_rounding():
    image = noise(150, 130)
    whole = small_model(precision="float32").predict(image).probabilities
    tiled = small_model(precision="float32", tile_size=88).predict(image).probabilities
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_prediction_leaves_the_padding_out_and_says_the_same(dims):
    model = small_model("instances", dims=dims, precision="float32", tile_size=52)
    image = noise(1, *(60, 75, 66)[-dims:])
    assert model.tile_network.geometry == model.tile_geometry == model.network.geometry.without_padding
    whole = TorchEngine(model.network, 2, torch.device("cpu"), torch.float32)
    expected = predict_whole(whole, model.preparation(image), model.network.geometry)
    assert np.abs(model.maps(image) - expected).max() < 1e-5
    # What hooks change is run as it is, and so is a network whose normalisation looks at the whole tile.
    with without_skips(model.network, 0):
        assert model.tile_network is model.network
        assert model.tile_geometry == model.network.geometry
        assert model.maps(image).shape == expected.shape
    model.network = UNet(1, 3, 4, 2, "same", "group", 0.0, dims)
    assert model.tile_network is model.network
    assert model.tile_geometry == model.network.geometry


def test_a_network_without_its_padding_is_not_saved(tmp_path):
    model = small_model()
    model.network = model.tile_network
    with pytest.raises(
        RecipeError, match="expected the network that was trained, found it without its padding, as it r"
    ):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_weights_that_change_after_a_prediction_are_those_of_the_next():
    model, image = small_model(precision="float32"), noise(1, 40, 50)
    before = model.maps(image)
    with torch.no_grad():
        model.network.head.bias.add_(torch.tensor([3.0, 0.0]))
    assert (model.maps(image)[0] > before[0]).all()


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
    assert settings["format"] == 1
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
        ModelFileError, match=r"m.safetensors: expected model format 2 or older, found 99; update ushape"
    ):
        load(path)


def test_an_incomplete_file_is_refused(tmp_path):
    path = rewritten(small_model().save(tmp_path / "m.safetensors"), lambda s: s.pop("decision"))
    with pytest.raises(ModelFileError, match=r"m.safetensors: expected a complete model file, found one that lacks"):
        load(path)
    path = rewritten(small_model().save(tmp_path / "n.safetensors"), lambda s: s["network"].update(channels=8))
    with pytest.raises(ModelFileError, match=r"n.safetensors: expected a complete model file, found one that lacks"):
        load(path)


def three_classes(**changes):
    encoding = Encoding("semantic", n_classes=3)
    network = UNet(1, 3, 4, 3, "same", "batch").eval()
    classes = ("background", "class 128", "class 255")
    return small_model(encoding=encoding, network=network, classes=classes, **changes)


def test_the_values_of_classes_in_the_masks_are_kept(tmp_path):
    path = three_classes(values=(7, 128, 255)).save(tmp_path / "m.safetensors")
    assert load(path).values == (7, 128, 255)
    assert "labels" in describe_model(path)[1]
    assert "7 background, 128 class 128, 255 class 255" in describe_model(path)[1]


def test_models_from_before_tell_the_values_of_classes_by_their_names(tmp_path):
    path = rewritten(three_classes().save(tmp_path / "m.safetensors"), lambda s: s.pop("values"))
    assert load(path).values == (0, 128, 255)
    path = rewritten(path, lambda s: s.update(classes=["background", "cell", "class 2"]))
    assert load(path).values == ()
    path = rewritten(small_model().save(tmp_path / "n.safetensors"), lambda s: s.pop("values"))
    assert load(path).values == ()


@pytest.mark.parametrize("values", [[1, 2], [0, 1, 1], [0, -1, 2], ["a", 1, 2], 3])
def test_values_of_classes_that_cannot_be_are_refused(tmp_path, values):
    path = rewritten(three_classes().save(tmp_path / "m.safetensors"), lambda s: s.update(values=values))
    with pytest.raises(ModelFileError, match=r"m.safetensors: expected a complete model file, found one that lacks"):
        load(path)


PARTS = ["network", "preparation", "task", "classes", "encoding", "decision", "precision", "tile_size", "facts"]


@pytest.mark.parametrize("read", [load, describe_model])
@pytest.mark.parametrize("part", ["format", *PARTS])
def test_a_file_without_any_of_its_parts_is_refused(tmp_path, read, part):
    path = rewritten(small_model().save(tmp_path / "m.safetensors"), lambda s: s.pop(part))
    with pytest.raises(ModelFileError, match=rf"m.safetensors: .* found one that lacks or contradicts .*'{part}'"):
        read(path)


@pytest.mark.parametrize("read", [load, describe_model])
@pytest.mark.parametrize("text", ["{", "[1]", "7", '{"format": "new"}', '{"format": 1, "network": 3}'])
def test_a_file_with_damaged_json_is_refused(tmp_path, read, text):
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={"ushape": text})
    with pytest.raises(ModelFileError, match=r"m.safetensors: expected a complete model file, found one that lacks"):
        read(tmp_path / "m.safetensors")


@pytest.mark.parametrize("read", [load, describe_model])
def test_a_file_with_a_part_of_another_kind_is_refused(tmp_path, read):
    for part in ("network", "preparation", "classes", "decision", "facts"):
        path = rewritten(small_model().save(tmp_path / "m.safetensors"), lambda s, part=part: s.update({part: 3}))
        if (read, part) == (load, "facts"):
            continue
        with pytest.raises(ModelFileError, match=r"m.safetensors: expected a complete model file, found one that"):
            read(path)


def test_a_model_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "m.safetensors.part").mkdir()
    with pytest.raises(ModelFileError, match=r"m.safetensors: expected to write the model there, but it failed"):
        small_model().save(tmp_path / "m.safetensors")


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


def test_a_model_is_not_scored_on_other_classes():
    data = replace(disc_dataset(1), task="semantic", classes=("background", "class 1", "class 2"))
    with pytest.raises(DataError, match=r"^discs: expected only the classes background, object, found class 1, class"):
        small_model().evaluate(data)


def test_two_classes_are_scored_as_pieces_too():
    data = disc_dataset(2)
    data = replace(data, samples=tuple(replace(s, mask=partial(disc_foreground, s)) for s in data.samples))
    pairs = [(s.name, s.read_mask(), s.read_mask(), True) for s in data.samples]
    scores, rows = score_masks("semantic", ("background", "disc"), pairs)
    assert (scores["AP@0.5"], scores["Dice disc"], scores["n_reference"]) == (1, 1, 8)
    assert [row["n_reference"] for row in rows] == [4, 4]
    assert "AP@0.5" not in score_masks("semantic", ("background", "disc", "ring"), pairs)[0]


def test_wrong_options_are_told_once_and_before_any_image():
    data = disc_dataset(2)
    with pytest.raises(RecipeError, match=r"^expected 1, 2, 4, 7 or 8 rotations, found 5; choose one of these$"):
        small_model("instances").evaluate(data, symmetries=5)
    with pytest.raises(RecipeError, match=r"^expected a device this machine has"):
        small_model("instances", device="abacus").evaluate(data)


def test_of_two_classes_the_threshold_of_the_model_decides(tmp_path):
    ramp = np.linspace(0, 1, 101, dtype=np.float32)[None].repeat(20, axis=0)
    maps = np.stack([1 - ramp, ramp])
    model = small_model(decision=Decision(mask_threshold=0.7))
    np.testing.assert_array_equal(model.decide(maps).labels, ramp > np.float32(0.7))
    assert load(model.save(tmp_path / "model.safetensors")).decide(maps).labels.sum() == 20 * 30
    # At one half it is the likelier class, and of three the likeliest whatever the threshold.
    np.testing.assert_array_equal(small_model().decide(maps).labels, maps.argmax(axis=0))
    three = small_model(
        decision=Decision(mask_threshold=0.7), classes=("a", "b", "c"), encoding=Encoding("semantic", n_classes=3)
    )
    thirds = np.concatenate([maps * 0.8, np.full_like(maps[:1], 0.2)])
    np.testing.assert_array_equal(three.decide(thirds).labels, thirds.argmax(axis=0))


@pytest.mark.parametrize("task", ["semantic", "instances"])
def test_each_image_is_counted_once_and_scored_as_if_alone(task, monkeypatch):
    counted = []
    for name in ("count_objects", "confusion_matrix"):
        count = getattr(ushape.tally, name)
        monkeypatch.setattr(
            ushape.tally, name, lambda r, e, *n, count=count, **o: counted.append(1) or count(r, e, *n, **o)
        )
    data = disc_dataset(3)
    if task == "semantic":
        data = replace(data, samples=[replace(s, mask=partial(disc_foreground, s)) for s in data.samples], task=task)
    model = small_model(task)
    found = model.evaluate(data)
    # Of two classes the pieces of the second are counted too.
    assert len(counted) == (6 if task == "semantic" else 3)
    pairs = [(s.name, s.read_mask(), model.predict(s.read_image(), axes="CYX").labels, True) for s in data.samples]
    scores, rows = score_masks(task, model.classes, pairs)
    assert (found.scores, found.rows) == (scores, rows)
    for pair, row in zip(pairs, rows, strict=True):
        assert score_masks(task, model.classes, [pair])[1] == (row,)


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


def test_pieces_smaller_than_any_drawn_one_are_noise():
    model = small_model("semantic")
    foreground = np.zeros((8, 8), np.float32)
    foreground[0, 0] = foreground[4:, 4:] = 1
    maps = np.stack([1 - foreground, foreground])
    for min_size, n in ((0, 2), (2, 1)):
        model.decision = replace(model.decision, min_size=min_size)
        prediction = model.decide(maps)
        assert prediction.instances.max() == n
        assert (prediction.labels == (prediction.instances > 0)).all()


def test_features_are_what_the_head_reads_and_halve_with_each_level():
    model = small_model("instances")
    model.precision = "float32"
    image = noise(1, 40, 56)
    features = model.features(image, axes="CYX")
    head = model.network.head
    logits = np.einsum("kc,chw->khw", head.weight.detach().numpy()[:, :, 0, 0], features)
    logits += head.bias.detach().numpy()[:, None, None]
    n = model.encoding.n_class_channels
    shares = np.exp(logits[:n]) / np.exp(logits[:n]).sum(axis=0)
    assert shares == pytest.approx(model.predict(image, axes="CYX").probabilities[:n], abs=1e-4)
    depth = model.network.settings["depth"]
    sizes = [model.features(image, level, axes="CYX").shape[1:] for level in range(depth)]
    assert sizes == [(-(-40 // 2**level), -(-56 // 2**level)) for level in range(depth)]
    assert model.features(image, 1, "down", axes="CYX").shape[1:] == (20, 28)
