"""A table in a CSV file that grows image by image and survives whatever stops the program.

Rows go to NAME.part at once, which is a whole table at any moment; it takes its own name when the work is over. Work
that was interrupted continues it. A column that only some images have stays empty for the others.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["GrowingTable", "write_table"]

LEADING = ("image", "page", "object", "class")
"""These columns stand first where there are any."""


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV with the columns of all of them, complete or not at all."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class GrowingTable:
    """See the module's docstring.

    path     where the table will be
    resume   keep the rows of an earlier table, finished or not
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path, self.part = path, path.with_name(path.name + ".part")
        self.source = next((p for p in (self.part, path) if p.exists()), None) if resume else None
        self.columns: list[str] = []
        self.begun = False
        names: list[str] = []
        if self.source is not None:
            with self.source.open(newline="", encoding="utf-8") as file:
                self.columns = list(csv.DictReader(file).fieldnames or ())
            names = list(dict.fromkeys(row["image"] for row in self.rows()))
        self.images = set(names)
        # Of the last image, work that was interrupted may lack some rows.
        self.complete = set(names[:-1] if self.source == self.part else names)

    def rows(self) -> Iterator[dict[str, str]]:
        """The rows so far, but for one that was cut short."""
        if self.source is not None:
            with self.source.open(newline="", encoding="utf-8") as file:
                yield from (row for row in csv.DictReader(file) if None not in row.values())

    def rewrite(self, columns: list[str], without: str | None = None) -> None:
        """The same rows under these columns, but for those of one image."""
        temporary = self.part.with_name(self.part.name + ".new")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(row for row in self.rows() if row["image"] != without)
        os.replace(temporary, self.part)
        self.source, self.columns, self.begun = self.part, columns, True

    def forget(self, image: str) -> None:
        """Drop the rows of an image that is done anew."""
        if image in self.images:
            self.rewrite(self.columns, without=image)
            self.images.remove(image)

    def add(self, image: str, columns: Mapping[str, Sequence[Any]], page: int | None = None) -> None:
        """Rows of an image, or of one page of it: a sequence of the same length for each column."""
        fixed = {"image": image} if page is None else {"image": image, "page": page}
        wanted = list(dict.fromkeys([*self.columns, *fixed, *columns]))
        if wanted != self.columns or not self.begun:
            leading = [column for column in LEADING if column in wanted]
            self.rewrite(leading + [column for column in wanted if column not in LEADING])
        n_rows = len(next(iter(columns.values())))
        with self.part.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writerows(fixed | {name: columns[name][i] for name in columns} for i in range(n_rows))

    def close(self) -> bool:
        """Give the table its name; False where there is nothing to name."""
        if not self.part.exists():
            return False
        os.replace(self.part, self.path)
        return True
