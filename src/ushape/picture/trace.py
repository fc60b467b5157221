"""What happens to an image on its way through a U-Net: shape, parameters, operations and memory, step by step.

The network itself is asked: a copy of it without memory for its numbers (PyTorch's `meta` device) is run once, and
hooks on its layers write down the shapes that pass. So nothing here can disagree with the network, and the paper's
network at 572x572 costs milliseconds.

Conventions
- Level 0 is the first, at the full resolution (of the working scale); each one below has half of it.
- Operations are floating-point operations of the convolutions, two for each multiply-add, for one image (P6).
- Memory is of float32 activations in bytes, for one image, as PyTorch runs the network eagerly; the weights, and what
  the convolutions take for themselves, come on top.
- A receptive field is a number of image pixels along one axis. On the way up it depends on a pixel's place in the
  pooling grid, so there are a smallest and a largest one (P5).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ushape.errors import SizeError
from ushape.geometry import Geometry
from ushape.network.classifier import Classifier
from ushape.network.unet import Block, UNet, Up

__all__ = ["Kind", "Network", "Side", "Skip", "Step", "Trace", "receptive_field", "trace", "usual_size"]

Kind = Literal[
    "image", "pad", "fold", "convolution", "pool", "up", "concatenate", "head", "unfold", "cut", "mean", "linear"
]
Side = Literal["down", "bottom", "up"]
Shape = tuple[int, ...]
Network = UNet | Classifier

VALUE_BYTES = 4
"""A float32 activation."""

INDEX_BYTES = 8
"""For each value that pooling lets through it keeps where it was, as a 64-bit integer, until the way back."""

USUAL_SIZE = {2: {"valid": 572, "same": 512}, 3: {"valid": 132, "same": 128}}
"""What a network is shown with when nobody names a size: the paper's tile; the 3D U-Net's."""

BODY = "unet."
"""How the names of the U-Net's layers begin in a classifier."""

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Skip:
    """What one skip connection copies: the centre of `size`, from `offset` on, `cropped` long on each axis."""

    level: int
    channels: int
    size: Shape
    cropped: Shape
    offset: Shape

    @property
    def crops(self) -> bool:
        """Whether anything is cut off."""
        return self.size != self.cropped


@dataclass(frozen=True)
class Step:
    """One operation and the maps that come out of it.

    kind         `image` is what goes in; `pad` and `cut` occur where a padded network is given a size that is no
                 multiple of its stride, `fold` and `unfold` where it works on a coarser scale, `mean` and `linear`
                 at the end of a classifier, with a size of 1
    side, level  where in the U
    channels     of the result; size its spatial size
    name         of the layer in the network, empty for an operation without weights
    parameters   with those of a normalisation behind the convolution
    operations   two for each multiply-add
    norm         whether a normalisation follows the convolution
    dropout      rate of the dropout that follows, 0 without one
    """

    kind: Kind
    side: Side
    level: int
    channels: int
    size: Shape
    name: str = ""
    parameters: int = 0
    operations: int = 0
    norm: bool = False
    dropout: float = 0.0

    @property
    def bytes(self) -> int:
        """Memory of the result."""
        return VALUE_BYTES * self.channels * math.prod(self.size)


def receptive_field(geometry: Geometry, level: int, side: Side) -> tuple[int, int]:
    """How many image pixels a value at the end of a level's block depends on: smallest and largest, along one axis.

    The last of all, at level 0 on the way up, is `Geometry.context`: 188 to 204 pixels at depth 5.
    """
    climbed = 0 if side != "up" else geometry.depth - 1 - level
    widths = set()
    for place in range(1 << climbed):
        start, stop = place, place + 1
        for _ in range(climbed):
            start, stop = (start - 2) // 2, (stop + 3) // 2
        width = stop - start + 4
        for _ in range(level + climbed):
            width = 2 * width + 4
        widths.add(width * geometry.scale)
    return min(widths), max(widths)


@dataclass(frozen=True)
class Trace:
    """A network's way with one image.

    settings  of the network, as `UNet` (or `Classifier`) takes them
    steps     in the order in which they happen
    skips     one for each level above the bottom, from the top; none without a way up
    """

    settings: dict[str, Any]
    geometry: Geometry
    steps: tuple[Step, ...]
    skips: tuple[Skip, ...]

    @property
    def depth(self) -> int:
        """Number of levels."""
        return self.geometry.depth

    @property
    def parameters(self) -> int:
        """Numbers that training adjusts."""
        return sum(step.parameters for step in self.steps)

    @property
    def operations(self) -> int:
        """Of one pass."""
        return sum(step.operations for step in self.steps)

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Image pixels, along one axis, that an output pixel depends on: smallest and largest.

        Of a classifier it is that of its features, before the mean over the image.
        """
        last = [step for step in self.steps if step.kind == "convolution"][-1]
        return receptive_field(self.geometry, last.level, last.side)

    @cached_property
    def training_bytes(self) -> tuple[int, ...]:
        """Activations kept for the way back, at each level.

        Those are the inputs of all convolutions, the results of the ReLUs and of what stands before them, the places
        that pooling chose, dropout's masks, and the logits. Gradients, weights and the optimiser come on top.
        """
        kept = [0] * self.depth
        for step, after in zip(self.steps, [*self.steps[1:], None], strict=True):
            kept[step.level] += step.bytes * _n_copies(step, after)
            if step.kind == "pool":
                kept[step.level] += step.bytes // VALUE_BYTES * INDEX_BYTES
        return tuple(kept)

    @cached_property
    def prediction_bytes(self) -> tuple[int, ...]:
        """Activations at each level at the moment when most are alive, without a way back."""
        return max(self._moments(), key=sum, default=(0,) * self.depth)

    def _moments(self) -> Iterator[tuple[int, ...]]:
        """Bytes alive at each level, moment by moment, as `UNet.forward` holds on to them.

        The image, the skips and the result of each level on the way up stay until the features are done; what enters
        a block stays until the block is done.
        """
        kept: list[Step] = []
        entrance: list[Step] = []
        first: Step | None = None
        for step in self.steps:
            if step.kind in ("image", "pad"):
                kept.append(step)
            elif step.kind in ("fold", "pool", "up", "concatenate"):
                entrance.append(step)
                places = [step] * (INDEX_BYTES // VALUE_BYTES) if step.kind == "pool" else []
                yield self._by_level([*kept, *entrance, *places])
            elif step.kind == "convolution":
                yield self._by_level([*kept, *entrance, *([first] if first else []), step])
                if step.norm:
                    yield self._by_level([*kept, *entrance, step, step])
                if first is None:
                    first = step
                    continue
                kept.append(step)
                entrance, first = [], None
            elif step.kind == "head":
                images = [other for other in kept if other.kind in ("image", "pad")]
                yield self._by_level([*images, kept[-1], step])
                kept = [*images, step]
            elif step.kind == "unfold":
                yield self._by_level([*kept, step])

    def _by_level(self, alive: Sequence[Step]) -> tuple[int, ...]:
        return tuple(sum(step.bytes for step in alive if step.level == level) for level in range(self.depth))


def _n_copies(step: Step, after: Step | None) -> int:
    """How many arrays of the size of a step's result are kept for the way back."""
    # The concatenation is kept instead of its halves, a padded or folded image instead of the image.
    if step.kind in ("up", "unfold", "cut") or (after is not None and after.kind in ("pad", "fold")):
        return 0
    # A normalisation keeps what went in; dropout its mask, and the result beside what it was taken from.
    return 1 + step.norm + (2 if step.dropout else 0)


@dataclass
class Seen:
    """Shapes (channels, *size) that passed a layer, without the batch axis."""

    inputs: list[Shape] = field(default_factory=list)
    output: Shape = ()


def usual_size(network: Network) -> Shape:
    """A size to show a network with: the paper's 572x572, or the nearest larger one that it takes; 132 for volumes."""
    wanted = USUAL_SIZE[network.dims][network.geometry.padding]
    return (network.geometry.legal_at_least(wanted),) * network.dims


def trace(network: Network, size: int | Sequence[int]) -> Trace:
    """Run a network without numbers on an image of this size and write down what happens.

    Args:
        network: is left as it is.
        size: (height, width) or (depth, height, width), or one length for all axes.

    Raises:
        SizeError: for a size that the network cannot take, with the nearest ones that it can.
    """
    lengths = (size,) * network.dims if isinstance(size, int) else tuple(size)
    if len(lengths) != network.dims:
        raise SizeError(
            f"expected one length or {network.dims} of them for a network with {network.dims} spatial axes, found "
            f"{len(lengths)}; give {network.dims}"
        )
    for n in lengths:
        network.geometry.output_size(n)
    seen = _seen(network, lengths)
    steps = tuple(_classifier_steps(network, seen) if isinstance(network, Classifier) else _steps(network, seen))
    body = network.unet if isinstance(network, Classifier) else network
    return Trace({**body.settings, **network.settings}, network.geometry, steps, tuple(_skips(body, seen)))


def _seen(network: Network, size: Shape) -> dict[str, Seen]:
    """The shapes at every module of the network, by its name in the U-Net; the network itself is ''."""
    # Copied with the memo filled, so that its tensors are not copied but replaced by empty ones.
    tensors = [*network.parameters(), *network.buffers()]
    with torch.no_grad():
        memo: dict[int, Any] = {id(tensor): _without_numbers(tensor) for tensor in tensors}
    empty = copy.deepcopy(network, memo).eval()
    seen: dict[str, Seen] = {}
    for name, module in empty.named_modules():
        watched = seen.setdefault(name.removeprefix(BODY), Seen())
        module.register_forward_hook(_watcher(watched))
    with torch.no_grad():
        empty(torch.empty(1, network.in_channels, *size, device="meta"))
    return seen


def _without_numbers(tensor: Tensor) -> Tensor:
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _watcher(seen: Seen) -> Any:
    """A hook that writes down shapes."""

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.inputs = [tuple(tensor.shape[1:]) for tensor in inputs]
        seen.output = tuple(output.shape[1:])

    return watch


def _steps(network: UNet, seen: dict[str, Seen]) -> Iterator[Step]:
    """Every step of a U-Net, in order."""
    yield from _body(network, seen)
    scale = network.scale
    last: Side = "up" if network.geometry.depth > 1 else "bottom"
    head = _convolution("head", network.head, "head", last, 0, seen)
    yield head
    unfolded = tuple(n * scale for n in head.size)
    if scale > 1:
        yield Step("unfold", last, 0, network.n_classes, unfolded)
    if seen[""].output[1:] != unfolded:
        yield Step("cut", last, 0, seen[""].output[0], seen[""].output[1:])


def _classifier_steps(network: Classifier, seen: dict[str, Seen]) -> Iterator[Step]:
    """Every step of a classifier, in order."""
    for step in _body(network.unet, seen):
        yield replace(step, name=f"{BODY}{step.name}" if step.name else "")
    point = (1,) * network.dims
    weights = sum(parameter.numel() for parameter in network.linear.parameters())
    operations = 2 * network.linear.weight.numel()
    yield Step("mean", step.side, step.level, network.linear.in_features, point)
    yield Step("linear", step.side, step.level, seen["linear"].output[0], point, "linear", weights, operations)


def _body(network: UNet, seen: dict[str, Seen]) -> Iterator[Step]:
    """From the image to the last feature maps."""
    depth, scale = network.geometry.depth, network.scale
    yield from _entrance(seen[""].inputs[0], seen["down.0" if depth > 1 else "bottom"].inputs[0], scale)
    for level, block in enumerate([*network.down, network.bottom]):
        side: Side = "down" if level < depth - 1 else "bottom"
        name = f"down.{level}" if side == "down" else "bottom"
        if level > 0:
            channels, *size = seen[name].inputs[0]
            yield Step("pool", side, level, channels, tuple(size))
        yield from _block(block, name, side, level, seen)
    for index, up in enumerate(network.up):
        yield from _up(up, f"up.{index}", depth - 2 - index, seen)


def _entrance(image: Shape, folded: Shape, scale: int) -> Iterator[Step]:
    """From the image to what the first convolution sees."""
    side: Side = "down"
    yield Step("image", side, 0, image[0], image[1:])
    size = tuple(n * scale for n in folded[1:])
    if size != image[1:]:
        yield Step("pad", side, 0, image[0], size)
    if scale > 1:
        yield Step("fold", side, 0, folded[0], folded[1:])


def _up(up: nn.Module, name: str, level: int, seen: dict[str, Seen]) -> Iterator[Step]:
    """The up-convolution, the concatenation with the skip, and the block."""
    assert isinstance(up, Up)
    yield _convolution("up", up.up_convolution, f"{name}.up_convolution", "up", level, seen)
    channels, *size = seen[f"{name}.block"].inputs[0]
    yield Step("concatenate", "up", level, channels, tuple(size))
    yield from _block(up.block, f"{name}.block", "up", level, seen)


def _block(block: nn.Module, name: str, side: Side, level: int, seen: dict[str, Seen]) -> Iterator[Step]:
    """The convolutions of a block, each with the normalisation and the dropout behind it."""
    assert isinstance(block, Block)
    starts = [place for place, layer in enumerate(block) if isinstance(layer, CONVOLUTIONS)]
    for start, stop in zip(starts, [*starts[1:], len(block)], strict=True):
        layers = [block[place] for place in range(start, stop)]
        yield _convolution("convolution", layers[0], f"{name}.{start}", side, level, seen, layers[1:])


def _convolution(
    kind: Kind,
    layer: nn.Module,
    name: str,
    side: Side,
    level: int,
    seen: dict[str, Seen],
    behind: Sequence[nn.Module] = (),
) -> Step:
    """A layer with weights: each of them meets every pixel of the result, or of the input where it is transposed."""
    assert isinstance(layer, CONVOLUTIONS)
    channels, *size = seen[name].output
    meets = seen[name].inputs[0][1:] if layer.transposed else seen[name].output[1:]
    return Step(
        kind,
        side,
        level,
        channels,
        tuple(size),
        name,
        parameters=sum(p.numel() for module in (layer, *behind) for p in module.parameters()),
        operations=2 * layer.weight.numel() * math.prod(meets),
        norm=any(not isinstance(module, (nn.ReLU, nn.Dropout)) for module in behind),
        dropout=sum(module.p for module in behind if isinstance(module, nn.Dropout)),
    )


def _skips(network: UNet, seen: dict[str, Seen]) -> Iterator[Skip]:
    """The skips from the top."""
    n = len(network.up)
    for level in range(n):
        name = f"up.{n - 1 - level}"
        channels, *size = seen[name].inputs[1]
        cropped = seen[f"{name}.up_convolution"].output[1:]
        offset = tuple((n - m) // 2 for n, m in zip(size, cropped, strict=True))
        yield Skip(level, channels, tuple(size), cropped, offset)
