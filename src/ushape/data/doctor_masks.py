"""The data doctor's checks of masks and labels: each takes a `Study` and gives its findings.

Masks of classes and masks of objects look alike to a program, and a person who mixes them up gets a black prediction
without a word. So what the masks look like is held against what they are read as. Thresholds have names and reasons.
"""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np

from ushape.data.doctor_facts import SPECK, Annotation, Facts
from ushape.data.doctor_findings import Finding, Severity, Study, about, told
from ushape.data.doctor_images import size_in_words
from ushape.geometry import Geometry

__all__ = ["LABEL_CHECKS", "MASK_CHECKS"]

RARE = 0.001  # share of pixels; a class below is seldom in a patch
MANY_CLASSES = 5  # fewer classes may well be one region each, as organs are
CONNECTED = 0.9  # of all objects: hand-drawn ones have stray pixels now and then
# Classes occur in most images; many ids of objects that are counted through, or tracked, in at most half of them.
SELDOM, SELDOM_CLASSES = 0.5, 0.25
GENERIC_NAME = re.compile(r"[\d#]")  # a number or a colour; whoever gives classes names knows that they are classes
FEW_IDS, MANY_PIECES = 20, 3  # the same few ids in every image, each in several pieces: those are classes
STRAY_SHARE = 0.1  # of the object's pixels; a further piece above it is another object rather than stray pixels
SPLIT_SHARE = 0.1  # of all objects; some are really cut in two by what lies on them
SMALLEST_DIAMETER = 5.0  # px; inside and outline of anything smaller are the same pixels
# A pixel's label depends on 92 px to each side in the default network for images (44 px for volumes), times the
# working scale, which is at most 16. What is larger is never seen with both of its sides.
WIDEST_VIEW = {2: 2 * 16 * Geometry(depth=5).lost, 3: 2 * 16 * Geometry(depth=4).lost}
VOIDS, GIANT = (255, 65535), 4  # the highest number of a file, times larger than every other object: not annotated
MOSTLY_IGNORED = 0.5  # share of all pixels
IMBALANCE = 10  # times more images of one class than of another
BALL = {2: math.pi / 4, 3: math.pi / 6}  # area of a disc, volume of a ball, of diameter 1


def _class_name(study: Study, index: int) -> str:
    classes = study.dataset.classes
    return classes[index] if index < len(classes) else str(index)


def _empty(study: Study) -> list[Finding]:
    masked = study.masked
    empty = [facts for facts, annotation in masked if annotation.empty]
    if masked and len(empty) == len(masked):
        sentence = f"all {len(masked)} masks hold background only" if len(masked) > 1 else "the mask is all background"
        action = "nothing can be learned from them; annotate some objects, and check that the right masks were saved"
        return [Finding("error", study.dataset.name, sentence, action)]
    sentence = f"nothing is annotated ({len(empty)} of {len(masked)} masks are empty)"
    return about("note", empty, sentence, "trained on as background; right if nothing is there, otherwise annotate it")


def _all_foreground(study: Study) -> list[Finding]:
    masked = study.masked
    full = [facts for facts, annotation in masked if len(annotation.values) == 1 and not annotation.empty]
    full = [facts for facts in full if not (facts.annotation and facts.annotation.n_ignored)]
    if len(full) < len(masked) or len({f.annotation.values for f in full if f.annotation}) > 1:
        return about(
            "note", full, "the mask has one value all over", "trained on as it is; right if nothing else is there"
        )
    sentence = "the masks have one value all over, and no background"
    action = "there is nothing to tell apart; annotate the background too, or check that the right masks were saved"
    return [Finding("error", study.dataset.name, sentence, action)] if full else []


def _ignored(study: Study) -> list[Finding]:
    masked = study.masked
    nothing = [facts for facts, annotation in masked if not annotation.values]
    findings = about(
        "warning", nothing, "all pixels of the mask are ignored", "nothing is learned from it; annotate it"
    )
    n_pixels = sum(annotation.n_pixels for _, annotation in masked)
    share = sum(annotation.n_ignored for _, annotation in masked) / n_pixels if n_pixels else 0.0
    if share > MOSTLY_IGNORED and len(nothing) < len(masked):
        sentence = f"{share:.0%} of all pixels are marked as ignored"
        findings.append(Finding("note", study.dataset.name, sentence, "only the others are trained on and scored"))
    return findings


def _class_areas(study: Study) -> tuple[Counter[int], Counter[int]]:
    """(pixels, images) of each class."""
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for _, annotation in study.masked:
        for value, area in zip(annotation.values, annotation.areas, strict=True):
            pixels[value] += area
            images[value] += 1
    return pixels, images


def _classes(study: Study) -> list[Finding]:
    """Classes that never occur, are rare, or occur in one image only."""
    if study.dataset.task != "semantic" or not study.masked or all(a.empty for _, a in study.masked):
        return []
    pixels, images = _class_areas(study)
    total, where, findings = sum(pixels.values()), study.dataset.name, []
    for index, name in enumerate(study.dataset.classes):
        if not pixels[index]:
            # Every pixel may belong to some class, so that there is no background.
            severity: Severity = "warning" if index else "note"
            action = "it cannot be learned; annotate some of it, or leave the class out" if index else "no harm"
            findings.append(Finding(severity, where, f"the class {name} does not occur in any mask", action))
        elif index and pixels[index] < RARE * total:
            sentence = f"the class {name} is in {100 * pixels[index] / total:.2g} % of the pixels"
            findings.append(Finding("warning", where, sentence, "it is easily missed; annotate more of it"))
        elif index and images[index] == 1 and len(study.masked) > 1:
            sentence = f"the class {name} occurs in one of {len(study.masked)} images"
            action = "either training or validation goes without it; annotate it in others too"
            findings.append(Finding("warning", where, sentence, action))
    return findings


def _looks_like_objects(study: Study) -> bool:
    """Many values, each in one piece wherever it occurs, and not the same ones in all images."""
    drawn = [annotation for _, annotation in study.masked if not annotation.empty]
    _, images = _class_areas(study)
    classes = [value for value in images if value > 0]
    named = not all(GENERIC_NAME.search(_class_name(study, value)) for value in classes)
    if len(classes) < MANY_CLASSES or named:
        return False
    pieces = [annotation.n_pieces[index] for annotation in drawn for index in annotation.ids]
    if sum(n == 1 for n in pieces) < CONNECTED * len(pieces):
        return False
    seldom = sum(images[value] <= SELDOM * len(drawn) for value in classes)
    return len(drawn) == 1 or seldom >= SELDOM_CLASSES * len(classes)


def _objects_as_classes(study: Study) -> list[Finding]:
    if study.dataset.task != "semantic" or not _looks_like_objects(study):
        return []
    n = len(study.dataset.classes) - 1
    sentence = f"the masks are read as {n} classes, but nearly every value is one connected object"
    action = "if they are ids of objects, use --task instances; as they are, each id would be a class of its own"
    return [Finding("warning", study.dataset.name, sentence, action)]


def _classes_as_objects(study: Study) -> list[Finding]:
    drawn = [annotation for _, annotation in study.masked if not annotation.empty]
    if study.dataset.task != "instances" or not drawn:
        return []
    sets = Counter(tuple(annotation.values[i] for i in annotation.ids) for annotation in drawn)
    ids = {value for values in sets for value in values}
    pieces = [annotation.n_pieces[index] for annotation in drawn for index in annotation.ids]
    same = sets.most_common(1)[0][1] > len(drawn) / 2
    if len(ids) > FEW_IDS or not same or np.median(pieces) < MANY_PIECES:
        return []
    values = told([str(value) for value in sorted(ids)], 5)
    sentence = f"the masks are read as objects, but hold the same few values ({values}), each in many pieces"
    action = "if they are classes, use --task semantic; as they are, all pieces of a value count as one object"
    return [Finding("warning", study.dataset.name, sentence, action)]


def _split(study: Study) -> list[Finding]:
    """Ids in more than one piece, by how large the further pieces are."""
    if study.dataset.task != "instances" or _classes_as_objects(study):
        return []
    split, strays, n_split, n_strays, n_objects = [], [], 0, 0, 0
    for facts, annotation in study.masked:
        shares = [annotation.spares[i] / annotation.areas[i] for i in annotation.ids]
        halves, crumbs = sum(s > STRAY_SHARE for s in shares), sum(0 < s <= STRAY_SHARE for s in shares)
        n_split, n_strays, n_objects = n_split + halves, n_strays + crumbs, n_objects + len(shares)
        split += [facts] * bool(halves)
        strays += [facts] * bool(crumbs)
    severe = n_split > SPLIT_SHARE * n_objects
    return about(
        "warning" if severe else "note",
        split,
        f"ids in two or more large pieces: {n_split} of {n_objects}",
        "trained on as one object each" + ("; give each object its own id" if severe else ""),
    ) + about(
        "note", strays, f"objects with stray pixels beside them: {n_strays} of {n_objects}", "no harm in training"
    )


def _diameters(annotation: Annotation) -> list[float]:
    """Of discs (balls) as large as the objects, in px."""
    dims = len(annotation.size)
    return [(annotation.areas[i] / BALL.get(dims, 1.0)) ** (1 / dims) for i in annotation.ids]


def _all_diameters(study: Study) -> list[float]:
    return [diameter for _, annotation in study.masked for diameter in _diameters(annotation)]


def _largest(annotation: Annotation) -> float:
    """The diameter of the largest object; an id around all others is the background, however it got it."""
    pairs = zip(annotation.ids, _diameters(annotation), strict=True)
    return max((diameter for i, diameter in pairs if annotation.values[i] != annotation.surround), default=0.0)


def _small_objects(study: Study) -> list[Finding]:
    diameters = _all_diameters(study) if study.dataset.task == "instances" else []
    if not diameters:
        return []
    findings = []
    if np.median(diameters) < SMALLEST_DIAMETER:
        sentence = f"half of the objects are less than {np.median(diameters):.1f} px across"
        action = "trained on, but hardly resolved; use images of a higher resolution, or enlarge images and masks"
        findings.append(Finding("warning", study.dataset.name, sentence, action))
    specks = [(facts, sum(annotation.areas[i] < SPECK for i in annotation.ids)) for facts, annotation in study.masked]
    n_specks = sum(count for _, count in specks)
    return findings + about(
        "warning",
        [facts for facts, count in specks if count],
        f"objects of fewer than {SPECK} pixels: {n_specks} of {len(diameters)}",
        "trained on and scored as objects; remove them if they are slips of the brush",
    )


def _large_objects(study: Study) -> list[Finding]:
    if study.dataset.task != "instances" or _classes_as_objects(study):
        return []
    background = [facts for facts, a in study.masked if a.surround is not None and len(a.ids) > 1]
    large = [
        (facts, round(_largest(a))) for facts, a in study.masked if _largest(a) > WIDEST_VIEW.get(len(a.size), math.inf)
    ]
    return about(
        "warning",
        background,
        "one object covers most of the image and lies on all of its sides",
        "trained on as an object; if it is the background, give it the value 0",
    ) + about(
        "warning",
        [facts for facts, _ in large],
        f"objects of up to {max((d for _, d in large), default=0)} px across are more than the network sees at once",
        "trained on, but they may fall into pieces; reduce images and masks in size",
    )


def _is_giant(annotation: Annotation, value: int) -> bool:
    """Whether the object of this value is far larger than all others of the mask."""
    areas = {annotation.values[i]: annotation.areas[i] for i in annotation.ids}
    others = [area for other, area in areas.items() if other != value]
    return value in areas and bool(others) and areas[value] >= GIANT * max(others)


def _void_as_object(study: Study) -> list[Finding]:
    """255 beside ids with holes is an id to the reader, but often marks what nobody annotated."""
    if study.dataset.task != "instances":
        return []
    drawn = [(facts, annotation) for facts, annotation in study.masked if not annotation.empty]
    for value in VOIDS:
        giant = [facts for facts, annotation in drawn if _is_giant(annotation, value)]
        if 2 * len(giant) > len(drawn):
            sentence = f"id {value} is by far the largest object"
            action = f"trained on as an object; if it means not annotated, write ignore = {value} in dataset.toml"
            return about("warning", giant, sentence, action)
    return []


def _inverted(study: Study) -> list[Finding]:
    """A foreground around everything may be the background; where somebody gave the two names, it is what was meant."""
    if study.dataset.task != "semantic" or study.dataset.classes != ("background", "foreground"):
        return []
    around = [facts for facts, annotation in study.masked if annotation.surround == 1]
    return about(
        "note",
        around if len(around) == len(study.masked) else [],
        "the foreground covers most of the image and lies on all of its sides",
        "read as it is; if it is the background, say in dataset.toml which value is the background",
    )


def _objects_in_words(study: Study) -> list[Finding]:
    diameters = _all_diameters(study) if study.dataset.task == "instances" else []
    if not diameters:
        return []
    low, middle, high = np.percentile(diameters, [5, 50, 95])
    n, n_touching = len(diameters), sum(annotation.n_touching for _, annotation in study.masked)
    sentence = f"{n} object{'s' * (n > 1)} in {len(study.masked)} image{'s' * (len(study.masked) > 1)}, about "
    sentence += f"{middle:.0f} px across"
    sentence += f" (nine in ten {low:.0f} to {high:.0f} px)" if n > 1 else ""
    touching = f"{n_touching / n:.0%} touch another" if n_touching else "none touches another"
    return [Finding("note", study.dataset.name, f"{sentence}; {touching}")]


def _specks(study: Study) -> list[Finding]:
    """Masks of classes in which most pieces are a pixel or two: traces of compression or smoothing."""
    if study.dataset.task != "semantic":
        return []
    sprinkled = [
        (facts, annotation)
        for facts, annotation in study.masked
        if 2 * annotation.n_specks > sum(annotation.n_pieces) and annotation.n_specks > MANY_PIECES
    ]
    return about(
        "warning",
        [facts for facts, _ in sprinkled],
        f"most of the annotated pieces have fewer than {SPECK} pixels",
        "trained on as they are; if they are traces of compression or of a threshold, clean the masks",
    )


MASK_CHECKS = (
    _empty,
    _all_foreground,
    _objects_as_classes,
    _classes_as_objects,
    _classes,
    _small_objects,
    _large_objects,
    _void_as_object,
    _inverted,
    _split,
    _specks,
    _ignored,
    _objects_in_words,
)


def _images_of_classes(study: Study) -> list[Finding]:
    if study.dataset.task != "classification" or not study.facts:
        return []
    n_of = Counter(facts.label for facts in study.facts if facts.label is not None)
    classes, where, findings = range(len(study.dataset.classes)), study.dataset.name, []
    for n, sentence in ((0, "no image"), (1, "one image only")):
        names = [_class_name(study, index) for index in classes if n_of[index] == n]
        if names:
            action = "it cannot be learned and validated; add images, or leave the class out"
            findings.append(Finding("warning", where, f"{sentence} of the class {told(names)}", action))
    present = [index for index in classes if n_of[index]]
    if not present:
        return findings
    most, least = max(present, key=lambda i: n_of[i]), min(present, key=lambda i: n_of[i])
    if n_of[most] > IMBALANCE * n_of[least]:
        sentence = (
            f"the classes are unequal, from {n_of[least]} images of {_class_name(study, least)} to {n_of[most]} of "
            f"{_class_name(study, most)}"
        )
        findings.append(Finding("note", where, sentence, "rare classes are easily missed; look at the score of each"))
    return findings


def _sizes_of_classes(study: Study) -> list[Finding]:
    sizes = sorted({facts.size for facts in study.facts})
    if study.dataset.task != "classification" or len(sizes) < 2:
        return []
    sentence = f"the images have {len(sizes)} sizes, from {size_in_words(sizes[0])} to {size_in_words(sizes[-1])}"
    return [Finding("note", study.dataset.name, sentence, "make sure that no class has a size of its own")]


def _outside(study: Study) -> list[Facts]:
    """Samples with a label that no class has."""
    return [f for f in study.facts if f.label is not None and not 0 <= f.label < len(study.dataset.classes)]


def _unknown_labels(study: Study) -> list[Finding]:
    if study.dataset.task != "classification":
        return []
    n = len(study.dataset.classes)
    sentence = f"the label is none of the {n} classes 0 to {n - 1}"
    return about("error", _outside(study), sentence, "correct it, or name the class", lambda f: str(f.label))


LABEL_CHECKS = (_unknown_labels, _images_of_classes, _sizes_of_classes)
