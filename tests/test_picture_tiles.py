"""The overlap-tile figure: its frames and pictures against the tiles that predict, by arithmetic done here again."""

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from ushape.errors import DataError, RecipeError
from ushape.geometry import Geometry, tiles
from ushape.picture.canvas import Bitmap, Box, Text, overlaps, png, svg
from ushape.picture.overlay import to_display
from ushape.picture.tiles import OUTSIDE, READ, WRITE, draw_tiles, tile_at
from ushape.prediction.tiled import read_tile

CASES = [
    (Geometry(3), (70, 90), 60, None),
    (Geometry(3, "same"), (70, 91), 61, (69, 90)),
    (Geometry(2, "same", 2), (33, 17), 50, (20, 3)),
    (Geometry(3), (1, 5), 100, None),
]


def image_of(size) -> np.ndarray:
    return np.random.default_rng(0).random((1, *size))


def boxes(drawing, colour) -> list[Box]:
    return [shape for shape in drawing.shapes if isinstance(shape, Box) and shape.line == colour]


def words(drawing) -> str:
    return " ".join(shape.words for shape in drawing.shapes if isinstance(shape, Text))


def bitmaps(drawing) -> list[Bitmap]:
    return [shape for shape in drawing.shapes if isinstance(shape, Bitmap)]


@pytest.mark.parametrize("geometry, size, limit, place", CASES)
def test_the_frames_are_those_of_the_tile_that_writes_the_place(geometry, size, limit, place):
    drawing = draw_tiles(image_of(size), geometry, limit, place=place)
    tile = tile_at(tiles(geometry, size, limit), place or (0, 0))
    reads, writes = boxes(drawing, READ), boxes(drawing, WRITE)
    assert len(reads) == len(writes) == 3
    for read, write in zip(reads, writes, strict=True):
        scale = read.height / tile.size[0]
        assert read.width / scale == pytest.approx(tile.size[1])
        for axis, (offset, length) in enumerate([(write.y - read.y, write.height), (write.x - read.x, write.width)]):
            (start, _), (first, last) = tile.read[axis], tile.write[axis]
            assert (offset / scale, length / scale) == pytest.approx((first - start, last - first))


@pytest.mark.parametrize("geometry, size, limit, place", CASES)
def test_the_second_panel_is_what_the_network_is_given(geometry, size, limit, place):
    image = image_of(size)
    tile = tile_at(tiles(geometry, size, limit), place or (0, 0))
    shown = bitmaps(draw_tiles(image, geometry, limit, place=place))[2].picture
    np.testing.assert_array_equal(shown, np.moveaxis(read_tile(np.moveaxis(to_display(image), -1, 0), tile), 0, -1))


def test_the_plane_is_the_image_with_dark_mirrors_around_it():
    image = image_of((40, 50))
    plane = bitmaps(draw_tiles(image, Geometry(2), 60))[0].picture
    tile = tiles(Geometry(2), (40, 50), 60)[0]
    top, left = -tile.read[0][0], -tile.read[1][0]
    np.testing.assert_array_equal(plane[top : top + 40, left : left + 50], to_display(image))
    # The row above the first is the second one, darker.
    np.testing.assert_allclose(plane[top - 1, left : left + 50], OUTSIDE * to_display(image)[1], atol=0.5)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_the_third_panel_is_the_answer_and_hatched_where_it_is_not_written(padding):
    geometry = Geometry(2, padding)
    tile = tiles(geometry, (60, 60), 36)[0]
    out = tuple(geometry.output_size(n) for n in tile.size)
    seen = []

    def answer(asked):
        seen.append(asked)
        return np.ones(out)

    drawing = draw_tiles(image_of((60, 60)), geometry, 36, answer=answer)
    assert seen == [tile]
    shown = bitmaps(drawing)[3]
    # Each pixel of the answer is a square of k pixels of the picture.
    k = shown.picture.shape[0] // out[0]
    sure = (shown.picture == shown.picture[k * tile.offset[0], k * tile.offset[1]]).all(axis=-1)
    rows, columns = (
        slice(k * start, k * (start + stop - first))
        for start, (first, stop) in zip(tile.offset, tile.write, strict=True)
    )
    assert sure[rows, columns].all()
    sure[rows, columns] = False
    assert not sure.any()
    # It stands where the output lies in the read region.
    read = boxes(drawing, READ)[2]
    assert (shown.x - read.x) * tile.size[1] / read.width == pytest.approx(geometry.lost)
    assert "surely no background" in words(drawing)


def test_lengths_and_numbers_are_said():
    drawing = draw_tiles(image_of((512, 512)), Geometry(), 572)
    said = [shape.words for shape in drawing.shapes if isinstance(shape, Text)]
    # Twice, along both axes: 92 px of context at each end of 444 px, and what is written.
    assert said.count("92") == 4
    assert said.count("260") == 2
    assert said.count("252") == 2
    text = words(drawing)
    assert "4 tiles of 444×444 px." in text
    # A part of (444 - 96)^2 / 444^2 lies in the image: the first tile begins 96 px before it.
    assert f"of which {100 * (1 - 348**2 / 444**2):.0f} % lie beyond the image" in text
    assert "answers for 260×260 px, those whose whole context it has read; the tile writes 252×252" in text
    assert "a U-Net of depth 5 without padding that is a margin of 92 px" in drawing.description
    assert "whole strides of 16 px apart" in drawing.description


def test_a_tile_inside_the_image_mirrors_nothing():
    drawing = draw_tiles(image_of((200, 200)), Geometry(2), 40, place=(100, 100))
    assert "all of them in the image" in words(drawing)


def test_lines_of_very_many_tiles_are_left_out():
    few = draw_tiles(image_of((80, 80)), Geometry(2), 24)
    many = draw_tiles(image_of((900, 900)), Geometry(2), 20)
    lines = [sum(type(shape).__name__ == "Line" and shape.colour == WRITE for shape in d.shapes) for d in (few, many)]
    assert lines[0] > 0
    assert lines[1] == 0


def test_of_a_volume_the_slice_of_the_place_is_drawn():
    volume = np.random.default_rng(1).random((1, 9, 40, 30))
    geometry = Geometry(2)
    drawing = draw_tiles(volume, geometry, 36, place=(7, 0, 0))
    tile = tile_at(tiles(geometry, (9, 40, 30), 36), (7, 0, 0))
    assert len(tile.read) == 3
    plane = bitmaps(drawing)[0].picture
    top, left = (-side[0] for side in tile.read[1:])
    np.testing.assert_array_equal(plane[top : top + 40, left : left + 30], to_display(volume[:, 7]))
    # The answer, too, is that of slice 7.
    depth = [geometry.output_size(n) for n in tile.size]
    answer = np.zeros(depth)
    answer[7 - tile.read[0][0] - geometry.lost] = 1
    lit = bitmaps(draw_tiles(volume, geometry, 36, place=(7, 0, 0), answer=lambda _: answer))[3].picture
    assert lit[..., 0].max() > 200


def test_words_stand_clear_of_each_other_and_it_is_written_both_ways():
    drawing = draw_tiles(image_of((100, 30)), Geometry(3, "same"), 60)
    texts = [shape for shape in drawing.shapes if isinstance(shape, Text)]
    assert list(itertools.islice(overlaps(texts, texts), 1)) == []
    assert png(drawing).shape[:2] == (round(drawing.height), round(drawing.width))
    root = ElementTree.fromstring(svg(drawing))
    assert len(root.findall("{http://www.w3.org/2000/svg}image")) == 4


def test_what_cannot_be_drawn():
    with pytest.raises(RecipeError, match=r"^expected a pixel of the image, which has 20 x 30, found 20,3; choose one"):
        draw_tiles(image_of((20, 30)), Geometry(2), 60, place=(20, 3))
    with pytest.raises(RecipeError, match=r"found 1,2,3; choose one inside it$"):
        draw_tiles(image_of((20, 30)), Geometry(2), 60, place=(1, 2, 3))
    with pytest.raises(DataError, match=r"^expected an image \(C, height, width\) or a volume, found shape \(20, 30\)"):
        draw_tiles(np.zeros((20, 30)), Geometry(2), 60)
