"""Pictures of images and labels: drawn by hand, and the objects' errors against the scores' own counting."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ushape.errors import DataError
from ushape.picture.overlay import (
    FOUND,
    INVENTED,
    LEGEND,
    MISSED,
    display_limits,
    error_map,
    errors,
    hatch,
    label_colours,
    overlay,
    to_display,
)
from ushape.picture.overlay import _matches as matches
from ushape.scoring.objects import count_objects

BLANK = np.zeros((1, 12, 12), np.uint8)


def square(value: int, top: int, left: int, side: int, size: int = 12) -> np.ndarray:
    """(size, size) int32 with one filled square."""
    labels = np.zeros((size, size), np.int32)
    labels[top : top + side, left : left + side] = value
    return labels


def drawn(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a picture has exactly this colour."""
    return (picture == colour).all(axis=-1)


def ring(labels: np.ndarray) -> np.ndarray:
    """The pixels of a filled square without its inside, found from the square's corners."""
    ys, xs = np.nonzero(labels)
    inside = np.zeros(labels.shape, bool)
    inside[ys.min() + 1 : ys.max(), xs.min() + 1 : xs.max()] = True
    return (labels > 0) & ~inside


# The image itself.


def test_grey_is_stretched_between_the_percentiles():
    image = np.arange(1001, dtype=np.uint16).reshape(1, 7, 143)
    grey = to_display(image)[..., 0].ravel()
    assert (grey[:6] == 0).all()
    assert grey[6] > 0 or grey[7] > 0
    assert grey[500] == 128 or grey[500] == 127
    assert (grey[995:] == 255).all()
    assert grey[990] < 255


def test_one_hot_pixel_does_not_darken_the_rest():
    image = np.tile(np.linspace(0, 1, 100), (100, 1))[None]
    image[0, 0, 0] = 1e6
    assert to_display(image)[50, 99, 0] > 250


@pytest.mark.parametrize(
    "n_channels, expected",
    [(1, [[9, 9, 9]]), (2, [[1, 0, 1], [0, 1, 0]]), (3, np.eye(3)), (5, np.vstack([np.eye(3), np.zeros((2, 3))]))],
)
def test_the_colour_of_each_channel(n_channels, expected):
    """Each channel alone is bright in one half of its own row: the colour there is the channel's."""
    if n_channels == 1:
        image = np.tile([0.0, 1.0], (1, 4, 2))
        np.testing.assert_array_equal(to_display(image)[0, :, :], np.tile([[0] * 3, [255] * 3], (2, 1)))
        return
    image = np.zeros((n_channels, n_channels, 4))
    for channel in range(n_channels):
        image[channel, channel, 2:] = 1
    picture = to_display(image)
    for channel in range(n_channels):
        np.testing.assert_array_equal(picture[channel, 3], np.array(expected[channel]) * 255)
        assert (picture[channel, 0] == 0).all()


@pytest.mark.parametrize("n_channels", [2, 3])
def test_an_empty_channel_beside_others_is_dark(n_channels):
    image = np.zeros((n_channels, 8, 8))
    image[0, 2:4] = 1
    picture = to_display(image)
    assert (picture[..., 1] == 0).all()
    assert (picture[3, :, 0] == 255).all()
    # What shows nothing at all is no black picture.
    assert (to_display(np.zeros((n_channels, 8, 8))) == 128).all()


def test_what_is_no_number_is_dark_and_leaves_the_others():
    image = np.tile([0.0, 1.0], (1, 4, 2))
    image[0, 1, 1], image[0, 2, 1] = np.nan, np.inf
    picture = to_display(image)
    assert picture[[1, 2], 1].max() == 0
    assert (picture[[0, 3], 1] == 255).all()
    assert (to_display(np.full((1, 4, 4), np.nan)) == 128).all()


def test_a_single_bright_pixel_on_black_is_seen():
    image = np.zeros((1, 50, 50))
    image[0, 20, 30] = 3
    picture = to_display(image)
    assert picture[20, 30, 0] == 255
    assert picture.sum() == 3 * 255


def test_a_flat_image_is_mid_grey():
    assert (to_display(np.full((1, 4, 5), -7.5)) == 128).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float32, np.float64])
def test_every_type_gives_the_same_picture(dtype):
    image = np.arange(24).reshape(1, 4, 6) % 2
    picture = to_display(image.astype(dtype))
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, to_display(image))


def test_a_shape_that_is_no_image():
    with pytest.raises(
        DataError,
        match=re.escape(
            "expected an image of shape (channels, height, width) to draw, found (4, 5); "
            "add a channel axis with image[None], or pass one slice of a volume"
        ),
    ):
        to_display(np.zeros((4, 5)))


# Labels over it.


def test_a_label_has_one_colour_and_background_and_ignore_are_black():
    colours = label_colours(np.array([[-1, 0, 7], [7, 300, 2**31 - 1]]))
    assert (colours[0, :2] == 0).all()
    np.testing.assert_array_equal(colours[0, 2], colours[1, 0])
    np.testing.assert_array_equal(label_colours(np.array([7]))[0], colours[0, 2])


def test_chosen_colours_are_taken_as_far_as_they_go():
    labels = np.array([-1, 0, 1, 2, 3])
    colours = label_colours(labels, ((9, 9, 9), (1, 2, 3), (4, 5, 6)))
    assert colours[:4].tolist() == [[0] * 3, [0] * 3, [1, 2, 3], [4, 5, 6]]
    np.testing.assert_array_equal(colours[4], label_colours(np.array([3]))[0])
    assert drawn(overlay(BLANK, square(1, 2, 3, 6), colours=((0, 0, 0), (1, 2, 3))), (1, 2, 3)).sum() == 20


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_stripes_are_seen_on_every_ground_and_only_where_asked(grey):
    where = square(1, 0, 0, 8) > 0
    picture = np.full((12, 12, 3), grey, np.uint8)
    striped = hatch(picture, where)
    assert (striped[~where] == grey).all()
    assert np.ptp(striped[where].astype(int)) > 40
    with pytest.raises(DataError, match=re.escape("expected labels of the image's size (12, 12), found (3, 4)")):
        hatch(picture, np.zeros((3, 4), bool))


def test_near_ids_have_far_colours():
    colours = label_colours(np.arange(1, 301)).astype(int)
    for apart in (1, 2, 3):
        distance = np.abs(colours[apart:] - colours[:-apart]).max(axis=1)
        assert distance.min() >= 40, apart
    assert len(np.unique(colours, axis=0)) > 250


def test_an_overlay_outlines_in_full_colour_and_tints_inside():
    labels = square(4, 2, 3, 6)
    colour = label_colours(np.array([4]))[0]
    picture = overlay(BLANK, labels, alpha=0.5)
    expected = np.full((12, 12, 3), 128)
    expected[labels > 0] = np.rint((128 + colour.astype(float)) / 2)
    expected[ring(labels)] = colour
    np.testing.assert_array_equal(picture, expected)


def test_touching_objects_are_both_outlined_and_ignore_is_not_drawn():
    labels = square(1, 2, 2, 4) + square(2, 2, 6, 4) + square(-1, 9, 0, 3)
    picture = overlay(BLANK, labels, alpha=0)
    one, two = label_colours(np.array([1, 2]))
    np.testing.assert_array_equal(drawn(picture, tuple(one)), ring(labels == 1))
    np.testing.assert_array_equal(drawn(picture, tuple(two)), ring(labels == 2))
    assert (picture[labels <= 0] == 128).all()
    assert (overlay(BLANK, labels, alpha=0.5)[labels <= 0] == 128).all()


@pytest.mark.parametrize("band", [1, 7, 16])
def test_bands_leave_no_trace(band, monkeypatch):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4000, (2, 50, 40)).astype(np.uint16)
    labels = np.kron(rng.integers(-1, 4, (10, 8)), np.ones((5, 5), int)).astype(np.int32)
    whole = overlay(image, labels)
    monkeypatch.setattr("ushape.picture.overlay.BAND", band)
    assert np.array_equal(overlay(image, labels), whole)


def test_an_outline_is_open_where_the_images_border_cuts_the_object():
    labels = square(1, 0, 4, 4)
    drawn_outline = drawn(overlay(BLANK, labels, alpha=0), tuple(label_colours(np.array([1]))[0]))
    expected = ring(labels)
    expected[0, 5:7] = False
    np.testing.assert_array_equal(drawn_outline, expected)


def test_labels_of_another_size():
    with pytest.raises(
        DataError,
        match=re.escape(
            "expected labels of the image's size (12, 12), found (12, 11); draw each image with its own labels"
        ),
    ):
        overlay(BLANK, np.zeros((12, 11), int))
    with pytest.raises(DataError, match="draw each image with its own labels"):
        error_map(BLANK, np.zeros((12, 12), int), np.zeros((11, 12), int), instances=True)


# Errors.


def test_the_colours_of_errors_are_okabe_and_itos_and_named():
    assert [name for name, _ in LEGEND] == ["found", "missed", "invented"]
    assert {"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in LEGEND} == {"#009e73", "#e69f00", "#56b4e9"}


def test_classes_are_compared_pixel_by_pixel():
    reference = np.array([[0, 1, 1, 0, -1, -1, 2]])
    estimate = np.array([[0, 1, 0, 1, 1, 0, 1]])
    picture = error_map(np.zeros((1, 1, 7)), reference, estimate, instances=False)
    grey = round(128 * 0.5)

    def mixed(colour, share):
        return np.rint(grey * (1 - share) + np.array(colour) * share)

    plain = np.full(3, grey)
    missed = mixed(MISSED, 0.75)
    expected = [plain, mixed(FOUND, 0.45), missed, mixed(INVENTED, 0.75), plain, plain, missed]
    np.testing.assert_allclose(picture[0], expected, atol=1)


def test_objects_are_found_missed_or_invented():
    reference = square(3, 1, 1, 5) + square(9, 7, 1, 4)
    estimate = square(1, 1, 2, 5) + square(2, 7, 7, 4)
    picture = error_map(BLANK, reference, estimate, instances=True)
    np.testing.assert_array_equal(drawn(picture, FOUND), ring(estimate == 1))
    np.testing.assert_allclose(picture[3, 4], 64 * 0.6 + np.array(FOUND) * 0.4, atol=1)
    np.testing.assert_array_equal(drawn(picture, MISSED), ring(reference == 9))
    np.testing.assert_array_equal(drawn(picture, INVENTED), ring(estimate == 2))


def test_an_iou_of_exactly_a_half_is_not_found():
    reference = square(1, 1, 1, 4)
    estimate = reference * (np.arange(12)[:, None] < 3)
    picture = error_map(BLANK, reference, estimate, instances=True)
    assert not drawn(picture, FOUND).any()
    assert drawn(picture, MISSED).sum() == 12


def test_ignored_pixels_stay_grey_and_objects_on_them_are_not_invented():
    reference = np.full((12, 12), -1)
    reference[:, :6] = square(1, 4, 2, 3)[:, :6]
    estimate = square(1, 4, 2, 3) + square(2, 0, 7, 4) + square(3, 8, 5, 3)
    picture = error_map(BLANK, reference, estimate, instances=True)
    np.testing.assert_array_equal(drawn(picture, FOUND), ring(estimate == 1))
    assert not drawn(picture, INVENTED).any()
    assert (picture[:, 6:] == round(128 * 0.5)).all()


def test_objects_that_reach_into_ignored_pixels_end_there():
    reference = square(7, 1, 1, 4)
    reference[:, 4:] = -1
    estimate = square(1, 1, 1, 4) + square(2, 7, 1, 4)
    found, missed, invented = errors(reference, estimate, instances=True)
    np.testing.assert_array_equal(found, np.where(reference == 7, 1, 0))
    np.testing.assert_array_equal(missed, np.zeros((12, 12)))
    np.testing.assert_array_equal(invented, np.where((estimate == 2) & (reference == 0), 2, 0))


def test_a_perfect_estimate_under_other_ids_is_all_found():
    reference = square(1, 1, 1, 4) + square(2, 6, 6, 5)
    estimate = np.choose(reference, [0, 70, 5])
    picture = error_map(BLANK, reference, estimate, instances=True)
    assert not drawn(picture, MISSED).any()
    assert not drawn(picture, INVENTED).any()
    np.testing.assert_array_equal(drawn(picture, FOUND), ring(reference == 1) | ring(reference == 2))


masks = arrays(np.int32, (6, 7), elements=st.integers(-1, 4))


@given(masks, masks)
@settings(max_examples=200, deadline=None)
def test_matches_agree_with_the_scores(reference, estimate):
    counted = reference >= 0
    found_reference, found, invented = matches(np.where(counted, reference, 0), estimate, counted)
    counts = count_objects(reference, estimate)
    assert len(found_reference) == len(found) == counts.n_true_positives(0.5)
    assert len(invented) == counts.n_false_positives(0.5)
    assert not set(found.tolist()) & set(invented.tolist())


def test_images_on_one_scale_of_grey_values_keep_their_differences():
    bright, dark = np.linspace(0, 10, 1000).reshape(1, 20, 50), np.linspace(0, 5, 1000).reshape(1, 20, 50)
    assert display_limits(bright) == (pytest.approx((0.05, 9.95)),)
    np.testing.assert_array_equal(to_display(bright, display_limits(bright)), to_display(bright))
    np.testing.assert_array_equal(to_display(dark), to_display(bright))
    shared = to_display(dark, ((0.0, 10.0),))
    np.testing.assert_array_equal(shared[..., 0], np.rint(dark[0] / 10 * 255))
    both = np.concatenate([bright, dark])
    assert to_display(both, ((0, 10), (0, 10)))[..., 1].max() == 128
