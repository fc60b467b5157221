"""`dataset.toml`: what a person says about a folder of images, which overrules every guess.

All keys may be left out:

    task = "semantic"                  # or "instances", "classification"
    ignore = 255                       # mask values or colours (one, or a list) of pixels without annotation
    axes = "ZYX"                       # what the dimensions of the image files are, in the files' order
    spacing = [2.0, 0.5, 0.5]          # size of a pixel in the order of the axes (depth, height, width without them);
                                       # depth may be left out; or one number
    unit = "um"
    groups = "^(.*)_[0-9]+$"           # samples of one group stay together: this part of their names is the same

    [[classes]]                        # in order; for "semantic" and "instances" the first is the background
    name = "background"
    value = 0                          # or values = [0, 3]: the mask values that mean this class

    [[classes]]
    name = "cell"
    colour = "#ff0000"                 # or [255, 0, 0], or colours = a list of them: for masks painted in colours

Classes without values and colours only give names to the classes that are recognised. With them, a mask may hold no
other value, except those to ignore. For scribbles, name the value of the unpainted pixels under `ignore`.
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ushape.data.colours import hex_of_colour, is_packed, pack_colour, parse_colour, unpack_colour
from ushape.data.dataset import Colour, Spacing, Task
from ushape.data.headers import composed
from ushape.errors import DataError

__all__ = ["DESCRIPTION_FILE", "ClassRule", "Description", "read_description"]

DESCRIPTION_FILE = "dataset.toml"
KEYS = ("task", "ignore", "axes", "spacing", "unit", "groups", "classes")
CLASS_KEYS = ("name", "value", "values", "colour", "colours")
MAX_VALUE = 2**31 - 1


@dataclass(frozen=True)
class ClassRule:
    """A class, and the mask values or mask colours that mean it; both may be empty."""

    name: str
    values: tuple[int, ...] = ()
    colours: tuple[Colour, ...] = ()


@dataclass(frozen=True)
class Description:
    """What `dataset.toml` says; empty where it says nothing.

    ignore  mask values without annotation; colours are packed, see `colours`
    groups  a regular expression: its first group, or else the whole match, in a sample's name is the sample's group
    axes    letters of the image files' dimensions, as in `read_image`
    spacing (height, width) or (depth, height, width), whatever the order of the axes; 2-D images take the last two
    """

    task: Task | None = None
    classes: tuple[ClassRule, ...] = ()
    ignore: tuple[int, ...] = ()
    groups: str | None = None
    axes: str | None = None
    spacing: Spacing | None = None

    @property
    def says_values(self) -> bool:
        """Whether the classes are told by values or colours, so that nothing about the masks is guessed."""
        return any(c.values or c.colours for c in self.classes)

    def group_of(self, name: str) -> str:
        """The group of the sample with this name; "" without `groups` and where the name does not fit."""
        found = re.search(self.groups, name) if self.groups is not None else None
        if found is None:
            return ""
        return (found[1] if found.re.groups else found[0]) or ""


class _WrongError(Exception):
    """What is wrong, without the name of the file; only inside this module."""


def _known(table: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    unknown = [key for key in table if key not in keys]
    if unknown:
        raise _WrongError(f"expected {where} {', '.join(keys)}, found '{unknown[0]}'; correct its name or remove it")


def _text(table: dict[str, Any], key: str, example: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise _WrongError(f"expected a text for '{key}', found {value!r}; write it in quotes, for example {example}")
    return value


def _told(value: int) -> str:
    """A value or a packed colour in words."""
    return f"colour {hex_of_colour(unpack_colour(value))}" if is_packed(value) else f"value {value}"


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _values(value: object, key: str) -> tuple[int, ...]:
    """One whole number or a list of them."""
    numbers = value if isinstance(value, list) else [value]
    if not all(_is_whole(n, -1, MAX_VALUE) for n in numbers):
        raise _WrongError(
            f"expected whole numbers from -1 to {MAX_VALUE} for '{key}', found {value!r}; "
            "write the mask values, for example 255 or [0, 255]"
        )
    return tuple(numbers)


def _colour(value: object) -> Colour | None:
    if isinstance(value, str):
        return parse_colour(value)
    if isinstance(value, list) and len(value) == 3 and all(_is_whole(v, 0, 255) for v in value):
        return value[0], value[1], value[2]
    return None


def _colours(value: object, key: str) -> tuple[Colour, ...]:
    """One colour or a list of them."""
    one = _colour(value)
    several = [one] if one is not None else [_colour(v) for v in value] if isinstance(value, list) else [None]
    colours = tuple(c for c in several if c is not None)
    if len(colours) < len(several):
        raise _WrongError(
            f"expected a colour or a list of colours for '{key}', found {value!r}; "
            'write each as "#ff0000" or as [255, 0, 0]'
        )
    return colours


def _class(table: object, number: int) -> ClassRule:
    if not isinstance(table, dict):
        raise _WrongError(
            f"expected tables under 'classes', found {table!r}; write [[classes]] and name = ... below it"
        )
    _known(table, CLASS_KEYS, "under [[classes]] only the keys")
    name = _text(table, "name", 'name = "cell"')
    if not name:
        raise _WrongError(
            f'expected a name for each class, found none for class {number}; add name = "..." below [[classes]]'
        )
    values = [v for key in ("value", "values") if key in table for v in _values(table[key], key)]
    colours = [c for key in ("colour", "colours") if key in table for c in _colours(table[key], key)]
    return ClassRule(name, tuple(dict.fromkeys(values)), tuple(dict.fromkeys(colours)))


def _check_classes(classes: tuple[ClassRule, ...], ignore: tuple[int, ...]) -> None:
    """Each name, value and colour stands once; values or colours are told for all classes or for none."""
    owners = {_told(value): "ignore" for value in ignore}
    for index, each in enumerate(classes):
        if each.name in [other.name for other in classes[:index]]:
            raise _WrongError(f"expected another name for each class, found '{each.name}' twice; rename one of the two")
        for what in (*map(_told, each.values), *(_told(pack_colour(colour)) for colour in each.colours)):
            if what in owners:
                raise _WrongError(
                    f"expected each value and colour once, found {what} under '{owners[what]}' and under "
                    f"'{each.name}'; remove one"
                )
            owners[what] = each.name
    told = [bool(c.values or c.colours) for c in classes]
    if any(told) and not all(told):
        raise _WrongError(
            "expected values or colours for every class or for none, "
            f"found none for '{classes[told.index(False)].name}'; add them"
        )


def _classes(tables: object, ignore: tuple[int, ...]) -> tuple[ClassRule, ...]:
    if not isinstance(tables, list):
        raise _WrongError(
            f"expected tables under 'classes', found {tables!r}; write [[classes]] and name = ... below it"
        )
    classes = tuple(_class(table, number) for number, table in enumerate(tables, start=1))
    _check_classes(classes, ignore)
    return classes


def _in_order(lengths: list[float], axes: str | None) -> tuple[float, ...]:
    """(depth,) height, width, of lengths that stand in the order of the axes; two of them are those of Y and X."""
    letters = (axes or "YX").upper()
    wanted = "ZYX"[-len(lengths) :]
    order = dict.fromkeys(a for a in (letters if "Z" in letters else f"Z{letters}") if a in wanted)
    length_of = dict(zip(order, lengths, strict=True))
    return tuple(float(length_of[axis]) for axis in wanted)


def _spacing(table: dict[str, Any], axes: str | None) -> Spacing | None:
    unit = _text(table, "unit", 'unit = "um"') or "um"
    if "spacing" not in table:
        if "unit" in table:
            raise _WrongError("expected 'spacing' beside 'unit', found none; add it, for example spacing = 0.5")
        return None
    given = table["spacing"]
    one = not isinstance(given, list)
    lengths = [given] * 3 if one else given
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in lengths)
    if not numbers or len(lengths) not in (2, 3):
        raise _WrongError(
            f"expected one number or a list of 2 or 3 numbers for 'spacing', found {given!r}; "
            "write the size of a pixel along each axis, for example [0.5, 0.5]"
        )
    if not all(math.isfinite(v) and v > 0 for v in lengths):
        raise _WrongError(f"expected a spacing above 0, found {given!r}; write the size of a pixel, for example 0.5")
    return Spacing(_in_order(lengths, axes), unit)


def _task(table: dict[str, Any]) -> Task | None:
    task = table.get("task")
    if task is not None and task not in get_args(Task):
        raise _WrongError(
            f"expected task {', '.join(get_args(Task)[:-1])} or {get_args(Task)[-1]}, found {task!r}; write one"
        )
    return task


def _ignore(value: object) -> tuple[int, ...]:
    """Mask values, and colours such as "#ffffff" in packed form."""
    items = value if isinstance(value, list) else [value]
    colours = [parse_colour(item) if isinstance(item, str) else None for item in items]
    numbers = [item if colour is None else pack_colour(colour) for item, colour in zip(items, colours, strict=True)]
    return _values(numbers, "ignore")


def _axes(table: dict[str, Any]) -> str | None:
    axes = _text(table, "axes", 'axes = "ZYX"')
    if axes is not None and not (axes.isalpha() and all(axes.upper().count(letter) == 1 for letter in "YX")):
        raise _WrongError(
            f"expected letters with one Y and one X for 'axes', found '{axes}'; write for example \"CYX\""
        )
    return axes


def _groups(table: dict[str, Any]) -> str | None:
    groups = _text(table, "groups", 'groups = "^(.*)_[0-9]+$"')
    try:
        re.compile(groups or "")
    except re.error as error:
        raise _WrongError(
            f"expected a regular expression for 'groups', found '{groups}' ({error}); "
            'write for example "^(.*)_[0-9]+$"'
        ) from error
    return groups


def _describe(table: dict[str, Any]) -> Description:
    _known(table, KEYS, "only the keys")
    ignore = _ignore(table["ignore"]) if "ignore" in table else ()
    axes = _axes(table)
    return Description(
        task=_task(table),
        classes=_classes(table.get("classes", []), ignore),
        ignore=ignore,
        groups=_groups(table),
        axes=axes,
        spacing=_spacing(table, axes),
    )


def read_description(folder: Path) -> Description:
    """The description in a folder's `dataset.toml`; an empty one when there is no such file.

    DataError names the file and what in it is not understood.
    """
    path = Path(folder) / DESCRIPTION_FILE
    if not path.is_file():
        return Description()
    try:
        return _describe(tomllib.loads(composed(path.read_text(encoding="utf-8-sig"))))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a TOML file, found a mistake ({error}); correct it") from error
    except _WrongError as wrong:
        raise DataError(f"{path}: {wrong}") from None
