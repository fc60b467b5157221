"""What the values of masks mean, recognised from the masks themselves.

People save masks in four ways, and the values tell them apart:

    two values anywhere                                          background and foreground, whatever the two are
    ids 1..n afresh in each image, each of them connected        instances
    up to 64 other values, usually the same in most images       classes
    anything else                                                refused with a sentence

Where both could be meant, for example one image with a piece of 1 and a piece of 2, connected values are instances,
unless most of at least five images hold just the same values: then they are classes if there are up to three of them,
or if each keeps a size of its own. The finding tells how to overrule the guess; `dataset.toml` overrules all of it.

Colours are read by the same rule, with black as background, or else white, or else the most frequent colour; they are
instances only where they are many and connected. One value has two uses by convention: where the others run 0..n, 255
marks pixels to ignore (as in Pascal VOC, where it is also the contour of objects). Masks of three or more values that
were smoothed or resized hold mixtures that look like further classes or objects; they are refused.

The finding is a `MaskRule`, by which the mask files are read, see `rule`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ushape.data.colours import name_of_colour, pack_colour, unpack_colour
from ushape.data.dataset import Task
from ushape.data.description import DESCRIPTION_FILE, Description
from ushape.data.evidence import (
    CONSTANT_IDS,
    IGNORE_VALUE,
    MAX_CLASSES,
    all_values,
    background_of,
    connected_share,
    drawn_masks,
    looks_like_instances,
    may_be_objects,
    same_colours,
    seam_values,
    two_values,
    void_value,
)
from ushape.data.known import known_mapping
from ushape.data.rule import MaskRule, Reading, find_rule, read_mask_by_rule
from ushape.data.values import MaskFacts, listed, mask_facts, read_facts, read_values, told
from ushape.errors import DataError

__all__ = [
    "MaskFacts",
    "MaskRule",
    "find_rule",
    "mask_facts",
    "read_facts",
    "read_mask_by_rule",
    "read_values",
    "recognise_masks",
]

# With fewer ids in one piece, the values are classes, and their pieces are the objects that somebody asked for.
IDS_ASKED_SHARE = 0.5
MAX_TOLD = 12  # values whose class is told


def _binary_rule(values: Sequence[int], background: int | None = None) -> MaskRule:
    """Rule for two values, one value, or a mixture of masks with 0/1 and masks with 0/255."""
    low = background if background is not None else values[0] if len(values) > 1 else 0
    mapping = tuple((v, 0 if v == low else 1) for v in sorted({low, *values}))
    thing = "colours" if background else "values"
    what = f"two {thing} ({listed(values)})" if len(values) == 2 else f"only {listed(values)}"
    if len(values) > 2:
        what = f"two values each ({', or '.join(f'0 and {v}' for v in values if v)})"
    finding = f"The masks hold {what}: read as background and foreground."
    shown = [v for v in (low, *values) if background]
    colours = tuple(unpack_colour(v) for v in dict.fromkeys(shown)) if len(values) == 2 else ()
    return MaskRule("semantic", ("background", "foreground"), "values", mapping, finding, colours=colours)


def _class_rule(facts: Sequence[MaskFacts]) -> MaskRule:
    """Rule for a few values: numbered 0, 1, 2, ... in their order, the lowest is background."""
    kept = all_values(facts)
    ignored = len(kept) >= 3 and kept[-1] == IGNORE_VALUE and kept[:-1] == list(range(len(kept) - 1))
    if ignored:
        kept.pop()
    mapping = tuple((v, i) for i, v in enumerate(kept)) + (((IGNORE_VALUE, -1),) if ignored else ())
    classes = ("background", *(f"class {v}" for v in kept[1:]))
    finding = f"The masks hold the same {len(kept)} values ({listed(kept)}): read as classes"
    if kept != list(range(len(kept))):
        finding += f", numbered 0 to {len(kept) - 1} without holes, {kept[0]} as background"
    if ignored:
        finding += f"; pixels of value {IGNORE_VALUE} are ignored"
    if may_be_objects(drawn_masks([f.without((IGNORE_VALUE,)) if ignored else f for f in facts], 0)):
        finding += "; if each value is one object, ask for task instances"
    shown = {v: c for f in facts if f.palette for v, c in zip(f.values, f.palette, strict=True)}
    colours = tuple(shown[v] for v in kept) if all(v in shown for v in kept) else ()
    return MaskRule("semantic", classes, "values", mapping, finding + ".", colours=colours)


def _colour_class_rule(facts: Sequence[MaskFacts], background: int) -> MaskRule:
    """Rule for a few colours: the background first, then the others in the order of how much they cover."""
    covered: Counter[int] = Counter()
    for fact in facts:
        covered.update(dict(zip(fact.values, fact.counts, strict=True)))
    others = sorted((v for v in covered if v != background), key=lambda v: (-covered[v], v))
    kept = [background, *others]
    finding = f"The masks are painted in the same {len(kept)} colours ({listed(kept)}): read as classes"
    finding += f", {told(background)} as background; if each colour is one object, ask for task instances."
    colours = tuple(unpack_colour(v) for v in kept)
    return MaskRule(
        "semantic",
        ("background", *(name_of_colour(c) for c in colours[1:])),
        "values",
        tuple((v, i) for i, v in enumerate(kept)),
        finding,
        colours=colours,
    )


def _instance_rule(reading: Reading, finding: str, background: int = 0, void: int | None = None) -> MaskRule:
    ignore = () if void is None else (void,)
    finding += f"; pixels of value {void} are ignored." if ignore else "."
    return MaskRule("instances", ("background", "object"), reading, (), finding, background=background, ignore=ignore)


def _ids_rule(facts: Sequence[MaskFacts], background: int, void: int | None = None) -> MaskRule:
    drawn = drawn_masks(facts, background)
    thing = "colours" if background else "ids"
    n_ids = sum(len(f.ids) for f in drawn)
    masks = "1 mask" if len(facts) == 1 else f"{len(facts)} masks"
    finding = f"The masks hold {thing}, nearly each of them one connected object ({n_ids} in {masks})"
    finding += ": read as instances"
    if len({f.ids for f in drawn}) == 1 and len(drawn[0].ids) <= CONSTANT_IDS:
        finding += "; if the values are classes, ask for task semantic"
    return _instance_rule("ids", finding, background, void)


def _without_void(facts: Sequence[MaskFacts]) -> tuple[list[MaskFacts], int | None]:
    """The facts without the value that is to be ignored, and this value, where there is one."""
    void = void_value(facts)
    return [f if void is None else f.without((void,)) for f in facts], void


def _rule_by_values(facts: Sequence[MaskFacts], where: str) -> MaskRule:
    """The rule that the values suggest, when nobody said what they are."""
    values, background = all_values(facts) or [0], background_of(facts)
    if two_values(facts):
        return _binary_rule(values, background or None)
    rest, void = _without_void(facts)
    if looks_like_instances(rest, background):
        return _ids_rule(rest, background, void)
    if len(values) <= MAX_CLASSES:
        return _colour_class_rule(facts, background) if background else _class_rule(facts)
    raise DataError(
        f"{where}: expected masks of two {'colours' if background else 'values'}, of a few classes or of connected "
        f"objects, found {len(values)} different {'colours' if background else 'values'} that are neither; save the "
        f"masks without smoothing or compression loss, or say in {DESCRIPTION_FILE} what the values mean"
    )


def _as_instances(facts: Sequence[MaskFacts]) -> MaskRule:
    """The rule for masks that somebody said to be instances."""
    background = background_of(facts)
    if two_values(facts):
        finding = "Each connected piece of the masks' foreground is read as one object"
        mapping = _binary_rule(all_values(facts) or [0], background or None).mapping
        return replace(_instance_rule("pieces", finding), mapping=mapping)
    rest, void = _without_void(facts)
    drawn, thing = drawn_masks(rest, background), "colours" if background else "values"
    if connected_share(drawn) < IDS_ASKED_SHARE:
        finding = f"Each connected piece of one of the masks' {thing} is read as one object, as asked"
        return _instance_rule("pieces", finding, background, void)
    finding = f"The {thing} of the masks are read as ids of objects, as asked"
    return _instance_rule("ids", finding, background, void)


def _as_semantic(facts: Sequence[MaskFacts], where: str) -> MaskRule:
    """The rule for masks that somebody said to be no instances."""
    rule = _rule_by_values(facts, where)
    if rule.task == "semantic":
        return rule
    drawn = drawn_masks([f.without(rule.ignore) for f in facts], rule.background)
    if len({f.ids for f in drawn}) == 1 and len(drawn[0].ids) <= CONSTANT_IDS:
        return _colour_class_rule(facts, rule.background) if rule.background else _class_rule(facts)
    finding = "The masks hold ids of objects; all are read as one foreground, as asked"
    finding += f"; pixels of value {IGNORE_VALUE} are ignored." if rule.ignore else "."
    classes = ("background", "foreground")
    return replace(rule, task="semantic", classes=classes, reading="foreground", finding=finding)


def _described_rule(task: Task, description: Description, facts: Sequence[MaskFacts], where: str) -> MaskRule:
    """The rule for classes whose values or colours somebody wrote down."""
    by_colour = not any(c.values for c in description.classes)
    facts = [f.to_colours() if by_colour else f for f in facts]
    classes = description.classes
    if task == "instances" and len(classes) != 2:
        raise DataError(
            f"{where}: expected two classes in {DESCRIPTION_FILE} for task instances, background and objects, "
            f'found {len(classes)}; join them, or write task = "semantic"'
        )
    pairs = [(v, i) for i, c in enumerate(classes) for v in (*c.values, *map(pack_colour, c.colours))]
    mapping = (*pairs, *((v, -1) for v in description.ignore))
    finding = f"{DESCRIPTION_FILE} says what the masks hold: {', '.join(c.name for c in classes)}"
    finding += f"; {listed(description.ignore)} ignored" if description.ignore else ""
    unnamed = [v for v in all_values(facts) if v not in dict(mapping)]
    if unnamed and not any(set(f.values) <= set(dict(mapping)) for f in facts):
        raise DataError(
            f"{where}: expected only the mask values named in {DESCRIPTION_FILE} ({listed([v for v, _ in mapping])}), "
            f"found also {listed(unnamed)}; name them there, or list them under ignore"
        )
    shown = tuple(c.colours[0] for c in classes if c.colours)
    return MaskRule(
        task,
        tuple(c.name for c in classes),
        "pieces" if task == "instances" else "values",
        mapping,
        f"{finding}.",
        colours=shown if task == "semantic" and len(shown) == len(classes) else (),
        by_colour=by_colour,
    )


def _named(rule: MaskRule, facts: Sequence[MaskFacts], names: tuple[str, ...], where: str) -> MaskRule:
    """The rule with the names of `dataset.toml` for its classes: one for each, or name i for value i."""
    if (
        rule.reading == "values"
        and len(names) != len(rule.classes)
        and set(all_values(facts)) <= set(range(len(names)))
    ):
        return replace(rule, classes=names, mapping=tuple((i, i) for i in range(len(names))), colours=())
    if len(names) != len(rule.classes):
        raise DataError(
            f"{where}: expected {len(rule.classes)} names of classes in {DESCRIPTION_FILE} for what the masks hold "
            f"({', '.join(rule.classes)}), found {len(names)}; write value = ... for each class"
        )
    return replace(rule, classes=names)


def _smoothing_note(facts: Sequence[MaskFacts]) -> tuple[str, ...]:
    n = sum(f.smoothed for f in facts)
    if not n:
        return ()
    return (
        f"{n} of {len(facts)} masks hold ghosts of other values, as JPEG and smoothing leave them: each pixel is taken "
        "to the nearer of the two values, the files stay as they are.",
    )


def _refuse_seams(facts: Sequence[MaskFacts], where: str) -> None:
    """DataError where smoothing or resizing left values between three or more that were meant."""
    solid, seams = seam_values(facts)
    if not seams:
        return
    fact = max(facts, key=lambda f: len(set(f.seams) & set(seams)))
    thing = "colours" if any(f.in_colours for f in facts) else "values"
    place = f", as in {fact.path}" if fact.path is not None else ""
    raise DataError(
        f"{where}: expected masks of a few {thing} ({listed(solid)}), found {len(seams)} others between them "
        f"({listed(seams)}{place}) as smoothing or resizing leaves them; save the masks without smoothing and resize "
        f"them with nearest neighbour, or say in {DESCRIPTION_FILE} what the {thing} mean"
    )


def _known_rule(facts: Sequence[MaskFacts], known: Sequence[str]) -> MaskRule | None:
    """The rule for data that are known to have these classes; None where the values do not fit them."""
    values = all_values(facts)
    mapping = known_mapping(values, known)
    if mapping is None:
        return None
    meanings = [f"{told(v)} as {known[mapping[v]] if mapping[v] >= 0 else 'ignored'}" for v in values[:MAX_TOLD]]
    if len(values) > MAX_TOLD:
        meanings.append("and so on")
    finding = f"The masks are read by the classes that are known: {', '.join(meanings) or 'nothing is annotated'}."
    return MaskRule("semantic", tuple(known), "values", tuple(mapping.items()), finding)


def recognise_masks(
    facts: Sequence[MaskFacts],
    where: str,
    task: Task | None = None,
    description: Description | None = None,
    known: Sequence[str] = (),
) -> MaskRule:
    """What the masks with these facts are.

    where        the folder, for the message
    task         overrules the guess and the description: "instances" takes masks apart into connected pieces unless
                 each value is an object already, "semantic" joins all objects to one foreground
    description  what `dataset.toml` says: overrules the guess
    known        the names of the classes that the data are known to have, of which these masks may lack some

    DataError when the values fit nothing, or not what the description says.
    """
    description = description or Description()
    task, names = task or description.task, tuple(c.name for c in description.classes)
    if description.says_values:
        return replace(_described_rule(task or "semantic", description, facts, where), notes=_smoothing_note(facts))
    by_colour = any(f.in_colours for f in facts) or not same_colours(facts)
    kept = [(f.to_colours() if by_colour else f).without(description.ignore) for f in facts]
    _refuse_seams(kept, where)
    by_known = _known_rule(kept, known) if task != "instances" and not names else None
    if by_known is not None:
        rule = by_known
    elif task == "instances":
        rule = _as_instances(kept)
    elif task == "semantic" or (len(names) > 2 and set(all_values(kept)) <= set(range(len(names)))):
        rule = _as_semantic(kept, where) if task else _class_rule(kept)
    else:
        rule = _rule_by_values(kept, where)
    rule = _named(rule, kept, names, where) if names else rule
    ignore = tuple(dict.fromkeys((*description.ignore, *rule.ignore)))
    ignored = tuple((v, -1) for v in ignore) if rule.mapping else ()
    rule = replace(rule, mapping=rule.mapping + ignored, ignore=ignore, by_colour=by_colour)
    return replace(rule, notes=_smoothing_note(facts))
