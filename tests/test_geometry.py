"""Sizes, contexts and tiles against the paper's numbers and against a U-Net made of sets."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ushape.errors import RecipeError, SizeError
from ushape.geometry import Geometry, Tile, mirrored, tiles, whole_tile

GEOMETRIES = [
    geometry
    for depth in (1, 2, 3, 4, 5)
    for scale in (1, 3)
    for geometry in (
        Geometry(depth, "valid", scale),
        Geometry(depth, "same", scale),
        Geometry(depth, "same", scale).without_padding,
    )
]

geometries = st.builds(Geometry, st.integers(1, 5), st.sampled_from(["valid", "same"]), st.integers(1, 3)).flatmap(
    lambda geometry: st.sampled_from([geometry, geometry.without_padding])
)


def dependencies(n: int, depth: int, padded: bool, scale: int = 1) -> np.ndarray:
    """(outputs, n) bool: which of n input pixels each output of a one-dimensional U-Net depends on, run forwards."""

    def convolution(maps):
        if padded:
            maps = np.pad(maps, ((1, 1), (0, 0)))
        return maps[:-2] | maps[1:-1] | maps[2:]

    maps, skips = np.eye(n, dtype=bool).reshape(n // scale, scale, n).any(axis=1), []
    for _ in range(depth - 1):
        maps = convolution(convolution(maps))
        skips.append(maps)
        assert len(maps) % 2 == 0
        maps = maps[0::2] | maps[1::2]
    maps = convolution(convolution(maps))
    for skip in reversed(skips):
        maps = np.repeat(maps, 2, axis=0)
        crop = (len(skip) - len(maps)) // 2
        maps = convolution(convolution(maps | skip[crop : crop + len(maps)]))
    return np.repeat(maps, scale, axis=0)


def first_and_last(row: np.ndarray) -> tuple[int, int]:
    """The half-open interval of the true places of a row without gaps."""
    places = np.flatnonzero(row)
    assert len(places) == places[-1] - places[0] + 1
    return int(places[0]), int(places[-1]) + 1


# The paper's numbers.


def test_the_papers_sizes():
    paper = Geometry()
    assert paper.output_size(572) == 388
    assert (paper.stride, paper.lost, paper.margin, paper.reach) == (16, 92, 92, 107)
    assert [n for n in range(300) if paper.is_legal(n)] == [188, 204, 220, 236, 252, 268, 284]
    assert all(n % 16 == 12 and n - paper.output_size(n) == 184 for n in range(188, 2000, 16))


def test_the_context_reaches_92_to_107_pixels_depending_on_the_place_in_the_grid():
    contexts = [(place, Geometry().context(place, place + 1)) for place in range(16)]
    looks = [side for place, (start, stop) in contexts for side in (place - start, stop - 1 - place)]
    assert (min(looks), max(looks)) == (92, 107)
    assert {stop - start for _, (start, stop) in contexts} == {188, 204}


def test_a_network_of_one_level_is_two_convolutions():
    flat = Geometry(depth=1)
    assert (flat.stride, flat.lost, flat.reach, flat.smallest_legal) == (1, 2, 2, 5)
    assert flat.context(10, 12) == (8, 14)


@pytest.mark.parametrize(
    "depth, stride, lost, smallest", [(2, 2, 8, 18), (3, 4, 20, 44), (4, 8, 44, 92), (6, 32, 188, 380)]
)
def test_sizes_at_other_depths(depth, stride, lost, smallest):
    geometry = Geometry(depth)
    assert (geometry.stride, geometry.lost, geometry.smallest_legal) == (stride, lost, smallest)


def test_a_working_scale_multiplies_every_length():
    once, thrice = Geometry(4), Geometry(4, scale=3)
    for name in ("stride", "lost", "margin", "smallest_legal", "smallest_tile"):
        assert getattr(thrice, name) == 3 * getattr(once, name)
    assert thrice.output_size(300) == 3 * once.output_size(100)
    # The farthest look is from the last pixel of a folded block to the first pixel of another.
    assert thrice.reach == 3 * once.reach + 2


def test_a_padded_network_keeps_the_size():
    padded = Geometry(padding="same")
    assert [padded.output_size(n) for n in (1, 100, 512)] == [1, 100, 512]
    assert [n for n in range(60) if padded.is_legal(n)] == [16, 32, 48]
    assert (padded.lost, padded.smallest_legal, padded.reach) == (0, 16, 107)


# Sets of pixels carried through the U.


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_context_is_what_a_network_of_sets_depends_on(geometry):
    n = geometry.legal_at_least(2 * geometry.margin + 2 * geometry.stride)
    depends = dependencies(n, geometry.depth, geometry.padding == "same", geometry.scale)
    assert len(depends) == geometry.output_size(n)
    for index, row in enumerate(depends):
        place = index + geometry.lost
        # Places count from where the region begins.
        begin = geometry.origin
        start, stop = (end - begin for end in geometry.context(begin + place, begin + place + 1))
        assert first_and_last(row) == (max(0, start), min(n, stop))
        # Exactly the written part looks at nothing outside the region.
        assert (start >= 0 and stop <= n) == (geometry.margin <= place < n - geometry.margin)


@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if g.padding == "same"], ids=str)
def test_without_padding_each_pixel_depends_on_the_same_pixels(geometry):
    bare = geometry.without_padding
    assert (bare.padding, bare.origin, bare.margin) == ("valid", 2 * geometry.scale, bare.lost)
    for place in range(-40, 40):
        assert bare.context(place, place + 1) == geometry.context(place, place + 1)
    # The same lengths come out of it as of a network that never had any.
    plain = Geometry(geometry.depth, "valid", geometry.scale)
    names = ("stride", "lost", "margin", "reach", "smallest_legal", "smallest_tile")
    assert [getattr(bare, name) for name in names] == [getattr(plain, name) for name in names]
    assert bare.without_padding is bare
    assert plain.without_padding is plain


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_legal_sizes_are_those_that_a_network_of_sets_can_run(depth):
    def runs(n):
        try:
            return len(dependencies(n, depth, padded=False)) > 0
        except (AssertionError, ValueError):
            return False

    legal = [n for n in range(1, 130) if Geometry(depth).is_legal(n)]
    assert legal == [n for n in range(1, 130) if runs(n)]


@given(geometries, st.integers(-300, 300), st.integers(1, 60), st.integers(-5, 5))
def test_context_is_a_union_and_moves_along_with_whole_strides(geometry, start, length, strides):
    singles = [geometry.context(place, place + 1) for place in range(start, start + length)]
    union = min(first for first, _ in singles), max(last for _, last in singles)
    assert geometry.context(start, start + length) == union
    shift = strides * geometry.stride
    assert geometry.context(start + shift, start + length + shift) == (union[0] + shift, union[1] + shift)


@given(geometries, st.integers(1, 2000))
def test_the_nearest_legal_sizes_enclose(geometry, n):
    above = geometry.legal_at_least(n)
    assert above >= n
    assert geometry.is_legal(above)
    assert not any(geometry.is_legal(between) for between in range(n, above))
    if n >= geometry.smallest_legal:
        below = geometry.legal_at_most(n)
        assert below <= n
        assert geometry.is_legal(below)
        assert not any(geometry.is_legal(between) for between in range(below + 1, n + 1))


# Mirroring.


def test_mirrored_by_hand():
    assert mirrored(-5, 8, 4).tolist() == [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
    assert mirrored(-2, 3, 2).tolist() == [0, 1, 0, 1, 0]
    with np.errstate(all="raise"):
        assert mirrored(-3, 2, 1).tolist() == [0, 0, 0, 0, 0]
    assert mirrored(3, 3, 5).tolist() == []
    assert mirrored(0, 2, 5).dtype == np.int64


@given(st.integers(1, 30), st.integers(0, 200), st.integers(0, 200))
def test_mirrored_is_what_numpy_pads(n, before, after):
    expected = np.pad(np.arange(n), (before, after), mode="reflect")
    np.testing.assert_array_equal(mirrored(-before, n + after, n), expected)


def test_mirroring_an_empty_axis_is_refused():
    with pytest.raises(SizeError, match="expected an image of at least 1 pixel along each axis, found 0"):
        mirrored(0, 5, 0)


# Tiles.


def test_tiles_of_the_papers_em_images_by_hand():
    upper, lower = (-96, 348), (160, 604)
    assert tiles(Geometry(), (512, 100), 572) == [
        Tile(read=(upper, (-96, 204)), write=((0, 252), (0, 100)), offset=(4, 4)),
        Tile(read=(lower, (-96, 204)), write=((252, 512), (0, 100)), offset=(0, 4)),
    ]


def test_a_tile_tells_size_source_and_target():
    tile = Tile(read=((-96, 348), (160, 604)), write=((0, 252), (252, 512)), offset=(4, 0))
    assert tile.size == (444, 444)
    assert tile.source == (slice(4, 256), slice(0, 260))
    assert tile.target == (slice(0, 252), slice(252, 512))


def check_axis(geometry: Geometry, n: int, limit: int) -> None:
    """What every cut of an axis of n pixels keeps."""
    cut = tiles(geometry, (n,), limit)
    assert len({tile.size for tile in cut}) == 1
    (length,) = cut[0].size
    assert geometry.is_legal(length)
    assert length <= limit
    writes = [tile.write[0] for tile in cut]
    assert writes[0][0] == 0
    assert writes[-1][1] == n
    assert all(start < stop for start, stop in writes)
    assert all(before[1] == after[0] for before, after in pairwise(writes))
    for tile in cut:
        (start, stop), write = tile.read[0], tile.write[0]
        assert start % geometry.stride == geometry.origin % geometry.stride
        first, last = geometry.context(*write)
        assert start <= first
        assert last <= stop
        assert start + geometry.lost + tile.offset[0] == write[0]
        assert 0 <= tile.offset[0] <= geometry.output_size(length) - (write[1] - write[0])


@settings(max_examples=300, deadline=None)
@given(geometries, st.integers(1, 3000), st.integers(0, 600))
def test_tiles_partition_an_axis_and_read_their_context(geometry, n, more):
    check_axis(geometry, n, geometry.smallest_tile + more)


@settings(max_examples=100, deadline=None)
@given(geometries, st.integers(1, 1500), st.integers(0, 300))
def test_no_smaller_size_needs_as_few_tiles(geometry, n, more):
    cut = tiles(geometry, (n,), geometry.smallest_tile + more)
    (length,) = cut[0].size
    if len(cut) == 1:
        # The first read region already begins as late as it can.
        start = cut[0].read[0][0]
        assert start + geometry.stride + geometry.margin > 0
        assert start + length - geometry.stride < n + geometry.margin or length == geometry.smallest_legal
    elif length > geometry.smallest_tile:
        assert len(tiles(geometry, (n,), length - geometry.stride)) > len(cut)


@settings(max_examples=60, deadline=None)
@given(geometries, st.lists(st.integers(1, 150), min_size=2, max_size=3), st.integers(60, 200))
def test_each_pixel_is_written_once(geometry, size, more):
    written = np.zeros(size, dtype=int)
    for tile in tiles(geometry, size, [geometry.smallest_tile + more] * len(size)):
        written[tile.target] += 1
    assert (written == 1).all()


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_the_whole_tile_is_the_only_tile_of_a_large_limit(geometry):
    for size in [(1, 1), (3, 700), (64, 65, 66)]:
        assert tiles(geometry, size, 10**6) == [whole_tile(geometry, size)]


def test_axes_may_have_their_own_limits():
    cut = tiles(Geometry(2), (100, 100), (20, 1000))
    assert len(cut) == 25
    assert {tile.size for tile in cut} == {(20, 116)}


# What is refused.


def test_a_size_between_legal_ones_names_both():
    sentence = (
        "expected a size of 188, 204, 220, ... pixels for a U-Net of depth 5 without padding, found 573; "
        "take 572 or 588"
    )
    with pytest.raises(SizeError, match="^" + re.escape(sentence) + "$"):
        Geometry().output_size(573)


def test_a_size_below_all_legal_ones_names_the_smallest():
    with pytest.raises(SizeError, match=r"found 187; take 188$"):
        Geometry().output_size(187)
    with pytest.raises(
        SizeError, match=r"36, 40, 44, ... pixels for a U-Net of depth 2 .* at scale 2, found 35; take 36$"
    ):
        Geometry(2, scale=2).legal_at_most(35)
    with pytest.raises(SizeError, match=r"found 0; take 16$"):
        Geometry(padding="same").output_size(0)


def test_too_small_a_tile_names_the_smallest():
    sentence = (
        "expected tiles of at least 204 pixels for a U-Net of depth 5 without padding, which only reads 92 of them on "
        "each side, found 203; take 204 or more"
    )
    with pytest.raises(SizeError, match=re.escape(sentence)):
        tiles(Geometry(), (300, 300), 203)
    assert len(tiles(Geometry(), (300, 300), 204)) == 19**2


def test_a_tile_size_for_each_axis_or_one():
    with pytest.raises(SizeError, match="one for each of the image's 2 axes, found 3; give either"):
        tiles(Geometry(), (300, 300), (204, 204, 204))


def test_an_empty_image_has_no_tiles():
    with pytest.raises(SizeError, match="at least 1 pixel along each axis, found 0; leave out empty images"):
        tiles(Geometry(), (300, 0), 572)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"depth": 0}, "expected a depth of 1 to 8 levels, found 0; choose one in that range"),
        ({"depth": 9}, "expected a depth of 1 to 8 levels, found 9; choose one in that range"),
        ({"padding": "full"}, "expected padding 'valid' or 'same', found 'full'; choose one of the two"),
        ({"scale": 0}, "expected a working scale of at least 1, found 0; 1 is full resolution"),
        ({"shift": 1}, "expected a shift of 0, or 2 without padding, found 1; leave it at 0"),
        ({"padding": "same", "shift": 2}, "expected a shift of 0, or 2 without padding, found 2; leave it at 0"),
    ],
)
def test_a_geometry_is_born_valid(options, sentence):
    with pytest.raises(RecipeError, match="^" + re.escape(sentence) + "$"):
        Geometry(**options)
