"""Mask files as values: numbers, palette indices, colours, and two values behind blur and JPEG."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage.draw import disk
from skimage.measure import label

from ushape.data.colours import (
    choose_background,
    hex_of_colour,
    name_of_colour,
    pack_colour,
    pack_colours,
    parse_colour,
    read_palette,
    unpack_colour,
)
from ushape.data.ghosts import count_values, snap_to_two
from ushape.data.images import write_image
from ushape.data.values import find_pieces, mask_facts, read_facts, read_values, replace_values, values_to_colours
from ushape.errors import DataError

RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.fixture
def discs():
    """Fourteen discs as 0 and 1, some of which touch."""
    rng = np.random.default_rng(3)
    mask = np.zeros((160, 160), np.uint8)
    for _ in range(14):
        mask[disk(rng.integers(10, 150, 2), rng.uniform(6, 14), shape=mask.shape)] = 1
    return mask


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def painted(colours, mask):
    return np.array(colours, np.uint8)[mask]


def test_colours_are_packed_named_and_written():
    assert pack_colour((1, 2, 3)) == 2**24 + 65536 + 512 + 3
    assert unpack_colour(pack_colour((1, 2, 3))) == (1, 2, 3)
    assert (name_of_colour(RED), name_of_colour((1, 2, 30))) == ("red", "#01021e")
    assert (parse_colour("#FF0000"), parse_colour("#f00"), parse_colour("red")) == (RED, None, None)
    assert parse_colour(hex_of_colour((9, 250, 17))) == (9, 250, 17)
    assert choose_background([RED, (255, 255, 255), (0, 0, 0)], [9, 5, 1]) == (0, 0, 0)
    assert choose_background([RED, (255, 255, 255)], [9, 5]) == (255, 255, 255)
    assert choose_background([GREEN, RED], [5, 9]) == RED


@pytest.mark.parametrize(
    "planes",
    [
        np.array([[[255]], [[128]], [[0]]], np.uint8),
        np.array([[[65535]], [[128 * 257]], [[0]]], np.uint16),
        np.array([[[255]], [[128]], [[0]]], np.uint16),
        np.array([[[1.0]], [[0.502]], [[0.0]]]),
    ],
)
def test_colours_of_any_depth_are_packed_alike(planes):
    assert [unpack_colour(int(v)) for v in pack_colours(planes).ravel()] == [(255, 128, 0)]


def test_values_are_counted_and_replaced_whatever_their_range():
    for offset in (0, 2**24):
        values = np.array([[5, -1, 5], [9, 9, 5]], np.int32)
        values[values > 0] += offset
        found, counts = count_values(values)
        assert (found.tolist(), counts.tolist()) == ([-1, 5 + offset, 9 + offset], [1, 3, 2])
        assert count_values(np.maximum(values, 0))[0].tolist() == [0, 5 + offset, 9 + offset]
        np.testing.assert_array_equal(replace_values(values, found, [-1, 2, 1]), [[2, -1, 2], [1, 1, 2]])


def test_facts_forgive_stray_pixels_and_nothing_more():
    mask = np.zeros((20, 20), np.int32)
    mask[:10, :10], mask[15, 15] = 1, 1  # 100 pixels and a stray one
    mask[12:14, :10], mask[18, :3] = 2, 2  # 20 pixels and 3 elsewhere
    facts = mask_facts(mask)
    assert (facts.counts, facts.connected) == ((400 - 101 - 23, 101, 23), (1,))
    rest = facts.without((0, 1))
    assert (rest.values, rest.counts, rest.connected) == ((2,), (23,), ())


def test_a_palette_gives_indices_and_its_colours(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    picture.putpalette([0, 0, 0, *RED, *GREEN])
    picture.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_values(tmp_path / "m.png"), [[0, 1], [2, 1]])
    assert read_facts(tmp_path / "m.png").palette == ((0, 0, 0), RED, GREEN)
    assert read_palette(tmp_path / "m.tif") == ()
    coloured = values_to_colours(read_values(tmp_path / "m.png"), read_palette(tmp_path / "m.png"))
    assert [unpack_colour(v) for v in coloured.ravel().tolist()] == [(0, 0, 0), RED, GREEN, RED]
    assert read_facts(tmp_path / "m.png").to_colours().counts == (1, 1, 2)  # black, green, red


def test_a_grey_or_repeating_palette_tells_nothing(tmp_path):
    for palette in ([0, 0, 0, 90, 90, 90, 255, 255, 255], [0, 0, 0, *RED, *RED]):
        picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
        picture.putpalette(palette)
        picture.save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_values(tmp_path / "m.png"), [[0, 1], [2, 1]])
        assert read_facts(tmp_path / "m.png").palette == ()


@pytest.mark.parametrize("name", ["m.png", "m.tif", "m.npy"])
def test_colour_pictures_become_packed_colours(tmp_path, name):
    colours = painted([(0, 0, 0), RED, (1, 2, 3)], np.arange(25).reshape(5, 5) % 3)
    if name == "m.npy":
        np.save(tmp_path / name, colours)
    else:
        write_image(tmp_path / name, np.moveaxis(colours, -1, 0))
    expected = [[pack_colour(tuple(c)) for c in row] for row in colours.tolist()]
    np.testing.assert_array_equal(read_values(tmp_path / name), expected)
    assert read_facts(tmp_path / name).in_colours


def test_grey_in_three_channels_is_no_colour(tmp_path):
    save(tmp_path / "m.png", np.full((2, 2, 3), 7, np.uint8))
    np.testing.assert_array_equal(read_values(tmp_path / "m.png"), [[7, 7], [7, 7]])


@pytest.mark.parametrize("quality", [30, 60, 75, 95])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_of_two_values_loses_hardly_a_pixel(tmp_path, discs, quality, mode):
    Image.fromarray(discs * 255).convert(mode).save(tmp_path / "m.jpg", quality=quality)
    values = read_values(tmp_path / "m.jpg")
    assert np.unique(values).tolist() == [0, 255]
    assert ((values > 0) != discs).mean() < 1e-3
    Image.open(tmp_path / "m.jpg").save(tmp_path / "m.png")  # the ghosts stay when it is saved as PNG later
    np.testing.assert_array_equal(read_values(tmp_path / "m.png"), values)
    assert read_facts(tmp_path / "m.png").smoothed
    assert len(np.unique(read_values(tmp_path / "m.png", snap=False))) > 2


def test_rectangles_have_straight_ghosts(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[20:45, 13:41] = 255
    for quality in (30, 60, 90):
        np.testing.assert_array_equal(read_values(save(tmp_path / "m.jpg", mask, quality=quality)), mask)
    whole_blocks = np.kron([[0, 1], [1, 0]], np.full((16, 16), 255)).astype(np.uint8)
    np.testing.assert_array_equal(read_values(save(tmp_path / "m.jpg", whole_blocks)), whole_blocks)


def test_jpeg_of_two_colours(tmp_path, discs):
    values = read_values(save(tmp_path / "m.jpg", painted([(0, 0, 0), RED], discs), quality=95))
    assert {unpack_colour(v) for v in np.unique(values).tolist()} == {(0, 0, 0), RED}
    assert ((values == pack_colour(RED)) != discs).mean() < 0.01


def test_jpeg_of_nothing_or_of_everything(tmp_path):
    for grey in (0, 255, 254):
        expected = 0 if grey == 0 else 255
        values = read_values(save(tmp_path / "m.jpg", np.full((8, 8), grey, np.uint8)))
        np.testing.assert_array_equal(values, np.full((8, 8), expected))


def test_blocks_of_a_jpeg_may_be_off_by_a_little(discs):
    blocks = discs * 255
    blocks[128:, :64] = 0
    blocks[144:, :16], blocks[144:, 32:48], blocks[:4, 0] = 1, 2, (3, 4, 250, 251)
    assert snap_to_two(blocks[None]) is None
    np.testing.assert_array_equal(snap_to_two(blocks[None], jpeg=True)[0] > 0, blocks > 127)


def test_jpeg_of_classes_ids_or_faint_values_is_refused(tmp_path, discs):
    ids = label(discs)
    cases = {
        "classes": np.array([0, 85, 170, 255], np.uint8)[np.where(ids, 1 + ids % 3, 0)],
        "colours": painted([(0, 0, 0), RED, (255, 255, 0)], np.where(ids, 1 + ids % 2, 0)),
        "ids": ids.astype(np.uint8),
        "zero and one": discs,
        "one grey": np.full((8, 8), 100, np.uint8),
    }
    for name, array in cases.items():
        path = save(tmp_path / f"{name}.jpg", array, quality=90)
        message = (
            f"{name}.jpg: expected a mask in a format that keeps its values, found JPEG, which blurs them, and more"
        )
        with pytest.raises(DataError, match=message):
            read_values(path)


def test_smoothed_masks_are_taken_to_the_nearer_value(tmp_path, discs):
    smooth = Image.fromarray(discs * 255).filter(ImageFilter.GaussianBlur(0.8))
    smooth.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_values(tmp_path / "m.png"), np.where(np.asarray(smooth) > 127.5, 255, 0))
    np.save(tmp_path / "m.npy", np.asarray(smooth, np.float32) / 255)
    np.testing.assert_array_equal(read_values(tmp_path / "m.npy"), np.asarray(smooth) > 127.5)
    deep = np.asarray(smooth).astype(np.uint16) * 257
    np.save(tmp_path / "d.npy", deep)
    np.testing.assert_array_equal(read_values(tmp_path / "d.npy"), np.where(deep > 32767, 65535, 0))
    smooth.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(tmp_path / "p.png")
    assert read_palette(tmp_path / "p.png") != ()
    values = read_values(tmp_path / "p.png")
    assert ((values > 0) != (np.asarray(smooth) > 127.5)).mean() < 5e-3


def test_ids_and_classes_are_never_taken_for_ghosts(discs):
    ids = label(discs)
    voc = np.where(ids, ids % 12 + 1, 0)
    voc[:, ::40] = 255
    outline = np.where(discs, 255, 0)
    outline[(discs > 0) & (np.roll(discs, 1, 0) == 0)] = 128  # three values are what they are
    big = np.where(ids == ids.max(), 250, 4 * ids)
    big[100:, :] = 250
    thick = discs * 255
    thick[60:66, 60:66] = 110 + np.arange(36).reshape(6, 6) * 7 % 36  # a region between the two values
    stripes = np.tile([0, 0, 0, 90, 255, 255, 255, 160], (160, 20))  # a quarter of the pixels lie between
    stripes[::2] += np.where(stripes[::2] == 90, 7, 0) - np.where(stripes[::2] == 160, 9, 0)
    for mask in (stripes, ids, 40 * ids, voc, outline, big, thick):
        assert snap_to_two(mask[None]) is None
    faint = np.where(discs, 20, 0)
    faint[80, 3:9] = np.arange(6) + 2
    assert snap_to_two(faint[None]) is None
    assert snap_to_two((faint * 2)[None]) is not None


def test_probabilities_are_refused(tmp_path):
    ramp = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    np.save(tmp_path / "m.npy", ramp)
    with pytest.raises(DataError, match=r"m\.npy: expected whole numbers in a mask, .*not probabilities"):
        read_values(tmp_path / "m.npy")
    np.save(tmp_path / "m.npy", np.round(ramp))
    np.testing.assert_array_equal(read_values(tmp_path / "m.npy"), np.round(ramp))


def test_pieces_at_a_corner_are_two_unless_corners_connect():
    mask = np.array([[1, 0, 2], [0, 1, 2], [-1, 0, 0]], np.int32)
    np.testing.assert_array_equal(find_pieces(mask), [[1, 0, 2], [0, 3, 2], [0, 0, 0]])
    np.testing.assert_array_equal(find_pieces(mask, corners=True), [[1, 0, 2], [0, 1, 2], [0, 0, 0]])
    assert find_pieces(np.eye(3, dtype=np.int32)[None]).max() == 3
