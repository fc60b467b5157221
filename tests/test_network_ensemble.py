"""Several networks as one: the mean of their logits, wherever a network runs."""

import pytest
import torch

from ushape.errors import RecipeError, SizeError
from ushape.network.as_built import geometry_without_padding, is_altered, without_padding
from ushape.network.ensemble import Ensemble
from ushape.network.unet import UNet

SMALL = {"channels": 4, "depth": 3, "padding": "same", "norm": "batch", "dropout": 0.0}


def networks(n, **changes):
    torch.manual_seed(0)
    return [UNet(**SMALL | changes).eval() for _ in range(n)]


@pytest.mark.parametrize("dims", [2, 3])
def test_the_answer_is_the_mean_of_the_logits(dims):
    members = networks(3, dims=dims)
    images = torch.randn(2, 1, *(21, 18, 11)[:dims])
    with torch.no_grad():
        each = [member(images) for member in members]
        torch.testing.assert_close(Ensemble(members)(images), (each[0] + each[1] + each[2]) / 3)
    assert not torch.allclose(each[0], each[1], atol=1e-2)


def test_it_says_of_itself_what_each_says_and_how_many_there_are():
    members = networks(2, in_channels=3, n_classes=4)
    whole = Ensemble(members)
    assert whole.settings == members[0].settings | {"members": 2}
    assert (whole.geometry, whole.dims, whole.in_channels, whole.n_classes) == (members[0].geometry, 2, 3, 4)
    with pytest.raises(SizeError, match="with C = 3"):
        whole(torch.zeros(1, 1, 16, 16))


@pytest.mark.parametrize("others", [{"channels": 8}, {"scale": 2}, {"n_classes": 3}])
def test_networks_that_differ_are_refused(others):
    with pytest.raises(RecipeError, match="networks of the same settings"):
        Ensemble([*networks(1), *networks(1, **others)])
    with pytest.raises(RecipeError, match="expected one or more networks"):
        Ensemble([])


def test_without_padding_it_answers_for_the_inside_as_before_and_shares_the_weights():
    whole = Ensemble(networks(2))
    bare = without_padding(whole)
    assert isinstance(bare, Ensemble)
    assert bare.geometry == geometry_without_padding(whole) == whole.geometry.without_padding
    assert bare.settings == whole.settings | {"padding": "valid"}
    given, shared = whole.state_dict(), bare.state_dict()
    assert given.keys() == shared.keys()
    assert all(given[name] is shared[name] or given[name].data_ptr() == shared[name].data_ptr() for name in given)
    image = torch.randn(1, 1, 96, 96)
    with torch.no_grad():
        each = [without_padding(member)(image) for member in whole.networks]
        torch.testing.assert_close(bare(image), (each[0] + each[1]) / 2)
    assert bare(image).shape[-1] < 96


def test_a_change_to_one_of_them_is_an_alteration():
    members = networks(2)
    whole = Ensemble(members)
    assert not is_altered(whole)
    hook = members[1].down[0].register_forward_hook(lambda *_: None)
    assert is_altered(whole)
    assert without_padding(whole) is whole
    hook.remove()
    assert not is_altered(whole)
    whole.register_forward_hook(lambda *_: None)
    assert is_altered(whole)
