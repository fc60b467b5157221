"""What a person reads of an error, and of a file some of whose pages failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ushape.errors import RecipeError, UshapeError

__all__ = ["Reasons", "sentence_of"]

PAGES_TOLD = 5


def sentence_of(error: Exception) -> str | None:
    """What a person should read of an error that the program is not to blame for; None for any other."""
    text = " ".join(str(error).split())
    if isinstance(error, UshapeError):
        return str(error)
    if isinstance(error, OSError):
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or text
        return f"{reason}; check the path, the permissions and the space left"
    signs = ("out of memory", "allocate memory", "not enough memory")
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in signs):
        return f"expected enough memory, found too little ({text[:120]}); close other programs or use smaller images"
    return None


@dataclass
class Reasons:
    """Why a file, or some pages of it, failed: the pages by reason, None for the file as a whole.

    others       files that reasons may name instead of `path`
    consequence  what it means for the result that pages failed
    """

    path: Path
    others: Sequence[Path] = ()
    consequence: str = ""
    pages: dict[str, list[int | None]] = field(default_factory=dict)

    @contextmanager
    def gathering(self, page: int | None = None) -> Iterator[None]:
        """Take what goes wrong with the file or page as a reason; what no file is to blame for goes on."""
        try:
            yield
        except (UshapeError, OSError, MemoryError, RuntimeError) as error:
            reason = sentence_of(error)
            if reason is None or isinstance(error, RecipeError):
                raise
            self.pages.setdefault(reason, []).append(page)

    def told(self) -> list[str]:
        """One sentence for each reason."""
        return [self.sentence(reason, pages) for reason, pages in self.pages.items()]

    def sentence(self, reason: str, pages: Sequence[int | None]) -> str:
        """One sentence for the file, or for those of its pages that share the reason."""
        path = next((p for p in (self.path, *self.others) if reason.startswith(f"{p}: ")), self.path)
        reason = reason.removeprefix(f"{path}: ")
        numbers = [page for page in pages if page is not None]
        if not numbers:
            return f"{path}: {reason}"
        shown = ", ".join(map(str, numbers[:PAGES_TOLD]))
        more = f" and {len(numbers) - PAGES_TOLD} more" if len(numbers) > PAGES_TOLD else ""
        return f"{path} (page{'s' * (len(numbers) > 1)} {shown}{more}): {reason}{self.consequence}"
