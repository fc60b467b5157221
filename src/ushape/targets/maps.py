"""From a mask to the maps that a network is trained on.

A network answers pixel by pixel, so objects must be told as maps. Four ways are here, each an `Encoding`; a fifth is
for images that have one class each, and no maps:

    semantic   the mask's own classes; nothing keeps objects apart
    ridge      object or background, with a ridge of background between touching objects and the paper's weights
               (P14, P15)
    border     background, inside or border: the border is each object's own rim
    distance   object or background, and beside it the depth inside the object as a number in [0, 1]
    label      the class of the whole image

`maps_to_instances` in `targets.instances` is the inverse of ridge, border and distance.

Conventions
- mask (*space) int32, 2-D or 3-D, 0 = background, -1 = ignore; classes for `semantic`, ids of objects for the rest.
- Distances are Euclidean, in pixels, between pixel centres. Depth is the distance of an object's pixel to the
  nearest pixel that belongs to anything else, background or another object: 1 for the outermost pixels. The image's
  frame and ignored pixels are not "anything else": an object that the frame cuts has no rim there.
- Of the channels of a network the classes come first, then (for `distance`) the distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ushape.errors import DataError, RecipeError
from ushape.targets.borders import border_weights, border_weights_2019, compact_ids, contacts, separate_touching

__all__ = ["Encoding", "EncodingKind", "TrainingMaps", "encode", "inner_distance"]

EncodingKind = Literal["semantic", "ridge", "border", "distance", "label"]
WeightsKind = Literal["ronneberger2015", "falk2019"]
Mask = NDArray[np.integer[Any]]
Float = NDArray[np.float32]


@dataclass(frozen=True)
class Encoding:
    """How masks are told to the network. Every field has a default that suits cells of some 20 to 100 px.

    kind           which maps
    n_classes      semantic, label: how many classes, a background included; the other kinds need no number
    class_weights  semantic, label: what a pixel or an image of each class weighs (the paper's w_c, P14); none: 1
    gap_weight     semantic, two classes: height of the weight on background between near pieces of the other class,
                   which keeps pieces apart; its reach is `sigma` (P14, with connected pieces for cells)
    ridge_width    ridge: thickness in px of the background opened between touching objects
    weights        ridge: `ronneberger2015`, the paper's (P14), or `falk2019`, those of the authors' later release with
                   their own numbers: `w0`, `sigma` and `class_balance` are for the former only
    w0             ridge: height of the weight on background between near objects (P14)
    sigma          ridge: reach of that weight in px
    class_balance  ridge: whether object and background weigh the same together
    border_width   border: thickness of the rim in px; an object keeps at least the inner half of its depth
    touch_weight   border: what a rim weighs more where it lies against another object (1 + touch_weight)
    distance_cap   distance: the depth in px from which on the distance is 1
    """

    kind: EncodingKind
    n_classes: int = 2
    class_weights: tuple[float, ...] = ()
    gap_weight: float = 0.0
    ridge_width: int = 1
    weights: WeightsKind = "ronneberger2015"
    w0: float = 10.0
    sigma: float = 5.0
    class_balance: bool = True
    border_width: int = 2
    touch_weight: float = 2.0
    distance_cap: float = 10.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(EncodingKind):
            raise RecipeError(
                f"expected an encoding of {', '.join(get_args(EncodingKind))}, found {self.kind!r}; choose one"
            )
        if self.weights not in get_args(WeightsKind):
            raise RecipeError(
                f"expected the encoding's weights to be {' or '.join(get_args(WeightsKind))}, found {self.weights!r}; "
                "choose one"
            )
        least = {"n_classes": 2, "ridge_width": 1, "border_width": 1, "w0": 0, "touch_weight": 0, "gap_weight": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise RecipeError(f"expected the encoding's {name} to be at least {bound}, found {getattr(self, name)}")
        # JSON and TOML know lists only.
        if not all(isinstance(weight, (int, float)) for weight in self.class_weights):
            raise RecipeError(
                f"expected the encoding's class_weights to be numbers, found {list(self.class_weights)}; correct them"
            )
        object.__setattr__(self, "class_weights", tuple(map(float, self.class_weights)))
        if self.class_weights and (len(self.class_weights) != self.n_classes or min(self.class_weights) < 0):
            raise RecipeError(
                f"expected the encoding's class_weights to be {self.n_classes} numbers of at least 0, one for each "
                f"class, found {list(self.class_weights)}"
            )
        for name in ("sigma", "distance_cap"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"expected the encoding's {name} to be more than 0, found {getattr(self, name)}")

    @property
    def n_class_channels(self) -> int:
        """How many class channels the network has: one per class of the maps."""
        fixed = {"ridge": 2, "border": 3, "distance": 2}
        return fixed.get(self.kind, self.n_classes)

    @property
    def n_channels(self) -> int:
        """How many channels the network has in all."""
        return self.n_class_channels + (self.kind == "distance")

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Encoding:
        """The inverse of `to_dict`; RecipeError names a field that does not exist."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise RecipeError(f"expected only fields of an encoding, found {', '.join(unknown)}; remove them")
        return cls(**values)


@dataclass(frozen=True)
class TrainingMaps:
    """What the network should answer, and how much each pixel counts.

    classes   (*space) int16 in [0, n_class_channels), -1 = ignore
    weights   (*space) float32 >= 0, 0 at ignored pixels
    distance  (*space) float32 in [0, 1], 0 outside objects; None for every kind but `distance`
    """

    classes: NDArray[np.int16]
    weights: Float
    distance: Float | None = None


def inner_distance(labels: NDArray[np.int32], ignored: NDArray[np.bool_], cap: float) -> Float:
    """Depth inside the own object in pixels, at most `cap`; 0 outside objects.

    Args:
        labels: (*space) objects 1..n, 0 elsewhere.
        ignored: (*space) True at pixels that are no boundary.
        cap: the largest depth that is told apart.

    Returns:
        (*space) float32, exact. One distance transform per object, in its bounding box: the nearest foreign pixel
        touches the object's side, so one pixel around the box is enough. Only across ignored pixels it may lie
        farther off, and then the box is widened by the cap.
    """
    depth = np.zeros(labels.shape, np.float32)
    widen = math.ceil(cap) if ignored.any() else 1
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        window = tuple(slice(max(side.start - widen, 0), side.stop + widen) for side in box)
        own = labels[window] == index
        inside = own | ignored[window]
        # Without any foreign pixel a distance transform has nothing to measure to.
        distance = np.full(own.shape, cap) if inside.all() else ndimage.distance_transform_edt(inside)
        depth[window][own] = np.minimum(distance[own], cap)
    return depth


def encode(mask: Mask, encoding: Encoding) -> TrainingMaps:
    """The training maps of one mask.

    Args:
        mask: (*space) integers, -1 = ignore; classes for kind `semantic`, else instances.
        encoding: which maps.

    Raises:
        DataError: the mask is not of integers in 2-D or 3-D, or has a class that the encoding does not know.
    """
    assert encoding.kind != "label", "an image with one class has no maps"
    mask = np.asarray(mask)
    if mask.ndim not in (2, 3) or not np.issubdtype(mask.dtype, np.integer):
        raise DataError(
            f"expected a mask of integers in 2-D or 3-D, found {mask.dtype} of size {mask.shape}; "
            "store classes or object ids as integers"
        )
    tell = {"semantic": _semantic, "ridge": _ridge, "border": _border, "distance": _distance}[encoding.kind]
    # Ids of unsigned files meet signed arithmetic here, once.
    return tell(mask.astype(np.int32), encoding)


def _semantic(mask: NDArray[np.int32], encoding: Encoding) -> TrainingMaps:
    largest = int(mask.max(initial=0))
    if largest >= encoding.n_classes:
        raise DataError(
            f"expected classes 0 to {encoding.n_classes - 1} in a mask, found {largest}; "
            "name all classes, or choose an encoding for instances if these are ids"
        )
    weights = _ones_but_ignored(mask)
    if encoding.class_weights:
        weights *= np.array(encoding.class_weights, np.float32)[np.maximum(mask, 0)]
    if encoding.gap_weight and encoding.n_classes == 2:
        pieces = np.where(mask < 0, -1, ndimage.label(mask == 1)[0]).astype(np.int32)
        plain = _ones_but_ignored(mask)
        weights += border_weights(pieces, encoding.gap_weight, encoding.sigma, False) - plain
    return TrainingMaps(np.maximum(mask, -1).astype(np.int16), weights)


def _ridge(mask: NDArray[np.int32], encoding: Encoding) -> TrainingMaps:
    separate = separate_touching(mask, encoding.ridge_width)
    if encoding.weights == "falk2019":
        weights = border_weights_2019(separate)
    else:
        weights = border_weights(separate, encoding.w0, encoding.sigma, encoding.class_balance)
    return TrainingMaps(np.sign(separate).astype(np.int16), weights)


def _border(mask: NDArray[np.int32], encoding: Encoding) -> TrainingMaps:
    """The rim is taken from the object itself, so inside and border together are the whole foreground.

    An object too thin for the rim would have no inside left to be found by, so its rim is no deeper than half of
    its own depth.
    """
    labels, n = compact_ids(mask)
    depth = inner_distance(labels, mask < 0, 2 * encoding.border_width)
    deepest = np.zeros(n + 1, np.float32)
    np.maximum.at(deepest, labels.ravel(), depth.ravel())
    rim = (labels > 0) & (depth <= np.minimum(encoding.border_width, deepest / 2)[labels])
    weights = _ones_but_ignored(mask)
    touching = contacts(mask)
    if touching.any():
        weights[rim & (ndimage.distance_transform_edt(~touching) < encoding.border_width)] += encoding.touch_weight
    classes = np.where(rim, 2, np.sign(mask))
    return TrainingMaps(classes.astype(np.int16), weights)


def _distance(mask: NDArray[np.int32], encoding: Encoding) -> TrainingMaps:
    labels, _ = compact_ids(mask)
    depth = inner_distance(labels, mask < 0, encoding.distance_cap)
    distance = (depth / encoding.distance_cap).astype(np.float32)
    return TrainingMaps(np.sign(mask).astype(np.int16), _ones_but_ignored(mask), distance)


def _ones_but_ignored(mask: NDArray[np.int32]) -> Float:
    return (mask >= 0).astype(np.float32)
