"""Folders in the layouts people already have become datasets.

    images/ + masks/          and other words for them, side by side, in groups, as stacks: see `pairing`; regions
                              of Fiji, QuPath, LabelMe and COCO stand for masks in all of them: see `drawn`
    imagesTr/ + labelsTr/     nnU-Net's raw folders, see `nnunet`
    01/, 01_GT/, 01_ST/       Cell Tracking Challenge, see `ctc`
    <id>/images, <id>/masks/* Data Science Bowl, one object in each mask file: see `object_folders`
    cat/*.png, dog/*.png      a folder for each class, see `class_folders`
    a CSV file                with columns image,mask or image,label, see `table`
    IDX files                 MNIST and its likes, see `idx`
    images only               for prediction: samples without mask

They are looked for in this order: Cell Tracking Challenge, IDX, nnU-Net, a CSV file whose every line fits, images/ and
masks/, one mask file for each object, stacks, side by side, a folder for each group, a folder for each class, and at
last a CSV file with lines that do not fit. So a CSV file wins over folders exactly when all that it lists is there.

`train/`, `val/`, `test/` inside a folder, in its folders' names, at the front of its stacks' names or in a CSV file's
column `split` are its parts. Without a word which part is wanted, `train` is read where there is one, so that nobody
trains on test images by accident. A folder that holds nothing but one other folder, as archives do, is stepped into.

What the masks mean is recognised from their values (`masks`); `dataset.toml` (`description`) overrules that and every
other guess, from the part's folder or else from the one above. Each thing understood is one sentence in
`Dataset.findings`. What cannot be used is one sentence in `Dataset.problems`; all the rest stays usable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ushape.data.assembly import Request, assemble
from ushape.data.class_folders import class_folders, match_classes, sorted_classes
from ushape.data.ctc import Truth, ctc_sequences, open_ctc
from ushape.data.dataset import Dataset, Sample, Task
from ushape.data.description import DESCRIPTION_FILE, Description, read_description
from ushape.data.drawn import assemble_drawn, has_drawings
from ushape.data.foreign import advice_on
from ushape.data.idx import idx_parts, open_idx
from ushape.data.matching import Match
from ushape.data.naming import has_images, part_of, role_of, subfolders
from ushape.data.nnunet import describe_nnunet, is_nnunet_folder, match_nnunet, parts_of_nnunet
from ushape.data.notes import Notes, told
from ushape.data.object_folders import has_object_folders, open_object_folders
from ushape.data.pairing import (
    match_folders,
    match_groups,
    match_side_by_side,
    match_stacks,
    parts_of_folders,
    parts_of_stacks,
)
from ushape.data.refusals import check_place, nothing_found
from ushape.data.table import TABLE_SUFFIXES, Table, match_table, read_table, tables_in
from ushape.errors import DataError

__all__ = ["find_parts", "open_folder"]

MAX_WRAPPERS = 3  # folders with nothing but one folder inside, as archives of archives have


@dataclass(frozen=True)
class _Place:
    """Where a part lies: the folder (or CSV file) to read, and the part's name where the layout itself keeps parts."""

    path: Path
    part: str | None


def _is_wrapper(path: Path) -> bool:
    """True for a folder with nothing to read in it but one folder whose name means nothing."""
    folders = subfolders(path)
    if len(folders) != 1 or has_images(path) or tables_in(path) or idx_parts(path):
        return False
    name = folders[0].name
    known = advice_on(folders) or role_of(name)[0] or part_of(name) or is_nnunet_folder(path) or ctc_sequences(path)
    return not known and not has_object_folders(path)


def _unwrapped(path: Path) -> Path:
    for _ in range(MAX_WRAPPERS):
        if not _is_wrapper(path):
            break
        path = subfolders(path)[0]
    return path


def _part_folder(path: Path, part: str | None) -> Path | None:
    """The subfolder that is a part: train/, training/ and so on."""
    return next((p for p in subfolders(path) if part is not None and part_of(p.name) == part), None)


def _only_table(path: Path) -> Path | None:
    tables = tables_in(path)
    return tables[0] if len(tables) == 1 else None


def _fitting_table(path: Path) -> Table | None:
    """The folder's CSV file if all that it lists is there: then nothing else decides."""
    table_path = None if is_nnunet_folder(path) or idx_parts(path) else _only_table(path)
    table = read_table(table_path) if table_path is not None else None
    return table if table is not None and table.fits else None


def _parts(path: Path) -> tuple[str, ...]:
    if path.is_file():
        return read_table(path).parts
    sequences = ctc_sequences(path)
    if sequences:
        return tuple(part for s in sequences for part in (s, f"{s}-gold"))
    fitting, table_path = _fitting_table(path), _only_table(path)
    if fitting is not None:
        return fitting.parts
    own = parts_of_nnunet(path) or idx_parts(path) or parts_of_folders(path)
    return own or (read_table(table_path).parts if table_path is not None else ()) or parts_of_stacks(path)


def find_parts(path: Path) -> tuple[str, ...]:
    """The parts that a folder or a CSV file has: train, val, test, the names of stacks, or sequences with -gold."""
    path = Path(path)
    return _parts(path if path.is_file() else _unwrapped(path))


def _choose_part(path: Path, parts: tuple[str, ...], split: str | None) -> str | None:
    """The part to read; None for all that lies in the folder itself."""
    if split is not None:
        wanted = split if split in parts else part_of(split)
        if wanted in parts:
            return wanted
        raise DataError(
            f"{path}: expected a part called '{split}', found {', '.join(parts) or 'no parts'}; "
            "name one of them, or none for the whole folder"
        )
    if "train" in parts:
        return "train"
    outside = path.is_dir() and (
        has_images(path) or any(has_images(p) for p in subfolders(path) if role_of(p.name) == ("images", None))
    )
    if not parts or outside:
        return None
    if len(parts) > 1:
        raise DataError(
            f"{path}: expected to know which of the parts {', '.join(parts)} to read; name one, as in {path}:{parts[0]}"
        )
    return parts[0]


def _place(root: Path, part: str | None) -> _Place:
    whole = root.is_file() or is_nnunet_folder(root) or bool(idx_parts(root)) or _fitting_table(root) is not None
    inside = None if whole else _part_folder(root, part)
    return _Place(_unwrapped(inside), None) if inside is not None else _Place(root, part)


def _wants_labels(request: Request) -> bool:
    return (request.task or request.description.task) == "classification"


def _with_classes(request: Request, names: Sequence[str], where: Path) -> Request:
    """The request with the labels' names; in the order of dataset.toml where it has the same names."""
    asked = request.task or request.description.task
    if asked not in (None, "classification"):
        raise DataError(
            f"{where}: expected masks for task {asked}, found images with a label each; add masks or name no task"
        )
    described = tuple(rule.name for rule in request.description.classes)
    return replace(request, classes=described if set(described) == set(names) else tuple(names))


def _match_classes(request: Request, roots: Sequence[Path], notes: Notes) -> tuple[Request, list[Match]] | None:
    """A folder for each class; the names are those of all parts."""
    folders = class_folders(request.path)
    if not folders:  # images/cat, images/dog
        tops = [p for p in subfolders(request.path) if role_of(p.name) == ("images", None)]
        folders = class_folders(tops[0]) if len(tops) == 1 else {}
    if not folders:
        return None
    names = sorted_classes(name for found in (folders, *map(class_folders, roots)) for name in found)
    request = _with_classes(request, names, request.path)
    return request, match_classes(folders, request.classes, notes)


def _match_table(request: Request, table: Table, part: str | None, notes: Notes) -> tuple[Request, list[Match]]:
    if table.classes:
        request = _with_classes(request, table.classes, table.path)
    return request, match_table(table, part if part in table.parts else None, notes)


def _match_nnunet(request: Request, part: str | None, notes: Notes) -> tuple[Request, list[Match]]:
    path, said = request.path, request.description
    stated = describe_nnunet(path, notes)
    classes, ignore, task = said.classes or stated.classes, said.ignore or stated.ignore, said.task or stated.task
    description = replace(said, task=task, classes=classes, ignore=ignore)
    matches = match_nnunet(path, part or parts_of_nnunet(path)[0], notes)
    source = DESCRIPTION_FILE if said.classes else "dataset.json" if stated.classes else "nnU-Net's layout"
    return replace(request, description=description, by_value=True, source=source), matches


def _match_beside(path: Path, notes: Notes) -> list[Match] | None:
    matches = match_side_by_side(path, notes)
    unread = [p.name for p in subfolders(path) if part_of(p.name) is None and has_images(p)]
    if matches and unread:
        notes.findings.append(f"Only the images in the folder itself are read, not those in {told(unread)}.")
    return matches


def _matched(
    request: Request, part: str | None, roots: Sequence[Path], notes: Notes
) -> tuple[Request, list[Match]] | None:
    """The files that belong together, by the first layout that fits; None when none does."""
    path = request.path
    if path.is_file():
        return _match_table(request, read_table(path, labels=_wants_labels(request)), part, notes)
    if is_nnunet_folder(path):
        return _match_nnunet(request, part, notes)
    table_path = _only_table(path)
    table = read_table(table_path, labels=_wants_labels(request)) if table_path is not None else None
    if table is not None and table.fits:
        return _match_table(request, table, part, notes)
    own = Notes()
    matches = match_folders(path, part, own) or match_stacks(path, part) or _match_beside(path, own)
    matches = matches or match_groups(path, own, may_be_classes=bool(class_folders(path)))
    if matches and _wants_labels(request) and has_drawings(matches):
        # The images have labels; regions are another annotation of them.
        matches = None
    else:
        notes.findings += own.findings
        notes.problems += own.problems
    found = (request, matches) if matches else _match_classes(request, roots, notes)
    if found is None and table is not None:
        return _match_table(request, table, part, notes)
    if found is not None and table is not None:
        notes.findings.append(f"{table.path.name} is not read, because not every line of it has files that exist.")
    return found


def _matches_of_others(request: Request, root: Path, parts: Sequence[str]) -> list[Match]:
    """The files of the other parts; what is wrong with them is told when they are opened."""
    matches: list[Match] = []
    for part in parts:
        place = _place(root, part)
        try:
            found = _matched(replace(request, path=place.path), place.part, (), Notes())
        except DataError:
            continue
        matches += found[1] if found is not None else []
    return matches


def _open_sequences(request: Request, part: str | None) -> Dataset:
    truth: Truth = "gold" if part is not None and part.endswith("-gold") else "gold+silver"
    sequences = None if part is None else (part.removesuffix("-gold"),)
    axes = request.description.axes
    return open_ctc(request.path, name=request.name, sequences=sequences, truth=truth, axes=axes)


def _open_place(request: Request, place: _Place, root: Path, parts: Sequence[str]) -> Dataset:
    """The part's dataset; `parts` are the folder's other ones."""
    if place.path.is_dir():
        if idx_parts(place.path):
            names = [rule.name for rule in request.description.classes]
            return open_idx(place.path, place.part or idx_parts(place.path)[0], request.name, names)
        apart = place.part is None and _fitting_table(place.path) is None
        objects = open_object_folders(request) if apart else None
        if objects is not None:
            return objects
    notes = Notes()
    roots = [_place(root, part).path for part in parts]
    found = _matched(request, place.part, [p for p in roots if p.is_dir()], notes)
    if found is None:
        raise nothing_found(place.path)
    if _wants_labels(found[0]) and not found[0].classes:
        raise DataError(
            f"{place.path}: expected labels for task classification: a folder for each class, or a CSV file with the "
            "columns image,label, found none; add them, or name no task"
        )
    request, matches = found
    others = [] if request.classes else _matches_of_others(request, root, parts)
    make = assemble_drawn if has_drawings(matches) else assemble
    return make(request, matches, notes, others)


def _description(*folders: Path) -> Description:
    """The first dataset.toml in one of the folders, from the inside out."""
    for folder in folders:
        place = folder.parent if folder.is_file() else folder
        if (place / DESCRIPTION_FILE).is_file():
            return read_description(place)
    return Description()


def _as_described(dataset: Dataset, description: Description) -> Dataset:
    """Groups and spacing as dataset.toml says."""

    def described(sample: Sample) -> Sample:
        group = description.group_of(sample.name) if description.groups is not None else sample.group
        return replace(sample, group=group, spacing=description.spacing or sample.spacing)

    return dataset if description == Description() else dataset.subset([described(s) for s in dataset.samples])


def open_folder(
    path: Path,
    *,
    name: str | None = None,
    split: str | None = None,
    task: Task | None = None,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """A folder in any layout above, or a CSV file, as a dataset; masks are read when they are needed.

    name     the dataset's name; the folder's name by default
    split    a part of the folder: 'train', 'val', 'test', or '01' and '01-gold' (Cell Tracking Challenge)
    task     what the data are to be read as, instead of what they look like
    classes  the classes that the masks are known to have, such as a model's, though some may not occur: three or more
             names, background first. Masks whose values fit them are read by them, unless dataset.toml names classes

    DataError for a missing or empty folder, for one in no known layout, and when nothing in it can be used.
    """
    path = Path(path)
    is_table = path.is_file() and path.suffix.lower() in TABLE_SUFFIXES
    if not is_table:
        check_place(path)
    root = path if is_table else _unwrapped(path)
    parts = _parts(root)
    sequences = not is_table and bool(ctc_sequences(root))
    part = split if sequences and split is None else _choose_part(path, parts, split)
    place = _place(root, part)
    description = _description(place.path, root, path)
    request = Request(
        name or (path.stem if is_table else path.resolve().name),
        place.path,
        task,
        description,
        known=tuple(classes or ()),
    )
    others = [p for p in parts if p != part]
    dataset = _open_sequences(request, part) if sequences else _open_place(request, place, root, others)
    findings = list(dataset.findings)
    if root != path:
        findings.append(f"Everything lies in {root.relative_to(path)}/ inside, which is read.")
    if part is not None and others and not sequences:
        findings.append(f"Part {part} is read; {', '.join(others)} not.")
    return _as_described(replace(dataset, findings=tuple(findings)), description)
