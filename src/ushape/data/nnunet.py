"""nnU-Net's raw folders: one file for each channel of a case, and what `dataset.json` says about them.

    imagesTr/case_0000.nii.gz   case_0001.nii.gz     the channels of a case for training
    labelsTr/case.nii.gz                             its mask
    imagesTs/, labelsTs/                             the same for testing; the masks are often missing
    dataset.json                                     names of channels and classes; the folder is read without it, too

Colour is the one exception: imagesTr/case_0000.png alone may hold red, green and blue, which are three names.
The Medical Segmentation Decathlon, where the layout comes from, has one file for each case, without a channel's
number. The part `train` is Tr, `test` is Ts. Each value of a mask is a class, and "ignore" is one to ignore.

References: Isensee et al., Nature Methods 18 (2021) 203, documentation/dataset_format.md of nnU-Net v2;
Antonelli et al., Nature Communications 13 (2022) 4128.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ushape.data.description import ClassRule, Description
from ushape.data.headers import read_layout, stem_of, suffix_of
from ushape.data.matching import Match, unique_stems
from ushape.data.naming import images_in, subfolders
from ushape.data.notes import Notes, counted, told
from ushape.errors import DataError

__all__ = ["describe_nnunet", "is_nnunet_folder", "match_nnunet", "parts_of_nnunet"]

PARTS = {"train": "tr", "test": "ts"}
CHANNEL = re.compile(r"(.+)_(\d{4})")
DATASET_FILE = "dataset.json"


def _folder(path: Path, name: str) -> Path | None:
    return next((p for p in subfolders(path) if p.name.lower() == name), None)


def parts_of_nnunet(path: Path) -> tuple[str, ...]:
    """The parts that have a folder of images: 'train' for imagesTr, 'test' for imagesTs."""
    return tuple(part for part, ending in PARTS.items() if _folder(path, f"images{ending}") is not None)


def is_nnunet_folder(path: Path) -> bool:
    """True for a folder with imagesTr or imagesTs in it."""
    return bool(parts_of_nnunet(path))


def _stated(path: Path, notes: Notes) -> dict[str, Any]:
    """What dataset.json says; nothing, and a problem, where it cannot be read."""
    file = path / DATASET_FILE
    if not file.is_file():
        return {}
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(stated, dict):
            return stated
        reason = "no object in braces"
    except (OSError, ValueError) as error:
        reason = str(error)
    notes.problems.append(
        f"{file}: expected a JSON object that names labels and channels, found {reason}; correct it (the folder is "
        "read without it)"
    )
    return {}


def _names_by_value(labels: dict[str, Any]) -> dict[int, str]:
    """Names by mask value, of nnU-Net 2 ({"background": 0}) or 1 ({"0": "background"}); ValueError for regions."""
    names: dict[int, str] = {}
    for key, value in labels.items():
        if isinstance(value, str):
            names[int(key)] = value
        elif isinstance(value, int):
            names[value] = key
        else:
            raise ValueError
    return names


def describe_nnunet(path: Path, notes: Notes) -> Description:
    """The classes and the value to ignore that dataset.json names, with sentences; an empty description without.

    Regions (one name for several values) overlap and are no classes: their values are then classes without names.
    """
    labels = _stated(path, notes).get("labels")
    if not isinstance(labels, dict) or not labels:
        return Description()
    try:
        names = _names_by_value(labels)
    except ValueError:
        notes.findings.append(
            f"{DATASET_FILE} names regions of several mask values ({told(list(labels))}): each value is read as a "
            "class of its own."
        )
        return Description()
    names.setdefault(0, "background")
    ignore = tuple(value for value, name in names.items() if name.lower() == "ignore")
    classes = tuple(ClassRule(names[value], (value,)) for value in sorted(names) if value not in ignore)
    return Description(task="semantic", classes=classes, ignore=ignore)


@dataclass(frozen=True)
class _Case:
    """The files of one case by channel."""

    name: str
    files: dict[int, Path]


def _has_channels(stems: list[str], masks: set[str]) -> bool:
    """Whether stems end in a channel's number, rather than in the number of a case."""
    endings = [CHANNEL.fullmatch(stem) for stem in stems]
    return bool(stems) and all(endings) and "0000" in {e[2] for e in endings if e} and not set(stems) & masks


def _cases(images: list[Path], masks: set[str]) -> list[_Case]:
    if not _has_channels([stem_of(p) for p in images], masks):
        return [_Case(stem_of(p), {0: p}) for p in images]
    cases: dict[str, dict[int, Path]] = {}
    for path in images:
        found = CHANNEL.fullmatch(stem_of(path))
        assert found is not None
        cases.setdefault(found[1], {})[int(found[2])] = path
    return [_Case(name, files) for name, files in cases.items()]


def _files(folder: Path | None, ending: str, notes: Notes) -> list[Path]:
    """The images of a folder; those of another ending than stated are left out."""
    files = images_in(folder) if folder is not None else []

    def fits(path: Path) -> bool:
        return not ending or suffix_of(path).lower() == ending.lower()

    kept, others = [p for p in files if fits(p)], [p for p in files if not fits(p)]
    if others:
        found = ("also " if kept else "") + told([p.name for p in others])
        notes.problems.append(
            f"{folder}: expected files that end in {ending} as {DATASET_FILE} says, found {found}; convert "
            "them or correct file_ending (left out)"
        )
    return list(unique_stems(kept, notes, "file").values())


def _channels(path: Path, case: _Case, n_channels: int, notes: Notes) -> tuple[Path, ...]:
    """A case's files in the order of its channels; none, and a problem, where some are missing."""
    if sorted(case.files) != list(range(n_channels)):
        found = told([f"_{number:04d}" for number in sorted(case.files)])
        last = f" to _{n_channels - 1:04d}" if n_channels > 1 else ""
        notes.problems.append(
            f"{path / case.name}: expected the {counted(n_channels, 'channel')} _0000{last}, found {found}; add or "
            "remove files (the case is left out)"
        )
        return ()
    return tuple(case.files[number] for number in range(n_channels))


def _holds_all(path: Path, n_channels: int) -> bool:
    """Whether a file holds all channels of its case; one that cannot be read may, and is told when it is opened."""
    try:
        layout = read_layout(path)
    except DataError:
        return True
    return layout.length("C") - layout.alpha == n_channels


def _channel_names(stated: dict[str, Any]) -> list[str]:
    names = stated.get("channel_names", stated.get("modality"))
    return [str(name) for name in names.values()] if isinstance(names, dict) else []


def match_nnunet(path: Path, part: str, notes: Notes) -> list[Match]:
    """The cases of a part with their channels and masks, and a problem for whatever is missing.

    DataError when the folder of images holds none that can be read.
    """
    stated = _stated(path, Notes())
    ending = str(stated.get("file_ending") or "")
    folder, drawn = _folder(path, f"images{PARTS[part]}"), _folder(path, f"labels{PARTS[part]}")
    assert folder is not None, "the part has to be one of parts_of_nnunet"
    masks = {stem_of(p): p for p in _files(drawn, ending, notes)}
    cases = _cases(_files(folder, ending, notes), set(masks))
    if not cases and notes.problems:
        raise DataError(notes.problems[-1].removesuffix(" (left out)"))
    if not cases:
        raise DataError(f"{folder}: expected images, found no image file; put the cases there, as case_0000.nii.gz")
    names = _channel_names(stated)
    separate = any(len(case.files) > 1 for case in cases)
    # A decathlon file holds all its channels, so their names say nothing about the number of files.
    by_number = _has_channels([stem_of(p) for case in cases for p in case.files.values()], set(masks))
    n_channels = (len(names) or 1 + max(max(case.files) for case in cases)) if by_number else 1
    only_first = n_channels > 1 and all(set(case.files) == {0} for case in cases)
    matches = []
    for case in cases:
        whole = only_first and _holds_all(case.files[0], n_channels)
        files = (case.files[0],) if whole else _channels(folder, case, n_channels, notes)
        mask = masks.pop(case.name, None)
        if files:
            matches.append(Match(case.name, files, mask))
        if files and mask is None and drawn is not None and part == "train":
            notes.problems.append(f"{files[0]}: expected a mask in {drawn}, found none; kept for prediction")
    notes.problems += [
        f"{mask}: expected images of case {name} in {folder}, found none; add them or remove the mask"
        for name, mask in masks.items()
    ]
    told_names = f" ({', '.join(names)})" if len(names) == n_channels else ""
    if separate:
        notes.findings.append(f"nnU-Net folder: {n_channels} files of each case are its channels{told_names}.")
    elif only_first and matches:
        notes.findings.append(f"nnU-Net folder: one file of each case holds its {n_channels} channels{told_names}.")
    else:
        notes.findings.append(f"nnU-Net folder: {counted(len(matches), 'case')} in {folder.name}.")
    return matches
