"""Whether a network still is what its settings say, and what may be done with it only then.

A network's settings and weights speak for it: by them it is converted for other engines, and by them it is known that
where no zeros reach it computes what the same weights compute without padding. Both fail for a network that somebody
has changed: by a hook, a subclass, another layer, a function put in the place of `forward`.

What runs on tiles reads its context from the image. So `without_padding` gives, of a network that was trained with
padding, the same weights without: the same numbers for less work (see `ushape.geometry`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from ushape.geometry import Geometry
from ushape.network.classifier import Classifier
from ushape.network.ensemble import Ensemble
from ushape.network.unet import BATCH_NORM, CONVOLUTION, INSTANCE_NORM, UP_CONVOLUTION, Block, UNet, Up

__all__ = ["geometry_without_padding", "is_altered", "settings_without_padding", "without_padding"]

CONVOLUTIONS = tuple(CONVOLUTION.values())
NORMS = {
    "none": (),
    "batch": tuple(BATCH_NORM.values()),
    "instance": tuple(INSTANCE_NORM.values()),
    "group": (nn.GroupNorm,),
}
OTHERS = (*UP_CONVOLUTION.values(), UNet, Block, Up, nn.ModuleList, nn.ReLU, nn.Dropout)
OF_CLASSIFIERS = (Classifier, nn.Linear, nn.Identity)
METHODS = frozenset({"forward", "core", "features", "contract", "check", "pooled", "averaged"})


Network = UNet | Classifier | Ensemble


def is_altered(network: Network) -> bool:
    """Whether the network may compute anything else than its settings and weights say: only PyTorch knows it then.

    A network that PyTorch has compiled counts as altered too: so it runs as it was compiled.
    """
    if isinstance(network, Ensemble):
        members = [cast(UNet, each) for each in network.networks]
        return _is_hooked(network) or type(network) is not Ensemble or any(is_altered(each) for each in members)
    padding = 1 if network.settings.get("padding", "same") == "same" else 0
    known = (*NORMS[network.settings["norm"]], *OTHERS, *(OF_CLASSIFIERS if isinstance(network, Classifier) else ()))
    return any(
        _is_hooked(module)
        or not (_as_padded(module, padding) if isinstance(module, CONVOLUTIONS) else type(module) in known)
        for module in network.modules()
    )


def _is_hooked(module: nn.Module) -> bool:
    """Whether calling the module does more or other than its class says."""
    hooks = module._forward_pre_hooks or module._forward_hooks or module._compiled_call_impl
    return bool(hooks) or not METHODS.isdisjoint(vars(module))


def _as_padded(convolution: nn.Module, padding: int) -> bool:
    """Whether a convolution is torch's own and has this padding, of zeros; a kernel of one pixel has none."""
    assert isinstance(convolution, (nn.Conv2d, nn.Conv3d))
    wanted = {padding if n == 3 else 0 for n in convolution.kernel_size}
    plain = type(convolution) in CONVOLUTIONS and convolution.padding_mode == "zeros"
    return plain and set(convolution.padding) == wanted


def settings_without_padding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of the network that `without_padding` gives, from those of a `UNet` as it was built.

    Instance and group normalisation take their mean from all that they are given, so such a network keeps its padding.
    """
    pointwise = settings["norm"] in ("none", "batch")
    return dict(settings) | ({"padding": "valid"} if pointwise else {})


def _differs(network: Network) -> bool:
    """Whether there is another network to run on tiles. A classifier has no tiles."""
    settings = network.settings
    changed = not isinstance(network, Classifier) and settings_without_padding(settings) != settings
    return changed and not is_altered(network)


def geometry_without_padding(network: Network) -> Geometry:
    """That of `without_padding(network)`."""
    return network.geometry.without_padding if _differs(network) else network.geometry


def without_padding(network: Network) -> Network:
    """The same weights without padding, to run on tiles; the network itself where that would differ.

    The tensors are those of the network: changed in place, exchanged or moved, they are so for both. What is given is
    for running, not for keeping: its geometry lies in it, and not in its settings.
    """
    if not _differs(network):
        return network
    if isinstance(network, Ensemble):
        return Ensemble([cast(UNet, without_padding(cast(UNet, each))) for each in network.networks])
    bare = _twin(network)
    assert isinstance(bare, UNet)
    bare.settings, bare.geometry = settings_without_padding(network.settings), network.geometry.without_padding
    for module in bare.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            module.padding = (0,) * bare.dims
    return bare


def _twin(module: nn.Module) -> nn.Module:
    """A module of its own with the same tensors, and with twins of the modules inside; nothing is drawn or copied."""
    twin = copy.copy(module)
    vars(twin)["_modules"] = {name: child and _twin(child) for name, child in module._modules.items()}
    return twin
