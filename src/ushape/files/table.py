"""A table in a CSV file that grows image by image and survives whatever stops the program.

Rows go to NAME.part at once, which is a whole table at any moment; it takes its own name when the work is over. Work
that was interrupted continues it. A column that only some images have stays empty for the others.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ushape.errors import DataError

__all__ = ["GrowingTable", "unfinished", "write_table"]

LEADING = ("image", "page", "t", "z", "object", "class")
"""These columns stand first where there are any."""


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV with the columns of all of them, complete or not at all."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """Where a table is while it grows."""
    return path.with_name(path.name + ".part")


def rows_in(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table, but for one that was cut short; none where the file is no table of images."""
    if not path.exists():
        return
    # Spreadsheets leave a mark at the front, or letters of another encoding: these stay as they are.
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        if "image" in (reader.fieldnames or ()):
            yield from (row for row in reader if None not in row.values())


def columns_of(path: Path) -> list[str]:
    """The columns of a table; none where the file is no table of images."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        columns = list(csv.DictReader(file).fieldnames or ())
    return columns if "image" in columns else []


class GrowingTable:
    """See the module's docstring.

    path     where the table will be
    resume   keep the rows of an earlier table, finished or not
    others   begin anew, but keep an earlier table's rows of images that are not done anew; they go to the end
    empty    images that an earlier table has without a row, since they have no objects

    DataError for a file of that name that is no such table and would have to be continued.
    """

    def __init__(self, path: Path, *, resume: bool = False, others: bool = False, empty: Collection[str] = ()) -> None:
        self.path, self.part = path, unfinished(path)
        self.keeps_others = resume or others
        if others and columns_of(self.part):
            # An interrupted work's rows are newer than those of the table that it was to replace.
            interrupted = GrowingTable(path, resume=True, empty=empty)
            for image in interrupted.images - interrupted.complete:
                interrupted.forget(image, anew=False)
            interrupted.close()
        elif others:
            self.part.unlink(missing_ok=True)
        self.source = next((p for p in (self.part, path) if p.exists()), None) if resume else None
        self.columns: list[str] = [] if self.source is None else columns_of(self.source)
        self.begun = False
        self.added: Counter[str] = Counter()
        if self.source is not None and not self.columns:
            raise DataError(
                f"{self.source}: expected the table of an earlier prediction, with a column called image, found "
                "something else; move it away, or name another folder with -o"
            )
        names = list(dict.fromkeys(row["image"] for row in self.rows()))
        self.images: set[str] = set(names)
        # Of the last image, work that was interrupted may lack some rows.
        self.complete: set[str] = set(names[:-1] if self.source == self.part else names)
        # Images whose rows in a finished table from before are out of date.
        self.anew = set(names)
        if self.source is not None:
            self.complete.update(empty)
            self.anew.update(empty)

    def rows(self) -> Iterator[dict[str, str]]:
        """The rows so far."""
        return iter(()) if self.source is None else rows_in(self.source)

    def rewrite(self, columns: list[str], rows: Iterator[dict[str, str]]) -> None:
        """Begin the table again with these rows under these columns."""
        temporary = self.part.with_name(self.part.name + ".new")
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self.part)
        self.source, self.columns, self.begun = self.part, columns, True

    def with_columns(self, more: Sequence[str]) -> list[str]:
        """The columns and more of them, in the order in which they stand."""
        wanted = list(dict.fromkeys([*self.columns, *more]))
        leading = [column for column in LEADING if column in wanted]
        return leading + [column for column in wanted if column not in LEADING]

    def forget(self, image: str, *, anew: bool = True) -> None:
        """Drop the rows of an image.

        anew  it is done anew; otherwise what a finished table from before has of it is kept
        """
        if image in self.images:
            self.rewrite(self.columns, (row for row in self.rows() if row["image"] != image))
            self.images.remove(image)
        if not anew:
            self.anew.discard(image)

    def add(
        self,
        image: str,
        columns: Mapping[str, Sequence[Any]],
        page: int | None = None,
        place: Mapping[str, int] | None = None,
    ) -> None:
        """Rows of an image, or of one page of it: a sequence of the same length for each column.

        place  of the page among frames and slices, by the names of its columns
        """
        fixed = {"image": image} if page is None else {"image": image, "page": page, **(place or {})}
        wanted = self.with_columns([*fixed, *columns])
        if wanted != self.columns or not self.begun:
            self.rewrite(wanted, self.rows())
        self.anew.add(image)
        n_rows = len(next(iter(columns.values())))
        self.added[image] += n_rows
        with self.part.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writerows(fixed | {name: columns[name][i] for name in columns} for i in range(n_rows))

    def keep_others(self) -> None:
        """Take in what a finished table from before has of images that were not done anew."""
        others = (row for row in rows_in(self.path) if row["image"] not in self.anew)
        first = next(others, None)
        if first is not None:
            self.rewrite(self.with_columns(columns_of(self.path)), chain(self.rows(), [first], others))

    def close(self) -> bool:
        """Give the table its name; False where there is nothing to name."""
        if not self.part.exists():
            return False
        if self.keeps_others:
            self.keep_others()
        os.replace(self.part, self.path)
        return True
