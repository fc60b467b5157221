"""A conversion is known by what it was made from, and is kept whole or not at all."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ushape.errors import RecipeError
from ushape.network.classifier import Classifier
from ushape.network.skips import without_skips
from ushape.network.unet import UNet
from ushape.prediction import conversions
from ushape.prediction.conversions import Conversion, Graph, Keys, Shelf, as_traced, key_of


def network(seed=0, **settings):
    torch.manual_seed(seed)
    return UNet(**{"channels": 4, "depth": 2, "padding": "same", "norm": "batch"} | settings)


def key(net, n=2):
    return key_of(net.settings, net.state_dict(), n)


CONVERSION = Conversion("k", {"xml": b"<net/>", "bin": bytes(range(256))}, {"openvino": "1"})


def test_the_key_is_of_weights_settings_and_classes():
    assert key(network()) == key(network())
    assert key(network(1)) != key(network())
    assert key(network(dropout=0.1)) != key(network(dropout=0.2))
    assert key(network(), 1) != key(network(), 2)
    # The layout in memory is not what the network computes.
    assert key(network().to(memory_format=torch.channels_last)) == key(network())


def test_a_key_is_hashed_anew_only_when_weights_change(monkeypatch):
    hashed = []
    real = conversions.key_of
    monkeypatch.setattr(conversions, "key_of", lambda *given: hashed.append(1) or real(*given))
    net, keys = network(), Keys()
    first = keys(net, 2)
    assert (keys(net, 2), len(hashed)) == (first, 1)
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    net(torch.ones(1, 1, 8, 8)).sum().backward()
    optimiser.step()
    second = keys(net, 2)
    assert (second != first, len(hashed)) == (True, 2)
    net.load_state_dict(network().state_dict())
    assert keys(net, 2) == first
    net.load_state_dict(network(1).state_dict(), assign=True)
    assert keys(net, 2) == key(network(1))


def test_a_network_that_hooks_change_has_no_key():
    net, keys = network(), Keys()
    whole = keys(net, 2)
    with without_skips(net, 0), pytest.raises(RecipeError, match=r"^expected a network as it was trained .* torch$"):
        keys(net, 2)
    assert keys(net, 2) == whole
    hook = net.head.register_forward_hook(lambda module, given, found: -found)
    with pytest.raises(RecipeError, match=r"found one that was changed, as by hooks that cut skips; choose"):
        keys(net, 2)
    hook.remove()
    assert keys(net, 2) == whole


def test_what_is_traced_is_in_evaluation_mode_and_the_mode_is_restored():
    net = network().train()
    with as_traced(net, 2) as (graph, example):
        assert isinstance(graph, Graph)
        assert not any(module.training for module in graph.modules())
        probabilities = graph(example)
    assert net.training
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, *probabilities.shape[2:]))
    assert len({*example.shape[2:]}) == 2


@pytest.mark.parametrize("head", ["decoder", "bottom"])
def test_a_classifier_is_the_same_without_its_checks(head):
    torch.manual_seed(0)
    net = Classifier(2, 3, 4, 3, head=head).eval()
    images = torch.randn(2, 2, 16, 24)
    torch.testing.assert_close(net.core(images), net(images), rtol=0, atol=0)


def test_a_shelf_gives_back_what_was_put_there(tmp_path):
    for shelf in (Shelf(), Shelf.beside(tmp_path / "model.safetensors")):
        assert (shelf.has("openvino"), shelf.read("openvino"), shelf.facts("openvino")) == (False, None, None)
        shelf.write("openvino", CONVERSION)
        assert shelf.has("openvino")
        assert shelf.read("openvino") == CONVERSION
        assert shelf.facts("openvino") == ("k", {"openvino": "1"})
        assert not shelf.has("int8")
    assert [path.name for path in tmp_path.rglob("*")] == ["model.safetensors.engines", "openvino.safetensors"]


def test_a_conversion_is_asked_for_by_its_key_in_memory_and_in_its_file(tmp_path):
    shelf = Shelf(tmp_path, owner=lambda: "mine")
    mine, other = (replace(CONVERSION, key=key) for key in ("mine openvino 1", "other openvino 1"))
    path = shelf.write("openvino", mine)
    assert path == tmp_path / "openvino.safetensors"
    before = path.read_bytes()
    # The folder belongs to other weights than these, which neither take the place of the others nor lose their own.
    assert shelf.write("openvino", other) is None
    assert path.read_bytes() == before
    for each in (mine, other):
        assert shelf.read("openvino", each.key) == each
        assert shelf.facts("openvino", each.key) == (each.key, each.facts)
    assert shelf.read("openvino", "mine openvino 2") is None
    assert shelf.facts("openvino", "mine openvino 2") is None
    newer = replace(mine, key="mine openvino 2")
    assert shelf.write("openvino", newer) == path
    assert Shelf(tmp_path).read("openvino") == newer


def test_the_file_holds_bytes_and_json_only(tmp_path):
    path = Shelf(tmp_path).write("openvino", CONVERSION)
    with safe_open(path, framework="np") as file:
        assert {name: file.get_tensor(name).dtype for name in file.keys()} == {  # noqa: SIM118
            "xml": np.uint8,
            "bin": np.uint8,
        }


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + b"\x00", lambda b: b"", lambda b: b"{}"]
)
def test_a_damaged_file_is_as_good_as_none(tmp_path, damage):
    shelf = Shelf(tmp_path)
    path = shelf.write("openvino", CONVERSION)
    path.write_bytes(damage(path.read_bytes()))
    assert shelf.read("openvino") is None
    shelf.write("openvino", CONVERSION)
    assert shelf.read("openvino") == CONVERSION


def test_tensors_of_another_program_are_no_conversion(tmp_path):
    from safetensors.numpy import save_file

    save_file({"xml": np.zeros(3, np.uint8)}, tmp_path / "openvino.safetensors")
    assert Shelf(tmp_path).read("openvino") is None
    assert Shelf(tmp_path).facts("openvino") is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    shelf = Shelf(tmp_path / "file" / "engines")
    assert shelf.write("openvino", CONVERSION) is None
    assert shelf.read("openvino") == CONVERSION
