"""Reading objects: encode and decode are inverses, and rules drawn by hand."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from ushape.errors import DataError, RecipeError
from ushape.targets import instances
from ushape.targets.instances import (
    Decision,
    default_decision,
    maps_to_instances,
    object_sizes,
    typical_diameter,
    without_specks,
)
from ushape.targets.maps import Encoding, encode

KINDS = ("ridge", "border", "distance")
NOTHING_REMOVED = {"min_size": 0, "min_seed": 1, "smoothing": 0.0}


def perfect(mask, encoding):
    """The probabilities of a network that has learnt the mask by heart."""
    maps = encode(mask, encoding)
    classes = [maps.classes == k for k in range(encoding.n_class_channels)]
    distance = [] if maps.distance is None else [maps.distance]
    return np.stack([*classes, *distance]).astype(np.float32)


def best_ious(reference, estimate):
    """For each reference object the largest IoU with any estimate object, by a loop."""
    found = []
    for i in (i for i in np.unique(reference) if i > 0):
        one = reference == i
        others = [estimate == j for j in np.unique(estimate[one]) if j > 0]
        found.append(max(((one & two).sum() / (one | two).sum() for two in others), default=0.0))
    return np.array(found)


def discs(size, centres, radius):
    """Discs (balls) that touch: a pixel in several belongs to the nearest centre; the frame cuts what lies outside."""
    places = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    distances = np.stack([np.sqrt(((places - np.array(c)) ** 2).sum(-1)) for c in centres])
    return np.where(distances.min(0) <= radius, distances.argmin(0) + 1, 0).astype(np.int32)


def irregular(seed=3):
    """Twelve crumpled cells that share their borders, some cut by the frame."""
    rng = np.random.default_rng(seed)
    centres = [
        (25 + 50 * i + rng.integers(-9, 10), 20 + 40 * j + rng.integers(-7, 8)) for i in range(3) for j in range(4)
    ]
    bend = [ndimage.gaussian_filter(rng.normal(size=(150, 160)), 7) for _ in range(2)]
    places = np.stack(np.meshgrid(np.arange(150), np.arange(160), indexing="ij"), axis=-1) + 5 * np.stack(
        [b / b.std() for b in bend], axis=-1
    )
    distances = np.stack([np.sqrt(((places - np.array(c)) ** 2).sum(-1)) for c in centres])
    return np.where(distances.min(0) <= 26, distances.argmin(0) + 1, 0).astype(np.int32)


DRAWN = {
    "touching discs": discs((80, 90), [(25, 25), (25, 50), (50, 38), (60, 70)], 15),
    "cut by the frame": discs((60, 60), [(0, 5), (20, 25), (58, 30), (30, 59), (59, 59)], 14),
    "irregular": irregular(),
    "touching balls": discs((24, 40, 44), [(12, 12, 12), (12, 12, 30), (10, 30, 20), (20, 36, 40)], 9),
    "alone": discs((40, 40), [(20, 20)], 8),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DRAWN)
def test_decoding_perfect_maps_gives_the_objects_back(kind, name):
    mask = DRAWN[name]
    encoding = Encoding(kind)
    decision = default_decision(encoding, float(np.median(object_sizes([mask]))))
    instances = maps_to_instances(perfect(mask, encoding), encoding, decision)
    assert instances.dtype == np.int32
    assert instances.max() == len(np.unique(mask)) - 1
    assert best_ious(mask, instances).min() >= (0.97 if kind != "ridge" else 0.85 if mask.ndim == 3 else 0.9)


@pytest.mark.parametrize("kind", ["border", "distance"])
@pytest.mark.parametrize("name", DRAWN)
def test_the_foreground_comes_back_pixel_by_pixel(kind, name):
    encoding = Encoding(kind)
    instances = maps_to_instances(perfect(DRAWN[name], encoding), encoding, Decision(**NOTHING_REMOVED))
    assert np.array_equal(instances > 0, DRAWN[name] > 0)


def test_semantic_maps_are_read_as_connected_pieces_of_the_foreground():
    classes = np.array([[1, 1, 0, 2, 1], [0, 0, 0, 0, 0], [2, 0, 1, 1, 1]])
    maps = np.stack([classes == k for k in range(3)]).astype(np.float32)
    encoding = Encoding("semantic", n_classes=3)
    expected = [[1, 1, 0, 2, 2], [0, 0, 0, 0, 0], [3, 0, 4, 4, 4]]
    assert maps_to_instances(maps, encoding, Decision(min_size=0)).tolist() == expected
    assert maps_to_instances(maps, encoding, Decision(min_size=3)).max() == 1


def row_maps(inside, foreground=None):
    """Ridge maps of one row; the foreground's probability is what is given."""
    p = np.array([inside], np.float32)
    return np.stack([1 - p, p])


def test_seeds_grow_until_they_meet_and_stop_where_the_mask_stops():
    maps = row_maps([0.3, 0.5, 0.9, 0.6, 0.5, 0.7, 0.9, 0.5, 0.3])
    decision = Decision(0.8, 0.4, **NOTHING_REMOVED)
    encoding = Encoding("ridge")
    instances = maps_to_instances(maps, encoding, decision)
    assert instances[0, [0, 8]].tolist() == [0, 0]
    assert instances[0, 1:4].tolist() == [1, 1, 1]
    assert instances[0, 5:8].tolist() == [2, 2, 2]
    assert instances[0, 4] in (1, 2)
    # With the seed threshold below the saddle they are one.
    assert maps_to_instances(maps, encoding, replace(decision, seed_threshold=0.45))[0].tolist() == [0] + [1] * 7 + [0]


def test_an_object_with_a_low_summit_is_found_at_half_of_the_threshold():
    # The summit of 0.55 touches that of 0.9, above half of 0.8 they are apart.
    maps = np.zeros((3, 1, 9), np.float32)
    maps[1] = 1
    maps[2] = [0.2, 0.6, 0.9, 0.6, 0.2, 0.5, 0.55, 0.5, 0.2]
    instances = maps_to_instances(maps, Encoding("distance"), Decision(0.8, 0.5, **NOTHING_REMOVED))
    assert instances.max() == 2
    assert instances[0, 1:4].tolist() == [1, 1, 1]
    assert instances[0, 5:].tolist() == [2, 2, 2, 2]


def test_a_piece_of_mask_without_a_seed_is_kept_if_it_is_large_enough():
    maps = np.zeros((3, 3, 9), np.float32)
    maps[0] = 1
    for columns, inside in ((slice(0, 3), 1.0), (slice(4, 6), 0.1), (slice(7, 8), 0.1)):
        maps[:, :, columns] = np.array([0, inside, 1 - inside])[:, None, None]
    encoding = Encoding("border")
    instances = maps_to_instances(maps, encoding, Decision(min_size=6))
    assert instances[1].tolist() == [1, 1, 1, 0, 2, 2, 0, 0, 0]
    assert maps_to_instances(maps, encoding, Decision(min_size=7))[1].tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert maps_to_instances(maps, encoding, Decision(min_size=1)).max() == 3


def test_tiny_seeds_are_no_seeds():
    inside = np.zeros((9, 15), np.float32)
    inside[2:7, 2:7], inside[4, 11] = 1, 1
    maps = np.stack([np.zeros_like(inside), inside, 1 - inside])
    encoding = Encoding("border")
    assert maps_to_instances(maps, encoding, Decision(min_seed=1)).max() == 2
    assert maps_to_instances(maps, encoding, Decision(min_seed=2)).max() == 1


def two_cells(between):
    """Border maps of two cells side by side, 20 x 20 px each; `between` (20,) is how sure the seam is inside."""
    inside = np.ones((20, 41), np.float32)
    inside[:, 20] = between
    return np.stack([np.zeros_like(inside), inside, 1 - inside])


def test_pieces_are_one_object_where_no_rim_is_between_them():
    encoding, decision = Encoding("border"), Decision(0.99, 0.5, merging=0.65, **NOTHING_REMOVED)
    shadow, rim = np.full(20, 0.9), np.full(20, 0.1)
    for between, expected in ((shadow, 1), (rim, 2)):
        assert maps_to_instances(two_cells(between), encoding, decision).max() == expected
    # Without merging a shadow cuts a cell in two.
    assert maps_to_instances(two_cells(shadow), encoding, replace(decision, merging=1)).max() == 2


def test_a_leak_through_a_rim_does_not_make_one_of_two_cells():
    encoding, decision = Encoding("border"), Decision(0.99, 0.5, merging=0.65, **NOTHING_REMOVED)
    leaking = np.full(20, 0.1)
    leaking[8:11] = 0.95
    assert maps_to_instances(two_cells(leaking), encoding, decision).max() == 2
    # A seed threshold below the leak, with nothing to cut there, sees one cell only.
    assert maps_to_instances(two_cells(leaking), encoding, replace(decision, seed_threshold=0.9)).max() == 1


def merged_slowly(instances, landscape, merging):
    """By the definition: again and again, all borders measured anew, the two with the highest one become one."""
    instances = instances.copy()
    while True:
        seen = {}
        for axis in range(instances.ndim):
            for place in np.ndindex(*instances.shape):
                other = tuple(n + (i == axis) for i, n in enumerate(place))
                if other[axis] < instances.shape[axis] and instances[place] != instances[other]:
                    pair = tuple(sorted((int(instances[place]), int(instances[other]))))
                    if pair[0] > 0:
                        seen.setdefault(pair, []).append((float(landscape[place]) + float(landscape[other])) / 2)
        highest = max(seen, key=lambda pair: np.mean(seen[pair]), default=None)
        if highest is None or np.mean(seen[highest]) <= merging:
            return instances
        instances[instances == highest[1]] = highest[0]


@pytest.mark.parametrize("merging", [0.5, 0.53, 0.56])
@pytest.mark.parametrize("size", [(14, 16), (6, 7, 8)])
def test_merging_is_what_its_definition_says(size, merging):
    rng = np.random.default_rng(1)
    pieces = discs(size, [tuple(rng.uniform(0, n) for n in size) for _ in range(14)], max(size) / 3)
    landscape = ndimage.gaussian_filter(rng.random(size), 1).astype(np.float32)
    landscape = (landscape - landscape.min()) / (landscape.max() - landscape.min())
    expected = merged_slowly(pieces, landscape, merging)
    assert 2 < len(np.unique(expected)) < len(np.unique(pieces))
    np.testing.assert_array_equal(instances._merge(pieces, landscape, merging), expected)


def test_smoothing_merges_summits_that_noise_has_torn():
    rng = np.random.default_rng(0)
    mask = DRAWN["alone"]
    encoding = Encoding("distance", distance_cap=8)
    maps = perfect(mask, encoding)
    maps[-1] = np.clip(maps[-1] + 0.35 * rng.normal(size=mask.shape), 0, 1)
    counts = [maps_to_instances(maps, encoding, Decision(smoothing=s)).max() for s in (0.0, 2.0)]
    assert counts[0] > 3
    assert counts[1] == 1


def test_nothing_to_find_is_nothing_found():
    for kind in ("semantic", *KINDS):
        encoding = Encoding(kind)
        maps = perfect(np.zeros((8, 9), np.int32), encoding)
        assert not maps_to_instances(maps, encoding, default_decision(encoding)).any()


def test_sizes_and_diameters():
    masks = [np.array([[1, 1, 0], [5, -1, 5]]), np.array([[1, 1], [1, 0]])]
    assert object_sizes(masks).tolist() == [2, 2, 3]
    assert object_sizes([]).tolist() == []
    assert typical_diameter([discs((60, 60), [(30, 30)], 12)]) == pytest.approx(24, abs=0.5)
    assert typical_diameter([discs((30, 30, 30), [(15, 15, 15)], 9)]) == pytest.approx(18, abs=0.5)


def test_the_default_decision_scales_with_the_objects():
    for kind in KINDS:
        small, large = (default_decision(Encoding(kind), size) for size in (80, 10_000))
        assert (small.min_size, large.min_size) == (4, 500)
        assert (small.min_seed, large.min_seed) == (1, 100)
    ridge = default_decision(Encoding("ridge"))
    assert (ridge.seed_threshold, ridge.mask_threshold) == (0.8, 0.4)
    # A disc of 10 000 px is 113 px across, a ball 27 px.
    assert [default_decision(Encoding("border"), 10_000, dims).smoothing for dims in (2, 3)] == [4.5, 1.1]
    assert [default_decision(Encoding("distance"), 10_000, dims).smoothing for dims in (2, 3)] == [9.0, 2.1]


def test_a_decision_survives_json():
    decision = Decision(0.7, 0.4, 12, 3, 1.5)
    assert Decision.from_dict(json.loads(json.dumps(decision.to_dict()))) == decision


def test_messages_say_what_was_found():
    with pytest.raises(DataError, match=r"^expected 3 maps for the encoding 'border', found 2; read the maps with"):
        maps_to_instances(np.zeros((2, 4, 4), np.float32), Encoding("border"), Decision())
    with pytest.raises(DataError, match=r"^expected at least one object in the masks, found none; annotate some"):
        typical_diameter([np.zeros((3, 3), int)])
    with pytest.raises(RecipeError, match=r"^expected the decision's mask_threshold to be from 0 to 1, found 2"):
        Decision(mask_threshold=2)
    with pytest.raises(RecipeError, match=r"^expected the decision's min_size to be 0 or more, found -1"):
        Decision(min_size=-1)
    with pytest.raises(RecipeError, match=r"^expected only fields of a decision, found threshold; remove them"):
        Decision.from_dict({"threshold": 0.5})


@pytest.mark.parametrize("kind, least", [("ridge", 0.97), ("border", 0.97), ("distance", 0.97)])
def test_real_cells_come_back(kind, least):
    if "USHAPE_DATA" not in os.environ:
        pytest.skip("USHAPE_DATA is not set: it names the folder with local copies of public data sets")
    folder = Path(os.environ["USHAPE_DATA"]) / "ctc" / "DIC-C2DH-HeLa" / "01_GT" / "SEG"
    masks = [tifffile.imread(path).astype(np.int32) for path in sorted(folder.glob("man_seg*.tif"))]
    assert masks
    encoding = Encoding(kind)
    decision = default_decision(encoding, float(np.median(object_sizes(masks))))
    ious = [best_ious(mask, maps_to_instances(perfect(mask, encoding), encoding, decision)) for mask in masks]
    assert np.concatenate(ious).mean() >= least


def test_specks_go_and_the_others_are_numbered_anew():
    instances = np.array([[1, 0, 2, 2, 0, 3, 3, 3]], np.int32)
    assert without_specks(instances, 2).tolist() == [[0, 0, 1, 1, 0, 2, 2, 2]]
    assert without_specks(instances, 0) is instances
    assert without_specks(instances, 9).max() == 0
    nothing = np.zeros((2, 2), np.int32)
    assert without_specks(nothing, 5).tolist() == nothing.tolist()


def two_discs(radius, apart, cap, waist):
    """Maps of two discs that overlap in a waist, whose depth is told up to the cap; no valley but `waist` of it."""
    y, x = np.mgrid[:60, :90]
    centres = [(30, 45 - apart / 2), (30, 45 + apart / 2)]
    inside = np.min([np.hypot(y - cy, x - cx) for cy, cx in centres], 0) <= radius
    depth = np.minimum(ndimage.distance_transform_edt(inside) / cap, 1)
    depth[:, 44:46] *= waist
    return np.stack([1.0 - inside, inside, depth]).astype(np.float32)


def test_a_waist_parts_discs_whose_depth_is_flat_at_the_cap():
    encoding, decision = Encoding("distance", distance_cap=4.0), Decision(0.8, 0.5, 20, 1, 1.0, 0.8)
    maps = two_discs(radius=15, apart=24, cap=4.0, waist=1.0)
    assert maps[-1, 30, 30:60].min() == 1, "there is no valley to see"
    both = maps_to_instances(maps, encoding, decision)
    assert both.max() == 2
    assert both[30, 33] != both[30, 57]
    assert abs(int((both == 1).sum()) - int((both == 2).sum())) < 60
    assert maps_to_instances(maps, encoding, replace(decision, merging=1.0)).max() == 1
    blob = two_discs(radius=15, apart=8, cap=4.0, waist=1.0)
    assert maps_to_instances(blob, encoding, decision).max() == 1, "an oval is one object"


def test_beside_a_shallow_valley_depth_goes_on_on_both_sides_of_it():
    # Deeper than the plateau on both sides, and hardly less between them: the valley is the border.
    depth = np.ones((24, 41))
    depth[:, 20] = 0.7
    maps = np.stack([np.zeros_like(depth), np.ones_like(depth), depth]).astype(np.float32)
    decision = Decision(0.8, 0.5, 1, 1, 0.0, 0.8)
    read = maps_to_instances(np.pad(maps, ((0, 0), (1, 1), (1, 1))), Encoding("distance", distance_cap=5.0), decision)
    assert read.max() == 2
    assert read[12, 10] != read[12, 32]


def test_what_is_higher_outside_of_the_mask_hides_no_summit():
    # Depth rises towards the right edge of the mask and on beyond it; the left object is 12 px deep.
    depth = np.array([[0, 4, 8, 12, 8, 4, 2, 3, 5, 8, 11, 14, 17, 17]]) / 20
    inside = np.arange(14) < 11
    maps = np.stack([~inside, inside, depth[0]])[:, None].astype(np.float32)
    read = maps_to_instances(maps, Encoding("distance", distance_cap=20.0), Decision(0.5, 0.5, 1, 1, 0.0, 0.8))
    assert read[0, 3] != read[0, 10]
    assert not read[0, 11:].any()


@pytest.mark.parametrize("radius", [4, 8, 16])
def test_a_pass_counts_as_a_share_of_the_lower_summit(radius):
    encoding = Encoding("distance", distance_cap=20.0)
    maps = two_discs(radius=radius, apart=1.6 * radius, cap=20.0, waist=1.0)
    maps[-1] = maps[-1].clip(0, 0.74)  # below the plateau: nothing is deepened
    passed = 0.6  # of a summit: sqrt(1 - 0.8 ** 2)
    found = [
        int(maps_to_instances(maps, encoding, Decision(0.5, 0.5, 1, 1, 0.0, merging)).max())
        for merging in (passed - 0.15, passed + 0.25)
    ]
    assert found == [1, 2]


def test_merged_summits_go_on_merging_by_the_higher_one():
    # Three summits of 10, 4 and 9 in a row: the low one joins the first, the third stays apart from both.
    depth = np.array([[0, 5, 10, 5, 3.5, 4, 3.5, 3, 5, 9, 5, 0]]) / 20
    maps = np.stack([depth == 0, depth > 0, depth]).astype(np.float32)
    read = maps_to_instances(maps, Encoding("distance", distance_cap=20.0), Decision(0.5, 0.5, 1, 1, 0.0, 0.8))
    assert read.max() == 2
    assert read[0, 2] == read[0, 5] != read[0, 9]


def test_every_piece_of_mask_is_an_object_even_without_a_summit():
    maps = np.zeros((3, 20, 40), np.float32)
    maps[0], maps[1] = 1, 0
    for x in (5, 25):
        maps[0, 5:15, x : x + 10], maps[1, 5:15, x : x + 10] = 0, 1
    read = maps_to_instances(maps, Encoding("distance"), Decision(0.5, 0.5, 1, 1, 0.0, 0.8))
    assert read.max() == 2
    whole = np.stack([np.zeros((8, 8)), np.ones((8, 8)), np.zeros((8, 8))]).astype(np.float32)
    assert maps_to_instances(whole, Encoding("distance"), Decision(0.5, 0.5, 1, 1, 0.0, 0.8)).max() == 1
