"""The classifier: shapes, what it is made of, sizes that poolings cannot halve, exact messages."""

import pytest
import torch

from ushape.errors import RecipeError, SizeError
from ushape.network.classifier import Classifier, depth_for


@pytest.mark.parametrize("head", ["decoder", "bottom"])
@pytest.mark.parametrize(("dims", "size"), [(2, (8, 8)), (2, (13, 30)), (3, (8, 9, 10))])
def test_one_logit_for_each_class_whatever_the_size(head, dims, size):
    network = Classifier(3, 5, channels=4, depth=2, dims=dims, head=head)
    assert network(torch.randn(2, 3, *size)).shape == (2, 5)


def test_the_logits_are_the_mean_of_the_features_and_a_linear_layer():
    torch.manual_seed(0)
    network = Classifier(1, 3, channels=4, depth=3).eval()
    images = torch.randn(2, 1, 16, 16)
    features = network.unet.features(images)
    by_hand = features[-1].sum(dim=(2, 3)) / 256 @ network.linear.weight.T + network.linear.bias
    assert torch.allclose(network(images), by_hand, atol=1e-5)
    bottom = Classifier(1, 3, channels=4, depth=3, head="bottom").eval()
    by_hand = bottom.unet.contract(images)[1].mean(dim=(2, 3)) @ bottom.linear.weight.T + bottom.linear.bias
    assert torch.allclose(bottom(images), by_hand, atol=1e-5)


def test_the_working_scale_folds_blocks_into_channels():
    torch.manual_seed(0)
    network = Classifier(1, 3, channels=4, depth=2, scale=2).eval()
    assert (network.unet.down[0][0].in_channels, network.geometry.stride) == (4, 4)
    plain = Classifier(4, 3, channels=4, depth=2).eval()
    plain.load_state_dict(network.state_dict())
    image = torch.randn(1, 1, 8, 8)
    blocks = torch.stack([image[:, 0, row::2, column::2] for row in (0, 1) for column in (0, 1)], dim=1)
    assert torch.allclose(network(image), plain(blocks), atol=1e-6)


@pytest.mark.parametrize("head", ["decoder", "bottom"])
def test_every_weight_is_used(head):
    network = Classifier(1, 3, channels=4, depth=3, head=head)
    network(torch.randn(2, 1, 16, 16)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_padding_is_at_the_far_end_and_counts():
    network = Classifier(1, 2, channels=4, depth=2).eval()
    image = torch.randn(1, 1, 7, 6)
    padded = torch.zeros(1, 1, 8, 6)
    padded[:, :, :7] = image
    assert torch.equal(network(image), network(padded))


@pytest.mark.parametrize(
    ("size", "scale", "depth"),
    [((8, 8), 1, 2), ((28, 28), 2, 3), ((28, 28), 1, 4), ((32, 40), 2, 3), ((64, 64), 2, 4), ((500, 500), 2, 5)],
)
def test_the_depth_follows_the_size(size, scale, depth):
    assert depth_for(size, scale) == depth


def test_wrong_tensors_and_heads_are_told():
    with pytest.raises(
        SizeError, match=r"^expected a tensor \(B, C, H, W\) with C = 1, found shape \(1, 3, 8, 8\); add"
    ):
        Classifier()(torch.zeros(1, 3, 8, 8))
    with pytest.raises(
        RecipeError, match=r"^expected head to be one of \('decoder', 'bottom'\), found 'top'; choose o"
    ):
        Classifier(head="top")
