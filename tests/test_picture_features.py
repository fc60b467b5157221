import re

import numpy as np
import pytest
import torch

from ushape.errors import DataError, RecipeError
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet
from ushape.picture import features
from ushape.picture.canvas import Box, Text, overlaps
from ushape.picture.features import choose_channels, feature_sheet
from ushape.picture.plate import colour_map
from ushape.prediction.features import feature_maps


def maps_of(network, *size: int):
    torch.manual_seed(1)
    image = torch.rand(network.in_channels, *size).numpy()
    return image, feature_maps(network.eval(), image)


def unet(**settings) -> UNet:
    torch.manual_seed(0)
    return UNet(**({"channels": 4, "depth": 3, "padding": "same", "dropout": 0.0} | settings))


def test_the_most_different_channels_by_hand():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6, 7))
    # The strongest first, then what it does not explain; a copy and a constant say nothing new.
    values = np.stack([np.full((6, 7), 50.0), a, 3 * a + 9, b])
    assert choose_channels(values, 2) == [2, 3]
    assert choose_channels(values, 9)[:2] == [2, 3]
    assert sorted(choose_channels(values, 9)) == [0, 1, 2, 3]
    assert choose_channels(values, 2, "first") == [0, 1]


def test_many_places_are_thinned_out_evenly():
    values = np.zeros((3, 200, 200))
    values[1, :, 100:] = 1
    values[2, :50] = 0.1
    assert choose_channels(values, 3) == [1, 2, 0]


def test_an_unknown_order():
    words = "^expected the order 'different' or 'first' of channels, found 'best'; choose one of the two$"
    with pytest.raises(RecipeError, match=words):
        choose_channels(np.zeros((2, 3, 3)), 1, "best")


NETWORKS = {
    "default": (UNet, {"channels": 4, "depth": 5, "padding": "same"}, (64, 64)),
    "without padding": (UNet, {"channels": 4, "depth": 5, "padding": "valid"}, (40, 60)),
    "one level": (UNet, {"channels": 4, "depth": 1, "padding": "valid"}, (30, 30)),
    "few channels": (UNet, {"channels": 2, "depth": 2, "padding": "same"}, (48, 16)),
    "wide": (UNet, {"channels": 4, "depth": 3, "padding": "same", "n_classes": 4}, (20, 300)),
    "classifier": (Classifier, {"channels": 8, "depth": 3}, (28, 28)),
    "classifier of the bottom": (Classifier, {"channels": 8, "depth": 3, "head": "bottom"}, (28, 28)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_lies_on_anything_else(name, monkeypatch):
    build, settings, size = NETWORKS[name]
    torch.manual_seed(0)
    image, maps = maps_of(build(1, **settings), *size)
    seen = {}

    def look(drawing, insets, width):
        seen.update(drawing=drawing, insets=insets)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(features, "compose", look)
    answer = np.zeros((*size, 3), np.uint8) if build is UNet else None
    feature_sheet(image, maps, answer=answer, said="12 objects")
    drawing, insets = seen["drawing"], seen["insets"]
    boxes = [Box(inset.x, inset.y, inset.width, inset.height) for inset in insets]
    texts = [shape for shape in drawing.shapes if isinstance(shape, Text)]
    assert list(overlaps(boxes, boxes)) == []
    assert list(overlaps(boxes, drawing.shapes)) == []
    assert list(overlaps(texts, texts)) == []
    for box in boxes:
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= drawing.width
        assert box.y + box.height <= drawing.height
    assert {found.name for found in maps} <= {text.words for text in texts}


def test_each_block_shows_its_values_on_its_own_scale(monkeypatch):
    image, maps = maps_of(unet(channels=8), 16, 16)
    seen = []
    monkeypatch.setattr(features, "compose", lambda drawing, insets, width: seen.extend(insets) or np.zeros((1, 1, 3)))
    feature_sheet(image, maps, n=2, order="first")
    # The image, then for each block its panels and its ramp; two panels at the sides, twice as many at the bottom.
    pictures = [inset.picture for inset in seen][1:]
    for found in maps:
        room = 4 if found.name == "bottom" else 2
        block, pictures = pictures[: room + 1], pictures[room + 1 :]
        top = np.percentile(found.values[:room], 99.5)
        assert top > 0
        for picture, values in zip(
            block[-room - 1 :], [*found.values[:room], np.linspace(0, top, 64)[None]], strict=True
        ):
            np.testing.assert_array_equal(picture, colour_map(values, top))
    assert pictures == []


def test_the_sheet_is_as_wide_as_asked_and_holds_the_image():
    image, maps = maps_of(unet(), 16, 16)
    plate = feature_sheet(np.zeros_like(image), maps, width=900, title="Look")
    assert plate.picture.shape[1] == 900
    assert plate.picture.dtype == np.uint8
    # An image of one value is mid grey.
    assert (plate.picture == 128).all(axis=-1).sum() > 50 * 50


def test_the_words_say_what_the_network_says():
    network = unet(padding="valid", depth=2)
    image, maps = maps_of(network, 40, 40)
    maps[0].values[1] = 0
    facts = features._facts(maps[0])
    assert facts.startswith("4 channels, 40×40, each value sees 5 px, ")
    assert re.search(r"(\d+) silent$", facts)
    assert "each value sees 16–18 px" in features._facts(maps[-1]) or "each value sees 18 px" in features._facts(
        maps[-1]
    )
    caption = feature_sheet(image, maps).caption
    assert "are called silent (down 0" in caption
    assert "each the one that those before it explain least" in caption
    assert "the first channels" in feature_sheet(image, maps, order="first").caption


def test_a_volume_must_be_cut():
    network = unet(dims=3, depth=2)
    image, maps = maps_of(network, 8, 16, 16)
    words = "found those of a volume; take the planes of one slice with FeatureMap.plane$"
    with pytest.raises(DataError, match=words):
        feature_sheet(image[:, 0], maps)
    planes = [found.plane(4) for found in maps]
    assert feature_sheet(image[:, 4], planes).picture.ndim == 3
