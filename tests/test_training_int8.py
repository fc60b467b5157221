"""The int8 copy: made from what training learns from, judged on what it holds out, kept if it scores nearly as well.

NNCF itself is tested with `quantising`; what it gives is replaced here.
"""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import disc_dataset
from test_model import noise, small_model
from test_model_engines import WITH_OPENVINO, small_classifier
from ushape.data.dataset import Dataset, Sample
from ushape.errors import DataError, RecipeError
from ushape.model import Model, Preparation, load
from ushape.model_file import describe_model
from ushape.prediction.conversions import Conversion
from ushape.prediction.openvino_engine import convert_to_openvino
from ushape.run import train_run
from ushape.targets.instances import Decision
from ushape.training import int8
from ushape.training.int8 import divided, quantise, tiles_to_calibrate, what_was_seen
from ushape.training.planning import make_plan
from ushape.training.recipe import write_recipe


def semantic_discs(n, seed=0):
    data = disc_dataset(n, seed)
    samples = tuple(replace(s, mask=lambda s=s: np.minimum(s.mask(), 1)) for s in data.samples)
    return replace(data, samples=samples, task="semantic")


def letters(n):
    samples = tuple(Sample(f"s{i:02}", lambda i=i: noise(1, 9 + i % 4, 12), label=i % 3) for i in range(n))
    return Dataset("letters", samples, "classification", ("a", "b", "c"))


def emptied(data, *kept):
    """The data, of which only the images with these numbers keep their objects."""
    empty = np.zeros((64, 64), np.int32)
    samples = tuple(s if i in kept else replace(s, mask=lambda: empty) for i, s in enumerate(data.samples))
    return replace(data, samples=samples)


# How data are divided.


def model_of(planned):
    """A model as training on the planned images makes it; its weights are random."""
    recipe = planned.recipe
    network = recipe.network.build(planned.summary.channels, recipe.encoding.n_channels, planned.summary.dims)
    facts = {"recipe": write_recipe(recipe), "data fingerprint": planned.fingerprint}
    summary = planned.summary
    return Model(
        network, Preparation(), summary.task, summary.classes, recipe.encoding, Decision(min_size=3), facts, "cpu"
    )


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        (disc_dataset(10), ()),
        (disc_dataset(10), ("validation=0.34",)),
        (disc_dataset(3), ()),
        (disc_dataset(1), ()),
        (emptied(disc_dataset(4), 2), ()),
        (emptied(disc_dataset(6), 0, 2), ()),
        (semantic_discs(6), ()),
        (letters(30), ("validation=0.4",)),
    ],
    ids=["ten", "a third", "three", "one", "one with objects", "two with objects", "classes", "letters"],
)
def test_the_images_that_judge_are_those_that_training_held_out(data, settings):
    planned = make_plan(data, settings=settings)
    division = divided(model_of(planned), data)
    for part, examples in ((division.calibration, planned.training), (division.judged, planned.validation)):
        assert [s.name for s in part.samples] == [e.sample.name for e in examples]
        for sample, example in zip(part.samples, examples, strict=True):
            np.testing.assert_array_equal(sample.read_image(), example.image)
            if data.task != "classification":
                np.testing.assert_array_equal(sample.read_reference(), example.mask)
    assert (division.note != "") == any("held out" in e.sample.name for e in planned.validation)
    assert (division.calibration.name, division.judged.name) == (data.name, f"{data.name}, held out")


def test_of_a_series_it_is_not_said_that_one_image_was_cut(monkeypatch):
    told = "The 10 images from disc0 on are numbered: the last 2 are held out."
    monkeypatch.setattr(int8, "hold_out", lambda data, examples, *_: (examples[:8], examples[8:], told))
    assert divided(small_model("instances"), disc_dataset(10)).note == told


def test_a_model_file_without_a_recipe_gets_the_usual_share():
    division = divided(small_model("instances"), disc_dataset(10))
    assert (len(division.calibration), [s.name for s in division.judged.samples]) == (8, ["disc2", "disc7"])


def test_what_training_judges_by_judges_here_whatever_else_there_is():
    data = disc_dataset(2)
    other = np.ones((64, 64), np.int32)
    data = replace(data, samples=tuple(replace(s, scored=False, reference=lambda: other) for s in data.samples))
    (judge,) = divided(small_model("instances"), data).judged.samples
    assert judge.scored
    np.testing.assert_array_equal(judge.read_reference(), data.samples[1].mask())


def test_files_that_cannot_be_read_are_told_and_the_others_divided():
    def broken():
        raise DataError("broken")

    data = disc_dataset(3)
    spoilt = replace(data, samples=(replace(data.samples[0], image=broken), *data.samples[1:]), problems=("one",))
    division = divided(small_model("instances"), spoilt)
    assert division.judged.problems == ("one", "broken (left out)")
    assert (len(division.calibration), len(division.judged)) == (1, 1)
    spoilt = replace(data, samples=tuple(replace(s, image=broken) for s in data.samples))
    with pytest.raises(
        DataError,
        match=r"^discs: expected annotated images to calibrate with and to judge on, found none that could be used "
        r"\(broken \(left out\), and 2 more\)$",
    ):
        divided(small_model("instances"), spoilt)
    with pytest.raises(DataError, match=r"found none that could be used; add masks$"):
        divided(small_model("instances"), replace(data, samples=()))


def test_data_of_another_kind_are_refused():
    with pytest.raises(DataError, match=r"^discs: expected data for semantic, as the model was trained for, found"):
        divided(small_model("semantic"), disc_dataset(3))


def test_it_is_told_when_the_judge_was_learnt():
    data, other = disc_dataset(3), disc_dataset(2, seed=50)
    model = small_model("instances", facts={"data fingerprint": data.fingerprint})
    assert what_was_seen(model, data, None) == ""
    assert what_was_seen(model, data, other) == ""
    assert what_was_seen(model, other, data).startswith("discs: the model was trained on these images")
    model.facts["refit from step"] = 100
    assert what_was_seen(model, data, None) == (
        "discs: the model has learnt from all of these images in the end, those held out included; judge by other "
        "images, with --val"
    )
    assert what_was_seen(model, data, other) == what_was_seen(model, other, None) == ""
    assert divided(model, data).judged.name == "discs, held out and learnt from in the end"
    assert divided(model, other).judged.name == "discs, held out"
    model.facts = {"data fingerprint": data.fingerprint, "validated on": "elsewhere"}
    assert what_was_seen(model, data, None) == (
        "discs: the model was trained on all of these images, because it was validated on elsewhere; judge by other "
        "images, with --val"
    )
    assert what_was_seen(model, other, None) == ""


@pytest.mark.parametrize("validation", [None, disc_dataset(1, seed=50)])
def test_a_model_remembers_what_it_was_validated_on(validation):
    settings = ["network.channels=4", "network.depth=2", "patch=[32, 32]"]
    done = train_run(
        disc_dataset(2), validation=validation, settings=settings, steps=1, device="cpu", keep_folder=False
    )
    assert done.model.facts["validated on"] == ("" if validation is None else "discs")


# What the ranges are taken from.


def test_tiles_are_taken_from_all_images_and_go_past_a_bad_one():
    def broken():
        raise DataError("broken")

    problems = []

    def count(dataset, **most):
        return sum(map(len, tiles_to_calibrate(model, dataset, problems, **most)))

    data, read = disc_dataset(6), []
    samples = [replace(s, image=lambda s=s: read.append(s.name) or s.image()) for s in data.samples]
    data = replace(data, samples=(replace(samples[0], image=broken), *samples[1:]))
    model = small_model(tile_size=44)
    assert count(data, most=3) == 2
    assert len(problems) == 1
    assert problems[0].startswith("disc0: ")
    assert read == ["disc2", "disc4"]
    # There are 256 tiles in each image; as many as fit are taken evenly from all of them.
    assert count(data.subset(data.samples[1:2])) == 128
    assert count(replace(data, samples=tuple(samples))) == 128
    assert count(data) == 128 - 21


# The copy.


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
            turned = convert_to_openvino(model.tile_network, model.n_class_channels, key)
            with torch.no_grad():
                model.network.head.weight.neg_()
                model.network.head.bias.neg_()
            return turned

        monkeypatch.setattr(int8, "quantise_graph", quantise_graph)
        monkeypatch.setattr(int8, "need_quantiser", lambda: None)
        return shown

    return install


@WITH_OPENVINO
def test_a_network_that_scores_as_well_is_kept(tmp_path, quantiser):
    shown, data = quantiser(), semantic_discs(3)
    path = small_model(precision="float32").save(tmp_path / "m.safetensors")
    model = load(path, device="cpu")
    found = quantise(model, data)
    assert (found.score, found.bound, found.accepted) == ("mean Dice", 0.005, True)
    held_out = data.subset(data.samples[2:])
    assert found.before == model.evaluate(held_out).scores["mean Dice"]
    assert abs(found.drop) < 1e-4
    assert found.path == tmp_path / "m.safetensors.engines" / "int8.safetensors"
    assert (found.tiles, found.calibrated, found.judged, found.note) == (2, 2, 1, "")
    # The ranges come from the other two images.
    assert all(model.tile_geometry.is_legal(n) for tile in shown[0] for n in tile.shape[1:])
    prepared = [model.preparation(s.read_image()) for s in data.samples]
    covered = [[bool(np.isin(image, tile).all()) for image in prepared] for tile in shown[0]]
    assert covered == [[True, False, False], [False, True, False]]
    by_int8 = load(path, device="cpu", engine="int8")
    assert by_int8.evaluate(held_out).scores["mean Dice"] == found.after
    settings, text = describe_model(path)
    facts = settings["engines"]["int8"]
    assert (facts["data"], facts["float"], facts["calibrated"], facts["judged"]) == (
        "discs, held out",
        found.before,
        2,
        1,
    )
    line = f"quantised; mean Dice {found.before:.4f} in float, {found.after:.4f} in int8 on discs, held out"
    assert re.search(rf"^engine int8 +{re.escape(line)}$", text, re.MULTILINE)
    # A model of other weights in the same place has nothing that was quantised.
    with torch.no_grad():
        model.network.head.bias.add_(1)
    model.save(path)
    settings, text = describe_model(path)
    assert (settings["engines"], settings["stale_engines"]) == ({}, ["int8"])
    assert "in int8" not in text
    with pytest.raises(RecipeError, match=r"found one of other weights or by an older version; make it with: ushape"):
        load(path, device="cpu", engine="int8").evaluate(data)


@WITH_OPENVINO
def test_other_images_judge_where_they_are_named(tmp_path, quantiser):
    shown, model = quantiser(), small_model(precision="float32")
    data, other = semantic_discs(3), replace(semantic_discs(2, seed=50), name="other", problems=("gone",))
    data = replace(data, problems=("broken",))
    found = quantise(model, data, other)
    assert (found.calibrated, found.judged, len(shown[0])) == (3, 2, 3)
    assert found.before == model.evaluate(other).scores["mean Dice"]
    assert found.problems == ("broken", "gone")
    assert model.engines.shelf.read("int8").facts["data"] == "other"


@WITH_OPENVINO
def test_images_that_calibrate_nothing_are_told_where_others_judge(quantiser):
    def broken():
        raise DataError("broken")

    quantiser()
    data, other = semantic_discs(3), semantic_discs(1, seed=50)
    data = replace(data, samples=(replace(data.samples[0], image=broken), *data.samples[1:]), problems=("before",))
    found = quantise(small_model(precision="float32"), data, other)
    assert (found.calibrated, found.judged, found.problems) == (2, 1, ("before", "disc0: broken"))


def test_images_that_have_no_score_cannot_judge(quantiser):
    """With some of its objects missing in each mask, nothing is known about what else is found."""
    shown, data = quantiser(), disc_dataset(3)
    partial = replace(data, samples=tuple(replace(s, complete=False) for s in data.samples), name="partial")
    with pytest.raises(DataError, match=r"^partial: expected images that .* by AP@0\.5:0\.95, .* with --val$"):
        quantise(small_model("instances", precision="float32"), data, partial)
    assert not shown


@WITH_OPENVINO
def test_the_copy_is_compared_with_pytorch_whatever_the_model_is_run_by(quantiser, monkeypatch):
    quantiser()
    model, data, run = small_model(precision="float32"), semantic_discs(2), []
    quantise(model, data)
    real = Model.evaluate

    def evaluate(self, dataset, **options):
        run.append(type(self.runner()).__name__)
        return real(self, dataset, **options)

    monkeypatch.setattr(Model, "evaluate", evaluate)
    quantise(replace(model, engine="int8"), data)
    assert run == ["TorchEngine", "ConvertedEngine"]


@WITH_OPENVINO
def test_a_single_image_is_cut(quantiser):
    shown, data = quantiser(), semantic_discs(1)
    found = quantise(small_model(precision="float32"), data)
    assert (found.calibrated, found.judged, len(shown[0])) == (1, 1, 1)
    assert found.note == (
        "one image: calibrated with the part that training learns from first, judged on the quarter that it holds out"
    )


@WITH_OPENVINO
def test_a_network_that_scores_worse_is_not_kept(tmp_path, quantiser):
    model = load(small_model(precision="float32").save(tmp_path / "m.safetensors"), device="cpu")
    data = semantic_discs(2)
    # Whatever this network says is right, so that its opposite is wrong.
    said = {s.name: model.predict(s.read_image(), axes="CYX").labels for s in data.samples}
    data = replace(data, samples=tuple(replace(s, mask=lambda s=s: said[s.name]) for s in data.samples))
    quantiser(spoil=True, model=model)
    found = quantise(model, data, data, bound=0.3)
    assert found.before > 0.9
    assert found.after < 0.6
    assert (found.accepted, found.path) == (False, None)
    assert not model.engines.shelf.has("int8")


@WITH_OPENVINO
def test_a_model_without_a_file_keeps_it_in_memory(quantiser):
    quantiser()
    model, data = small_model(precision="float32"), semantic_discs(2)
    found = quantise(model, data)
    assert (found.accepted, found.path) == (True, None)
    by_int8 = replace(model, engine="int8")
    assert by_int8.evaluate(data.subset(data.samples[1:])).scores["mean Dice"] == found.after


@WITH_OPENVINO
def test_a_classifier_is_quantised_on_whole_images(quantiser):
    shown, model = quantiser(), small_classifier(precision="float32")
    samples = tuple(Sample(f"s{i}", lambda i=i: noise(1, 9 + i, 12), label=i % 3) for i in range(4))
    data = Dataset("letters", samples, "classification", model.classes)
    found = quantise(model, data, letters(6))
    assert (found.score, found.accepted, found.judged) == ("accuracy", True, 6)
    assert [example.shape for example in shown[0]] == [(1, 10, 12), (1, 10, 12), (1, 12, 12), (1, 12, 12)]


def test_images_that_the_model_cannot_take_calibrate_nothing(quantiser):
    quantiser()
    data = semantic_discs(2)
    colours = tuple(replace(s, image=lambda: noise(3, 64, 64)) for s in data.samples)
    with pytest.raises(
        DataError,
        match=r"^discs: expected images to calibrate with, found none that could be used; take images of the kind that "
        r"the model was trained on$",
    ):
        quantise(small_model(), replace(data, samples=colours), data)


@pytest.mark.parametrize("bound", [0, 1, -0.1, float("nan")])
def test_a_bound_that_makes_no_sense_is_refused(bound):
    with pytest.raises(RecipeError, match=r"^expected a bound between 0 and 1, found .*; 0.005 is the usual one$"):
        quantise(small_model(), semantic_discs(1), bound=bound)
