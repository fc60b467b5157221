"""The ridge and the weight map of the paper (P14, P15): drawn by hand and against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ushape.data.catalog import open_dataset
from ushape.errors import DataError
from ushape.targets.borders import border_weights, border_weights_2019, compact_ids, contacts, separate_touching


def drawn(*rows):
    """A mask from text: digits are ids, '.' is background, '#' is ignore."""
    return np.array([[{".": 0, "#": -1}.get(c, ord(c) - ord("0")) for c in row] for row in rows], np.int32)


def boxes(seed, size, n, ignore=True):
    """Boxes with gaps between their ids, some of them touching, and an ignored strip."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.int32)
    for _ in range(n):
        mask[tuple(slice(c, c + rng.integers(2, 12)) for c in (rng.integers(0, s - 2) for s in size))] = rng.integers(
            1, 99
        )
    if ignore:
        mask[:2] = -1
    return mask


def brute_weights(mask, w0, sigma):
    """The formula word by word: a distance transform of the whole image per object, sorted per pixel."""
    ids = [i for i in np.unique(mask) if i > 0]
    counted = mask >= 0
    weights = np.zeros(mask.shape)
    for of_class in (mask > 0, mask == 0):
        weights[of_class] = counted.sum() / (2 * of_class.sum()) if (mask > 0).any() and (mask == 0).any() else 1
    if len(ids) >= 2:
        distances = np.sort([ndimage.distance_transform_edt(mask != i) for i in ids], axis=0)
        term = w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
        weights += np.where(mask == 0, term, 0)
    return weights


def brute_weights_2019(mask):
    """The later formula word by word, with the numbers of the authors."""
    ids = [i for i in np.unique(mask) if i > 0]
    distances = [ndimage.distance_transform_edt(mask != i) for i in ids] + [np.full(mask.shape, np.inf)] * 2
    first, second = np.sort(distances, axis=0)[:2]
    background = 0.1 + 0.9 * np.exp(-(first**2) / (2 * 10**2)) + 50 * np.exp(-((first + second) ** 2) / (2 * 6**2))
    return np.where(mask > 0, 1, np.where(mask == 0, background, 0))


def touching_pairs(mask):
    """Every pair of different ids within one step, by a loop over pixels."""
    pairs = set()
    for here in np.argwhere(mask > 0):
        window = tuple(slice(max(c - 1, 0), c + 2) for c in here)
        pairs |= {(int(mask[tuple(here)]), int(i)) for i in np.unique(mask[window]) if i > 0}
    return {pair for pair in pairs if pair[0] != pair[1]}


def test_compact_ids_keeps_the_order_and_drops_the_rest():
    labels, n = compact_ids(drawn("#.95", "259."))
    assert n == 3
    assert labels.dtype == np.int32
    assert labels.tolist() == [[0, 0, 3, 2], [1, 2, 3, 0]]


def test_contacts_are_where_two_objects_meet_also_at_a_corner():
    mask = drawn("11....", "11....", "..22.3", "..22.3")
    assert contacts(mask).astype(int).tolist() == drawn("......", ".1....", "..1...", "......").tolist()


def test_a_ridge_of_one_pixel_is_taken_from_the_larger_object():
    mask = drawn("1112222.", "1112222.", "1112222.", "......33")
    expected = drawn("111.222.", "111.222.", "111.2...", "......33")
    assert np.array_equal(separate_touching(mask), expected)


def test_wider_ridges_are_taken_in_turn_from_both_sides():
    mask = drawn("1112222", "1112222", "1112222")
    assert separate_touching(mask, 2)[0].tolist() == drawn("11..222")[0].tolist()
    assert separate_touching(mask, 3)[0].tolist() == drawn("11...22")[0].tolist()
    assert separate_touching(mask, 4)[0].tolist() == drawn("1....22")[0].tolist()
    assert np.array_equal(separate_touching(mask, 0), mask)


def test_a_small_object_is_not_eaten_by_its_neighbour():
    mask = drawn("11111", "11211", "11111")
    assert separate_touching(mask).tolist() == drawn("1...1", "1.2.1", "1...1").tolist()


def test_objects_that_do_not_touch_and_ignored_pixels_stay_as_they_are():
    mask = drawn("11.22", "11#22", "11.22")
    for width in (1, 3):
        assert np.array_equal(separate_touching(mask, width), mask)


def test_a_wide_ridge_leaves_ignored_pixels_beside_it_as_they_are():
    mask = drawn("1112222", "#######")
    assert separate_touching(mask, 3).tolist() == drawn("11...22", "#######").tolist()


@pytest.mark.parametrize("size", [(30, 40), (10, 12, 14)])
@pytest.mark.parametrize("width", [1, 2])
def test_after_separation_nothing_touches_and_nothing_else_has_changed(size, width):
    for seed in range(4):
        mask = boxes(seed, size, 14)
        separate = separate_touching(mask, width)
        assert touching_pairs(mask)
        assert not touching_pairs(separate)
        changed = separate != mask
        assert (separate[changed] == 0).all()
        near = ndimage.binary_dilation(contacts(mask), np.ones((3,) * mask.ndim), iterations=(width + 1) // 2 - 1 or 1)
        assert not (changed & ~near).any()
        if width == 1:
            assert not (changed & ~contacts(mask)).any()


@settings(max_examples=50, deadline=None)
@given(arrays(np.int32, (6, 7), elements=st.integers(-1, 3)))
def test_any_mask_is_separated_and_separating_again_changes_nothing(mask):
    once = separate_touching(mask)
    assert not touching_pairs(once)
    assert np.array_equal(separate_touching(once), once)


def test_the_weight_between_two_cells_is_the_formula():
    mask = np.zeros((21, 40), np.int32)
    mask[5:15, 5:15], mask[5:15, 18:30] = 1, 2
    weights = border_weights(mask, class_balance=False)
    # Three background pixels lie between the cells: at each d1 + d2 = 4.
    assert weights[10, 15:18] == pytest.approx(np.full(3, 1 + 10 * np.exp(-16 / 50)), rel=1e-6)
    assert (weights[mask > 0] == 1).all()


@pytest.mark.parametrize("size, n", [((60, 70), 12), ((40, 40), 2), ((14, 20, 24), 8), ((40, 50), 30)])
@pytest.mark.parametrize("w0, sigma", [(10.0, 5.0), (4.0, 2.0)])
def test_brute_force_gives_the_same_weights(size, n, w0, sigma):
    for seed in range(3):
        mask = boxes(seed, size, n)
        expected = brute_weights(mask, w0, sigma)
        assert expected.max() > 1.5
        weights = border_weights(mask, w0, sigma)
        assert weights.dtype == np.float32
        assert np.abs(weights - expected).max() < 1e-4


def test_far_cells_have_no_term_and_the_cut_is_below_the_promise():
    mask = np.zeros((9, 90), np.int32)
    mask[2:7, 2:10], mask[2:7, 30:40], mask[2:7, 80:88] = 1, 2, 3
    weights = border_weights(mask, class_balance=False)
    assert (
        np.abs(weights - np.where(mask == 0, brute_weights(mask, 10, 5) - brute_weights(mask, 0, 5), 0) - 1).max()
        < 1e-4
    )
    assert weights[4, 60] == 1


def test_classes_weigh_the_same_and_the_mean_is_one():
    mask = boxes(1, (50, 50), 5)
    weights = border_weights(mask, w0=0)
    assert weights[mask > 0].sum() == pytest.approx(weights[mask == 0].sum(), rel=1e-5)
    assert weights[mask >= 0].mean() == pytest.approx(1, rel=1e-5)


def test_no_border_term_inside_cells_nor_with_fewer_than_two():
    one = drawn(".....", ".111.", ".....")
    assert (border_weights(one, class_balance=False) == 1).all()
    assert (border_weights(np.zeros((4, 5), np.int32)) == 1).all()
    assert (border_weights(np.ones((4, 5), np.int32)) == 1).all()
    mask = boxes(2, (40, 40), 10)
    weights = border_weights(mask)
    assert np.unique(weights[mask > 0]).size == 1


def test_ignored_pixels_weigh_nothing():
    mask = boxes(0, (30, 30), 6)
    weights = border_weights(mask)
    assert np.array_equal(weights == 0, mask == -1)


@pytest.mark.parametrize("size, n", [((60, 70), 12), ((40, 40), 2), ((14, 20, 24), 8), ((90, 30), 1), ((9, 9), 0)])
def test_brute_force_gives_the_same_weights_of_2019(size, n):
    for seed in range(3):
        mask = boxes(seed, size, n)
        weights = border_weights_2019(mask)
        assert weights.dtype == np.float32
        assert np.abs(weights - brute_weights_2019(mask)).max() < 1e-4


def test_the_weights_of_2019_by_hand():
    mask = np.zeros((5, 200), np.int32)
    mask[:, :20], mask[:, 25:30], mask[0, 0] = 1, 2, -1
    weights = border_weights_2019(mask)
    assert weights[2, 199] == pytest.approx(0.1, abs=1e-6)
    assert weights[2, 40] == pytest.approx(0.1 + 0.9 * np.exp(-(11**2) / 200) + 50 * np.exp(-(32**2) / 72), abs=5e-5)
    # Five background pixels lie between the two: d1 + d2 = 6 at each.
    assert weights[2, 22] == pytest.approx(0.1 + 0.9 * np.exp(-9 / 200) + 50 * np.exp(-36 / 72), rel=1e-6)
    assert (weights[mask > 0] == 1).all()
    assert weights[0, 0] == 0


@pytest.mark.parametrize("name", ["dsb2018", "dic-hela"])
def test_brute_force_gives_the_same_weights_on_real_masks(name, real_data):
    try:
        dataset = open_dataset(name)
    except DataError:
        pytest.skip(f"no {name} under USHAPE_DATA")
    mask = dataset.annotated.samples[0].read_mask()
    # The middle of the image is enough, and brute force is slow.
    mask = separate_touching(mask[tuple(slice(n // 4, 3 * n // 4) for n in mask.shape)])
    assert np.unique(mask).size > 3
    assert np.abs(border_weights(mask) - brute_weights(mask, 10, 5)).max() < 1e-4
    assert np.abs(border_weights_2019(mask) - brute_weights_2019(mask)).max() < 1e-4
