"""A CSV file that lists images with their masks or their labels, one pair in each line.

    image,mask,group,split             image,label
    a/1.tif,a/1_mask.tif,a,train       1.png,cat
    b/1.tif,b/1_mask.tif,b,test        2.png,dog

Columns are found by their names, in any order and spelling of capitals (`COLUMNS`); `group` and `split` may be
missing, other columns are not read. Commas, semicolons and tabs separate. A path is looked for beside the CSV file
and then in the folder of images (or masks) beside it; it may be absolute. Whether the second column tells of masks or
of classes is seen from its name and its values: a column called mask, and names of files, are masks. Classes are
numbered in the order of their names, counted over all parts.
"""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ushape.data.class_folders import sorted_classes
from ushape.data.headers import SUFFIXES, composed, stem_of, suffix_of
from ushape.data.matching import Match, with_unique_names
from ushape.data.naming import part_of, role_of, subfolders
from ushape.data.notes import Notes, counted, first_of, told
from ushape.errors import DataError

__all__ = ["TABLE_SUFFIXES", "Table", "match_table", "read_table", "tables_in"]

LOOKED_FOR = 20
TABLE_SUFFIXES = (".csv", ".tsv")
COLUMNS = {
    "image": (
        *("image", "images", "image_path", "image_file", "image_name", "img", "img_path"),
        *("filename", "file_name", "file", "path", "filepath", "file_path"),
    ),
    "mask": (
        *("mask", "masks", "mask_path", "mask_file", "mask_name", "annotation", "annotations"),
        *("segmentation", "ground_truth", "gt"),
    ),
    "label": ("label", "labels", "class", "class_name", "category", "target"),
    "group": ("group", "groups", "patient", "sequence"),
    "split": ("split", "part", "subset", "set"),
}


@dataclass(frozen=True)
class _Row:
    """One line's cells by our names for the columns; '' where there is none."""

    line: int
    image: str
    target: str
    group: str
    split: str


@dataclass(frozen=True)
class Table:
    """A CSV file.

    target   what the lines tell beside the image: 'masks', 'labels', or '' for images alone
    classes  the names of the labels, in order
    parts    the parts that the column `split` names
    ignored  columns that are not read
    """

    path: Path
    rows: tuple[_Row, ...]
    target: str
    classes: tuple[str, ...]
    parts: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether each line has a target and all files are where the lines say."""
        return bool(self.rows and self.target) and all(
            row.target and is_there(_place(self.path, row.image, "images")) and self._has_mask(row) for row in self.rows
        )

    def _has_mask(self, row: _Row) -> bool:
        return self.target == "labels" or is_there(_place(self.path, row.target, "masks"))


def _place(path: Path, text: str, role: str) -> Path:
    """The file that a cell of the table at `path` means: beside it, or in the folder of images or masks there."""
    root = path.parent
    # The file's name may hold an accent beside its letter where the table has one character, or the other way round.
    ways = (text, composed(text), unicodedata.normalize("NFD", text))
    spellings = list(dict.fromkeys([*ways, *(way.replace("\\", "/") for way in ways)]))
    # A cell may be too long for the name of a file.
    with suppress(OSError):
        # Folders are listed only where it does not lie beside the table.
        for written in spellings:
            if (root / written).is_file():
                return root / written
        # Folders are listed only where it does not lie beside the table.
        for folder in subfolders(root):
            for written in spellings if role_of(folder.name)[0] == role else ():
                if (folder / written).is_file():
                    return folder / written
    return root / text


def is_there(path: Path) -> bool:
    """Whether there is such a file; a name may be too long for one."""
    with suppress(OSError):
        return path.is_file()
    return False


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:  # as spreadsheet programs write it on Windows
        return data.decode("cp1252", errors="replace")


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of all lines that are not empty."""
    text = _text(path)
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    reader = csv.reader(text.splitlines(), delimiter=separator, skipinitialspace=True)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num, [cell.strip() for cell in cells]


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Where the columns that we know are."""
    names = [name.lower().replace(" ", "_").replace("-", "_") for name in header]
    found = {}
    for kind, words in COLUMNS.items():
        present = [names.index(word) for word in words if word in names]
        if present:
            found[kind] = present[0]
    return found


def _are_files(values: Iterable[str], path: Path) -> bool:
    """Whether cells of the table at `path` are files: by their endings, or because such a file is there.

    A few of them are looked for: where there are many labels, to look for each would take a while.
    """
    told = [value for value in dict.fromkeys(values) if value]
    if any(suffix_of(Path(value.replace("\\", "/"))) in SUFFIXES for value in told):
        return True
    return any(is_there(_place(path, value, "masks")) for value in told[:LOOKED_FOR])


def _target(
    rows: Sequence[dict[str, str]], header: Sequence[str], columns: dict[str, int], path: Path, labels: bool
) -> tuple[str, str]:
    """(what the lines tell: 'masks', 'labels' or '', the column that does)."""
    wanted = ("label", "mask") if labels else ("mask", "label")
    for column in (c for c in wanted if c in columns):
        # Whoever writes mask above a column means masks; annotation, say, may be a class.
        called = "mask" in header[columns[column]].lower()
        return ("masks" if called or _are_files((row[column] for row in rows), path) else "labels"), column
    return "", ""


def read_table(path: Path, *, labels: bool = False) -> Table:
    """The lines of a CSV file.

    labels  take labels where there are both masks and labels

    DataError when the file cannot be read, has no column of images, or holds numbers between whole ones where classes
    are expected.
    """
    try:
        lines = list(_lines(path))
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: expected a CSV file, found a damaged one ({error}); save it again") from error
    header = lines[0][1] if lines else []
    columns = _columns(header)
    if "image" not in columns:
        raise DataError(
            f"{path}: expected a first line with the columns image and mask, or image and label, found "
            f"{told(header) or 'an empty file'}; name the columns"
        )
    cells = [
        {kind: row[i] if i < len(row) else "" for kind, i in {**dict.fromkeys(COLUMNS, len(row)), **columns}.items()}
        for _, row in lines[1:]
    ]
    target, column = _target(cells, header, columns, path, labels)
    as_named = composed if target == "labels" else str  # a path stays as it is written
    rows = tuple(
        _Row(line, cell["image"], as_named(cell.get(column, "")), composed(cell["group"]), cell["split"])
        for (line, _), cell in zip(lines[1:], cells, strict=True)
    )
    named = {part_of(row.split) for row in rows}
    read = {columns[kind] for kind in ("image", column, "group", "split") if kind in columns}
    return Table(
        path,
        rows,
        target,
        _classes(path, rows) if target == "labels" else (),
        tuple(part for part in ("train", "val", "test") if part in named),
        tuple(name for i, name in enumerate(header) if i not in read and name),
    )


def _classes(path: Path, rows: Sequence[_Row]) -> tuple[str, ...]:
    for row in rows:
        front, point, back = row.target.lstrip("-").partition(".")
        if point and front.isdecimal() and back.isdecimal() and back.strip("0"):
            raise DataError(
                f"{path}, line {row.line}: expected the name of a class, found the quantity {row.target}; "
                "sort the quantities into classes first"
            )
    return sorted_classes(row.target for row in rows if row.target)


def tables_in(folder: Path) -> list[Path]:
    """The CSV and TSV files of a folder that have a column of images, by name."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in TABLE_SUFFIXES and not p.name.startswith("."))
    return [p for p in files if p.is_file() and "image" in _columns(next(_lines(p), (0, []))[1])]


def _chosen(table: Table, part: str | None, notes: Notes) -> list[_Row]:
    """The lines of a part; all where none is wanted."""
    rows = []
    for row in table.rows:
        if table.parts and part_of(row.split) is None:
            notes.problems.append(
                f"{table.path}, line {row.line}: expected train, val or test as split, found '{row.split}'; "
                "correct it (the line is left out)"
            )
        elif part is None or part_of(row.split) == part:
            rows.append(row)
    return rows


def _images_of(table: Table, rows: Sequence[_Row], notes: Notes) -> list[tuple[_Row, Path]]:
    """The lines whose image is there, each image once."""
    found: dict[Path, _Row] = {}
    for row in rows:
        where = f"{table.path}, line {row.line}"
        path = _place(table.path, row.image, "images") if row.image else None
        if path is None:
            notes.problems.append(f"{where}: expected the path of an image, found none; fill it in (left out)")
        elif not path.is_file():
            notes.problems.append(f"{where}: expected an image {path}, found none; correct the path (left out)")
        elif path in found:
            notes.problems.append(
                f"{where}: expected each image once, found {row.image} as in line {found[path].line}; remove one of "
                "the two (the first is used)"
            )
        else:
            found[path] = row
    return [(row, path) for path, row in found.items()]


def _names(paths: Sequence[Path], root: Path) -> list[str]:
    """The stems; where some are the same, with the folders in front."""
    stems = [stem_of(path) for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    folders = [path.parent.relative_to(root).parts if path.is_relative_to(root) else () for path in paths]
    return ["_".join((*parts, stem)) for parts, stem in zip(folders, stems, strict=True)]


def _mask(table: Table, row: _Row, notes: Notes) -> Path | None:
    if table.target != "masks" or not row.target:
        return None
    path = _place(table.path, row.target, "masks")
    if path.is_file():
        return path
    notes.problems.append(
        f"{table.path}, line {row.line}: expected a mask {path}, found none; correct the path (the image is kept for "
        "prediction)"
    )
    return None


def match_table(table: Table, part: str | None, notes: Notes) -> list[Match]:
    """The images of a part with their masks or labels, and a problem with its line's number for each that is missing.

    DataError when no line can be used.
    """
    pairs = _images_of(table, _chosen(table, part, notes), notes)
    if not pairs:
        found = f"none ({first_of(notes.problems)}); correct the paths" if notes.problems else "no line; add some"
        raise DataError(f"{table.path}: expected lines with images that exist, found {found}")
    names = _names([path for _, path in pairs], table.path.parent)
    matches = []
    for name, (row, path) in zip(names, pairs, strict=True):
        label = table.classes.index(row.target) if row.target in table.classes else None
        matches.append(Match(name, (path,), _mask(table, row, notes), label, row.group))
    what = {"masks": "with image and mask", "labels": "with image and label", "": "with an image only"}[table.target]
    notes.findings.append(f"{table.path.name}: {counted(len(pairs), 'line')} {what}.")
    if table.classes:
        numbers = Counter(row.target for row, _ in pairs)
        notes.findings[-1] = notes.findings[-1][:-1] + (
            f", classes {told([f'{name} ({numbers[name]})' for name in table.classes])}."
        )
    n_open = sum(not row.target for row, _ in pairs)
    if table.target and n_open:
        notes.findings.append(f"{counted(n_open, 'line')} without {table.target[:-1]}: kept for prediction.")
    if table.ignored:
        notes.findings.append(f"Columns that are not read: {told(table.ignored)}.")
    return with_unique_names(matches)
