"""Look inside a model: pictures of what it does with one image, each by one call.

    picture, caption = features_plate(model, image)           # the feature maps of every level
    picture, caption = receptive_field_plate(model, image)    # what one pixel's answer sees
    picture, caption = saliency_plate(model, image)           # which pixels a decision rests on
    picture, caption = skips_plate(model, image)              # what is lost without each skip
    rows = skip_scores(model, dataset)                        # the same as scores of a data set

The images are those that `Model.predict` takes. They are shown as they are, and at the size to which the model brings
them where it wants one. Of a volume one slice is shown: the one of the pixel that is asked about, else the middle one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ushape.data.dataset import Dataset
from ushape.errors import RecipeError
from ushape.model import Model, Prediction
from ushape.network.classifier import Classifier
from ushape.network.skips import Filling, n_skips, without_skips
from ushape.picture.features import Order, feature_sheet
from ushape.picture.overlay import Picture, overlay
from ushape.picture.plate import Plate
from ushape.picture.receptive import draw_receptive_field
from ushape.picture.saliency import draw_saliency
from ushape.picture.without_skips import Loss, draw_losses, share_changed
from ushape.prediction.features import feature_maps
from ushape.prediction.gradients import given_class, influence, mean_influence, reads, saliency
from ushape.tally import Tally

__all__ = [
    "features_plate",
    "place_to_ask",
    "receptive_field_plate",
    "saliency_plate",
    "skip_losses",
    "skip_scores",
    "skips_plate",
]

Image = NDArray[Any]
Labels = NDArray[np.integer[Any]]

SHOWN = {"instances": ("AP@0.5", "SEG"), "semantic": ("mean Dice",)}
"""Scores to show beside a picture, by task."""


@dataclass(frozen=True)
class Seen:
    """One image as it is shown, (C, *size), and as the network takes it, (channels, *size) float32."""

    shown: Image
    prepared: NDArray[np.float32]

    def slice(self, place: Sequence[int] | None) -> int | None:
        """Which slice of a volume to show; None of an image."""
        if self.prepared.ndim == 3:
            return None
        return int(place[0]) if place is not None else self.prepared.shape[1] // 2


def _seen(model: Model, image: Image, axes: str | None) -> Seen:
    preparation = model.preparation
    image = model.channels_first(image, axes)
    return Seen(preparation.resized(preparation.with_channels(image)), preparation(image))


def _plane(array: NDArray[Any], z: int | None) -> NDArray[Any]:
    """One slice of (C, depth, height, width) or (depth, height, width); an image as it is."""
    return array if z is None else array[..., z, :, :]


def features_plate(
    model: Model, image: Image, *, axes: str | None = None, n: int = 5, order: Order = "different", width: int = 1600
) -> Plate:
    """The feature maps of every level, with the answer; arguments as in `Model.predict` and `feature_sheet`."""
    seen = _seen(model, image, axes)
    device, dtype = model.hardware()
    maps = feature_maps(model.network, seen.prepared, device=device, dtype=dtype)
    prediction = model.decide(model.maps(model.channels_first(image, axes), symmetries=1))
    z = seen.slice(None)
    planes = maps if z is None else tuple(found.plane(z) for found in maps)
    said, answer = _answer(model, prediction, seen, z)
    return feature_sheet(_plane(seen.shown, z), planes, n=n, order=order, answer=answer, said=said, width=width)


def _answer(model: Model, prediction: Prediction, seen: Seen, z: int | None) -> tuple[str, Picture | None]:
    """The answer in words and as a picture."""
    if model.task == "classification":
        return f"{model.classes[int(prediction.labels)]} ({100 * prediction.probabilities.max():.1f} %)", None
    drawn = overlay(_plane(seen.shown, z), _plane(prediction.labels, z), colours=_colours(model))
    return (f"{int(prediction.labels.max())} objects" if model.task == "instances" else "answer"), drawn


def _colours(model: Model) -> tuple[tuple[int, int, int], ...]:
    return () if model.task == "instances" else model.colours


def place_to_ask(labels: Labels) -> tuple[int, ...]:
    """The pixel of an object that is nearest to the image's middle; the middle itself where there is no object."""
    middle = np.array([n // 2 for n in labels.shape])
    places = np.argwhere(labels > 0)
    if len(places) == 0:
        return tuple(map(int, middle))
    return tuple(map(int, places[((places - middle) ** 2).sum(axis=1).argmin()]))


def receptive_field_plate(
    model: Model,
    image: Image,
    place: Sequence[int] | None = None,
    *,
    axes: str | None = None,
    n_places: int = 24,
    width: int = 1600,
) -> Plate:
    """What one pixel's answer sees, exactly and as measured, and the mean over other pixels.

    Args:
        place: (row, column), for a volume with the slice first; None: a pixel of an object near the middle.
        n_places: over how many pixels of the image the mean is taken; 0 for none.
    """
    seen = _seen(model, image, axes)
    where = tuple(place) if place is not None else _place(model, seen)
    options: dict[str, Any] = {"device": model.hardware()[0], "n_class_channels": _n_class_channels(model)}
    found = influence(model.network, seen.prepared, where, **options)
    mean = mean_influence(model.network, seen.prepared, n_places=n_places, **options) if n_places else None
    field = reads(model.network, where)
    z = seen.slice(where)
    if z is not None:
        where, field = where[1:], field[1:]
        mean = None if mean is None else mean[len(mean) // 2]
    classifies = isinstance(model.network, Classifier)
    return draw_receptive_field(
        _plane(seen.shown, z),
        _plane(found, z),
        where,
        field,
        mean=mean,
        outside=not classifies,
        asked="what the features at the marked pixel say" if classifies else "the answer for the marked pixel",
        width=width,
    )


def saliency_plate(
    model: Model,
    image: Image,
    place: Sequence[int] | None = None,
    *,
    target: int | None = None,
    axes: str | None = None,
    n_samples: int = 24,
    width: int = 1600,
) -> Plate:
    """Which pixels a decision rests on: the class of the image, or of the object at a pixel of a segmentation.

    Args:
        place: (row, column) in an object, of a segmentation only; None: an object near the middle.
        target: a class, or another channel of the output; None: the class that is given.
        n_samples: noisy copies for the smoothed map; with 1 there is only the plain one.
    """
    seen = _seen(model, image, axes)
    options: dict[str, Any] = {"device": model.hardware()[0], "n_class_channels": _n_class_channels(model)}
    region, z, what = None, None, "the class of the image"
    if not isinstance(model.network, Classifier):
        region, at = _region(model, seen, place)
        z, what = seen.slice(at), f"the region outlined in blue ({int(region.sum())} px)"
    chosen = given_class(model.network, seen.prepared, region, **options) if target is None else target
    found = [("Gradient", saliency(model.network, seen.prepared, chosen, region, **options))]
    if n_samples > 1:
        smooth = saliency(model.network, seen.prepared, chosen, region, n_samples=n_samples, **options)
        found.append((f"SmoothGrad of {n_samples}", smooth))
    decision = f'{what} is "{_channel_names(model)[chosen]}"'
    outlined = None if region is None else _plane(region, z)
    maps = [(name, _plane(values, z)) for name, values in found]
    return draw_saliency(_plane(seen.shown, z), maps, decision, where=outlined, width=width)


def skip_losses(
    model: Model, image: Image, reference: Labels | None = None, *, axes: str | None = None, filling: Filling = "zero"
) -> list[Loss]:
    """The answers of the whole network, without each skip, and without all; the last only where there are several.

    Raises:
        RecipeError: for a classifier, see `skip_scores`, and for a network without skips.
    """
    if model.task == "classification":
        raise RecipeError("expected a segmenter, found a classifier; use skip_scores on a data set to see what is lost")
    model = replace(model, engine="torch", others=())  # torch alone runs a cut network; of several one is cut
    channels_first = model.channels_first(image, axes)
    whole = model.decide(model.maps(channels_first, symmetries=1)).labels
    losses = [Loss((), whole, 0.0, _scores(model, reference, whole))]
    for levels in _cuts(model):
        with without_skips(model.network, levels, filling):
            labels = model.decide(model.maps(channels_first, symmetries=1)).labels
        changed = share_changed(whole, labels, instances=model.task == "instances")
        losses.append(Loss(levels, labels, changed, _scores(model, reference, labels)))
    return losses


def skips_plate(
    model: Model,
    image: Image,
    reference: Labels | None = None,
    *,
    axes: str | None = None,
    filling: Filling = "zero",
    width: int = 1600,
) -> Plate:
    """What is lost without each skip; `reference` is a mask of the image, to compare with."""
    losses = skip_losses(model, image, reference, axes=axes, filling=filling)
    seen = _seen(model, image, axes)
    z = seen.slice(None)
    flat = [Loss(loss.levels, _plane(loss.labels, z), loss.changed, loss.scores) for loss in losses]
    return draw_losses(
        _plane(seen.shown, z),
        flat,
        instances=model.task == "instances",
        reference=None if reference is None else _plane(reference, z),
        colours=_colours(model),
        filling=filling,
        width=width,
    )


def skip_scores(model: Model, dataset: Dataset, *, filling: Filling = "zero") -> list[dict[str, Any]]:
    """Scores on a data set with all skips, without each and without all: rows of `skips` and the scores by name."""
    model = replace(model, engine="torch", others=())  # torch alone runs a cut network; of several one is cut
    rows: list[dict[str, Any]] = [{"skips": "all"} | model.evaluate(dataset, symmetries=1).scores]
    for levels in _cuts(model):
        with without_skips(model.network, levels, filling):
            name = f"without {levels[0]}" if len(levels) == 1 else "none"
            rows.append({"skips": name} | model.evaluate(dataset, symmetries=1).scores)
    return rows


def _cuts(model: Model) -> list[tuple[int, ...]]:
    """Which skips to cut together: each alone, then all."""
    n = n_skips(model.network)
    if n == 0:
        raise RecipeError(
            "expected a network with skips to cut, found one without; choose a deeper one, or one with a way up"
        )
    return [*((level,) for level in range(n)), *([tuple(range(n))] if n > 1 else [])]


def _scores(model: Model, reference: Labels | None, labels: Labels) -> dict[str, float]:
    """A few scores of one image; none without a reference."""
    if reference is None:
        return {}
    tally = Tally(model.task, model.classes)
    tally.add("image", np.asarray(reference, np.int32), np.asarray(labels, np.int32), True)
    scores = tally.evaluation(()).scores
    return {name: scores[name] for name in SHOWN[model.task] if name in scores}


def _n_class_channels(model: Model) -> int:
    return len(model.classes) if model.task == "classification" else model.encoding.n_class_channels


def _channel_names(model: Model) -> tuple[str, ...]:
    """What the channels of the output stand for."""
    kinds = {
        "ridge": ("background", "object"),
        "border": ("background", "inside of an object", "border of an object"),
        "distance": ("background", "object", "deep inside an object"),
    }
    return kinds.get(model.encoding.kind, model.classes)


def _place(model: Model, seen: Seen) -> tuple[int, ...]:
    """A pixel to ask about: of a classifier the middle one."""
    if isinstance(model.network, Classifier):
        return tuple(n // 2 for n in seen.prepared.shape[1:])
    return place_to_ask(model.decide(model.maps(seen.shown)).labels)


def _region(model: Model, seen: Seen, place: Sequence[int] | None) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """The object at a pixel, or the connected pixels of its class there; and that pixel.

    RecipeError when the image has no such pixel.
    """
    size = seen.shown.shape[1:]
    if place is not None and not (
        len(place) == len(size) and all(0 <= i < n for i, n in zip(place, size, strict=True))
    ):
        raise RecipeError(
            f"expected a pixel of the image, {len(size)} numbers inside {' x '.join(map(str, size))}, found "
            f"{','.join(map(str, place))}; choose another with --at"
        )
    labels = model.decide(model.maps(seen.shown)).labels
    at = tuple(place) if place is not None else place_to_ask(labels)
    pieces, _ = ndimage.label(labels == labels[at])
    region: NDArray[np.bool_] = pieces == pieces[at]
    return region, at
