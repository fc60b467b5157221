"""The data doctor's checks of images: each takes a `Study` and gives its findings, none where nothing is wrong.

Every threshold has a name and a reason. A finding says what training does about it, so that a person knows whether
there is something to do.
"""

from __future__ import annotations

from collections.abc import Sequence

from ushape.data.doctor_facts import Facts
from ushape.data.doctor_findings import Finding, Severity, Study, about, told

__all__ = ["IMAGE_CHECKS", "size_in_words"]

FEW_LEVELS = 4  # a picture of a camera has hundreds of values; one of at most four is a mask or a threshold's result
NEARLY_CONSTANT = 1e-4  # of the largest magnitude; real numbers that differ by less are one value and rounding
SATURATED = 0.2  # share of pixels at the highest value; a well exposed picture has less than a percent there
# Twice the shift by which a padded U-Net of the default depth moves its pooling grid, 16 px, and the shift itself for
# volumes, 8 px: on smaller ones most of what the network sees is mirrored.
SMALLEST_SIDE = {2: 32, 3: 8}
VERY_DIFFERENT = 4  # times longer: objects of the same size in pixels then are hardly meant
FEW_IMAGES = 5  # from as many on, whole images are held out, and more than one
DEEP = {8: 255, 12: 4095}  # bits of a camera and the highest value they hold


def size_in_words(size: Sequence[int]) -> str:
    """(64, 48) -> '64 x 48 px'."""
    return " x ".join(map(str, size)) + " px"


def _invalid(study: Study) -> list[Finding]:
    return about(
        "error",
        [f for f in study.refused if f.n_invalid],
        "expected finite pixel values, found NaN or infinite ones",
        "left out; replace them (for example with numpy.nan_to_num) to use the image",
        lambda f: f"{f.n_invalid} of them",
    )


def _sizes_differ(study: Study) -> list[Finding]:
    return about(
        "error",
        [f for f in study.refused if not f.same_size],
        "the mask has another size than the image",
        "left out; export the mask again at the image's size",
        lambda f: f"image {size_in_words(f.size)}, mask {size_in_words(f.annotation.size if f.annotation else ())}",
    )


def _nothing_to_train_on(study: Study) -> list[Finding]:
    n, n_annotated = len(study.dataset.samples), len(study.dataset.annotated)
    what = "label" if study.dataset.task == "classification" else "mask"
    if not n_annotated:
        # Images alone may be meant for prediction; masks that are there and cannot be used are another matter.
        severity: Severity = "error" if study.dataset.problems else "warning"
        return [Finding(severity, study.dataset.name, f"none of {n} images has a {what}", "nothing to train on")]
    findings = []
    if not any(f.annotated for f in study.facts):
        sentence = f"none of the {n_annotated} images with a {what} can be used"
        findings.append(Finding("error", study.dataset.name, sentence, "nothing to train on"))
    if n > n_annotated:
        names = told([s.name for s in study.dataset.samples if not s.annotated])
        sentence = f"{n - n_annotated} of {n} images have no {what} ({names})"
        findings.append(Finding("note", study.dataset.name, sentence, "not used in training"))
    return findings


def _is_constant(facts: Facts) -> bool:
    return all(low == high for low, high in facts.ranges)


def _is_nearly_constant(facts: Facts) -> bool:
    if facts.n_levels is not None:
        return facts.n_levels <= FEW_LEVELS
    return facts.high - facts.low <= NEARLY_CONSTANT * max(abs(facts.high), abs(facts.low))


def _constant(study: Study) -> list[Finding]:
    constant = [f for f in study.facts if _is_constant(f)]
    poor = [f for f in study.facts if not _is_constant(f) and not f.copy and _is_nearly_constant(f)]
    return about(
        "warning",
        constant,
        "all pixels of the image have the same value",
        "trained on as it is, though nothing can be learned from it; export it again or leave it out",
        lambda f: f"{f.high:g}",
    ) + about(
        # Among pictures to classify, drawings and letters are common, and no masks lie around to be mixed up with.
        "note" if study.dataset.task == "classification" else "warning",
        poor,
        "the image has hardly more than one value",
        "trained on as it is; check that it is the picture, not a mask, and that it was not exported too dark",
        lambda f: f"{f.n_levels} values from {f.low:g} to {f.high:g}" if f.n_levels else f"{f.low:g} to {f.high:g}",
    )


def _copies(study: Study) -> list[Finding]:
    return about(
        "warning",
        [f for f in study.facts if f.copy],
        "the image shows nothing but its mask",
        "trained on as it is, but the network learns to copy; put the picture itself there",
    )


def _constant_channels(study: Study) -> list[Finding]:
    varied = [f for f in study.facts if not _is_constant(f)]
    if len({f.channels for f in varied}) != 1:
        return []
    empty = [c for c in range(varied[0].channels) if all(f.ranges[c][0] == f.ranges[c][1] for f in varied)]
    if not empty:
        return []
    sentence = f"channel {told([str(c) for c in empty])} of {varied[0].channels} (counted from 0) is constant in every"
    return [Finding("note", study.dataset.name, f"{sentence} image", "it carries nothing and does no harm")]


def _saturated(study: Study) -> list[Finding]:
    if study.dataset.task == "classification":
        return []  # pictures of things on white, and drawings, are meant to be like that
    bright = [f for f in study.facts if f.saturated > SATURATED and not _is_constant(f) and not _is_nearly_constant(f)]
    return about(
        "note",
        bright,
        f"more than {SATURATED:.0%} of the pixels have the image's highest value",
        "trained on as it is; detail that overexposure has cut off cannot be learned",
        lambda f: f"{f.saturated:.0%} at {f.high:g}",
    )


def _depth_of_values(study: Study) -> list[Finding]:
    deep = [f for f in study.facts if f.dtype.lstrip("u") in ("int16", "int32", "int64")]
    if not deep or len(deep) < len(study.facts):
        return []
    high = max(f.high for f in deep)
    bits = next((bits for bits, most in DEEP.items() if high <= most), None)
    if bits is None or min(f.low for f in deep) < 0:
        return []
    sentence = f"the images are of type {deep[0].dtype} and use {bits} bits (their highest value is {high:g})"
    return [Finding("note", study.dataset.name, sentence, "no harm, as each image is normalised by itself")]


def _kind(facts: Facts) -> str:
    """What values mean, as far as the type tells: real numbers from 0 to 1 are another scale than larger ones."""
    if not facts.dtype.startswith("float"):
        return facts.dtype
    return "real numbers from 0 to 1" if facts.low >= 0 and facts.high <= 1 else "real numbers"


def _mixed_types(study: Study) -> list[Finding]:
    by_kind: dict[str, list[str]] = {}
    for facts in study.facts:
        by_kind.setdefault(_kind(facts), []).append(facts.name)
    if len(by_kind) < 2:
        return []
    kinds = ", ".join(f"{kind} ({told(names, 1)})" for kind, names in by_kind.items())
    action = "each image is normalised by itself, so training works; make sure that they show the same thing"
    return [Finding("warning", study.dataset.name, f"the images have values of different types: {kinds}", action)]


def _mixed_channels(study: Study) -> list[Finding]:
    if all(f.grey for f in study.facts):
        return []
    coloured = [f for f in study.facts if not f.grey]
    grey = [f for f in study.facts if f.grey]
    counts = sorted({f.channels for f in study.facts})
    if len(counts) > 2 or (len(counts) == 2 and counts != [1, 3]):
        sentence = f"the images have different numbers of channels ({', '.join(map(str, counts))})"
        action = "they cannot be trained on together; convert them, or put them into separate folders"
        return [Finding("error", study.dataset.name, sentence, action)]
    if not grey or counts[-1] != 3:
        return []
    sentence = f"{len(grey)} grey and {len(coloured)} colour images ({told([f.name for f in coloured])})"
    return [Finding("note", study.dataset.name, sentence, "trained on together; grey is repeated in three channels")]


def _sizes(study: Study) -> list[Finding]:
    dims = sorted({len(f.size) for f in study.facts})
    if len(dims) > 1:
        flat = [f.name for f in study.facts if len(f.size) == dims[0]]
        deep = [f.name for f in study.facts if len(f.size) == dims[1]]
        sentence = f"there are images ({told(flat)}) and volumes ({told(deep)})"
        action = "they cannot be trained on together; put them into separate folders"
        return [Finding("error", study.dataset.name, sentence, action)]
    by_length = sorted(study.facts, key=lambda f: max(f.size))
    if not by_length or max(by_length[-1].size) < VERY_DIFFERENT * max(by_length[0].size):
        return []
    small, large = by_length[0], by_length[-1]
    sentence = (
        f"the images' sizes differ much, from {size_in_words(small.size)} ({small.name}) to "
        f"{size_in_words(large.size)} ({large.name})"
    )
    action = "nothing is rescaled; the same things should have about the same size in pixels in all of them"
    return [Finding("note", study.dataset.name, sentence, action)]


def _tiny(study: Study) -> list[Finding]:
    if study.dataset.task == "classification":
        return []
    return about(
        "warning",
        [f for f in study.facts if min(f.size) < SMALLEST_SIDE.get(len(f.size), 1)],
        "the image is smaller than what the network looks at",
        "trained on as it is, continued by mirroring; larger images give more to learn from",
        lambda f: size_in_words(f.size),
    )


def _same_images(study: Study) -> list[list[Facts]]:
    """Samples with the same pixels, two or more of each; constant images are alike without being the same."""
    by_digest: dict[str, list[Facts]] = {}
    for facts in study.facts:
        if facts.annotated and not _is_constant(facts):
            by_digest.setdefault(facts.digest, []).append(facts)
    return [same for same in by_digest.values() if len(same) > 1]


def _duplicates(study: Study) -> list[Finding]:
    contradicting, leaking, repeated = [], [], []
    for same in _same_images(study):
        names = " = ".join(f.name for f in same[:4])
        if len({f.label for f in same}) > 1 or len({f.annotation.digest if f.annotation else "" for f in same}) > 1:
            contradicting.append(names)
        elif len({f.group or f.name for f in same}) > 1:
            leaking.append(names)
        else:
            repeated.append(names)
    what = "labels" if study.dataset.task == "classification" else "masks"
    too_good = "one may be trained on and another validated on, which makes validation scores too good; keep one"
    said: list[tuple[Severity, list[str], str, str]] = [
        ("warning", contradicting, f"the same image occurs with different {what}", "all are trained on; keep one"),
        ("note", leaking, "the same image occurs more than once", too_good),
        ("note", repeated, "the same image occurs more than once in a group", "each counts; keep one"),
    ]
    return [
        Finding(severity, study.dataset.name, f"{sentence} ({told(names)})", action)
        for severity, names, sentence, action in said
        if names
    ]


def _few(study: Study) -> list[Finding]:
    n = sum(f.annotated for f in study.facts)
    if study.dataset.task == "classification" or not 1 <= n < FEW_IMAGES:
        return []
    if n == 1:
        action = "a quarter of it is kept for validation; a second image would show how well others will do"
        return [Finding("note", study.dataset.name, "there is one annotated image", action)]
    action = "trained on all the same, but validation scores are uncertain"
    return [Finding("note", study.dataset.name, f"there are only {n} annotated images", action)]


IMAGE_CHECKS = (
    _invalid,
    _sizes_differ,
    _nothing_to_train_on,
    _sizes,
    _mixed_channels,
    _constant,
    _copies,
    _mixed_types,
    _tiny,
    _duplicates,
    _few,
    _constant_channels,
    _saturated,
    _depth_of_values,
)
