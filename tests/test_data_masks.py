"""What masks mean: small masks drawn by hand, and the rule they must give."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from ushape.data.colours import pack_colour, read_palette
from ushape.data.dataset import Dataset, Sample
from ushape.data.description import ClassRule, Description
from ushape.data.evidence import background_of, odd_ones
from ushape.data.images import write_labels
from ushape.data.masks import MaskFacts, find_rule, mask_facts, read_facts, read_mask_by_rule, recognise_masks
from ushape.errors import DataError

# Two objects and three objects, each connected; ids start afresh.
TWO = np.array([[1, 1, 0, 2], [0, 0, 0, 2], [0, 0, 0, 0]], np.int32)
THREE = np.array([[1, 0, 3, 3], [0, 2, 0, 3], [0, 2, 0, 0]], np.int32)
# Classes 1 and 2 in several places.
REGIONS = np.array([[1, 0, 1, 2], [0, 2, 0, 0], [1, 0, 2, 1]], np.int32)


def rule_of(*masks, task=None, description=None):
    return recognise_masks([mask_facts(np.asarray(m, np.int32)) for m in masks], "cells", task, description)


def with_objects(ids, *, size=3, columns=8):
    """A mask with one square of each id, (size, size) or 3 columns of `size[id]` rows, apart from the others."""
    cell = 1 + (size if isinstance(size, int) else max(size.values()))
    mask = np.zeros((cell * -(-len(ids) // columns), cell * columns), np.int32)
    for place, value in enumerate(ids):
        row, column = cell * (place // columns), cell * (place % columns)
        mask[row : row + (size if isinstance(size, int) else size[value]), column : column + 3] = value
    return mask


def save_colours(path, colours, mask):
    """An RGB picture of `colours[mask]`."""
    Image.fromarray(np.array(colours, np.uint8)[np.asarray(mask)]).save(path)
    return path


def save_palette(path, palette, mask):
    picture = Image.fromarray(np.asarray(mask, np.uint8))
    picture.putpalette(np.array(palette, np.uint8).ravel().tolist())
    picture.save(path)
    return path


BLACK, WHITE, RED, GREEN, BLUE = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)


def rule_of_files(*paths, task=None, description=None):
    return recognise_masks([read_facts(path) for path in paths], "cells", task, description)


def read_back(tmp_path, mask, rule):
    np.save(tmp_path / "m.npy", np.asarray(mask))
    return read_mask_by_rule(tmp_path / "m.npy", None, rule)


def test_facts_count_the_ids_of_one_piece():
    facts = mask_facts(REGIONS)
    assert (facts.values, facts.ids, facts.n_connected) == ((0, 1, 2), (1, 2), 0)
    assert mask_facts(THREE).n_connected == 3
    assert mask_facts(np.array([[1, 0], [0, 1]], np.int32)).n_connected == 1  # a corner connects
    assert mask_facts(np.array([[-1, 0]], np.int32)).values == (0,)


@pytest.mark.parametrize(
    "values, expected", [((0, 255), (0, 1)), ((0, 1), (0, 1)), ((1, 2), (0, 1)), ((3, 200), (0, 1)), ((0, 7), (0, 1))]
)
def test_two_values_are_background_and_foreground_whatever_they_are(tmp_path, values, expected):
    mask = np.array(values)[np.array([[0, 1], [1, 0]])]
    rule = rule_of(mask, mask)
    assert (rule.task, rule.classes) == ("semantic", ("background", "foreground"))
    assert rule.finding == (
        f"The masks hold two values ({values[0]} and {values[1]}): read as background and foreground."
    )
    np.testing.assert_array_equal(read_back(tmp_path, mask, rule), np.array(expected)[np.array([[0, 1], [1, 0]])])


def test_one_value_is_all_background_or_all_foreground(tmp_path):
    np.testing.assert_array_equal(read_back(tmp_path, [[0, 0]], rule_of([[0, 0]])), [[0, 0]])
    np.testing.assert_array_equal(read_back(tmp_path, [[255, 255]], rule_of([[255, 255]])), [[1, 1]])


def test_masks_of_0_and_1_mix_with_masks_of_0_and_255(tmp_path):
    rule = rule_of([[0, 1]], [[0, 255]])
    assert rule.classes == ("background", "foreground")
    np.testing.assert_array_equal(read_back(tmp_path, [[255, 0, 1]], rule), [[1, 0, 1]])


def test_ids_that_start_afresh_and_are_connected_are_instances(tmp_path):
    rule = rule_of(TWO, THREE)
    assert (rule.task, rule.classes) == ("instances", ("background", "object"))
    assert "(5 in 2 masks)" in rule.finding
    np.testing.assert_array_equal(read_back(tmp_path, THREE, rule), THREE)


def test_many_ids_in_one_mask_are_instances_even_with_holes():
    mask = np.zeros((20, 20), np.int32)
    mask[::2, ::2] = 5 + 3 * np.arange(100).reshape(10, 10)
    assert rule_of(mask).task == "instances"


def test_values_in_several_pieces_are_classes():
    rule = rule_of(REGIONS, REGIONS[::-1])
    assert (rule.task, rule.classes) == ("semantic", ("background", "class 1", "class 2"))
    assert rule.finding == "The masks hold the same 3 values (0, 1 and 2): read as classes."


def test_one_region_of_each_class_in_every_image_is_classes():
    cup_and_disc = np.array([[0, 1, 1, 1], [0, 1, 2, 1], [0, 1, 1, 1]])
    assert rule_of(*[cup_and_disc] * 5).task == "semantic"
    assert rule_of(*[cup_and_disc] * 5, THREE).task == "instances"  # another number once


def test_class_numbers_with_holes_are_closed_and_told(tmp_path):
    mask = np.array([0, 85, 170])[REGIONS]
    rule = rule_of(mask, mask)
    assert rule.classes == ("background", "class 85", "class 170")
    assert rule.finding == (
        "The masks hold the same 3 values (0, 85 and 170): read as classes, numbered 0 to 2 without holes, "
        "0 as background."
    )
    np.testing.assert_array_equal(read_back(tmp_path, mask, rule), REGIONS)


def test_the_values_of_classes_are_kept_where_each_has_one():
    described = [ClassRule("a", (7,)), ClassRule("b", (3,)), ClassRule("c", (9,))]
    several = [*described[:2], ClassRule("c", (9, 10))]
    in_colours = [ClassRule(n, (), (c,)) for n, c in zip("abc", (BLACK, RED, GREEN), strict=True)]
    mask, ignored = np.array([3, 7, 9])[REGIONS], np.where(REGIONS == 0, 255, REGIONS)
    for masks, description, values in (
        ((np.array([0, 128, 255])[REGIONS],) * 2, None, (0, 128, 255)),
        ((mask, mask), None, (3, 7, 9)),
        ((mask, mask), Description(classes=tuple(described), ignore=(1,)), (7, 3, 9)),
        ((mask, mask), Description(classes=tuple(several)), ()),
        ((mask, mask), Description(classes=tuple(in_colours)), ()),
        ((ignored, REGIONS), None, (0, 1, 2)),
        ((REGIONS // 2 * 255,), None, ()),
        ((TWO, THREE), None, ()),
    ):
        if description is not None and description.classes[0].colours:
            facts = [replace(mask_facts(m.astype(np.int32)), palette=(BLACK, RED, GREEN)) for m in masks]
            rule = recognise_masks(facts, "cells", None, description)
        else:
            rule = rule_of(*masks, description=description)
        assert rule.values == values, rule


def test_the_values_of_colours_are_no_numbers_of_classes(tmp_path):
    mask = np.array([[0, 1, 0, 2], [0, 0, 0, 0], [1, 0, 2, 1]])
    assert rule_of_files(save_colours(tmp_path / "m.png", (BLACK, GREEN, RED), mask)).values == ()


def test_255_after_consecutive_classes_is_ignored(tmp_path):
    mask = np.where(REGIONS == 0, 255, REGIONS - 1)
    rule = rule_of(np.where(REGIONS == 0, 255, REGIONS), REGIONS)
    assert rule.finding.endswith("read as classes; pixels of value 255 are ignored.")
    assert rule.classes == ("background", "class 1", "class 2")
    np.testing.assert_array_equal(
        read_back(tmp_path, np.where(REGIONS == 0, 255, REGIONS), rule), np.where(REGIONS == 0, -1, REGIONS)
    )
    assert mask.max() == 255


def test_minus_one_stays_ignored(tmp_path):
    mask = np.array([[-1, 0, 255]])
    np.testing.assert_array_equal(read_back(tmp_path, mask, rule_of(mask)), [[-1, 0, 1]])
    np.testing.assert_array_equal(read_back(tmp_path, [[-1, 0, 2]], rule_of(TWO, THREE)), [[-1, 0, 2]])


def test_smoothed_masks_are_refused():
    smoothed = np.arange(100).reshape(10, 10).repeat(2, 1)
    with pytest.raises(DataError, match=r"cells: expected masks of two values, of a few classes .*found 100 different"):
        rule_of(np.concatenate([smoothed, smoothed[:, ::-1] * 0, smoothed]))


def test_a_value_that_was_not_there_at_opening_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"m\.npy: expected only the mask values 0 and 255, found also 3; correct"):
        read_back(tmp_path, [[0, 3]], rule_of([[0, 255]]))


def test_a_task_takes_two_valued_masks_apart(tmp_path):
    mask = np.array([[255, 0, 255], [255, 0, 0]])
    rule = rule_of(mask, task="instances")
    assert rule.task == "instances"
    np.testing.assert_array_equal(read_back(tmp_path, mask, rule), [[1, 0, 2], [1, 0, 0]])


def test_a_task_overrules_ids_and_classes(tmp_path):
    np.testing.assert_array_equal(read_back(tmp_path, THREE, rule_of(TWO, THREE, task="semantic")), THREE > 0)
    ids = np.array([[1, 0, 1, 2], [0, 2, 0, 0], [3, 3, 0, 0]])  # 2 in two pieces: still an id each, as asked
    np.testing.assert_array_equal(read_back(tmp_path, ids, rule_of(ids, THREE, task="instances")), ids)


def test_a_page_is_read_by_the_rule(tmp_path):
    stack = np.stack([TWO * 255 // 2, THREE * 0])
    write_labels(tmp_path / "m.tif", stack)
    rule = rule_of([[0, 127, 255]])
    np.testing.assert_array_equal(read_mask_by_rule(tmp_path / "m.tif", 0, rule), TWO)


def test_instances_are_told_from_classes_by_what_people_have():
    rng = np.random.default_rng(0)
    # name: (masks, expected task)
    pieces = [rng.integers(0, 3, (8, 8)).repeat(3, 0).repeat(3, 1) for _ in range(20)]
    stray = with_objects(range(1, 21), size=8)
    stray[7::9, 8::9] = stray[7::9, 7::9]  # a pixel of each object, one corner further: still connected
    stray[0, 8] = 9
    cases = {
        "nuclei, another number in each image": ([with_objects(range(1, n + 1)) for n in (4, 7, 5)], "instances"),
        "classes in several pieces": (pieces, "semantic"),
        "one image with 30 objects": ([with_objects(range(1, 31))], "instances"),
        "one image with two blobs": ([TWO], "instances"),
        "always the same 3 classes, one region each": ([with_objects((1, 2, 3))] * 6, "semantic"),
        "the same in most images": ([with_objects((1, 2))] * 19 + [with_objects((1,))], "semantic"),
        "one class in each image": ([with_objects((i % 5 + 1,)) for i in range(10)], "semantic"),
        "ids of tracks": ([with_objects((17, 23, 44)), with_objects((17, 23, 44, 51))], "instances"),
        "one image of such ids": ([with_objects((17, 23, 44))], "instances"),
        "ids that run on": ([with_objects(range(1, 5)), with_objects(range(5, 12))], "instances"),
        "stray pixels": ([stray], "instances"),
        "1000 objects": ([with_objects(range(1, 1001), columns=40)], "instances"),
        "objects at the border removed": (
            [with_objects(sorted(rng.choice(np.arange(1, 21), 15, replace=False))) for _ in range(6)],
            "instances",
        ),
        "cells that come and go": ([with_objects(range(i // 2 + 1, i // 2 + 6)) for i in range(8)], "instances"),
        "organs that come and go": (
            [with_objects((i % 4 + 1, 5), size={1: 40, 2: 4, 3: 12, 4: 22, 5: 2}) for i in range(8)],
            "semantic",
        ),
        "as many simulated cells in each image": ([with_objects(range(1, 21)) for _ in range(6)], "instances"),
        "grey levels of classes in one image": ([with_objects((85, 170, 255))], "semantic"),
        "two grey levels evenly spaced": ([with_objects((85, 170))], "semantic"),
        "two grey levels up to white": ([with_objects((100, 255))], "semantic"),
        "empty ones among them": ([np.zeros((4, 4)), with_objects((1, 2, 3)), with_objects((1, 2))], "instances"),
    }
    found = {name: rule_of(*masks).task for name, (masks, _) in cases.items()}
    assert found == {name: task for name, (_, task) in cases.items()}


def test_organs_keep_a_size_of_their_own_and_simulated_cells_do_not():
    organs = {1: 40, 2: 4, 3: 12, 4: 22, 5: 2}
    one = with_objects(tuple(organs), size=organs)
    assert rule_of(*[one] * 5).task == "semantic"
    assert rule_of(*[one] * 4).task == "instances"  # too few to say
    turned = [
        with_objects(tuple(organs), size=dict(zip(organs, np.roll([*organs.values()], i), strict=True)))
        for i in range(5)
    ]
    assert rule_of(*turned).task == "instances"
    # Larger on average, but not lastingly so.
    sizes = [{1: 40, 2: 2, 3: 40, 4: 2}] * 4 + [{1: 2, 2: 40, 3: 2, 4: 40}]
    assert rule_of(*[with_objects((1, 2, 3, 4), size=each) for each in sizes]).task == "instances"
    assert rule_of(*[with_objects((1, 2, 3, 4, 5), size=9)] * 5).task == "instances"  # lasting, but all alike


def test_an_ambiguous_finding_tells_how_to_overrule_it(tmp_path):
    rule = rule_of(TWO)
    assert rule.finding == (
        "The masks hold ids, nearly each of them one connected object (2 in 1 mask): read as instances; "
        "if the values are classes, ask for task semantic."
    )
    rule = rule_of(TWO, task="semantic")
    assert rule.classes == ("background", "class 1", "class 2")
    np.testing.assert_array_equal(read_back(tmp_path, TWO, rule), TWO)
    assert rule_of(*[with_objects((1, 2, 3))] * 6).finding.endswith(
        "; if each value is one object, ask for task instances."
    )


def in_pieces(mask, *values):
    """The mask with the squares of these values cut in two."""
    cut = mask.copy()
    cut[1::4][np.isin(mask[1::4], values)] = 0
    return cut


HINT = "; if each value is one object, ask for task instances."


@pytest.mark.parametrize("ids", [(1, 5, 7, 11, 32), (1, 2, 3, 4, 5)])
def test_objects_that_a_crop_has_cut_are_asked_about(ids):
    whole = with_objects(ids)
    masks = [in_pieces(whole, *ids[:2]), in_pieces(with_objects(ids[:4]), ids[1]), whole, whole, whole]
    rule = rule_of(*masks)
    assert (rule.task, rule.finding.endswith(HINT)) == ("semantic", True)


def test_classes_are_not_asked_about():
    rng = np.random.default_rng(3)
    fields = [rng.integers(0, 5, (9, 9)).repeat(4, 0).repeat(4, 1) for _ in range(6)]
    for values in ((0, 1, 2, 3, 4), (0, 7, 11, 23, 26), (0, 50, 100, 150, 255), (0, 1, 2, 3, 255), (0, 128, 255, 0, 0)):
        rule = rule_of(*[np.array(values)[field] for field in fields])
        assert rule.task == "semantic"
        assert "task instances" not in rule.finding, values
    # Three regions of each street: the road is one piece, the rest is not.
    street = in_pieces(with_objects((7, 11, 23, 26)), 11, 23, 26)
    assert not rule_of(*[street] * 6).finding.endswith(HINT)


def test_masks_with_and_without_objects_are_two_valued(tmp_path):
    rule = rule_of(np.zeros((2, 2)), [[0, 1], [0, 0]], [[1, 1], [1, 1]])
    assert (rule.task, rule.classes) == ("semantic", ("background", "foreground"))
    assert [rule.is_empty(mask_facts(np.array(m, np.int32))) for m in ([[0]], [[0, 1]])] == [True, False]
    np.testing.assert_array_equal(read_back(tmp_path, [[0, 1]], rule_of([[0, 1]], [[0, 65535]])), [[0, 1]])


def test_254_classes_need_words():
    rows = np.arange(254).repeat(2).reshape(-1, 4)
    masks = [np.concatenate([rows, 0 * rows, rows])]
    message = r"cells: expected masks of two values.*found 254 different values that are neither.*dataset\.toml"
    with pytest.raises(DataError, match=message):
        rule_of(*masks)
    description = Description(classes=tuple(ClassRule(f"c{i}", (i,)) for i in range(254)))
    assert len(rule_of(*masks, description=description).classes) == 254


def test_classes_in_pieces_become_objects_when_asked(tmp_path):
    mask = np.array([[1, 1, 2, 0], [0, 0, 0, 0], [2, 0, 1, 0]])
    rule = rule_of(mask, task="instances")
    assert rule.finding == "Each connected piece of one of the masks' values is read as one object, as asked."
    np.testing.assert_array_equal(read_back(tmp_path, mask, rule), [[1, 1, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0]])


def test_two_values_without_zero_are_taken_apart_above_the_lower(tmp_path):
    rule = rule_of([[1, 2]], task="instances")
    np.testing.assert_array_equal(read_back(tmp_path, [[2, 1, 2]], rule), [[1, 0, 2]])


def test_colours_are_a_palette_of_classes(tmp_path):
    colours = (BLACK, GREEN, RED, (18, 52, 86))
    mask = np.pad(REGIONS, 1)
    mask[0, 0] = mask[-1, -1] = 3
    rule = rule_of_files(save_colours(tmp_path / "m.png", colours, mask))
    assert (rule.task, rule.classes) == ("semantic", ("background", "green", "red", "#123456"))
    assert rule.colours == (BLACK, GREEN, RED, (18, 52, 86))
    assert rule.finding == (
        "The masks are painted in the same 4 colours (black, green, red and #123456): read as classes, "
        "black as background; if each colour is one object, ask for task instances."
    )
    np.testing.assert_array_equal(read_mask_by_rule(tmp_path / "m.png", None, rule), mask)
    # A mask that happens to hold greys only, and one with alpha, are read by the same rule.
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "empty.png")
    np.testing.assert_array_equal(read_mask_by_rule(tmp_path / "empty.png", None, rule), [[0, 0], [0, 0]])
    Image.open(tmp_path / "m.png").convert("RGBA").save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_mask_by_rule(tmp_path / "alpha.png", None, rule), mask)
    save_colours(tmp_path / "other.png", (BLACK, BLUE), [[0, 1]])
    message = (
        r"other\.png: expected only the mask values black, green, red and #123456, found also blue; correct the mask"
    )
    with pytest.raises(DataError, match=message):
        read_mask_by_rule(tmp_path / "other.png", None, rule)


@pytest.mark.parametrize(
    "colours, background",
    [((RED, BLACK, WHITE), 1), ((RED, BLUE, WHITE), 2), ((RED, BLUE, GREEN), 0), ((RED, BLACK), 1), ((WHITE, RED), 0)],
)
def test_the_background_is_black_or_white_or_the_most_frequent_colour(tmp_path, colours, background):
    mask = np.array([[0, 0, 0, 0], [0, 1, 0, 1], [0, len(colours) - 1, 0, 0]])
    rule = rule_of_files(save_colours(tmp_path / "m.png", colours, mask))
    read = read_mask_by_rule(tmp_path / "m.png", None, rule)
    assert rule.classes[0] == "background"
    np.testing.assert_array_equal(read == 0, mask == background)


def test_the_background_of_very_many_colours_is_found_in_a_moment():
    """20 masks of 20,000 colours each: seconds, where each mask is not gone through again for every colour."""
    colours = tuple(range(pack_colour((9, 0, 0)), pack_colour((9, 0, 0)) + 20_000))
    counts = tuple(5 if colour == colours[7_000] else 1 for colour in colours)
    # One colour is the most frequent of a single mask, another one of all masks together.
    rare = MaskFacts(colours, (*counts[:-1], 50), ())
    assert background_of([MaskFacts(colours, counts, ())] * 19 + [rare]) == colours[7_000]


def test_many_connected_colours_are_instances(tmp_path):
    mask = with_objects(range(1, 13))
    colours = [BLACK, *((20 * i, 255 - 20 * i, 7) for i in range(1, 13))]
    rule = rule_of_files(save_colours(tmp_path / "m.png", colours, mask))
    assert rule.task == "instances"
    assert rule.finding.startswith("The masks hold colours, nearly each of them one connected object (12 in 1 mask)")
    read = read_mask_by_rule(tmp_path / "m.png", None, rule)
    np.testing.assert_array_equal(mask_facts(read).ids, range(1, 13))
    np.testing.assert_array_equal(read > 0, mask > 0)


def test_a_few_colours_are_classes_even_where_they_are_connected(tmp_path):
    path = save_colours(tmp_path / "m.png", (BLACK, RED, GREEN, BLUE), THREE.repeat(6, 0).repeat(6, 1))
    assert rule_of_files(path).classes == ("background", "blue", "green", "red")  # the largest first


def test_a_few_colours_in_each_image_but_others_each_time_are_instances(tmp_path):
    first = save_colours(tmp_path / "a.png", (BLACK, (9, 8, 7), (1, 99, 3)), TWO)
    second = save_colours(tmp_path / "b.png", (BLACK, (50, 8, 7), (1, 9, 3), (1, 9, 200)), THREE)
    assert rule_of_files(first, second).task == "instances"


def test_colours_used_again_are_taken_apart_when_asked(tmp_path):
    mask = np.array([[1, 0, 1, 2], [0, 0, 0, 0], [2, 0, 1, 0]])
    path = save_colours(tmp_path / "m.png", (BLACK, RED, GREEN), mask)
    read = read_mask_by_rule(path, None, rule_of_files(path, task="instances"))
    assert len(mask_facts(read).ids) == 5
    np.testing.assert_array_equal(read > 0, mask > 0)


def test_a_palette_keeps_its_indices_and_gives_the_colours_of_classes(tmp_path):
    path = save_palette(tmp_path / "m.png", (BLACK, RED, (1, 2, 3)), REGIONS)
    rule = rule_of_files(path)
    assert (rule.classes, rule.colours) == (("background", "class 1", "class 2"), (BLACK, RED, (1, 2, 3)))
    np.testing.assert_array_equal(read_mask_by_rule(path, None, rule), REGIONS)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif"])
def test_a_palette_picture_may_be_huge(tmp_path, monkeypatch, suffix):
    path = save_palette(tmp_path / f"m.{suffix}", (BLACK, RED), np.kron(REGIONS > 0, np.ones((8, 8), bool)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # Pillow refuses twice as many
    assert read_palette(path)[:2] == (BLACK, RED)
    assert rule_of_files(path).classes == ("background", "foreground")


def test_palettes_that_differ_are_read_by_colour(tmp_path):
    first = save_palette(tmp_path / "a.png", (BLACK, RED, GREEN), REGIONS)
    second = save_palette(tmp_path / "b.png", (GREEN, BLACK, RED), REGIONS)
    third = save_colours(tmp_path / "c.png", (RED, GREEN, BLACK), REGIONS)
    rule = rule_of_files(first, second, third)
    assert sorted(rule.classes) == ["background", "green", "red"]
    assert sorted(rule_of_files(first, second).classes) == ["background", "green", "red"]
    red = rule.classes.index("red")
    for path, index in ((first, 1), (second, 2), (third, 0)):
        np.testing.assert_array_equal(read_mask_by_rule(path, None, rule) == red, index == REGIONS)


def test_a_description_overrules_the_guess(tmp_path):
    scribbles = Description(ignore=(0,), classes=(ClassRule("background", (1,)), ClassRule("cell", (2,))))
    rule = rule_of(REGIONS, description=scribbles)
    assert (rule.task, rule.classes) == ("semantic", ("background", "cell"))
    assert rule.finding == "dataset.toml says what the masks hold: background, cell; 0 ignored."
    np.testing.assert_array_equal(read_back(tmp_path, REGIONS, rule), REGIONS - 1)
    message = (
        r"m\.npy: expected only the mask values 1, 2 and 0, found also 7; correct the mask, name the value in data"
    )
    with pytest.raises(DataError, match=message):
        read_back(tmp_path, [[0, 1, 7]], rule)
    with pytest.raises(
        DataError, match=r"cells: expected only the mask values named in dataset\.toml \(1, 2 and 0\), f"
    ):
        rule_of([[0, 7]], [[1, 8]], description=scribbles)
    assert rule_of([[0, 7]], [[1, 0]], description=scribbles).classes == ("background", "cell")  # told when it is read


def test_a_description_may_join_values_and_name_colours(tmp_path):
    joined = Description(classes=(ClassRule("other", (0, 3)), ClassRule("cell", (1, 2))))
    np.testing.assert_array_equal(read_back(tmp_path, THREE, rule_of(THREE, description=joined)), THREE % 3 > 0)
    painted = Description(classes=(ClassRule("tissue", (), (WHITE,)), ClassRule("tumour", (), (RED, BLUE))))
    path = save_colours(tmp_path / "m.png", (WHITE, RED, BLUE), REGIONS)
    rule = rule_of_files(path, description=painted)
    assert (rule.classes, rule.colours) == (("tissue", "tumour"), (WHITE, RED))
    np.testing.assert_array_equal(read_mask_by_rule(path, None, rule), REGIONS > 0)


def test_a_description_of_objects(tmp_path):
    mask = np.array([[5, 0, 5, 9]])
    rule = rule_of(mask, description=Description(task="instances", ignore=(9,)))
    np.testing.assert_array_equal(read_back(tmp_path, mask, rule), [[1, 0, 2, -1]])
    ids = np.array([[5, 0, 6, 9]])
    rule = rule_of(
        ids, description=Description(task="instances", ignore=(9,), classes=(ClassRule("soil"), ClassRule("root")))
    )
    assert rule.classes == ("soil", "root")
    two = Description(task="instances", classes=(ClassRule("soil", (0,)), ClassRule("root", (5, 9))))
    np.testing.assert_array_equal(read_back(tmp_path, mask, rule_of(mask, description=two)), [[1, 0, 2, 2]])
    three = Description(task="instances", classes=(*two.classes, ClassRule("stone", (3,))))
    with pytest.raises(
        DataError, match=r"cells: expected two classes in dataset\.toml for task instances, .*, found 3"
    ):
        rule_of(mask, description=three)
    assert rule_of(TWO, THREE, task="semantic", description=Description(task="instances")).task == "semantic"


def test_names_alone_name_the_classes_in_their_order(tmp_path):
    names = tuple(ClassRule(n) for n in ("soil", "root", "stone"))
    assert rule_of(10 * REGIONS, description=Description(classes=names)).classes == ("soil", "root", "stone")
    rule = rule_of(TWO, THREE % 3, description=Description(classes=names))  # three names: the ids are classes
    assert (rule.task, rule.classes) == ("semantic", ("soil", "root", "stone"))
    rule = rule_of([[0, 2]], description=Description(classes=names))  # value i is name i, though 1 was not seen
    np.testing.assert_array_equal(read_back(tmp_path, [[1, 2]], rule), [[1, 2]])
    message = (
        r"cells: expected 2 names of classes in dataset\.toml for what the masks hold \(background, .*, found 3; write"
    )
    with pytest.raises(DataError, match=message):
        rule_of([[0, 255]], description=Description(classes=names))


def test_blurred_masks_are_told_and_read_as_two_values(tmp_path):
    square = np.zeros((64, 64), np.uint8)
    square[20:45, 13:41] = 255
    Image.fromarray(square).save(tmp_path / "a.jpg", quality=60)
    Image.fromarray(square).save(tmp_path / "b.png")
    rule = rule_of_files(tmp_path / "a.jpg", tmp_path / "b.png")
    assert rule.findings == (
        "The masks hold two values (0 and 255): read as background and foreground.",
        "1 of 2 masks hold ghosts of other values, as JPEG and smoothing leave them: each pixel is taken to the nearer "
        "of the two values, the files stay as they are.",
    )
    np.testing.assert_array_equal(read_mask_by_rule(tmp_path / "a.jpg", None, rule), square > 0)
    with pytest.raises(DataError, match=r"a\.jpg: expected a mask in a format that keeps its values"):
        read_mask_by_rule(tmp_path / "a.jpg", None, rule_of(REGIONS))


def test_the_rule_is_found_behind_a_dataset(tmp_path):
    rule = rule_of(TWO, THREE)
    plain = Sample("a", image=lambda: np.zeros((1, 2, 2)))
    masked = Sample("b", image=plain.image, mask=partial(read_mask_by_rule, tmp_path, None, rule))
    assert find_rule(Dataset("d", (plain, masked), "instances", rule.classes)) == rule
    assert find_rule(Dataset("d", (plain,), "instances", rule.classes)) is None


# Masks of two kinds in one folder.

PAINTED = 255 * (REGIONS > 0)
PHOTOGRAPH = np.arange(12 * 12).reshape(12, 12) % 97


def odd(*masks):
    return odd_ones([mask_facts(np.asarray(m, np.int32)) for m in masks])


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ((PAINTED, REGIONS, PAINTED), [False, True, False]),
        ((PAINTED, REGIONS, 2 * REGIONS), [True, False, False]),
        ((PAINTED, PHOTOGRAPH, 0 * REGIONS), [False, True, False]),
        ((PAINTED > 0, PHOTOGRAPH), [False, True]),
    ],
)
def test_masks_of_another_kind_than_most_are_odd(masks, expected):
    assert odd(*masks) == expected


@pytest.mark.parametrize(
    "masks",
    [
        (PAINTED, PAINTED // 255, PAINTED),  # 0/255 and 0/1
        (PAINTED // 255, REGIONS),  # a class that is rare
        (PAINTED, np.where(REGIONS == 2, 255, REGIONS), REGIONS),  # 255 is a value among others
        (255 * (TWO == 1), TWO, THREE, TWO + 5),  # an object may have any id
        (REGIONS, REGIONS),
        (0 * REGIONS, REGIONS),
        (0 * REGIONS,),
    ],
)
def test_masks_that_can_be_read_together_are_not_odd(masks):
    assert not any(odd(*masks))


def test_the_colours_of_a_photograph_are_no_objects():
    # Each of them is one piece, because it is one pixel.
    photograph = 1 + np.arange(400).reshape(20, 20)
    with pytest.raises(
        DataError, match=r"expected masks of two values, .*, found 400 different values that are neither"
    ):
        rule_of(photograph)
    assert rule_of(np.kron(photograph, np.ones((2, 2), np.int32))).task == "instances"


# The contours of objects, as in Pascal VOC.


def with_contours(mask):
    """The mask with 255 on the pixels of an object that touch another value."""
    void = np.zeros(mask.shape, bool)
    for axis in (0, 1):
        step = np.diff(mask, axis=axis) != 0
        void |= np.concatenate([step, np.zeros_like(step.take([0], axis))], axis)
        void |= np.concatenate([np.zeros_like(step.take([0], axis)), step], axis)
    return np.where(void & (mask > 0), 255, mask)


CONTOURS = [with_contours(with_objects(range(1, n + 1), size=6).repeat(2, 1)) for n in (2, 3, 2, 4)]


@pytest.mark.parametrize("task", [None, "instances"])
def test_255_beside_ids_is_ignored(tmp_path, task):
    rule = rule_of(*CONTOURS, task=task)
    assert (rule.task, rule.reading) == ("instances", "ids")
    assert rule.finding.endswith("; pixels of value 255 are ignored.")
    np.testing.assert_array_equal(read_back(tmp_path, CONTOURS[1], rule), np.where(CONTOURS[1] > 3, -1, CONTOURS[1]))
    assert rule.is_empty(mask_facts(np.array([[0, 255]], np.int32)))


def test_255_beside_objects_in_pieces_is_ignored_when_they_are_asked_for(tmp_path):
    mask = np.array([[1, 0, 1, 255], [0, 0, 0, 0], [2, 255, 2, 0]])
    rule = rule_of(mask, task="instances")
    assert rule.finding == (
        "Each connected piece of one of the masks' values is read as one object, as asked; "
        "pixels of value 255 are ignored."
    )
    np.testing.assert_array_equal(read_back(tmp_path, mask, rule), [[1, 0, 2, -1], [0, 0, 0, 0], [3, -1, 4, 0]])


def test_one_contour_is_one_piece_and_ignored_where_it_recurs():
    one = with_contours(with_objects((1,), size=6).repeat(2, 1))
    two = CONTOURS[0]
    assert mask_facts(one).connected == (1, 255)
    assert rule_of(one, one, two, one).ignore == (255,)
    lone = np.where(with_objects((1, 2, 3)) == 3, 255, with_objects((1, 2, 3)))
    assert rule_of(lone, task="instances").ignore == ()  # an object, perhaps: one piece in one mask


def test_255_after_254_is_an_id_like_any_other():
    rule = rule_of(with_objects(range(1, 256), columns=20), *[with_objects((1, 2, 255, 255))] * 2)
    assert (rule.task, rule.ignore) == ("instances", ())


def test_ids_with_contours_are_one_foreground_when_asked(tmp_path):
    rule = rule_of(*CONTOURS, task="semantic")
    expected = np.where(CONTOURS[1] == 255, -1, CONTOURS[1] > 0)
    np.testing.assert_array_equal(read_back(tmp_path, CONTOURS[1], rule), expected)
    assert rule.finding == (
        "The masks hold ids of objects; all are read as one foreground, as asked; pixels of value 255 are ignored."
    )


@pytest.mark.parametrize("values", [(0, 255), (0, 1, 2)])
def test_objects_that_touch_at_a_corner_are_two(tmp_path, values):
    mask = np.zeros((6, 9), int)
    mask[:2, :2] = mask[2:4, 2:4] = mask[5, 8] = values[1]
    mask[0, 8] = mask[0, 4] = values[-1]
    read = read_back(tmp_path, mask, rule_of(mask, task="instances"))
    assert read[0, 0] != read[3, 3]
    assert read.max() == 5
