import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from ushape.data.dataset import Dataset, Sample
from ushape.errors import RecipeError
from ushape.model import Model, load
from ushape.network.classifier import Classifier
from ushape.network.skips import without_skips
from ushape.network.unet import UNet
from ushape.picture import inside
from ushape.picture.inside import (
    features_plate,
    place_to_ask,
    receptive_field_plate,
    saliency_plate,
    skip_losses,
    skip_scores,
    skips_plate,
)
from ushape.prediction.packages import is_there
from ushape.preparation import Preparation
from ushape.targets.instances import Decision
from ushape.targets.maps import Encoding

SIZES = {2: (40, 48), 3: (6, 16, 20)}


def segmenter(dims: int = 2, kind: str = "semantic", **settings) -> Model:
    torch.manual_seed(0)
    encoding = Encoding(kind)
    network = UNet(
        **({"n_classes": encoding.n_channels, "channels": 4, "depth": 2, "padding": "same", "dims": dims} | settings)
    )
    task = "semantic" if kind == "semantic" else "instances"
    classes = ("background", "cell")
    preparation = Preparation(dims=dims)
    return Model(network.eval(), preparation, task, classes, encoding, Decision(), device="cpu", precision="float32")


def classifier(head: str = "decoder", size: tuple[int, int] | None = None) -> Model:
    torch.manual_seed(0)
    network = Classifier(1, 3, 4, 2, head=head).eval()
    preparation = Preparation(size=size)
    return Model(
        network, preparation, "classification", ("cat", "dog", "cow"), Encoding("label", 3), Decision(), device="cpu"
    )


def image_of(dims: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, SIZES[dims]).astype(np.uint8)


AXES = {2: "YX", 3: "ZYX"}


@pytest.mark.parametrize("dims", [2, 3])
def test_every_picture_of_a_segmenter(dims):
    model, image, axes = segmenter(dims), image_of(dims), AXES[dims]
    for plate in (
        features_plate(model, image, axes=axes, n=2, width=800),
        receptive_field_plate(model, image, axes=axes, n_places=2, width=800),
        saliency_plate(model, image, axes=axes, n_samples=2, width=800),
        skips_plate(model, image, axes=axes, width=800),
    ):
        assert plate.picture.ndim == 3
        assert plate.picture.shape[2] == 3
        assert plate.picture.dtype == np.uint8
        assert plate.caption.endswith(".")


@pytest.mark.parametrize("head", ["decoder", "bottom"])
@pytest.mark.parametrize("size", [None, (16, 16)])
def test_every_picture_of_a_classifier(head, size):
    model, image = classifier(head, size), image_of()
    assert "Feature maps" in features_plate(model, image, n=2, width=800).caption
    assert "as zeros" in receptive_field_plate(model, image, (0, 0), n_places=2, width=800).caption
    given = model.classes[int(model.predict(image).labels)]
    plate = saliency_plate(model, image, n_samples=1, width=800)
    assert plate.caption.startswith(f'The decision: the class of the image is "{given}".')
    chosen = saliency_plate(model, image, target=2, n_samples=1, width=800)
    assert chosen.caption.startswith('The decision: the class of the image is "cow".')


def test_the_object_at_a_pixel_is_asked_about(monkeypatch):
    model = segmenter()
    labels = np.zeros((40, 48), np.int32)
    labels[2:8, 3:9], labels[20:30, 20:30] = 1, 1
    monkeypatch.setattr(model, "maps", lambda image: np.stack([1.0 - labels, labels]).astype(np.float32))
    seen = {}
    monkeypatch.setattr(inside, "draw_saliency", lambda *args, **options: seen.update(options))
    saliency_plate(model, image_of(), (4, 4), n_samples=1)
    expected = np.zeros((40, 48), bool)
    expected[2:8, 3:9] = True
    np.testing.assert_array_equal(seen["where"], expected)
    # Without a pixel it is the one near the middle.
    saliency_plate(model, image_of(), n_samples=1)
    assert seen["where"][25, 25]
    assert not seen["where"][4, 4]


@pytest.mark.parametrize("place", [(40, 4), (4, 48), (-1, 4), (5,), (1, 2, 3)])
def test_a_pixel_outside_the_image_cannot_be_asked_about(place):
    found = ",".join(map(str, place))
    with pytest.raises(RecipeError, match=rf"expected a pixel of the image, .* 40 x 48, found {found}; choose another"):
        saliency_plate(segmenter(), image_of(), place, n_samples=1)


def test_a_place_to_ask():
    labels = np.zeros((9, 11), np.int32)
    assert place_to_ask(labels) == (4, 5)
    labels[1, 1], labels[6, 7] = 3, 1
    assert place_to_ask(labels) == (6, 7)


def test_losses_are_predictions_without_a_skip():
    model, image = segmenter(depth=3), image_of()
    losses = skip_losses(model, image)
    assert [loss.levels for loss in losses] == [(), (0,), (1,), (0, 1)]
    np.testing.assert_array_equal(losses[0].labels, model.predict(image).labels)
    assert losses[0].changed == 0
    for loss in losses[1:]:
        assert loss.changed == np.mean(loss.labels != losses[0].labels)
        assert loss.scores == {}
    assert max(loss.changed for loss in losses) > 0
    # Everything is as before.
    np.testing.assert_array_equal(losses[0].labels, model.predict(image).labels)


@pytest.mark.skipif(not is_there("openvino"), reason="openvino is not installed")
def test_losses_are_the_same_beside_a_conversion(tmp_path):
    model, image = segmenter(depth=3), image_of()
    model.save(tmp_path / "m.safetensors")
    before = [loss.changed for loss in skip_losses(load(tmp_path / "m.safetensors"), image)]
    load(tmp_path / "m.safetensors", engine="openvino").runner()
    model = load(tmp_path / "m.safetensors")
    assert model.engine_meant() == "openvino"
    assert [loss.changed for loss in skip_losses(model, image)] == before
    assert [loss.changed for loss in skip_losses(replace(model, engine="openvino"), image)] == before
    assert max(before) > 0
    whole = model.predict(image).probabilities
    with without_skips(model.network, 0):
        assert model.engine_meant() == "torch"
        assert np.abs(model.predict(image).probabilities - whole).max() > 0.01
        # By name it would compute with the skip, or keep the cut network as the whole one.
        with pytest.raises(
            RecipeError, match=r"^expected a network as it was trained for an engine other than torch, found"
        ):
            replace(model, engine="openvino").predict(image)


def test_losses_are_those_of_one_look(monkeypatch):
    model, looked = segmenter(depth=2), []
    model = replace(model, rotations=8)
    maps = Model.maps

    def spied(self, image, **options):
        looked.append(options.get("symmetries"))
        return maps(self, image, **options)

    monkeypatch.setattr(Model, "maps", spied)
    skip_losses(model, image_of())
    features_plate(model, image_of())
    assert looked == [1] * 3


def test_a_skip_that_nobody_reads_is_no_loss():
    model, image = segmenter(depth=3), image_of()
    with torch.no_grad():
        model.network.up[-1].block[0].weight[:, :4] = 0
    losses = skip_losses(model, image, reference=model.predict(image).labels)
    assert losses[1].changed == 0
    assert losses[1].scores == losses[0].scores == {"mean Dice": 1.0}
    assert losses[2].changed > 0


def test_one_skip_is_not_cut_twice():
    assert [loss.levels for loss in skip_losses(segmenter(depth=2), image_of())] == [(), (0,)]


def test_objects_are_counted_and_scored():
    model, image = segmenter(kind="distance", depth=3), image_of()
    reference = np.zeros((40, 48), np.int32)
    reference[4:10, 4:10] = 1
    plate = skips_plate(model, image, reference, filling="mean", width=800)
    assert re.search(r"Without skip 0: .* % of the pixels change, \d+ objects become \d+; AP@0.5 0\.", plate.caption)


def test_scores_of_a_data_set():
    image = image_of()[None]
    samples = tuple(Sample(f"s{k}", lambda: image, label=k) for k in range(3))
    dataset = Dataset("pets", samples, "classification", ("cat", "dog", "cow"))
    rows = skip_scores(classifier(), dataset)
    assert [row["skips"] for row in rows] == ["all", "without 0"]
    assert rows[0]["accuracy"] == pytest.approx(1 / 3)


def test_a_classifier_has_no_labels_to_lose():
    words = "^expected a segmenter, found a classifier; use skip_scores on a data set to see what is lost$"
    with pytest.raises(RecipeError, match=words):
        skip_losses(classifier(), image_of())


def test_a_network_without_skips():
    words = "^expected a network with skips to cut, found one without; choose a deeper one, or one with a way up$"
    with pytest.raises(RecipeError, match=words):
        skip_losses(segmenter(depth=1), image_of())
