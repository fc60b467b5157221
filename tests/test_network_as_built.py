"""Tests of what may be done with a network only as long as it is what its settings say."""

import threading
from functools import partial

import pytest
import torch
from torch import nn

from ushape.network.as_built import geometry_without_padding, is_altered, settings_without_padding, without_padding
from ushape.network.classifier import Classifier
from ushape.network.skips import without_skips
from ushape.network.unet import UNet

NORMS = ["none", "batch", "instance", "group"]


def padded(norm="batch", **settings):
    return UNet(channels=4, depth=3, padding="same", norm=norm, **settings).eval()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dims", [2, 3])
def test_what_was_built_and_moved_is_not_altered(norm, dims):
    for padding in ("same", "valid"):
        network = UNet(channels=4, depth=2, padding=padding, norm=norm, dims=dims, scale=2)
        assert is_altered(network) is False
        network.load_state_dict(UNet(**network.settings).state_dict())
        assert not is_altered(network.double().eval())
    for head in ("decoder", "bottom"):
        assert not is_altered(Classifier(channels=4, depth=2, norm=norm, dims=dims, head=head))


class Residual(UNet):
    """Adds its input."""

    def core(self, images):
        return super().core(images) + images


def hooked(network):
    network.down[1].register_forward_hook(lambda module, images, maps: 2 * maps)


def compiled(network):
    network.compile(backend="eager")


def wrapped(network):
    network.forward = partial(lambda forward, images: forward(images) * 2, network.forward)


def reflecting(network):
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.padding_mode = "reflect"


def with_another_norm(network):
    network.bottom[1] = nn.InstanceNorm2d(16, affine=True)


def with_another_padding(network):
    network.bottom[0].padding = (0, 0)


def without_head(network):
    network.head = nn.Identity()


CHANGES = [hooked, compiled, wrapped, reflecting, with_another_norm, with_another_padding, without_head]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_network_keeps_its_padding(change):
    network = padded()
    assert geometry_without_padding(network) != network.geometry
    change(network)
    assert is_altered(network)
    assert without_padding(network) is network
    assert geometry_without_padding(network) is network.geometry


def test_a_subclass_keeps_its_padding():
    network = Residual(channels=4, depth=3, padding="same", norm="batch")
    assert is_altered(network)
    assert without_padding(network) is network


def test_cut_skips_are_an_alteration_while_they_last():
    network = padded()
    with without_skips(network, 0):
        assert is_altered(network)
    assert not is_altered(network)


def test_the_inside_is_the_same():
    network = padded()
    bare = without_padding(network)
    images = torch.randn(2, 1, 64, 72)
    lost, shift = bare.geometry.lost, bare.geometry.shift
    with torch.no_grad():
        inner = bare(images[:, :, shift : 64 - 4 + shift, shift : 72 - 4 + shift])
        whole = network(images)
    begin = shift + lost
    same = whole[:, :, begin : begin + inner.shape[2], begin : begin + inner.shape[3]]
    assert inner.shape == (2, 2, 20, 28)
    assert torch.allclose(inner, same, atol=1e-5)
    # Two pixels further the poolings would be others.
    with torch.no_grad():
        elsewhere = bare(images[:, :, :60, :68])
    assert not torch.allclose(elsewhere, whole[:, :, lost : lost + 20, lost : lost + 28], atol=1e-3)


def test_the_weights_are_shared_and_nothing_is_drawn():
    network, state = padded(), torch.get_rng_state()
    bare = without_padding(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert bare.settings == settings_without_padding(network.settings) == network.settings | {"padding": "valid"}
    assert network.settings["padding"] == network.geometry.padding == "same"
    assert network.down[0][0].padding == (1, 1)
    assert geometry_without_padding(network) == bare.geometry
    assert {n: t.data_ptr() for n, t in bare.state_dict().items()} == {
        n: t.data_ptr() for n, t in network.state_dict().items()
    }
    with torch.no_grad():
        network.head.bias.fill_(7)
    assert bare.head.bias.tolist() == [7, 7]
    # PyTorch's count of changes, by which a conversion is known to be of older weights, is shared too.
    assert bare.head.bias._version == network.head.bias._version > 0
    # Statistics are exchanged, and not changed in place, when a network becomes another type.
    network.double()
    assert bare.down[0][1].running_mean.dtype == bare.head.bias.dtype == torch.float64


def test_each_has_a_mode_of_its_own():
    network = padded()
    bare = without_padding(network)
    assert (bare.training, without_padding(network.train()).training) == (False, True)
    bare.train(False)
    assert network.training
    assert network.bottom.training


def test_whatever_else_lies_in_the_network_is_let_be():
    network = padded()
    network.lock = threading.Lock()
    network.last = torch.ones(1, requires_grad=True) * 2
    assert without_padding(network).lock is network.lock


def test_networks_that_would_differ_keep_their_padding():
    for norm in ("instance", "group"):
        network = padded(norm)
        assert without_padding(network) is network
        assert geometry_without_padding(network) is network.geometry
    valid = UNet(channels=4, depth=3)
    assert without_padding(valid) is valid
    classifier = Classifier(channels=4, depth=2)
    assert without_padding(classifier) is classifier
