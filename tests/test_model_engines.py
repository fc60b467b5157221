"""A model run by other engines than PyTorch: conversions beside its file, and what is refused before them."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

import ushape.model
from conftest import disc_dataset
from test_files import write_png
from test_model import noise, small_model
from ushape.errors import DataError, RecipeError
from ushape.files import predict as predicting
from ushape.files import predict_files
from ushape.model import Model, Preparation, load
from ushape.model_file import describe_model
from ushape.network.classifier import Classifier
from ushape.prediction import choice
from ushape.prediction.choice import ConvertedEngine
from ushape.prediction.conversions import Conversion, Shelf
from ushape.prediction.engines import TorchEngine
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


@pytest.fixture
def converted(monkeypatch):
    """An entry for each conversion that begins."""
    begun = []
    real = choice.convert_to_openvino
    monkeypatch.setattr(choice, "convert_to_openvino", lambda *given: begun.append(1) or real(*given))
    return begun


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
    torch_engine = load(path, device="cpu", engine="torch").runner()
    assert isinstance(torch_engine, TorchEngine)


@WITH_OPENVINO
def test_a_model_that_was_changed_leaves_the_files_conversions_alone(tmp_path, converted):
    path = small_model(precision="float32").save(tmp_path / "m.safetensors")
    model, folder = load(path, device="cpu", engine="openvino"), tmp_path / "m.safetensors.engines"
    model.runner()
    kept, bias = folder / "openvino.safetensors", model.network.head.bias
    of_the_file, first = kept.read_bytes(), bias.detach().clone()
    with torch.no_grad():
        bias.add_(torch.tensor([2.0, 0.0]))
    model.predict(noise(40, 40))
    assert model.engines.news().endswith("; kept in memory only")
    key = model.engines.key_of(model.tile_network, 2)
    assert model.engines.keep("int8", Conversion(key, {})) is None
    assert ([each.name for each in folder.iterdir()], len(converted)) == (["openvino.safetensors"], 2)
    assert kept.read_bytes() == of_the_file
    # It has not forgotten its own, and what is the file's is found again.
    for values in (bias.detach().clone(), first):
        with torch.no_grad():
            bias.copy_(values)
        model.runner()
    assert len(converted) == 2
    # Saved, the new weights are the file's.
    with torch.no_grad():
        bias.add_(torch.tensor([2.0, 0.0]))
    model.save(path)
    load(path, device="cpu", engine="openvino").runner()
    assert (len(converted), kept.read_bytes() != of_the_file) == (3, True)
    assert model.engines.keep("int8", Conversion(key, {})) == folder / "int8.safetensors"
    # Without the file the folder is nobody's.
    path.unlink()
    assert model.engines.keep("int8", Conversion(key, {})) is None


def test_a_model_file_tells_of_its_own_conversions_and_calls_others_stale(tmp_path):
    model, path = small_model(), tmp_path / "m.safetensors"
    model.save(path)
    key, shelf = model.engines.key_of(model.tile_network, 2), Shelf.beside(path)

    def told():
        settings, text = describe_model(path)
        lines = [line for line in text.splitlines() if line.startswith("engine")]
        return settings["engines"], settings["stale_engines"], [" ".join(line.split()) for line in lines]

    assert told() == ({}, [], [])
    facts = {"score": "mean Dice", "float": 0.91, "int8": 0.9, "data": "cells"}
    # What they say of themselves is as good as the model's own; the weights are not.
    shelf.write("int8", Conversion("0" * 64, {}, facts))
    shelf.write("openvino", Conversion(f"{'0' * 64} openvino 1", {}, {"openvino": "1"}))
    made_by = choice.key_by("onnxruntime", key)
    shelf.write("onnxruntime", Conversion(made_by, {}, {"torch": "1"}))
    stale = "stale: of other weights than the model's, or by an older version, and not used;"
    assert told() == (
        {"onnxruntime": {"torch": "1"}},
        ["openvino", "int8"],
        [
            "engine onnxruntime converted",
            f"engine openvino {stale} made anew when it is asked for",
            f"engine int8 {stale} make it anew with `ushape quantise`",
        ],
    )
    # One that another version made lies there, and would be made anew.
    shelf.write("onnxruntime", Conversion(f"{key} torch 1", {}, {"torch": "1"}))
    again = "engine onnxruntime converted by another version, and not used; made anew when it is asked for"
    assert (told()[0], told()[1], again in told()[2]) == ({}, ["openvino", "int8", "onnxruntime"], True)
    shelf.write("onnxruntime", Conversion(made_by, {}, {"torch": "1"}))
    shelf.write("int8", Conversion(key, {}, facts))
    line = "engine int8 quantised; mean Dice 0.9100 in float, 0.9000 in int8 on cells"
    assert (told()[0]["int8"], told()[1], told()[2][0]) == (facts, ["openvino"], line)
    # A copy that does not know its score is a copy all the same.
    for missing in facts:
        shelf.write("int8", Conversion(key, {}, {name: value for name, value in facts.items() if name != missing}))
        assert told()[2][0] == "engine int8 quantised; what it scored is not known"
    shelf.write("int8", Conversion(key, {}, facts | {"float": "high"}))
    assert told()[2][0] == "engine int8 quantised; what it scored is not known"


@WITH_OPENVINO
def test_auto_is_openvino_where_a_conversion_of_these_weights_lies(tmp_path, monkeypatch):
    path = small_model(precision="float32").save(tmp_path / "m.safetensors")
    model = load(path)
    assert isinstance(model.runner(), TorchEngine)
    model.engines.shelf.write("openvino", Conversion("of other weights", {}))
    assert isinstance(model.runner(), TorchEngine)
    load(path, engine="openvino").runner()
    model = load(path, device="cpu")
    assert (model.engine_meant(), model.computing()["engine"]) == ("openvino", "openvino")
    assert isinstance(model.runner().opening(), ConvertedEngine)
    assert isinstance(replace(model, engine="torch").runner(), TorchEngine)
    monkeypatch.setattr(ushape.model, "choose_device", lambda name: torch.device("cuda" if name == "auto" else name))
    assert replace(model, device="auto").engine_meant() == "torch"


def test_auto_does_without_an_openvino_that_does_not_work(tmp_path, monkeypatch):
    model = small_model()
    key = choice.key_by("openvino", model.engines.key_of(model.network, model.n_class_channels))
    model.engines.shelf.write("openvino", Conversion(key, {}))

    def missing():
        raise RecipeError("expected the package openvino, found none")

    monkeypatch.setattr(choice, "need_openvino", missing)
    assert isinstance(model.runner(), TorchEngine)
    assert model.for_pixels(1e12) is model


@WITH_OPENVINO
def test_a_conversion_pays_from_so_many_pixels_on():
    model = small_model()
    channels = model.network.settings["channels"]
    enough = choice.CONVERTING_PAYS / channels
    assert model.for_pixels(enough - 1) is model
    assert model.for_pixels(enough).engine == "openvino"
    # On a working grid of half the size there is a quarter of the work.
    coarse = small_model()
    coarse.network.settings["scale"] = 2
    assert coarse.for_pixels(4 * enough - 1) is coarse
    assert coarse.for_pixels(4 * enough).engine == "openvino"
    named = small_model(engine="torch")
    assert named.for_pixels(enough) is named
    classifier = small_classifier()
    assert classifier.for_pixels(1e12) is classifier


@WITH_OPENVINO
def test_many_images_are_converted_for_before_the_first_one(tmp_path, monkeypatch, converted):
    for index in range(3):
        write_png(tmp_path / "new" / f"{index}.png", noise(40, 50))
    path = small_model(precision="float32").save(tmp_path / "m.safetensors")
    monkeypatch.setattr(choice, "CONVERTING_PAYS", 3 * 40 * 50 * load(path).network.settings["channels"] + 1)
    words = []
    predict_files(load(path), [str(tmp_path / "new")], tmp_path / "few", say=words.append)
    assert (converted, [line for line in words if "converted" in line]) == ([], [])
    # Each image is looked at twice: twice as many pixels.
    predict_files(load(path), [str(tmp_path / "new")], tmp_path / "many", symmetries=2, say=words.append)
    assert (len(converted), sum(line.startswith("converted to OpenVINO in") for line in words)) == (1, 1)
    predict_files(load(path), [str(tmp_path / "new")], tmp_path / "again", say=words.append)
    assert (len(converted), load(path).computing()["engine"]) == (1, "openvino")


def eight_views(path, images, monkeypatch):
    """A model in a file that averages 8 copies, of which two images of 40 x 50 px are just worth a conversion."""
    for index in range(2):
        write_png(images / f"{index}.png", noise(40, 50))
    small_model(precision="float32", rotations=8).save(path)
    monkeypatch.setattr(choice, "CONVERTING_PAYS", 16 * 40 * 50 * load(path).network.settings["channels"])
    return load(path)


@WITH_OPENVINO
def test_each_averaged_copy_counts_and_what_is_done_does_not(tmp_path, monkeypatch, converted):
    model = eight_views(tmp_path / "m.safetensors", tmp_path / "new", monkeypatch)
    images = [str(tmp_path / "new")]
    assert predict_files(model, images, tmp_path / "one", symmetries=1)[2]["engine"] == "torch"
    assert predict_files(model, images[:1], tmp_path / "out", symmetries=4)[2]["engine"] == "torch"
    (tmp_path / "out" / "1.tif").unlink()
    # One image is left.
    assert predict_files(model, images, tmp_path / "out", resume=True)[2]["engine"] == "torch"
    assert converted == []
    assert predict_files(model, images, tmp_path / "all")[2]["engine"] == "openvino"
    assert len(converted) == 1


@WITH_OPENVINO
def test_the_engine_is_chosen_once_for_all_images(tmp_path, monkeypatch):
    model = eight_views(tmp_path / "m.safetensors", tmp_path / "new", monkeypatch)
    ran, predict = [], Model.predict

    def spied(self, image, **options):
        ran.append(self.engine)
        if len(ran) == 1:
            # As another process may do at any time.
            load(tmp_path / "m.safetensors", engine="openvino").runner()
        return predict(self, image, **options)

    monkeypatch.setattr(Model, "predict", spied)
    computing = predict_files(model, [str(tmp_path / "new")], tmp_path / "out", symmetries=1)[2]
    assert (ran, computing["engine"]) == (["torch", "torch"], "torch")
    assert model.engine_meant() == "openvino"


class KindOfItsOwn(Exception):  # noqa: N818
    """As those of OpenVINO's frontends, which are neither OSError nor RuntimeError."""


@WITH_OPENVINO
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("no memory"), KindOfItsOwn("?")]
)
def test_auto_goes_on_with_torch_where_a_conversion_fails(tmp_path, monkeypatch, error):
    model, words, tried = eight_views(tmp_path / "m.safetensors", tmp_path / "new", monkeypatch), [], []

    def fails(*given):
        tried.append(1)
        raise error

    monkeypatch.setattr(choice, "convert_to_openvino", fails)
    written, problems, computing = predict_files(model, [str(tmp_path / "new")], tmp_path / "out", say=words.append)
    assert (len(written), problems, computing["engine"], len(tried)) == (2, [], "torch", 1)
    assert [line for line in words if "PyTorch" in line] == words[:1]
    assert words[0] == f"OpenVINO could not be used, so PyTorch predicts: {error}"
    # By name it is refused, for each image.
    model = replace(model, engine="openvino")
    if isinstance(error, OSError):
        assert len(predict_files(model, [str(tmp_path / "new")], tmp_path / "named")[1]) == 2


@WITH_OPENVINO
def test_auto_goes_on_with_torch_where_a_conversion_cannot_be_compiled(tmp_path, monkeypatch):
    model, words = eight_views(tmp_path / "m.safetensors", tmp_path / "new", monkeypatch), []
    load(tmp_path / "m.safetensors", engine="openvino").runner()

    def fails(*given):
        raise RuntimeError("no such instruction")

    real = choice.OpenVinoRunner.request
    monkeypatch.setattr(choice.OpenVinoRunner, "request", fails)
    assert model.engine_meant() == "openvino"
    exact = replace(model, engine="torch").predict(noise(40, 50))
    np.testing.assert_array_equal(model.predict(noise(40, 50)).probabilities, exact.probabilities)
    assert (model.engine_meant(), model.computing()["engine"]) == ("torch", "torch")
    assert model.for_pixels(1e12) is model
    model = load(tmp_path / "m.safetensors")
    written, problems, computing = predict_files(model, [str(tmp_path / "new")], tmp_path / "out", say=words.append)
    assert (len(written), problems, computing["engine"]) == (2, [], "torch")
    assert words[0] == "OpenVINO could not be used, so PyTorch predicts: no such instruction"
    # By name it fails.
    with pytest.raises(RuntimeError, match=r"^no such instruction$"):
        load(tmp_path / "m.safetensors", engine="openvino").predict(noise(40, 50))
    # What has been compiled works: a later failure is that of the image.
    monkeypatch.setattr(choice.OpenVinoRunner, "request", real)
    model = load(tmp_path / "m.safetensors")
    model.predict(noise(40, 50))
    monkeypatch.setattr(choice.OpenVinoRunner, "request", fails)
    with pytest.raises(RuntimeError, match=r"^no such instruction$"):
        model.predict(noise(40, 50))
    assert model.engine_meant() == "openvino"


@WITH_OPENVINO
def test_auto_converts_for_no_image_that_cannot_be_used(tmp_path, monkeypatch, converted):
    model = small_model(precision="float32")
    monkeypatch.setattr(choice, "CONVERTING_PAYS", 1)
    colour, grey = write_png(tmp_path / "a.png", noise(20, 24, 3)), write_png(tmp_path / "b.png", noise(20, 24))
    _, problems, _ = predict_files(model, [str(colour)], tmp_path / "none")
    assert (len(problems), converted) == (1, [])
    _, problems, computing = predict_files(model, [str(colour), str(grey)], tmp_path / "out")
    assert (len(problems), converted, computing["engine"]) == (1, [1], "openvino")


@WITH_OPENVINO
def test_a_settled_model_keeps_its_engine():
    model = small_model(precision="float32")
    before = model.settled()
    replace(model, engine="openvino").runner()
    assert (before.engine_meant(), model.engine_meant(), model.settled().engine) == ("torch", "openvino", "openvino")
    named = replace(model, engine="openvino")
    assert named.settled() is named


def test_pages_that_are_channels_count_once(tmp_path, monkeypatch):
    stack = tmp_path / "a.tif"
    tifffile.imwrite(stack, noise(3, 40, 50), photometric="minisblack")
    model = small_model(channels=3)
    asked = []
    monkeypatch.setattr(predicting, "converting_pays", lambda network, n: asked.append(n) or False)
    predict_files(model, [str(stack)], tmp_path / "out")
    assert asked == [40 * 50]
    # As pages of a model of grey images they are three.
    predict_files(small_model(), [str(stack)], tmp_path / "grey")
    assert asked[1:] == [3 * 40 * 50]


def test_a_wrong_wish_is_refused_before_files_are_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(predicting, "input_of", lambda *given: pytest.fail("a file was opened"))
    with pytest.raises(RecipeError, match=r"^expected --save to name"):
        predict_files(small_model(), [str(write_png(tmp_path / "a.png", noise(8, 9)))], tmp_path / "out", save=("x",))


def test_a_model_says_what_it_computes_with(monkeypatch):
    monkeypatch.setattr(ushape.model, "best_dtype", lambda device: torch.bfloat16)
    model = small_model()
    monkeypatch.setattr(model.engines, "seconds", lambda: (1.23456, 0.5))

    def said(**changes):
        return tuple(replace(model, **changes).computing().values())

    assert list(model.computing()) == ["engine", "precision", "converting_seconds", "compiling_seconds"]
    assert said() == said(engine="torch") == ("torch", "bfloat16", 0, 0)
    assert said(precision="float32") == ("torch", "float32", 0, 0)
    assert said(engine="openvino") == ("openvino", "bfloat16", 1.235, 0.5)
    assert said(engine="openvino", precision="float32") == ("openvino", "float32", 1.235, 0.5)
    assert said(engine="int8") == ("int8", "int8", 1.235, 0.5)
    assert said(engine="onnxruntime") == ("onnxruntime", "float32", 1.235, 0.5)


def test_a_wrong_engine_is_told_once_and_before_any_image():
    data = disc_dataset(2)
    with pytest.raises(RecipeError, match=r"^expected an engine out of .* found 'abacus'; choose one$"):
        small_model("instances", engine="abacus").evaluate(data)
    with pytest.raises(RecipeError, match=r"^expected a network quantised to int8 beside the model, found none"):
        small_model("instances", engine="int8").evaluate(data)
    with pytest.raises(RecipeError, match=r"^expected the device cpu for the engine int8, found 'cuda'"):
        small_model("instances", engine="int8", device="cuda").predict(noise(9, 9))


@WITH_OPENVINO
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"save": ("nothing",)}, "^expected --save to name"),
        ({"format": "bmp"}, "^expected --format"),
        ({"symmetries": 3}, "^expected 1, 2, 4, 7 or 8 rotations, found 3"),
        ({"overwrite": True, "resume": True}, "^expected --overwrite or --resume, found both"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_converted(tmp_path, converted, options, complaint):
    model = small_model("instances", engine="openvino")
    with pytest.raises(RecipeError, match=complaint):
        predict_files(model, [write_png(tmp_path / "grey.png")], tmp_path / "out", **options)
    assert converted == []


@WITH_OPENVINO
def test_images_that_cannot_be_used_are_refused_before_anything_is_converted(tmp_path, converted):
    model, out = small_model("instances", engine="openvino"), tmp_path / "out"
    grey, colour = write_png(tmp_path / "grey.png"), write_png(tmp_path / "colour.png", noise(20, 24, 3))
    write_png(out / "grey.tif")
    written, problems, _ = predict_files(model, [tmp_path / "none.png", colour, grey], out)
    assert (written, converted) == ([], [])
    complaints = ["found nothing; check the path", "found 3 channels that differ", "found one from before"]
    assert all(complaint in problem for complaint, problem in zip(complaints, problems, strict=True))
    with pytest.raises(DataError, match="found instances; evaluate on data of the same kind"):
        small_model("semantic", engine="openvino").evaluate(disc_dataset(2))
    with pytest.raises(DataError, match="found 3 channels that differ"):
        small_classifier(engine="openvino").classify([noise(3, 9, 9)])
    assert converted == []
    written, problems, _ = predict_files(model, [colour, grey], tmp_path / "other")
    assert ([path.name for path in written], len(problems), converted) == (["grey.tif"], 1, [1])


def test_engines_of_the_cpu_stay_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert small_model(device="auto").hardware()[0].type == "cuda"
    assert small_model(device="auto", engine="openvino").hardware()[0].type == "cpu"
