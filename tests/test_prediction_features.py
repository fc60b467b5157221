import re

import numpy as np
import pytest
import torch

from ushape.errors import RecipeError
from ushape.geometry import Geometry
from ushape.network import unet
from ushape.network.as_built import without_padding
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet
from ushape.prediction.features import Cells, feature_maps, features, levels_of
from ushape.prediction.tiled import predict_whole

NETWORKS = {
    "padded": {"padding": "same", "depth": 4},
    "without padding": {"padding": "valid", "depth": 3},
    "one level": {"padding": "valid", "depth": 1},
    "coarser grid": {"padding": "same", "depth": 3, "scale": 2},
    "coarser grid without padding": {"padding": "valid", "depth": 4, "scale": 2},
}


def network_of(name: str, **more) -> UNet:
    torch.manual_seed(0)
    network = UNet(**({"in_channels": 1, "n_classes": 2, "channels": 3, "dropout": 0.0} | NETWORKS[name] | more))
    return network.eval()


def image_of(*size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, *size)).astype(np.float32)


def head_of(network: UNet, values: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network.head(torch.from_numpy(values)[None])[0].numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_names_channels_and_sizes(name):
    network, depth = network_of(name), NETWORKS[name]["depth"]
    maps = feature_maps(network, image_of(45, 70))
    down, up = [f"down {level}" for level in range(depth - 1)], [f"up {level}" for level in reversed(range(depth - 1))]
    assert [m.name for m in maps] == [*down, "bottom", *up]
    for m in maps:
        pitch = network.scale * 2**m.cells.level
        assert m.values.shape == (3 * 2**m.cells.level, -(-45 // pitch), -(-70 // pitch))
        assert m.values.dtype == np.float32
        assert m.values.min() >= 0


@pytest.mark.parametrize("name", [name for name in NETWORKS if "coarser" not in name])
def test_the_head_on_the_last_level_is_the_prediction(name):
    network, image = network_of(name), image_of(45, 70)

    def run(tiles: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(tiles)).numpy()

    logits = head_of(network, features(network, image))
    np.testing.assert_allclose(logits, predict_whole(run, image, network.geometry), atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_features_do_not_depend_on_the_tile(name):
    network, image = network_of(name), image_of(83, 61)
    whole = feature_maps(network, image, tile_size=1000)
    tiled = feature_maps(network, image, tile_size=network.geometry.smallest_tile)
    for one, other in zip(whole, tiled, strict=True):
        assert one.values.max() > 0
        np.testing.assert_allclose(one.values, other.values, rtol=1e-5, atol=1e-5, err_msg=one.name)


@pytest.mark.parametrize("name", [name for name, of in NETWORKS.items() if of["padding"] == "same"])
def test_the_same_weights_without_padding_have_the_same_features(name):
    network, image = network_of(name), image_of(83, 61)
    bare = without_padding(network)
    assert bare.geometry != network.geometry
    for one, other in zip(feature_maps(network, image), feature_maps(bare, image), strict=True):
        assert one.values.max() > 0
        np.testing.assert_allclose(other.values, one.values, rtol=1e-5, atol=1e-5, err_msg=one.name)
        for index in range(9):
            assert other.cells.context(index) == one.cells.context(index)


@pytest.mark.parametrize("name", NETWORKS)
def test_shifting_the_image_by_a_pitch_shifts_the_way_down_by_one(name):
    """A value belongs to its place in the image: found by moving the image, not by the module's arithmetic."""
    network = network_of(name)
    stride = network.geometry.stride
    wide = image_of(96, 96 + stride)
    for here, moved in zip(
        feature_maps(network, wide[:, :, :96]), feature_maps(network, wide[:, :, stride:]), strict=True
    ):
        steps = stride // here.cells.pitch
        # In the middle, far from both frames' mirrors.
        edge = -(-network.geometry.reach // here.cells.pitch) + 1
        a, b = here.values[:, :, edge + steps : -edge], moved.values[:, :, edge : -edge - steps]
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=here.name)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_value_depends_on_exactly_its_context(name, monkeypatch):
    """Which pixels reach a value is asked of the network, and compared with the module's arithmetic."""
    # Pooling by the mean, positive weights and a positive image: no path is closed and nothing cancels.
    monkeypatch.setattr(unet, "POOL", {2: torch.nn.functional.avg_pool2d})
    network = network_of(name, channels=1, depth=min(3, NETWORKS[name]["depth"])).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.abs() + 0.01)
    geometry = network.geometry
    n, read = 2 * geometry.stride, geometry.legal_at_least(6 * geometry.stride + 2 * geometry.reach)
    start = -(geometry.reach + geometry.stride) // geometry.stride * geometry.stride
    image = torch.ones(1, 1, read, read, dtype=torch.float64, requires_grad=True)
    for side, level, maps in levels_of(network, image):
        cells = Cells(geometry, side, level)
        first, row = cells.first(start), maps.shape[2] // 2
        for index in range(cells.count(n)):
            (gradient,) = torch.autograd.grad(maps[0, 0, row, first + index], image, retain_graph=True)
            seen = np.flatnonzero(gradient[0, 0].sum(dim=0).numpy()) + start
            assert (seen.min(), seen.max() + 1) == cells.context(index)


def test_the_context_of_the_last_level_is_that_of_the_geometry():
    for depth in range(1, 6):
        for padding in ("valid", "same"):
            for scale in (1, 2, 3):
                geometry = Geometry(depth, padding, scale)
                cells = Cells(geometry, "up" if depth > 1 else "bottom", 0)
                for index in range(40):
                    assert cells.context(index) == geometry.context(index * scale, (index + 1) * scale)


def test_one_level_alone():
    network, image = network_of("padded"), image_of(32, 32)
    by_name = {m.name: m.values for m in feature_maps(network, image)}
    np.testing.assert_array_equal(features(network, image), by_name["up 0"])
    np.testing.assert_array_equal(features(network, image, 2), by_name["up 2"])
    np.testing.assert_array_equal(features(network, image, 2, "down"), by_name["down 2"])
    np.testing.assert_array_equal(features(network, image, 3), by_name["bottom"])
    np.testing.assert_array_equal(features(network, image, 3, "down"), by_name["bottom"])


@pytest.mark.parametrize("head", ["decoder", "bottom"])
def test_a_classifier_is_seen_by_hooks(head):
    torch.manual_seed(0)
    network = Classifier(1, 3, 4, 3, head=head).eval()
    image = image_of(28, 27)
    seen, hooks = {}, []
    for name, module in network.unet.named_modules():
        if name in ("down.0", "down.1", "bottom", "up.0", "up.1"):
            look = lambda module, inputs, output, name=name: seen.update({name: output[0].numpy()})  # noqa: E731
            hooks.append(module.register_forward_hook(look))
    with torch.no_grad():
        network(torch.from_numpy(image)[None])
    for hook in hooks:
        hook.remove()
    hooked = {"down 0": "down.0", "down 1": "down.1", "bottom": "bottom", "up 1": "up.0", "up 0": "up.1"}
    maps = feature_maps(network, image)
    assert [m.name for m in maps] == list(hooked)[: 3 if head == "bottom" else 5]
    for m in maps:
        # 28 rows fit; of the 27 columns one is added, and cut off where a whole column of values stands for it.
        columns = -(-27 // 2**m.cells.level)
        np.testing.assert_allclose(m.values, seen[hooked[m.name]][:, :, :columns], rtol=1e-4, atol=1e-5)


def test_a_volume_and_its_slices():
    network = network_of("padded", dims=3, depth=3)
    maps = feature_maps(network, image_of(9, 16, 20))
    assert [m.values.shape for m in maps] == [
        (3, 9, 16, 20),
        (6, 5, 8, 10),
        (12, 3, 4, 5),
        (6, 5, 8, 10),
        (3, 9, 16, 20),
    ]
    np.testing.assert_array_equal(maps[1].plane(8).values, maps[1].values[:, 4])
    np.testing.assert_array_equal(maps[2].plane(3).values, maps[2].values[:, 0])


def test_the_mode_of_the_network_is_kept():
    network = network_of("padded").train()
    features(network, image_of(16, 16))
    assert network.training


@pytest.mark.parametrize("level", [-1, 4, 0.5])
def test_a_level_that_is_not_there(level):
    words = f"expected a level from 0 (full resolution) to 3 (the bottom), found {level}; choose one of these"
    with pytest.raises(RecipeError, match=f"^{re.escape(words)}$"):
        features(network_of("padded"), image_of(16, 16), level)


def test_a_side_that_is_not_there():
    with pytest.raises(RecipeError, match=r"^expected side 'up' or 'down', found 'left'; choose one of the two$"):
        features(network_of("padded"), image_of(16, 16), 0, "left")


def test_a_classifier_of_the_bottom_has_no_way_up():
    words = (
        "expected level 2, because this classifier reads the bottom and has no way up, found level 1; take that "
        "level, or side='down'"
    )
    with pytest.raises(RecipeError, match=f"^{re.escape(words)}$"):
        features(Classifier(1, 3, 4, 3, head="bottom"), image_of(16, 16), 1)
