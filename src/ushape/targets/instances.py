"""From a network's maps to objects: the inverse of `targets.maps.encode`.

All kinds are read the same way. Where the foreground's probability passes a threshold is the mask. Inside it a
landscape (the probability of "inside", or the depth) has one summit per object; seeds are put on summits, and each
seed floods its surroundings within the mask until it meets another's (a watershed). Seeds are sought at falling levels,
so that a small object, whose summit is low, is found too, and a piece of mask without any seed becomes an object of its
own. Where there are more seeds than objects, neighbours are merged again: inside rims (kind `border`) those between
whose pieces there is no rim, by depth (kind `distance`) those whose lower summit hardly rises above the pass between.

Conventions
- probabilities (K, *space) float32 in [0, 1]: the classes first, summing to 1, then (kind `distance`) the distance.
- instances (*space) int32: objects 1..n without a gap, 0 = background. Pixels are connected by their sides.
- What has to be chosen (thresholds, sizes) stands in a `Decision`, which belongs into the model file; it is tuned on
  validation images (`targets.tuning`), never on the images that are scored.

References
- Watershed from seeds: Beucher and Meyer 1993, as in `skimage.segmentation.watershed`.
- Height of a summit above the pass to a higher one: the dynamics of Grimaud 1992, here as a share.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.hierarchy import DisjointSet
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from ushape.errors import DataError, RecipeError
from ushape.targets.maps import Encoding

__all__ = [
    "Decision",
    "default_decision",
    "maps_to_instances",
    "object_sizes",
    "typical_diameter",
    "without_specks",
]

Float = NDArray[np.float32]
Instances = NDArray[np.int32]
Mask = NDArray[np.integer[Any]]

# An object or seed smaller than this share of the typical object is taken for noise unless tuning says otherwise.
NOISE_SHARE = 0.05
SEED_SHARE = 0.01
# Of the diameter: how far the landscape is smoothed before seeds are sought (docs/results.md).
SMOOTH_SHARE = {"border": 0.04, "distance": 0.08}
# The network's depth ends at a cap; from this share of it on, depth goes on as the distance to where it is less.
PLATEAU = 0.75


@dataclass(frozen=True)
class Decision:
    """What is decided when maps become objects.

    seed_threshold  the landscape above this is a seed, in [0, 1]
    mask_threshold  the probability of foreground above this is object, in [0, 1]
    min_size        objects with fewer pixels are removed
    min_seed        seeds with fewer pixels are not seeds
    smoothing       standard deviation in px of a Gaussian over the landscape before seeds are sought; 0 = none
    merging         neighbours are one object where what lies between them is above this, in [0, 1]; 1 = never.
                    Inside rims that is the mean of the landscape along their common border, by depth the height of
                    the pass as a share of the lower of the two summits
    """

    seed_threshold: float = 0.5
    mask_threshold: float = 0.5
    min_size: int = 10
    min_seed: int = 1
    smoothing: float = 0.0
    merging: float = 1.0

    def __post_init__(self) -> None:
        for name in ("seed_threshold", "mask_threshold", "merging"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"expected the decision's {name} to be from 0 to 1, found {getattr(self, name)}")
        for name in ("min_size", "min_seed", "smoothing"):
            if not getattr(self, name) >= 0:
                raise RecipeError(f"expected the decision's {name} to be 0 or more, found {getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Decision:
        """The inverse of `to_dict`; RecipeError names a field that does not exist."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise RecipeError(f"expected only fields of a decision, found {', '.join(unknown)}; remove them")
        return cls(**values)


def object_sizes(masks: Iterable[Mask]) -> NDArray[np.int64]:
    """The number of pixels of every object of every mask, (n_objects,) int64; an id is one object per mask."""
    areas = [np.unique(mask[mask > 0], return_counts=True)[1] for mask in map(np.asarray, masks)]
    return np.concatenate([np.zeros(0, np.int64), *areas]).astype(np.int64)


def ball_diameter(size: float, dims: int) -> float:
    """The diameter of a disc (ball) of so many pixels."""
    return float((size / {2: math.pi / 4, 3: math.pi / 6}[dims]) ** (1 / dims))


def typical_diameter(masks: Sequence[Mask]) -> float:
    """The diameter in pixels of a disc (ball) as large as the median object; DataError without an object."""
    areas = object_sizes(masks)
    if not areas.size:
        raise DataError("expected at least one object in the masks, found none; annotate some objects")
    return ball_diameter(float(np.median(areas)), np.asarray(masks[0]).ndim)


def default_decision(encoding: Encoding, typical_size: float = 200.0, dims: int = 2) -> Decision:
    """A decision to start from, before any tuning.

    Inside a rim the network is sure, and between two cells that touch a little less so: seeds are sought high above
    one half, more of them than there are cells, and what was cut without a border is put together again. By depth
    every summit is a seed, and what has no pass worth the name between its summits is put together again.

    Args:
        encoding: of the maps that will be read.
        typical_size: pixels of a typical object (the median of `object_sizes`); sets what is too small.
        dims: axes of the masks.
    """
    seed, mask, merging = {
        "semantic": (0.5, 0.5, 1.0),
        "ridge": (0.8, 0.4, 1.0),
        "border": (0.995, 0.5, 0.65),
        "distance": (0.7, 0.5, 0.8),
        "label": (0.5, 0.5, 1.0),
    }[encoding.kind]
    smoothing = SMOOTH_SHARE.get(encoding.kind, 0.0) * ball_diameter(typical_size, dims)
    return Decision(
        seed_threshold=seed,
        mask_threshold=mask,
        min_size=round(NOISE_SHARE * typical_size),
        min_seed=round(SEED_SHARE * typical_size),
        smoothing=round(smoothing, 1),
        merging=merging,
    )


def without_specks(instances: Instances, min_size: int) -> Instances:
    """The instances 1..n without those of fewer than `min_size` pixels, numbered anew."""
    sizes = np.bincount(instances.ravel())
    kept = sizes >= min_size
    kept[0] = False
    if kept[1:].all():
        return instances
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[instances]


def maps_to_instances(probabilities: Float, encoding: Encoding, decision: Decision) -> Instances:
    """Objects 1..n from a network's maps.

    Args:
        probabilities: (K, *space) float32 in [0, 1], the encoding's channels.
        encoding: how the network was told of objects. `semantic` has no landscape: its objects are the connected
            pieces of everything that is not background.
        decision: thresholds and sizes.

    Returns:
        (*space) int32 instances.

    Raises:
        DataError: the number of maps is not the encoding's.
    """
    if len(probabilities) != encoding.n_channels:
        raise DataError(
            f"expected {encoding.n_channels} maps for the encoding {encoding.kind!r}, found {len(probabilities)}; "
            "read the maps with the encoding they were trained for"
        )
    foreground = 1 - probabilities[0]
    mask = foreground > decision.mask_threshold
    if encoding.kind == "semantic":
        return _without_small(ndimage.label(mask)[0], decision.min_size)
    by_summits = encoding.kind == "distance" and decision.merging < 1
    landscape = probabilities[-1] if encoding.kind == "distance" else probabilities[1]
    if by_summits:
        landscape = _deepen(landscape, encoding.distance_cap)
    smooth = ndimage.gaussian_filter(landscape, decision.smoothing) if decision.smoothing else landscape
    if by_summits:
        # Smoothing finds summits and judges passes; flooded smooth, borders would move.
        instances = _flood(_seeds([(_summits(smooth, mask), 1)], mask), landscape, mask)
        instances = _join_summits(instances, smooth, decision.merging)
    else:
        # Where there is no summit above the threshold, one above half of it will do.
        levels = [((smooth > decision.seed_threshold * share) & mask, decision.min_seed) for share in (1.0, 0.5)]
        instances = _flood(_seeds(levels, mask), smooth, mask)
        if decision.merging < 1:
            instances = _merge(instances, landscape, decision.merging)
    return _without_small(instances, decision.min_size)


def _deepen(depth: Float, cap: float) -> Float:
    """(*space) float32 px: depth in shares of the cap, continued beyond it by the shape of what is deep.

    Large objects are flat at the cap, and where two touch, an unsure network leaves a waist there but no valley.
    """
    beyond = ndimage.distance_transform_edt(depth > PLATEAU)
    return np.asarray(depth * cap + beyond, np.float32)


def _summits(landscape: Float, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(*space) bool: the places of the mask that are higher than all around them."""
    lowest = np.float32(landscape.min(initial=0) - 1)
    found: NDArray[np.bool_] = local_maxima(np.where(mask, landscape, lowest))  # type: ignore[no-untyped-call]
    return found


def _seeds(levels: Sequence[tuple[NDArray[np.bool_], int]], mask: NDArray[np.bool_]) -> Instances:
    """(*space) int32 seeds 1..n: the pieces of the first level of at least so many px, then, where none is, the next.

    The mask itself is the last level: a piece of it without any seed is its own seed, and `min_size` judges it.
    """
    seeds = np.zeros(mask.shape, np.int32)
    n = 0
    for region, least in [*levels, (mask, 1)]:
        pieces, n_pieces = ndimage.label(region)
        fresh = np.bincount(pieces.ravel(), minlength=n_pieces + 1) >= least
        fresh[pieces[seeds > 0]] = False
        fresh[0] = False
        numbers = np.where(fresh, n + np.cumsum(fresh), 0).astype(np.int32)
        seeds = np.maximum(seeds, numbers[pieces])
        n += int(fresh.sum())
    return seeds


def _flood(seeds: Instances, landscape: Float, mask: NDArray[np.bool_]) -> Instances:
    """(*space) int32: every pixel of the mask goes to a seed. A piece of mask with a single seed needs no flood."""
    pieces, n_pieces = ndimage.label(mask)
    lowest = np.full(n_pieces + 1, np.iinfo(np.int32).max, np.int32)
    highest = np.zeros(n_pieces + 1, np.int32)
    where = seeds > 0
    np.minimum.at(lowest, pieces[where], seeds[where])
    np.maximum.at(highest, pieces[where], seeds[where])
    instances = highest[pieces]
    shared = (lowest < highest)[pieces]
    if shared.any():
        flooded = watershed(-landscape, seeds * shared, mask=shared)  # type: ignore[no-untyped-call]
        instances = np.where(shared, flooded, instances)
    return np.asarray(instances, np.int32)


def _borders(instances: Instances, landscape: Float) -> tuple[NDArray[np.int64], Float]:
    """Pairs of touching objects and how high the landscape is between them, at each pair of touching pixels.

    Returns:
        (n, 2) the two objects, the smaller number first, and (n,) the mean of the two pixels.
    """
    pairs, heights = [], []
    for axis in range(instances.ndim):
        n = instances.shape[axis]
        before, after = np.take(instances, range(n - 1), axis), np.take(instances, range(1, n), axis)
        where = (before != after) & (before > 0) & (after > 0)
        pairs.append(np.sort(np.stack([before[where], after[where]], axis=1), axis=1))
        low, high = np.take(landscape, range(n - 1), axis), np.take(landscape, range(1, n), axis)
        heights.append((low[where] + high[where]) / 2)
    return np.concatenate(pairs).astype(np.int64), np.concatenate(heights)


def _join_summits(instances: Instances, landscape: Float, merging: float) -> Instances:
    """(*space) int32: neighbours become one, the highest pass first, where it is above `merging` x the lower summit.

    A share, not a height: small objects are shallow, and a valley of a pixel counts for more there.
    """
    pairs, heights = _borders(instances, landscape)
    n = int(instances.max(initial=0)) + 1
    keys, which = np.unique(pairs[:, 0] * n + pairs[:, 1], return_inverse=True)
    passes = np.full(len(keys), -np.inf)
    np.maximum.at(passes, which, heights)
    summits = np.asarray(ndimage.maximum(landscape, instances, range(n)), float)
    joined = DisjointSet(range(n))
    for k in np.argsort(-passes, kind="stable"):
        one, other = (joined[int(i)] for i in divmod(keys[k], n))
        low, high = sorted((summits[one], summits[other]))
        if passes[k] > merging * low and joined.merge(one, other):
            summits[joined[one]] = high
    return np.array([joined[i] for i in range(n)], np.int32)[instances]


def _merge(instances: Instances, landscape: Float, merging: float) -> Instances:
    """(*space) int32: neighbours become one, those with the highest border first, while one is above `merging`.

    A border is judged by its mean: a leak of a few pixels, through which a flood would run, leaves two cells apart,
    and a few dark pixels do not cut one cell in two.
    """
    pairs, heights = _borders(instances, landscape)
    n = int(instances.max(initial=0)) + 1
    keys, which = np.unique(pairs[:, 0] * n + pairs[:, 1], return_inverse=True)
    found, sums, counts = np.stack(np.divmod(keys, n), axis=1), np.bincount(which, heights), np.bincount(which)
    borders: dict[int, dict[int, tuple[float, int]]] = defaultdict(dict)
    for (one, other), total, count in zip(found.tolist(), sums.tolist(), counts.tolist(), strict=True):
        borders[one][other] = borders[other][one] = (total, count)
    parent = np.arange(n, dtype=np.int32)
    queue = [(-total / count, one, other) for one in borders for other, (total, count) in borders[one].items()]
    heapq.heapify(queue)
    while queue and -queue[0][0] > merging:
        height, one, other = heapq.heappop(queue)
        total, count = borders.get(one, {}).get(other, (0.0, 1))
        if -height != total / count:  # one of the two has changed since
            continue
        parent[other] = one
        del borders[one][other]
        for third, (more, longer) in borders.pop(other).items():
            if third != one:
                del borders[third][other]
                total, count = borders[one].get(third, (0.0, 0))
                borders[one][third] = borders[third][one] = (total + more, count + longer)
                heapq.heappush(queue, (-(total + more) / (count + longer), min(one, third), max(one, third)))
    for other, one in enumerate(parent):  # parents have smaller numbers, so theirs are known
        parent[other] = parent[one]
    return parent[instances]


def _without_small(instances: Instances, min_size: int) -> Instances:
    """Objects of fewer pixels removed, the others numbered 1..n."""
    areas = np.bincount(instances.ravel())
    kept = np.flatnonzero(areas >= max(min_size, 1))
    numbers = np.zeros(len(areas), np.int32)
    kept = kept[kept > 0]
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[instances]
