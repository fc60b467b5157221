"""Which pixels of an image an answer rests on, asked by gradients.

A decision is told as its log odds: the logit of a class against those of all others together. Its gradient says for
each pixel how much the decision would move if that pixel alone were changed by very little. It does not say what a
larger change would do, nor what the network would answer if the pixel were hidden; where an answer is saturated it
is small although the pixel matters, and it is noisy, because each ReLU and each pooling makes the answer kink.

    saliency       for the class of a whole image, or for a region of a segmented one, smoothed if wanted
    influence      for one pixel's answer: the part of its receptive field that counts here
    mean_influence the same around many pixels, laid on top of each other: the effective receptive field

Conventions: image (C, *space) floating point, prepared; gradients are with respect to the prepared image, so per
standard deviation of the image. Magnitudes are (*space) float32, the length of the gradient over the channels. The
mirrored surroundings that a segmenter reads belong to the pixels that they repeat. Everything is float32.

References: Simonyan, Vedaldi and Zisserman 2013 (arXiv 1312.6034); Smilkov et al. 2017, SmoothGrad (arXiv 1706.03825);
Luo et al. 2016, the effective receptive field (arXiv 1701.04128).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ushape.errors import DataError, RecipeError
from ushape.geometry import Interval, mirrored
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet
from ushape.prediction.features import Cells, levels_of

__all__ = ["extent", "given_class", "gradient", "influence", "log_odds", "mean_influence", "reads", "saliency"]

Image = NDArray[np.floating[Any]]
Map = NDArray[np.float32]
Network = UNet | Classifier

TINY = 1e-30
"""Where nothing has any influence, sums are divided by this."""


@dataclass(frozen=True)
class Question:
    """Which answer is asked about: the mean log odds of `target` over the pixels of `where`.

    target            a class; beyond the classes another channel of the output, which is taken as it is; None: the
                      class that the network gives there
    where             (*space) bool; None for the answer to a whole image
    n_class_channels  how many channels of the output are classes; None: all
    """

    target: int | None
    where: NDArray[np.bool_] | None = None
    n_class_channels: int | None = None


def log_odds(logits: Tensor, target: int, n_class_channels: int | None = None) -> Tensor:
    """(B, K, *size) -> (B, *size): log p / (1 - p) of class `target`; of a channel that is no class its logit."""
    n = logits.shape[1] if n_class_channels is None else n_class_channels
    if target >= n or n == 1:
        return logits[:, target]
    others = [channel for channel in range(n) if channel != target]
    return logits[:, target] - logits[:, others].logsumexp(dim=1)


def reads(network: Network, place: Sequence[int]) -> tuple[Interval, ...]:
    """The pixels that the answer for the pixel `place` may depend on, an interval for each axis, exactly.

    They may lie outside the image: there a segmenter sees it mirrored, and a classifier sees zeros. Of a classifier,
    which answers for the whole image, it is the contribution of the features at this place.
    """
    cells = last_cells(network)
    return tuple(cells.context((p + cells.shift) // cells.pitch) for p in place)


def last_cells(network: Network) -> Cells:
    """Of the features that the answer is read from; those of a segmenter are as fine as the working scale."""
    depth = network.geometry.depth
    reads_bottom = isinstance(network, Classifier) and network.head == "bottom"
    if depth == 1 or reads_bottom:
        return Cells(network.geometry, "bottom", depth - 1)
    return Cells(network.geometry, "up", 0)


def given_class(
    network: Network,
    image: Image,
    where: NDArray[np.bool_] | None = None,
    *,
    n_class_channels: int | None = None,
    device: torch.device | str = "cpu",
) -> int:
    """The class whose logits are largest on the average over the pixels of `where`; arguments as in `gradient`."""
    question = _checked(network, image, Question(None, where, n_class_channels))
    window, starts = _read_window(network, image, question)
    with _evaluating(network, device), torch.inference_mode():
        logits = _asked(network, torch.from_numpy(window)[None].to(device), question, starts)
    return _largest(logits, n_class_channels)


def gradient(
    network: Network,
    image: Image,
    target: int | None = None,
    where: NDArray[np.bool_] | None = None,
    *,
    n_class_channels: int | None = None,
    device: torch.device | str = "cpu",
) -> Map:
    """The gradient of the mean log odds of a class over some pixels with respect to the image, (C, *space) float32.

    Args:
        network: a segmenter or a classifier; is left in the mode in which it was.
        image: (C, *space), prepared.
        target: the class, or another channel of the output (see `log_odds`); None: the class that the network gives.
        where: (*space) bool, the pixels whose answer is asked about. A segmenter must have it. For a classifier None
            is the whole image's class; with it each place is asked by the features there alone.
        n_class_channels: how many channels of the output are classes, where it has others behind them.

    Raises:
        DataError: `where` is missing, empty or of another size.
        RecipeError: the output has no such channel.
    """
    question = _checked(network, image, Question(target, where, n_class_channels))
    window, starts = _window_gradient(network, image, question, device)
    found = np.zeros(image.shape, np.float32)
    places = [
        _source(network, start, n, m) for start, n, m in zip(starts, window.shape[1:], image.shape[1:], strict=True)
    ]
    # A pixel is read again by each of its mirror images; of what a classifier reads beyond the image there is no pixel.
    inside = [np.flatnonzero(place >= 0) for place in places]
    sources = np.ix_(*(place[keep] for place, keep in zip(places, inside, strict=True)))
    for channel, values in zip(found, window, strict=True):
        np.add.at(channel, sources, values[np.ix_(*inside)])
    return found


def saliency(
    network: Network,
    image: Image,
    target: int | None = None,
    where: NDArray[np.bool_] | None = None,
    *,
    n_samples: int = 1,
    noise: float = 0.1,
    seed: int = 0,
    n_class_channels: int | None = None,
    device: torch.device | str = "cpu",
) -> Map:
    """How much each pixel moves a decision: the magnitude of `gradient`, (*space) float32.

    Args:
        network, image, target, where, n_class_channels, device: as in `gradient`.
        n_samples: 1 for the plain gradient; more for SmoothGrad, the mean of the gradients of so many noisy copies of
            the image. It shows what small changes have in common, and hides the kinks between them.
        noise: standard deviation of that noise, as a share of the image's range.
        seed: of the noise.
    """
    if n_samples < 1:
        raise RecipeError(f"expected at least 1 sample to average, found {n_samples}; 1 is the plain gradient")
    if target is None:
        # Asked once: the noise must not change the question.
        target = given_class(network, image, where, n_class_channels=n_class_channels, device=device)
    rng = np.random.default_rng(seed)
    sigma = noise * float(np.ptp(image)) if n_samples > 1 else 0.0
    total = np.zeros(image.shape, np.float64)
    for _ in range(n_samples):
        noisy = image + sigma * rng.standard_normal(image.shape) if sigma else image
        total += gradient(network, noisy, target, where, n_class_channels=n_class_channels, device=device)
    return _length(total / n_samples)


def influence(
    network: Network,
    image: Image,
    place: Sequence[int],
    target: int | None = None,
    *,
    n_class_channels: int | None = None,
    device: torch.device | str = "cpu",
) -> Map:
    """How much each pixel moves the answer for the pixel `place`, (*space) float32; 0 outside of what `reads` tells.

    Of a classifier it is the answer that the features at this place alone would give.
    """
    found = gradient(
        network, image, target, _only(image.shape[1:], place), n_class_channels=n_class_channels, device=device
    )
    return _length(found)


def mean_influence(
    network: Network,
    image: Image,
    *,
    n_places: int = 32,
    seed: int = 0,
    n_class_channels: int | None = None,
    device: torch.device | str = "cpu",
) -> Map:
    """The effective receptive field: the mean of `influence` around random pixels, each for the class given there.

    Returns:
        (2 r + 1, ...) float32 along every axis, with the answering pixel in the middle and r the farthest that any
        pixel looks. Mirror images are counted where they are seen. Normalised to a sum of 1.
    """
    rng = np.random.default_rng(seed)
    size, radius = image.shape[1:], _reach(network)
    total = np.zeros((2 * radius + 1,) * len(size))
    for _ in range(n_places):
        place = [int(rng.integers(n)) for n in size]
        question = _checked(network, image, Question(None, _only(size, place), n_class_channels))
        window, starts = _window_gradient(network, image, question, device)
        found = _length(window)
        # Of the window only what lies within the radius; the rest is 0.
        corner = [start - (p - radius) for start, p in zip(starts, place, strict=True)]
        kept = tuple(slice(max(0, -c), max(0, len(total) - c)) for c in corner)
        target = tuple(slice(max(0, c), max(0, c) + n) for c, n in zip(corner, found[kept].shape, strict=True))
        total[target] += found[kept] / max(float(found.sum()), TINY)
    return np.asarray(total / max(float(total.sum()), TINY), np.float32)


def extent(centred: NDArray[np.floating[Any]], share: float = 0.5) -> int:
    """Half the side of the smallest centred square (or cube) that holds this share of all influence, in pixels.

    0 is the middle pixel alone; `centred` as `mean_influence` gives it.
    """
    middle: int = centred.shape[0] // 2
    total = float(centred.sum())
    for half in range(middle):
        window = (slice(middle - half, middle + half + 1),) * centred.ndim
        if float(centred[window].sum()) >= share * total:
            return half
    return middle


def _checked(network: Network, image: Image, question: Question) -> Question:
    """The question itself; DataError where something is wrong with it."""
    where, size = question.where, image.shape[1:]
    if where is None and not isinstance(network, Classifier):
        raise DataError(
            "expected the pixels whose answer is asked about, because a segmenter answers for each, found none; "
            "give `where`, a mask of the image's size"
        )
    if where is not None and (where.shape != size or not where.any()):
        raise DataError(
            f"expected a mask `where` of the image's size {size} with at least one pixel, found {where.shape} with "
            f"{int(np.count_nonzero(where))}; mark the pixels whose answer is asked about"
        )
    n_outputs = network.n_classes
    if question.target is not None and question.target not in range(n_outputs):
        raise RecipeError(
            f"expected a class or channel from 0 to {n_outputs - 1}, found {question.target}; choose one of these"
        )
    return question


def _length(gradients: NDArray[np.floating[Any]]) -> Map:
    """(C, *space) -> (*space): the length over the channels."""
    lengths: Map = np.sqrt((gradients.astype(np.float64) ** 2).sum(axis=0)).astype(np.float32)
    return lengths


def _only(size: Sequence[int], place: Sequence[int]) -> NDArray[np.bool_]:
    """True at one pixel; DataError when it is not in the image."""
    if len(place) != len(size) or not all(0 <= p < n for p, n in zip(place, size, strict=True)):
        raise DataError(
            f"expected a pixel inside the image of size {tuple(size)}, found {tuple(place)}; choose another"
        )
    where = np.zeros(size, bool)
    where[tuple(place)] = True
    return where


def _reach(network: Network) -> int:
    """The farthest that any pixel's answer looks, to either side."""
    if isinstance(network, UNet):
        return network.geometry.reach
    cells = last_cells(network)
    looks = [(place, cells.context(place // cells.pitch)) for place in range(network.geometry.stride)]
    return max(max(place - start, stop - 1 - place) for place, (start, stop) in looks)


def _source(network: Network, start: int, n: int, m: int) -> NDArray[np.int64]:
    """Which of the image's m pixels along an axis the n that are read from `start` on repeat; -1 for none."""
    if isinstance(network, Classifier):
        places = np.arange(start, start + n)
        return np.where(places < m, places, -1)
    return mirrored(start, start + n, m)


@contextmanager
def _evaluating(network: Network, device: torch.device | str) -> Iterator[None]:
    """The network on the device and in evaluation mode; its mode is restored afterwards."""
    training = network.training
    network.eval().to(device)
    try:
        yield
    finally:
        network.train(training)


def _window_gradient(
    network: Network, image: Image, question: Question, device: torch.device | str
) -> tuple[Map, tuple[int, ...]]:
    """(gradient (C, *read), first pixel read along each axis) of a window that holds all that is looked at."""
    window, starts = _read_window(network, image, question)
    with _evaluating(network, device), torch.enable_grad():
        pixels = torch.from_numpy(window)[None].to(device).requires_grad_()
        logits, n = _asked(network, pixels, question, starts), question.n_class_channels
        target = _largest(logits, n) if question.target is None else question.target
        (found,) = torch.autograd.grad(log_odds(logits, target, n).mean(), pixels)
    return found[0].cpu().numpy(), starts


def _read_window(network: Network, image: Image, question: Question) -> tuple[Map, tuple[int, ...]]:
    """(pixels (C, *read), first pixel read along each axis) that hold all that the answer looks at."""
    size, geometry = image.shape[1:], network.geometry
    image = np.asarray(image, np.float32)
    if isinstance(network, Classifier):
        missing = [(0, geometry.legal_at_least(n) - n) for n in size]
        return np.pad(image, [(0, 0), *missing]), (0,) * len(size)
    assert question.where is not None, "a segmenter is asked about pixels"
    starts, lengths = _window(network, question.where)
    places = [mirrored(start, start + n, m) for start, n, m in zip(starts, lengths, size, strict=True)]
    return np.ascontiguousarray(image[np.ix_(np.arange(len(image)), *places)]), starts


def _window(network: UNet, where: NDArray[np.bool_]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(first pixels, lengths) of the smallest legal window that answers for all pixels of `where` as a tile would."""
    geometry = network.geometry
    starts, lengths = [], []
    for axis in range(where.ndim):
        marked = np.flatnonzero(where.any(axis=tuple(other for other in range(where.ndim) if other != axis)))
        before = int(marked[0]) - geometry.margin - geometry.origin
        start = before // geometry.stride * geometry.stride + geometry.origin
        starts.append(start)
        lengths.append(geometry.legal_at_least(int(marked[-1]) + 1 + geometry.margin - start))
    return tuple(starts), tuple(lengths)


def _asked(network: Network, pixels: Tensor, question: Question, starts: Sequence[int]) -> Tensor:
    """Logits (1, K, P) of the P pixels that are asked about; of a whole image P = 1."""
    if question.where is None:
        return cast(Tensor, network(pixels))[..., None]
    marked = np.nonzero(question.where)
    if isinstance(network, Classifier):
        # What the linear layer would say of the features at each place alone.
        *_, (_, _, maps) = levels_of(network, pixels)
        logits = network.linear(maps.movedim(1, -1)).movedim(-1, 1)
        places = [place // last_cells(network).pitch for place in marked]
    else:
        logits = network(pixels)
        places = [place - start - network.geometry.lost for place, start in zip(marked, starts, strict=True)]
    return cast(Tensor, logits[(slice(None), slice(None), *map(torch.from_numpy, places))])


def _largest(logits: Tensor, n_class_channels: int | None) -> int:
    return int(logits[0, :n_class_channels].mean(dim=1).argmax())
