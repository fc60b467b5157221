"""A model run by other engines than PyTorch: conversions beside its file, and quantisation that is scored."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import ushape.model
from conftest import disc_dataset
from test_model import noise, small_model
from ushape.data.dataset import Dataset, Sample
from ushape.errors import DataError, RecipeError
from ushape.model import Model, Preparation, load
from ushape.model_file import describe_model
from ushape.network.classifier import Classifier
from ushape.prediction.choice import ConvertedEngine
from ushape.prediction.conversions import Conversion
from ushape.prediction.engines import TorchEngine
from ushape.prediction.openvino_engine import convert_to_openvino
from ushape.prediction.packages import is_there
from ushape.targets.instances import Decision
from ushape.targets.maps import Encoding

WITH_OPENVINO = pytest.mark.skipif(not is_there("openvino"), reason="openvino is not installed")


def small_classifier(**changes):
    torch.manual_seed(0)
    network = Classifier(1, 3, 4, 2).eval()
    classes = ("a", "b", "c")
    encoding, decision = Encoding("semantic", n_classes=3), Decision(min_size=1)
    model = Model(network, Preparation(), "classification", classes, encoding, decision, device="cpu")
    return replace(model, **changes)


@WITH_OPENVINO
@pytest.mark.parametrize("task", ["semantic", "instances"])
def test_a_model_by_another_engine_says_the_same(task):
    model, image = small_model(task, precision="float32"), noise(100, 70)
    exact, other = model.predict(image), replace(model, engine="openvino").predict(image)
    np.testing.assert_allclose(other.probabilities, exact.probabilities, atol=1e-5)
    assert (other.labels != exact.labels).mean() < 1e-3


@WITH_OPENVINO
def test_a_classifier_by_another_engine_says_the_same():
    images = [noise(1, 16, 20), noise(1, 9, 9), noise(1, 16, 20)]
    model = small_classifier(precision="float32", preparation=Preparation(moved=2, both_ways=True))
    np.testing.assert_allclose(replace(model, engine="openvino").classify(images), model.classify(images), atol=1e-5)


@WITH_OPENVINO
def test_the_conversion_lies_beside_the_file_and_is_opened_once(tmp_path):
    path = small_model().save(tmp_path / "m.safetensors")
    model = load(path, device="cpu", engine="openvino")
    engine = model.runner()
    assert isinstance(engine, ConvertedEngine)
    assert (tmp_path / "m.safetensors.engines" / "openvino.safetensors").is_file()
    assert model.runner() is engine
    before = model.predict(noise(40, 40)).probabilities
    with torch.no_grad():
        model.network.head.bias.add_(torch.tensor([2.0, 0.0]))
    assert model.runner() is not engine
    assert (model.predict(noise(40, 40)).probabilities[0] > before[0]).all()
    torch_engine = load(path, device="cpu").runner()
    assert isinstance(torch_engine, TorchEngine)


def test_auto_is_torch_whatever_lies_beside_the_model():
    model = small_model()
    model.engines.shelf.write("openvino", Conversion("k", {}))
    assert isinstance(model.runner(), TorchEngine)


def test_a_wrong_engine_is_told_once_and_before_any_image():
    data = disc_dataset(2)
    with pytest.raises(RecipeError, match=r"^expected an engine out of .* found 'abacus'; choose one$"):
        small_model("instances", engine="abacus").evaluate(data)
    with pytest.raises(RecipeError, match=r"^expected a network quantised to int8 beside the model, found none"):
        small_model("instances", engine="int8").evaluate(data)
    with pytest.raises(RecipeError, match=r"^expected the device cpu for the engine int8, found 'cuda'"):
        small_model("instances", engine="int8", device="cuda").predict(noise(9, 9))


def test_engines_of_the_cpu_stay_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert small_model(device="auto").hardware()[0].type == "cuda"
    assert small_model(device="auto", engine="openvino").hardware()[0].type == "cpu"


# Quantisation. NNCF itself is tested with its own module; what it gives is replaced here.


def semantic_discs(n):
    data = disc_dataset(n)
    samples = tuple(replace(s, mask=lambda s=s: np.minimum(s.mask(), 1)) for s in data.samples)
    return replace(data, samples=samples, task="semantic")


@pytest.fixture
def quantiser(monkeypatch):
    """What takes NNCF's place: the float network, or one that was turned round; returns the examples it was shown."""
    shown = []

    def install(spoil=False, model=None):
        def quantise_graph(conversion, examples, key):
            shown.append(examples)
            if not spoil:
                return Conversion(key, conversion.parts, {"nncf": "0"})
            with torch.no_grad():
                model.network.head.weight.neg_()
                model.network.head.bias.neg_()
            turned = convert_to_openvino(model.network, model.n_class_channels, key)
            with torch.no_grad():
                model.network.head.weight.neg_()
                model.network.head.bias.neg_()
            return turned

        monkeypatch.setattr(ushape.model, "quantise_graph", quantise_graph)
        monkeypatch.setattr(ushape.model, "need_quantiser", lambda: None)
        return shown

    return install


@WITH_OPENVINO
def test_a_network_that_scores_as_well_is_kept(tmp_path, quantiser):
    shown, data = quantiser(), semantic_discs(3)
    path = small_model(precision="float32").save(tmp_path / "m.safetensors")
    model = load(path, device="cpu")
    found = model.quantise(data)
    assert (found.score, found.bound, found.accepted) == ("mean Dice", 0.005, True)
    assert found.before == model.evaluate(data).scores["mean Dice"]
    assert abs(found.drop) < 1e-4
    assert found.path == tmp_path / "m.safetensors.engines" / "int8.safetensors"
    assert found.tiles == len(shown[0]) == 3
    assert all(model.network.geometry.is_legal(n) for tile in shown[0] for n in tile.shape[1:])
    by_int8 = load(path, device="cpu", engine="int8")
    assert by_int8.evaluate(data).scores["mean Dice"] == found.after
    settings, text = describe_model(path)
    assert settings["engines"]["int8"]["data"] == "discs"
    assert settings["engines"]["int8"]["float"] == found.before
    line = f"quantised; mean Dice {found.before:.4f} in float, {found.after:.4f} in int8 on discs"
    assert re.search(rf"^engine int8 +{re.escape(line)}$", text, re.MULTILINE)
    # A model of other weights in the same place has nothing that was quantised.
    with torch.no_grad():
        model.network.head.bias.add_(1)
    model.save(path)
    assert describe_model(path)[0]["engines"] == {}
    with pytest.raises(RecipeError, match=r"found one of other weights; make it with: ushape quantise MODEL DATA"):
        load(path, device="cpu", engine="int8").evaluate(data)


@WITH_OPENVINO
def test_a_network_that_scores_worse_is_not_kept(tmp_path, quantiser):
    model = load(small_model(precision="float32").save(tmp_path / "m.safetensors"), device="cpu")
    data = semantic_discs(2)
    # Whatever this network says is right, so that its opposite is wrong.
    said = {s.name: model.predict(s.read_image(), axes="CYX").labels for s in data.samples}
    data = replace(data, samples=tuple(replace(s, mask=lambda s=s: said[s.name]) for s in data.samples))
    quantiser(spoil=True, model=model)
    found = model.quantise(data, bound=0.3)
    assert found.before > 0.9
    assert found.after < 0.6
    assert (found.accepted, found.path) == (False, None)
    assert not model.engines.shelf.has("int8")


@WITH_OPENVINO
def test_a_model_without_a_file_keeps_it_in_memory(quantiser):
    quantiser()
    model, data = small_model(precision="float32"), semantic_discs(2)
    found = model.quantise(data)
    assert (found.accepted, found.path) == (True, None)
    assert replace(model, engine="int8").evaluate(data).scores["mean Dice"] == found.after


@WITH_OPENVINO
def test_a_classifier_is_quantised_on_whole_images(quantiser):
    shown, model = quantiser(), small_classifier(precision="float32")
    samples = tuple(Sample(f"s{i}", lambda i=i: noise(1, 9 + i, 12), label=i % 3) for i in range(4))
    found = model.quantise(Dataset("letters", samples, "classification", model.classes))
    assert (found.score, found.accepted) == ("accuracy", True)
    assert [example.shape for example in shown[0]] == [(1, 10, 12), (1, 10, 12), (1, 12, 12), (1, 12, 12)]


def test_examples_are_taken_from_all_images_and_go_past_a_bad_one():
    def broken():
        raise DataError("broken")

    data, read = disc_dataset(6), []
    samples = [replace(s, image=lambda s=s: read.append(s.name) or s.image()) for s in data.samples]
    data = replace(data, samples=(replace(samples[0], image=broken), *samples[1:]))
    model = small_model(tile_size=48)
    assert len(list(model.examples(data, most=3))) == 2
    assert read == ["disc2", "disc4"]
    # There are 256 tiles in each image; as many as fit are taken evenly from all of them.
    assert len(list(model.examples(data.subset(data.samples[1:2])))) == 128
    assert len(list(model.examples(replace(data, samples=tuple(samples))))) == 128
    assert len(list(model.examples(data))) == 128 - 21


@pytest.mark.parametrize("bound", [0, 1, -0.1, float("nan")])
def test_a_bound_that_makes_no_sense_is_refused(bound):
    with pytest.raises(RecipeError, match=r"^expected a bound between 0 and 1, found .*; 0.005 is the usual one$"):
        small_model().quantise(semantic_discs(1), bound=bound)
