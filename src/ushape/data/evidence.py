"""Signs by which ids, classes and two values are told apart, counted over the masks of a dataset.

The rule that is made of them stands in `masks`. Every function takes facts whose values are either numbers or packed
colours throughout; `background` is 0, or for colours the packed colour that means background.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ushape.data.colours import choose_background, pack_colour, unpack_colour
from ushape.data.values import MaskFacts

__all__ = [
    "CONNECTED_SHARE",
    "CONSTANT_IDS",
    "IGNORE_VALUE",
    "MAX_CLASSES",
    "all_values",
    "background_of",
    "connected_share",
    "drawn_masks",
    "looks_like_instances",
    "may_be_objects",
    "odd_ones",
    "same_colours",
    "seam_values",
    "two_values",
    "void_value",
]

MAX_CLASSES = 64  # more different values than this are not "few"
WHITES = (1, 255, 65535)  # what programs write for foreground beside 0
WHOLE_SHARE = 0.98  # of all objects: the regions of classes are in pieces more often
CONNECTED_SHARE = 0.9  # of all objects: hand-drawn instances are in pieces now and then
# More ids in one mask, on average, than people paint classes in one image; so many need not be as whole.
MANY_IDS, MANY_CONNECTED_SHARE = 8, 0.6
AFRESH_SHARE = 0.75  # of the masks have ids 1..n without holes (of a few masks, half): editing makes holes
FEW_MASKS, FEW_AFRESH_SHARE = 4, 0.5
SEVERAL_IDS = 1.5  # in one mask on average: with fewer, one class in each image is as likely
# Values that are read as classes get the question whether they are objects from these shares on: a crop cuts objects in
# pieces, and hardly anybody numbers classes with holes.
HINT_VALUES, HINT_SHARE, HINT_HOLES_SHARE = 3, 0.75, 0.6
DISJOINT = 1.25  # masks in which each value occurs at most: ids that run on from image to image
DOT = 2  # pixels; what is so small is one piece, or nearly, wherever it lies
GREY_STEP = 4  # steps between greys chosen for classes are larger, and equal but for rounding
# Instances are numbered 1..n with another n in each image. The same n <= 3 in at least 5 images are classes that
# happen to have one region each (optic disc and cup), rather than always the same number of objects.
CONSTANT_MASKS, CONSTANT_IDS, CONSTANT_SHARE = 5, 3, 0.9
# With more of them, the sizes decide between organs (one always large, one always small) and, say, 20 simulated cells
# in each image: the share of the variance of log sizes that lies between the values, and their standard deviation.
LASTING_SHARE, LASTING_SPREAD = 0.6, 0.6
# Resizing leaves more values between the meant ones than there are of these; with two of them, `ghosts` takes it back.
MIN_SOLID, MIN_SEAMS = 3, 3
IGNORE_VALUE = 255  # as in Pascal VOC: the contours of objects, and what nobody annotated
VOID_MASKS = 3  # an id that ends a row with a gap does not recur in so many masks


def all_values(facts: Sequence[MaskFacts]) -> list[int]:
    """The values of all masks, in order."""
    return sorted({v for f in facts for v in f.values})


def drawn_masks(facts: Sequence[MaskFacts], background: int) -> list[MaskFacts]:
    """The facts of the masks with anything in them, without their background."""
    without = [f.without((background,)) for f in facts]
    return [f for f in without if f.ids]


def sizes_last(drawn: Sequence[MaskFacts]) -> bool:
    """Whether each value keeps a size of its own over the masks, and the values differ in size; False for few masks."""
    sizes: dict[int, list[float]] = {}
    for fact in drawn:
        for value, count in zip(fact.values, fact.counts, strict=True):
            sizes.setdefault(value, []).append(float(np.log(count)))
    if len(drawn) < CONSTANT_MASKS:
        return False
    everything = np.concatenate([np.asarray(each) for each in sizes.values()])
    between = sum(len(each) * (np.mean(each) - everything.mean()) ** 2 for each in sizes.values()) / len(everything)
    return bool(between >= LASTING_SHARE * everything.var() and between**0.5 >= LASTING_SPREAD)


def mostly_constant(drawn: Sequence[MaskFacts]) -> bool:
    """Whether most masks hold just the same values, as classes do and objects do not."""
    same, n_same = Counter(f.ids for f in drawn if f.ids).most_common(1)[0]
    if len(drawn) < CONSTANT_MASKS or n_same < CONSTANT_SHARE * len(drawn):
        return False
    return len(all_values(drawn)) <= CONSTANT_IDS or (len(same) <= MAX_CLASSES and sizes_last(drawn))


def connected_share(drawn: Sequence[MaskFacts]) -> float:
    """The share of all ids that are one connected piece; 0 without ids."""
    return sum(f.n_connected for f in drawn) / max(1, sum(len(f.ids) for f in drawn))


def look_like_greys(values: Sequence[int]) -> bool:
    """Whether the values above 0 look like greys chosen for classes: evenly spaced as 85 and 170, or up to 255."""
    steps = np.diff([0, *values])
    return values[-1] == WHITES[1] or bool(steps.min() > GREY_STEP and steps.max() - steps.min() <= 1)


def look_like_tracks(drawn: Sequence[MaskFacts]) -> bool:
    """Whether ids could be objects followed over images, or what is left of 1..n when some were removed.

    Either there are holes in the numbers, or there are more than could be classes of one region each, all of them
    connected, and none has a size of its own.
    """
    values = all_values(drawn)
    if look_like_greys(values):
        return False
    if values[-1] > len(values):
        return True
    return len(values) > CONSTANT_IDS and connected_share(drawn) >= WHOLE_SHARE and not sizes_last(drawn)


def may_be_objects(drawn: Sequence[MaskFacts]) -> bool:
    """Whether values that are read as classes could as well be ids of objects, so that a person is to be told."""
    values, share = all_values(drawn), connected_share(drawn)
    if len(values) < HINT_VALUES:
        return share >= CONNECTED_SHARE
    holes = values[-1] > len(values) and not look_like_greys(values)
    return share >= (HINT_HOLES_SHARE if holes else HINT_SHARE)


def is_photograph(fact: MaskFacts, background: int) -> bool:
    """Whether most values are those of one or two pixels, and cover most of the mask: that proves no connection."""
    sizes = [n for value, n in zip(fact.values, fact.counts, strict=True) if value not in (0, background)]
    n_dots = sum(size <= DOT for size in sizes)
    return 2 * sum(sizes) > sum(fact.counts) and 2 * n_dots > len(sizes) > MAX_CLASSES


def runs_afresh(drawn: Sequence[MaskFacts]) -> bool:
    """Whether the ids are 1..n without holes in enough masks."""
    afresh = sum(f.ids == tuple(range(1, len(f.ids) + 1)) for f in drawn) / max(1, len(drawn))
    return afresh >= (AFRESH_SHARE if len(drawn) > FEW_MASKS else FEW_AFRESH_SHARE)


def void_value(facts: Sequence[MaskFacts]) -> int | None:
    """255 where it marks pixels to ignore in masks of ids: they run 1..n, then there is a gap, and 255 is no object.

    It is none when it is in pieces in most masks that hold it, or recurs; None where nothing is to be ignored.
    """
    values, holding = all_values(facts), [f for f in facts if IGNORE_VALUE in f.values]
    rest = drawn_masks([f.without((IGNORE_VALUE,)) for f in facts], 0)
    if not holding or not rest or values[-1] != IGNORE_VALUE or IGNORE_VALUE - 1 in values or not runs_afresh(rest):
        return None
    in_pieces = 2 * sum(IGNORE_VALUE not in f.connected for f in holding) > len(holding)
    return IGNORE_VALUE if in_pieces or len(holding) >= VOID_MASKS else None


def seam_values(facts: Sequence[MaskFacts]) -> tuple[list[int], list[int]]:
    """(solid, seams) of masks of three or more values that were smoothed or resized; both empty where none were.

    solid  the values that were meant: somewhere they cover a region
    seams  the values that stand between others, in every mask that holds them
    """
    solid = {v for f in facts for v in f.solid}
    seams = {v for f in facts for v in f.seams} - {v for f in facts for v in set(f.values) - set(f.seams)}
    n_others = len(all_values(facts)) - len(solid) - len(seams)
    if len(solid) < MIN_SOLID or len(seams) < max(MIN_SEAMS, len(solid)) or len(seams) <= n_others:
        return [], []
    return sorted(solid), sorted(seams)


def looks_like_instances(facts: Sequence[MaskFacts], background: int = 0) -> bool:
    """Whether the values are ids of objects rather than classes; False where both could be and classes are usual."""
    drawn = drawn_masks(facts, background)
    if not drawn or mostly_constant(drawn) or any(is_photograph(f, background) for f in facts):
        return False
    n_ids, n_different, share = sum(len(f.ids) for f in drawn), len(all_values(drawn)), connected_share(drawn)
    if n_different > MAX_CLASSES or n_ids > MANY_IDS * len(drawn):
        return share >= MANY_CONNECTED_SHARE
    if share < CONNECTED_SHARE:
        return False
    several = n_ids >= SEVERAL_IDS * len(drawn)
    if len(drawn) > 1 and several and n_ids <= DISJOINT * n_different:
        return True
    if background:  # colours have no order that could start afresh
        return False
    return runs_afresh(drawn) or (several and look_like_tracks(drawn))


def background_of(facts: Sequence[MaskFacts]) -> int:
    """0, or for colours the packed colour that means background."""
    if not any(f.in_colours for f in facts):
        return 0
    covered: Counter[int] = Counter()  # a photograph has very many colours: each is to be looked at once a mask
    for fact in facts:
        covered.update(dict(zip(fact.values, fact.counts, strict=True)))
    values = sorted(covered)
    return pack_colour(choose_background([unpack_colour(v) for v in values], [covered[v] for v in values]))


def same_colours(facts: Sequence[MaskFacts]) -> bool:
    """Whether each value has one colour in all palettes."""
    pairs = {pair for f in facts for pair in zip(f.values, f.palette, strict=False)}
    return len(pairs) == len({value for value, _ in pairs})


def is_painted(fact: MaskFacts) -> bool:
    """Whether a mask holds 0 and one of the usual whites, or one of the two."""
    return fact.ids in tuple((white,) for white in WHITES) and set(fact.values) <= {0, *WHITES}


def odd_ones(facts: Sequence[MaskFacts]) -> list[bool]:
    """Which masks are of another kind than most; all False where they can be read together.

    Masks painted with 0 and 255 say nothing about ids or classes 1, 2, 3 in others, nor about a photograph among them:
    no rule fits both kinds, and the less frequent kind is the odd one.
    """
    painted = [is_painted(f) for f in facts]
    others = [f for f, yes in zip(facts, painted, strict=True) if f.ids and not yes]
    numbered = all(f.ids != (1,) for f in facts)
    strange = [
        len(f.values) > MAX_CLASSES or (numbered and not f.in_colours and len(f.ids) > 1 and WHITES[1] not in f.values)
        for f in others
    ]
    if not any(painted) or not strange or not all(strange):
        return [False] * len(facts)
    alike = [f.to_colours() for f in facts] if any(f.in_colours for f in facts) else facts
    if looks_like_instances(alike, background_of(alike)):
        return [False] * len(facts)
    return painted if sum(painted) < len(others) else [bool(f.ids) and not is_painted(f) for f in facts]


def two_values(facts: Sequence[MaskFacts]) -> bool:
    """Whether every mask holds two values, the same in all or 0 and one of the usual whites."""
    values = all_values(facts)
    return len(values) <= 2 or (set(values) <= {0, *WHITES} and all(len(f.values) <= 2 for f in facts))
