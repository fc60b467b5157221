"""Which images in a folder of results are wholly done, and of which files they are, noted beside them.

    .images.jsonl    {"image": NAME, "path": "/data/NAME.png", "size": 81234, "digest": "9a0f...", "saved": ["labels"],
                      "unfinished": [], "rows": 4}

A line for each image, of several the last one counts. Files alone do not tell: a stack has its labels though some of
its pages failed, an image without objects has no row in the table, and nothing in a result says which of several files
of one name it is of. A line that takes back what will be written anew comes before the first result of an image, one
that says what is whole behind the last, so that the note is right wherever the work was interrupted. What a note calls
saved may have been deleted since; whoever asks looks for the files too. Images from before have no line. The note is
hidden, as `origin`'s is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["NOTE", "Finished", "Noted"]

NOTE = ".images.jsonl"
SAMPLED = 16384
"""Bytes of a file that are read at three places to know it again."""


@dataclass(frozen=True)
class Noted:
    """What is noted of an image.

    path        of its file, resolved
    size        of that file in bytes
    digest      of its beginning, middle and end, so that it is known where it was moved, and no other of its name is
    saved       the products that are whole
    unfinished  those that are known not to be, because they were begun and not ended, or are of another file; of all
                others, as those from before there was a note, files alone tell
    rows        how many the table got when it was saved last; None: it never was
    """

    path: str
    size: int
    digest: str
    saved: frozenset[str] = frozenset()
    unfinished: frozenset[str] = frozenset()
    rows: int | None = None

    @staticmethod
    def of(path: Path) -> Noted:
        """What is noted of a file of which nothing is saved."""
        size, found = path.stat().st_size, hashlib.blake2b(digest_size=8)
        with path.open("rb") as file:
            for start in (0, size // 2, max(0, size - SAMPLED)):
                file.seek(start)
                found.update(file.read(SAMPLED))
        return Noted(str(path.resolve()), size, found.hexdigest())

    def is_of(self, other: Noted) -> bool:
        """Whether both are of one file that has not changed, wherever it lies."""
        return (self.size, self.digest) == (other.size, other.digest)


class Finished:
    """The note in a folder of results; `images` is what it says by the names of the images.

    folder  the results
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NOTE
        self.images: dict[str, Noted] = {}
        self.begun: set[str] = set()
        text = ""
        with suppress(OSError):
            text = self.path.read_text(encoding="utf-8", errors="replace")
        self.cut_short = bool(text) and not text.endswith("\n")
        for line in text.split("\n"):
            # A line that was cut short says nothing.
            with suppress(ValueError, KeyError, TypeError):
                about = json.loads(line)
                saved, unfinished = frozenset(about["saved"]), frozenset(about["unfinished"])
                source = (about["path"], about["size"], about["digest"])
                self.images[about["image"]] = Noted(*source, saved, unfinished, about["rows"])

    def without_rows(self) -> set[str]:
        """The images that the table has without a row."""
        return {image for image, noted in self.images.items() if "table" in noted.saved and noted.rows == 0}

    def add(self, image: str, noted: Noted) -> None:
        """Note this of an image."""
        line = json.dumps({"image": image, **vars(noted)}, default=sorted)
        line, self.cut_short = "\n" * self.cut_short + line + "\n", True
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
        self.cut_short = False
        self.images[image] = noted

    def begin(self, image: str, path: Path, products: Set[str]) -> None:
        """Note, once, that the products of an image are written anew; others of the same file stay as they are."""
        if image in self.begun:
            return
        noted, own = self.images.get(image), Noted.of(path)
        if noted is None:
            noted = own
        elif noted.is_of(own):
            noted = replace(noted, path=own.path)
        else:
            noted = replace(own, unfinished=noted.saved | noted.unfinished)
        self.add(image, replace(noted, saved=noted.saved - products, unfinished=noted.unfinished | products))
        self.begun.add(image)

    def end(self, image: str, products: Set[str], rows: int | None) -> None:
        """Note that the products of an image, which was begun, are whole.

        rows  how many of them are in the table; None where it is none of the products
        """
        noted = self.images[image]
        saved, unfinished = noted.saved | products, noted.unfinished - products
        self.add(image, replace(noted, saved=saved, unfinished=unfinished, rows=noted.rows if rows is None else rows))
