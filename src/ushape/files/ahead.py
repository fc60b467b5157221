"""Files read one ahead: while one image is computed, another thread opens the next file and reads its first image.

What goes wrong there is raised where the file's turn comes, so that order and messages are those of reading in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ushape.data.images import read_image
from ushape.files.inputs import Input, input_of
from ushape.files.pages import Pages, bytes_at_once
from ushape.preparation import Preparation

__all__ = ["MOST_BYTES", "Opened", "opened_ahead"]

MOST_BYTES = 2**28
"""Arrays larger than this wait for their turn: two of them might not fit into memory. A file says little of that: a
compressed one may hold a thousand times its size."""


def is_small(item: Input) -> bool:
    """Whether what is read first of a file may lie in memory beside an image that is computed."""
    wanted = None if item.layout is None else bytes_at_once(item.layout, item.pages[0])
    return wanted is not None and wanted <= MOST_BYTES


class Opened:
    """A file whose contents are understood, and whose first image may be there already.

    done  whether there is nothing left to be done for the file, so that no image is read ahead
    """

    def __init__(self, path: Path, preparation: Preparation, done: Callable[[Input], bool], *, ahead: bool) -> None:
        self.path, self.preparation = path, preparation
        self.understood: Future[Input] = Future()
        self.first: Future[NDArray[Any]] | None = None
        self.read: Pages | None = None
        if ahead:
            self.look(done)

    def look(self, done: Callable[[Input], bool]) -> None:
        """Understand the file and read its first image; what fails is kept for whoever asks."""
        try:
            item = input_of(self.path, self.preparation)
            skip = done(item) or not is_small(item)
        except Exception as error:
            self.understood.set_exception(error)
            return
        self.understood.set_result(item)
        if skip:
            return
        self.first = Future()
        try:
            self.first.set_result(self.pages(item)(item.pages[0]))
        except MemoryError:
            # Beside a prediction there was no room; there may be when its turn comes.
            self.first = self.read = None
        except Exception as error:
            self.first.set_exception(error)

    def pages(self, item: Input) -> Pages:
        """What reads the file's pages."""
        if self.read is None:
            self.read = Pages(read_image, item.path, item.axes)
        return self.read

    def item(self) -> Input:
        """What the file holds; raises what reading raises."""
        if not self.understood.done():
            return input_of(self.path, self.preparation)
        return self.understood.result()

    def image(self, item: Input, index: int) -> NDArray[Any]:
        """The image of its page number `index`; raises what reading raises."""
        if index == 0 and self.first is not None:
            first, self.first = self.first, None
            return first.result()
        return self.pages(item)(item.pages[index])


def opened_ahead(
    paths: Sequence[Path], preparation: Preparation, done: Callable[[Input], bool]
) -> Generator[Opened, None, None]:
    """Each file in order, the one behind it being read meanwhile."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read ahead") as pool:
        upcoming: Future[Opened] | None = None
        for index, path in enumerate(paths):
            current = Opened(path, preparation, done, ahead=False) if upcoming is None else upcoming.result()
            upcoming = None
            if index + 1 < len(paths):
                upcoming = pool.submit(Opened, paths[index + 1], preparation, done, ahead=True)
            yield current
