"""Training maps: drawn by hand, depth against brute force, options that contradict themselves."""

import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from ushape.errors import DataError, RecipeError
from ushape.targets.borders import border_weights, border_weights_2019, compact_ids, separate_touching
from ushape.targets.maps import Encoding, encode, inner_distance

KINDS = ("semantic", "ridge", "border", "distance")


def drawn(*rows):
    """A mask from text: digits are ids, '.' is background, '#' is ignore."""
    return np.array([[{".": 0, "#": -1}.get(c, ord(c) - ord("0")) for c in row] for row in rows], np.int32)


def boxes(seed, size, n):
    """Boxes, some of them touching or cut by the frame, and some ignored pixels."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.int32)
    for _ in range(n):
        corner = [rng.integers(-3, s - 2) for s in size]
        mask[tuple(slice(max(c, 0), c + rng.integers(4, 14)) for c in corner)] = rng.integers(1, 99)
    mask[rng.random(size) < 0.01] = -1
    mask[-2:] = -1
    return mask


def brute_depth(mask, cap):
    """For each object pixel the nearest pixel of anything else, by a loop over all pairs."""
    depth = np.zeros(mask.shape)
    places = np.argwhere(mask > -1)
    ids = mask[mask > -1]
    for here in np.argwhere(mask > 0):
        foreign = places[ids != mask[tuple(here)]]
        nearest = np.sqrt(((foreign - here) ** 2).sum(1).min()) if len(foreign) else np.inf
        depth[tuple(here)] = min(nearest, cap)
    return depth


def test_semantic_maps_are_the_mask_itself():
    mask = drawn("012", "#02")
    maps = encode(mask, Encoding("semantic", n_classes=3))
    assert maps.classes.tolist() == mask.tolist()
    assert maps.weights.tolist() == [[1, 1, 1], [0, 1, 1]]
    assert maps.distance is None


def test_ridge_maps_are_the_separated_mask_and_the_weights_of_the_paper():
    mask = boxes(0, (40, 50), 12)
    encoding = Encoding("ridge", ridge_width=2, w0=7, sigma=3, class_balance=False)
    maps = encode(mask, encoding)
    separate = separate_touching(mask, 2)
    assert np.array_equal(maps.classes, np.sign(separate))
    assert np.array_equal(maps.weights, border_weights(separate, 7, 3, False))
    assert (maps.weights != encode(mask, replace(encoding, class_balance=True)).weights).any()


def test_the_later_weights_are_chosen_by_name():
    mask = drawn("1111222", "1111222", ".......", "..33...")
    maps = encode(mask, Encoding("ridge", weights="falk2019"))
    assert np.array_equal(maps.weights, border_weights_2019(separate_touching(mask)))
    assert np.array_equal(maps.classes, encode(mask, Encoding("ridge")).classes)


def test_the_border_is_the_rim_of_the_object_itself():
    mask = drawn(".......", ".11111.", ".11111.", ".11111.", ".......")
    maps = encode(mask, Encoding("border", border_width=1))
    assert maps.classes.tolist() == drawn(".......", ".22222.", ".21112.", ".22222.", ".......").tolist()
    assert (maps.weights == 1).all()


def test_there_is_no_border_towards_the_frame_nor_towards_ignored_pixels():
    mask = drawn("11111#", "11111#", "11111#", "11111#", ".....#")
    maps = encode(mask, Encoding("border", border_width=2))
    assert maps.classes.tolist() == drawn("11111#", "11111#", "22222#", "22222#", ".....#").tolist()


def test_touching_objects_have_a_border_on_both_sides_that_weighs_more():
    mask = np.repeat([[1] * 8 + [2] * 8], 7, axis=0)
    maps = encode(mask, Encoding("border", border_width=2, touch_weight=3))
    row = [1] * 6 + [2] * 4 + [1] * 6
    assert maps.classes.tolist() == [row] * 7
    assert maps.weights.tolist() == [[1.0] * 6 + [4.0] * 4 + [1.0] * 6] * 7


def test_the_weight_is_raised_only_where_the_rim_lies_against_another_object():
    mask = np.zeros((30, 30), np.int32)
    mask[5:25, 5:15], mask[5:25, 15:25] = 1, 2
    maps = encode(mask, Encoding("border"))
    raised = maps.weights > 1
    assert raised[10, 13:17].all()
    assert not raised[:, :13].any()
    assert not raised[:, 17:].any()
    assert not raised[maps.classes != 2].any()


def test_inside_and_border_together_are_the_whole_foreground_and_every_object_has_an_inside():
    for size in ((50, 60), (12, 18, 20)):
        mask = boxes(3, size, 25)
        mask[5, 5], mask[(8, slice(None), *(0,) * (mask.ndim - 2))] = 200, 201
        maps = encode(mask, Encoding("border", border_width=3))
        assert np.array_equal(maps.classes > 0, mask > 0)
        assert np.array_equal(maps.classes == -1, mask == -1)
        assert set(mask[maps.classes == 1]) == {i for i in np.unique(mask) if i > 0}


def test_depth_drawn_by_hand():
    mask = drawn(".....", "1111.", "1111.", "1111.", ".....")
    maps = encode(mask, Encoding("distance", distance_cap=2))
    assert maps.classes.tolist() == np.sign(mask).tolist()
    assert maps.distance[2].tolist() == [1, 1, 1, 0.5, 0]
    assert maps.distance[1].tolist() == [0.5, 0.5, 0.5, 0.5, 0]
    assert (maps.weights == 1).all()


@pytest.mark.parametrize("size", [(40, 45), (9, 14, 16)])
@pytest.mark.parametrize("cap", [3.0, 6.5])
def test_brute_force_gives_the_same_depth(size, cap):
    for seed in range(3):
        mask = boxes(seed, size, 15)
        maps = encode(mask, Encoding("distance", distance_cap=cap))
        assert maps.distance.dtype == np.float32
        assert np.abs(maps.distance - brute_depth(mask, cap) / cap).max() < 1e-6
        without = np.maximum(mask, 0)
        depth = inner_distance(compact_ids(without)[0], without < 0, cap)
        assert np.abs(depth - brute_depth(without, cap)).max() < 1e-6


def test_an_object_across_an_ignored_strip_is_still_seen():
    mask = drawn("1111##2222")
    maps = encode(mask, Encoding("distance", distance_cap=5))
    assert (5 * maps.distance).round(5).tolist() == [[5, 5, 4, 3, 0, 0, 3, 4, 5, 5]]


def test_an_object_that_fills_the_image_is_deep_everywhere():
    maps = encode(np.ones((6, 7), np.int32), Encoding("distance"))
    assert (maps.distance == 1).all()
    assert (encode(np.ones((6, 7), np.int32), Encoding("border")).classes == 1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(20, 24), (6, 12, 10)])
def test_every_kind_keeps_types_sizes_and_ignored_pixels(kind, size):
    encoding = Encoding(kind, n_classes=100)
    for mask in (boxes(4, size, 6), np.zeros(size, np.int32), np.full(size, -1, np.int32)):
        maps = encode(mask, encoding)
        assert (maps.classes.shape, maps.classes.dtype) == (size, np.int16)
        assert (maps.weights.shape, maps.weights.dtype) == (size, np.float32)
        assert np.array_equal(maps.classes == -1, mask == -1)
        assert np.array_equal(maps.weights == 0, mask == -1)
        assert maps.classes.max() < encoding.n_class_channels
        assert (maps.distance is not None) == (kind == "distance")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_of_unsigned_integers_gives_the_same_maps(kind):
    mask = np.maximum(boxes(5, (20, 24), 6), 0)
    one, two = (encode(mask.astype(t), Encoding(kind, n_classes=100)) for t in (np.int32, np.uint8))
    assert np.array_equal(one.classes, two.classes)
    assert np.array_equal(one.weights, two.weights)


def test_the_channels_of_each_kind():
    channels = {
        kind: (Encoding(kind, n_classes=5).n_class_channels, Encoding(kind, n_classes=5).n_channels) for kind in KINDS
    }
    assert channels == {"semantic": (5, 5), "ridge": (2, 2), "border": (3, 3), "distance": (2, 3)}


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoding_survives_json(kind):
    encoding = Encoding(kind, n_classes=4, distance_cap=7.5, w0=3.0, weights="falk2019")
    assert Encoding.from_dict(json.loads(json.dumps(encoding.to_dict()))) == encoding
    with pytest.raises(FrozenInstanceError, match="cannot assign"):
        encoding.w0 = 1.0


def test_messages_say_what_was_found():
    with pytest.raises(
        RecipeError, match=r"^expected an encoding of semantic, ridge, border, distance, label, found 'edge'"
    ):
        Encoding("edge")
    with pytest.raises(
        RecipeError,
        match=r"^expected the encoding's weights to be ronneberger2015 or falk2019, found 2019; choose one$",
    ):
        Encoding("ridge", weights=2019)
    with pytest.raises(RecipeError, match=r"^expected the encoding's border_width to be at least 1, found 0"):
        Encoding("border", border_width=0)
    with pytest.raises(RecipeError, match=r"^expected the encoding's distance_cap to be more than 0, found -1"):
        Encoding("distance", distance_cap=-1)
    with pytest.raises(RecipeError, match=r"^expected only fields of an encoding, found height, speed; remove them"):
        Encoding.from_dict({"kind": "ridge", "speed": 1, "height": 2})
    with pytest.raises(DataError, match=r"^expected classes 0 to 1 in a mask, found 7; name all classes, or choose"):
        encode(drawn("017"), Encoding("semantic"))
    with pytest.raises(DataError, match=r"^expected a mask of integers in 2-D or 3-D, found float64 of size \(2, 2\)"):
        encode(np.zeros((2, 2)), Encoding("border"))
    with pytest.raises(DataError, match=r"^expected a mask of integers in 2-D or 3-D, found int64 of size \(4,\)"):
        encode(np.zeros(4, np.int64), Encoding("border"))


def test_classes_weigh_what_they_are_told_and_ignored_pixels_nothing():
    maps = encode(drawn("012#"), Encoding("semantic", n_classes=3, class_weights=(0.5, 1, 4)))
    assert maps.weights.tolist() == [[0.5, 1, 4, 0]]
    assert maps.classes.tolist() == [[0, 1, 2, -1]]


@pytest.mark.parametrize("weights", [(1.0, 2.0), (1.0, 1.0, -1.0)])
def test_class_weights_are_one_for_each_class_and_not_negative(weights):
    with pytest.raises(RecipeError, match=r"^expected the encoding's class_weights to be 3 numbers of at least 0, one"):
        Encoding("semantic", n_classes=3, class_weights=weights)


def test_class_weights_survive_json():
    encoding = Encoding("semantic", n_classes=2, class_weights=(0.5, 2))
    assert Encoding.from_dict(json.loads(json.dumps(encoding.to_dict()))) == encoding


def test_gaps_between_pieces_weigh_as_in_the_paper():
    mask = drawn("11.11....#", "11.11....#")
    plain = encode(mask, Encoding("semantic", class_weights=(0.5, 2.0)))
    maps = encode(mask, Encoding("semantic", class_weights=(0.5, 2.0), gap_weight=10.0, sigma=5.0))
    pieces = drawn("11.22....#", "11.22....#")
    term = border_weights(pieces, 10.0, 5.0, False) - (pieces >= 0)
    assert maps.weights == pytest.approx(plain.weights + term)
    assert maps.weights[0, 2] == pytest.approx(0.5 + 10 * np.exp(-(2**2) / 50), abs=1e-3)
    assert maps.weights[0, 0] == 2
    assert maps.weights[0, 9] == 0
    three = encode(mask, Encoding("semantic", n_classes=3, gap_weight=10.0))
    assert (three.weights == (mask >= 0)).all()
