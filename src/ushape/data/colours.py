"""Colours of masks: packed into one number for each pixel, unpacked, named and read from palettes.

A packed colour is 2**24 + 65536 red + 256 green + blue, each from 0 to 255. The 2**24 tells a colour from an id or a
class number: black is 16777216, not 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Colour
from ushape.data.headers import open_picture

__all__ = [
    "choose_background",
    "hex_of_colour",
    "is_packed",
    "name_of_colour",
    "pack_colour",
    "pack_colours",
    "parse_colour",
    "read_palette",
    "unpack_colour",
]

COLOUR_BIT = 1 << 24
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
PALETTE_SUFFIXES = (".png", ".bmp", ".gif")

# What people call the colours of a paint box; every other colour is written as #rrggbb.
NAMES: dict[Colour, str] = {
    BLACK: "black",
    WHITE: "white",
    (255, 0, 0): "red",
    (0, 255, 0): "green",
    (0, 0, 255): "blue",
    (255, 255, 0): "yellow",
    (0, 255, 255): "cyan",
    (255, 0, 255): "magenta",
    (255, 165, 0): "orange",
    (255, 128, 0): "orange",
    (255, 192, 203): "pink",
    (128, 128, 128): "grey",
    (192, 192, 192): "light grey",
    (64, 64, 64): "dark grey",
    (128, 0, 0): "dark red",
    (0, 128, 0): "dark green",
    (0, 0, 128): "dark blue",
    (128, 128, 0): "olive",
    (0, 128, 128): "teal",
    (128, 0, 128): "purple",
    (165, 42, 42): "brown",
}


def hex_of_colour(colour: Colour) -> str:
    """'#ff0000' for (255, 0, 0)."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def parse_colour(text: str) -> Colour | None:
    """The colour that '#ff0000' writes; None for any other text."""
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return None
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def name_of_colour(colour: Colour) -> str:
    """'red' for a plain colour, '#rrggbb' for the others."""
    return NAMES.get(colour, hex_of_colour(colour))


def pack_colour(colour: Colour) -> int:
    """One colour as one number."""
    return COLOUR_BIT | colour[0] << 16 | colour[1] << 8 | colour[2]


def unpack_colour(value: int) -> Colour:
    """The colour of a packed number."""
    return value >> 16 & 255, value >> 8 & 255, value & 255


def is_packed(value: int) -> bool:
    """Whether a mask value is a packed colour; an id would have to lie between 16.7 and 33.6 million."""
    return COLOUR_BIT <= value < 2 * COLOUR_BIT


def _eight_bits(planes: NDArray[Any]) -> NDArray[np.int32]:
    """Colour planes from 0 to 255: 16-bit ones by their high byte, real ones taken as 0 to 1 unless they go beyond."""
    if planes.dtype.kind == "f":
        return np.round(planes * (255 if planes.max(initial=0) <= 1 else 1)).astype(np.int32)
    return planes.astype(np.int32) >> (8 if planes.max(initial=0) > 255 else 0)


def pack_colours(planes: NDArray[Any]) -> NDArray[np.int32]:
    """(3, *space) colours as (*space) packed numbers."""
    red, green, blue = np.clip(_eight_bits(planes), 0, 255)
    return np.asarray(COLOUR_BIT | red << 16 | green << 8 | blue, np.int32)


def choose_background(colours: Sequence[Colour], counts: Sequence[int]) -> Colour:
    """The colour that means background: black, or else white, or else the one of most pixels."""
    for plain in (BLACK, WHITE):
        if plain in colours:
            return plain
    return colours[int(np.argmax(counts))]


def read_palette(path: Path) -> tuple[Colour, ...]:
    """The colours of a palette picture by index; () for any other file."""
    if path.suffix.lower() not in PALETTE_SUFFIXES:
        return ()
    with open_picture(path) as picture:
        flat = picture.getpalette("RGB") if picture.mode == "P" else None
    table = flat or []
    return tuple((table[i], table[i + 1], table[i + 2]) for i in range(0, len(table), 3))
