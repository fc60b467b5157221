"""`dataset.toml`: what it says, what is wrong with it, and that a draft of it reads the same masks the same way."""

import tomllib
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from ushape.data.colours import pack_colour
from ushape.data.dataset import Dataset, Sample, Spacing
from ushape.data.description import ClassRule, Description, read_description
from ushape.data.draft import draft_description
from ushape.data.masks import find_rule, read_facts, read_mask_by_rule, recognise_masks
from ushape.errors import DataError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def describe(folder, text):
    (folder / "dataset.toml").write_text(text, encoding="utf-8")
    return read_description(folder)


def test_no_file_says_nothing(tmp_path):
    assert read_description(tmp_path) == Description() == describe(tmp_path, "# only a comment\n")
    assert not Description().says_values
    assert Description().group_of("a_1") == ""


def test_every_key_is_read(tmp_path):
    text = """
        task = "semantic"
        ignore = [255, "#ffffff"]
        axes = "ZYX"
        spacing = [2, 0.5, 0.5]
        unit = "mm"
        groups = "^(.*)_[0-9]+$"
        [[classes]]
        name = "background"
        values = [0, 3]
        colour = "#0000ff"
        [[classes]]
        name = "cell"
        value = 1
        colours = ["#ff0000", [1, 2, 3]]
    """
    assert describe(tmp_path, text) == Description(
        task="semantic",
        classes=(ClassRule("background", (0, 3), (BLUE,)), ClassRule("cell", (1,), (RED, (1, 2, 3)))),
        ignore=(255, pack_colour((255, 255, 255))),
        groups="^(.*)_[0-9]+$",
        axes="ZYX",
        spacing=Spacing((2.0, 0.5, 0.5), "mm"),
    )


def test_the_example_in_the_documentation_is_read(tmp_path):
    from ushape.data import description

    lines = description.__doc__.splitlines()
    example = "\n".join(line for line in lines if line.startswith("    "))
    assert describe(tmp_path, example).classes == (ClassRule("background", (0,)), ClassRule("cell", (), (RED,)))


def test_groups_are_parts_of_names():
    assert Description(groups="^(.*)_[0-9]+$").group_of("stack_a_07") == "stack_a"
    assert Description(groups="^[a-z]+").group_of("well12") == "well"
    assert Description(groups="^(.*)_[0-9]+$").group_of("single") == ""
    assert Description(groups="^(x)?y").group_of("y") == ""


def test_groups_are_found_however_an_accent_is_written(tmp_path):
    found = describe(tmp_path, 'groups = "^(za\u0308hn?)"')
    assert found.group_of("z\u00e4h_1") == "z\u00e4h"


def test_one_spacing_holds_along_all_axes(tmp_path):
    assert describe(tmp_path, "spacing = 0.5").spacing == Spacing((0.5, 0.5, 0.5))
    assert describe(tmp_path, 'spacing = 1\naxes = "CZYX"').spacing == Spacing((1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    "axes, spacing, expected",
    [
        ("YXZ", [0.5, 0.6, 2.0], (2.0, 0.5, 0.6)),
        ("xyz", [0.6, 0.5, 2.0], (2.0, 0.5, 0.6)),
        ("ZYXC", [2.0, 0.5, 0.6], (2.0, 0.5, 0.6)),
        ("XYC", [0.6, 0.5], (0.5, 0.6)),
        ("ZXY", [0.6, 0.5], (0.5, 0.6)),  # depth is not told
        ("CYX", [2.0, 0.5, 0.6], (2.0, 0.5, 0.6)),
        (None, [2.0, 0.5, 0.6], (2.0, 0.5, 0.6)),
        (None, [0.5, 0.6], (0.5, 0.6)),
    ],
)
def test_the_spacing_stands_in_the_order_of_the_axes(tmp_path, axes, spacing, expected):
    text = f"spacing = {spacing}\n" + (f'axes = "{axes}"\n' if axes else "")
    assert describe(tmp_path, text).spacing == Spacing(expected)


TWO = '[[classes]]\nname = "a"\n{}\n[[classes]]\nname = "b"\n{}\n'
KEYS = "task, ignore, axes, spacing, unit, groups, classes"
MISTAKES = [
    ("task = semantic", r"expected a TOML file, found a mistake \(Invalid value \(at line 1, column 8\)\); correct it"),
    ("taks = 1", f"expected only the keys {KEYS}, found 'taks'; correct its name or remove it"),
    ("task = 'cells'", "expected task semantic, instances or classification, found 'cells'; write one"),
    ("task = 3", "expected task semantic, instances or classification, found 3; write one"),
    ("ignore = 2.5", "expected whole numbers from -1 to 2147483647 for 'ignore', found .*; write the mask values, for"),
    ("ignore = true", "expected whole numbers from -1 to 2147483647 for 'ignore', found"),
    ("ignore = 'white'", "expected whole numbers from -1 to 2147483647 for 'ignore', found"),
    ("axes = 3", "expected a text for 'axes', found 3; write it in quotes, for example axes = \"ZYX\""),
    ("axes = 'ZX'", "expected letters with one Y and one X for 'axes', found 'ZX'; write for example \"CYX\""),
    ("spacing = 0", "expected a spacing above 0, found 0; write the size of a pixel, for example 0.5"),
    ("spacing = [1, -1]", r"expected a spacing above 0, found \[1, -1\]; write"),
    ("spacing = inf", "expected a spacing above 0, found inf; write"),
    ("spacing = '1 um'", "expected one number or a list of 2 or 3 numbers for 'spacing', found '1 um'; write the size"),
    ("spacing = [1]", r"expected one number or a list of 2 or 3 numbers for 'spacing', found \[1\]; write the size"),
    ("unit = 'um'", "expected 'spacing' beside 'unit', found none; add it, for example spacing = 0.5"),
    ("groups = '('", r"expected a regular expression for 'groups', found '\(' \(missing \), .*\); write for example"),
    ("groups = 1", "expected a text for 'groups', found 1; write it in quotes"),
    ("classes = ['a']", r"expected tables under 'classes', found 'a'; write \[\[classes\]\] and name = ... below it"),
    ("classes = 2", r"expected tables under 'classes', found 2; write \[\[classes\]\] and name = ... below it"),
    ("[[classes]]\nvalue = 1", r"expected a name for each class, found none for class 1; add name = \"...\" below"),
    ("[[classes]]\nname = 1", "expected a text for 'name', found 1; write it in quotes, for example name = \"cell\""),
    (
        "[[classes]]\nname = 'a'\ncolor = 1",
        r"expected under \[\[classes\]\] only the keys name, value, values, colour, colours, found 'color'; correct",
    ),
    (TWO.format("value = 'x'", ""), "expected whole numbers from -1 to 2147483647 for 'value', found 'x'; write"),
    (TWO.format("colour = 'red'", ""), "expected a colour or a list of colours for 'colour', found 'red'; write each"),
    (TWO.format("colours = [300, 0, 0]", ""), r"expected a colour or a list of colours for 'colours', found \[300, 0,"),
    (
        TWO.format("colours = ['#ff0000', 1]", ""),
        r"expected a colour or a list of colours for 'colours', found \['#ff0",
    ),
    (
        TWO.format("values = [1, 2]", "value = 2"),
        "expected each value and colour once, found value 2 under 'a' and under 'b'; remove one",
    ),
    (
        TWO.format("colour = '#FF0000'", "colour = [255, 0, 0]"),
        "expected each value and colour once, found colour #ff0000 under 'a' and under 'b'; remove one",
    ),
    ("ignore = 0\n" + TWO.format("value = 0", "value = 1"), "found value 0 under 'ignore' and under 'a'; remove one"),
    (TWO.format("value = 1", ""), "expected values or colours for every class or for none, found none for 'b'; add"),
    (TWO.format("", "").replace("b", "a"), "expected another name for each class, found 'a' twice; rename one of the"),
]


@pytest.mark.parametrize("text, message", MISTAKES)
def test_each_mistake_is_one_sentence(tmp_path, text, message):
    with pytest.raises(DataError, match=r"dataset\.toml: .*" + message) as caught:
        describe(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert ": : " not in str(caught.value)


def test_a_file_that_is_no_text_is_a_mistake(tmp_path):
    (tmp_path / "dataset.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"dataset\.toml: expected a TOML file, found a mistake \('utf-8' codec can't"):
        read_description(tmp_path)
    (tmp_path / "dataset.toml").write_bytes(b"\xef\xbb\xbftask = 'instances'")  # as Windows editors begin
    assert read_description(tmp_path).task == "instances"


REGIONS = np.array([[1, 0, 1, 2], [0, 2, 0, 0], [1, 0, 2, 1], [0, 0, 0, 0]], np.uint8)
OBJECTS = np.array([[1, 1, 0, 2], [0, 0, 0, 2], [3, 0, 4, 4], [0, 0, 0, 0]], np.uint8)


def grey(path, mask):
    Image.fromarray(np.asarray(mask, np.uint8)).save(path)


def palette(path, mask, colours):
    picture = Image.fromarray(np.asarray(mask, np.uint8))
    picture.putpalette(np.array(colours, np.uint8).ravel().tolist())
    picture.save(path)


def painted(path, mask, colours):
    Image.fromarray(np.array(colours, np.uint8)[mask]).save(path)


def blurred(path, side):
    mask = np.zeros((48, 48), np.uint8)
    mask[5:30, 5 : 5 + side] = 255
    Image.fromarray(mask).save(path, quality=60)


LARGE = OBJECTS.repeat(5, 0).repeat(5, 1)
COLOURS = ((0, 0, 0), RED, (1, 2, 3), BLUE, (5, 6, 7))
WAYS = {
    "two values": ([partial(grey, mask=255 * (REGIONS > 0)), partial(grey, mask=REGIONS > 1)], None, Description()),
    "classes": ([partial(grey, mask=85 * REGIONS)], None, Description()),
    "classes with names": ([partial(grey, mask=REGIONS)], None, Description(classes=tuple(map(ClassRule, "abc")))),
    "classes and 255": ([partial(grey, mask=REGIONS), partial(grey, mask=REGIONS - 1)], None, Description()),
    "ids": ([partial(grey, mask=OBJECTS), partial(grey, mask=OBJECTS % 4)], None, Description()),
    "ids as foreground": ([partial(grey, mask=OBJECTS), partial(grey, mask=OBJECTS % 4)], "semantic", Description()),
    "ids and ignore": ([partial(grey, mask=OBJECTS)], None, Description(ignore=(4,))),
    "pieces": ([partial(grey, mask=255 * (REGIONS > 0))], "instances", Description()),
    "two colours": ([partial(painted, mask=REGIONS % 2, colours=COLOURS)], None, Description()),
    "pieces of two colours": ([partial(painted, mask=REGIONS % 2, colours=COLOURS)], "instances", Description()),
    "pieces of classes": ([partial(grey, mask=REGIONS)], "instances", Description()),
    "colours": ([partial(painted, mask=REGIONS, colours=COLOURS)], None, Description()),
    "palette": ([partial(palette, mask=REGIONS, colours=COLOURS)], None, Description()),
    "palettes": (
        [partial(palette, mask=REGIONS, colours=COLOURS), partial(palette, mask=REGIONS, colours=COLOURS[2::-1])],
        None,
        Description(),
    ),
    "colours of objects": (
        [partial(painted, mask=OBJECTS.repeat(5, 0).repeat(5, 1), colours=COLOURS)],
        "instances",
        Description(),
    ),
    "blurred": ([partial(blurred, side=s) for s in (9, 20)], None, Description()),
    "scribbles": (
        [partial(grey, mask=REGIONS)],
        None,
        Description(ignore=(0,), classes=(ClassRule("background", (1,)), ClassRule("cell", (2,)))),
    ),
    "names that need quotes": (
        [partial(painted, mask=REGIONS, colours=COLOURS)],
        None,
        Description(classes=(ClassRule('"', (), ((0, 0, 0), RED)), ClassRule("\\é\n", (), (COLOURS[2],))), ignore=(9,)),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_draft_reads_the_same_masks_the_same_way(tmp_path, way):
    writers, task, description = WAYS[way]
    paths = [tmp_path / f"{i}.{'jpg' if way == 'blurred' else 'png'}" for i in range(len(writers))]
    for path, write in zip(paths, writers, strict=True):
        write(path)
    facts = [read_facts(path) for path in paths]
    rule = recognise_masks(facts, "cells", task, description)
    samples = tuple(Sample(p.stem, image=REGIONS.copy, mask=partial(read_mask_by_rule, p, None, rule)) for p in paths)
    dataset = Dataset("d", samples, rule.task, rule.classes, rule.findings, colours=rule.colours)
    again = recognise_masks(facts, "cells", None, describe(tmp_path, draft_description(dataset)))
    assert (again.task, again.classes, again.colours) == (rule.task, rule.classes, rule.colours)
    for path, sample in zip(paths, samples, strict=True):
        np.testing.assert_array_equal(read_mask_by_rule(path, None, again), sample.read_mask())
    assert find_rule(dataset) == rule


def plain_dataset(names, groups=None, **changes):
    samples = tuple(Sample(n, image=REGIONS.copy, group=g) for n, g in zip(names, groups or names, strict=True))
    return Dataset("d", tuple(replace(s, **changes) for s in samples), "semantic", ("background", "foreground"))


def test_a_draft_tells_groups_and_spacing(tmp_path):
    names = ["a_1_00", "a_1_01", "b_7"]
    drafted = describe(
        tmp_path, draft_description(plain_dataset(names, ["a_1", "a_1", "b"], spacing=Spacing((1, 2.5))))
    )
    assert [drafted.group_of(n) for n in names] == ["a_1", "a_1", "b"]
    assert drafted.spacing == Spacing((1.0, 2.5))
    text = draft_description(plain_dataset(names, ["x", "y", "x"]))
    assert "# Now the groups are x, y, as the files tell." in text.splitlines()
    assert describe(tmp_path, text).groups is None
    ungrouped = describe(tmp_path, draft_description(plain_dataset(names, ["", "", ""])))
    assert (ungrouped.groups, ungrouped.spacing, ungrouped.ignore, ungrouped.axes) == (None, None, (), None)


def test_a_draft_shows_what_was_understood_and_every_other_key_as_a_comment():
    dataset = replace(plain_dataset(["a", "b"], ["", ""]), findings=("Understood so.", "And\n \x07so."))
    text = draft_description(dataset)
    assert text.splitlines()[1:3] == ["#   Understood so.", "#   And so."]
    assert tomllib.loads(text) == {"task": "semantic", "classes": [{"name": "background"}, {"name": "foreground"}]}
    shown = "\n".join(line.removeprefix("# ") for line in text.splitlines() if " = " in line and "name =" not in line)
    assert set(tomllib.loads(shown)) >= {"ignore", "groups", "spacing", "unit", "axes", "task"}
