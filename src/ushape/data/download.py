"""Files of public datasets are fetched, checked and unpacked; what was interrupted goes on where it stopped.

A file grows as `NAME.part` and takes its own name only when it is whole and its checksum fits; a dataset grows in a
folder of its own and takes its name only when all of its files are unpacked. So nothing half-done is ever taken for
whole, whatever stops the program and whenever.

An interrupted file is continued with an HTTP range request on the condition that the file at the server is still the
same one (its ETag, or else its time of change, is kept beside the part); a server that cannot do this sends the file
from its beginning. A broken connection is tried again a few times, each time after a longer pause.

A checksum is that of the content: of the decompressed bytes where a file is compressed with gzip, because the same
content comes under different gzip headers, and of the file itself otherwise.

Reference: RFC 9110, sections 13.1.5 (If-Range) and 14 (range requests)
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from filelock import FileLock

from ushape.errors import DataError

if TYPE_CHECKING:
    from requests import Response

__all__ = ["Remote", "check_file", "content_hash", "download_files", "fetch", "unpack"]

PAUSES = (1.0, 2.0, 4.0)  # seconds before each further attempt; counted anew whenever an attempt brought more
TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two blocks
BLOCK = 1 << 18  # bytes
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # answers of a server that may do better a little later
GZIP = b"\x1f\x8b"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")

Told = Callable[[int, int | None], None]
"""Is called with the number of bytes that are there and the number that there will be, None where it is unknown."""


@dataclass(frozen=True)
class Remote:
    """One file on a server.

    url       where it lies; its last part is the file's name
    checksum  "sha256:..." or "md5:..." of its content, see above; None where no value was verified
    """

    url: str
    checksum: str | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


def content_hash(path: Path, algorithm: str = "sha256") -> str:
    """The hash of a file's content in hexadecimal: of the decompressed bytes where the file is compressed with gzip.

    OSError, EOFError or zlib.error when it cannot be read or decompressed.
    """
    with path.open("rb") as file:
        compressed = file.read(len(GZIP)) == GZIP
    with cast(IO[bytes], gzip.open(path, "rb")) if compressed else path.open("rb") as file:
        return hashlib.file_digest(cast(Any, file), algorithm).hexdigest()


def _difference(path: Path, checksum: str) -> str:
    """In words, how the content differs from what the checksum asks for; '' where it does not."""
    algorithm, _, expected = checksum.partition(":")
    try:
        found = content_hash(path, algorithm)
    except (OSError, EOFError, zlib.error) as error:
        return f"expected content with {algorithm} {expected}, found a damaged file ({error})"
    return "" if found == expected else f"expected content with {algorithm} {expected}, found {found}"


def check_file(path: Path, checksum: str) -> None:
    """DataError unless the content of a file has this checksum, written as in `Remote`."""
    difference = _difference(path, checksum)
    if difference:
        raise DataError(f"{path}: {difference}; get the file again")


class _Part:
    """A file that is not whole yet, and the mark by which its server tells whether it is still the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".part")
        self._mark = path.with_name(path.name + ".part.mark")

    @property
    def n_bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def mark(self) -> str:
        return self._mark.read_text("utf-8") if self._mark.exists() else ""

    def restart(self, mark: str) -> None:
        """Empty, and from now on of the file with this mark; in this order, so that no old byte gets a new mark."""
        self.path.write_bytes(b"")
        self._mark.write_text(mark, "utf-8")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)


class _TransferError(Exception):
    """The transfer ended early; another attempt may bring the rest."""


def _mark_of(response: Response) -> str:
    """What tells this version of the file from others; '' where the server says nothing that can be relied on."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _continues(response: Response, part: _Part) -> bool:
    """Whether the answer is the rest of the very file that the part is of."""
    span = response.headers.get("Content-Range", "")
    return response.status_code == 206 and span.startswith(f"bytes {part.n_bytes}-") and _mark_of(response) == part.mark


def _total(response: Response) -> int | None:
    """How long the whole file is, in bytes; None where the server does not say."""
    if response.status_code == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = response.headers.get("Content-Length", "")
    return int(total) if total.isdigit() else None


def _store(response: Response, part: _Part, told: Told) -> None:
    """Append what the answer brings."""
    total, n_bytes = _total(response), part.n_bytes
    with part.path.open("ab") as file:
        # As sent: what lies compressed on the server has to arrive compressed.
        for block in response.raw.stream(BLOCK, decode_content=False):
            file.write(block)
            n_bytes += len(block)
            told(n_bytes, total)
    if total is not None and n_bytes != total:
        raise _TransferError(f"{n_bytes} of {total} bytes came")


def _receive(response: Response, part: _Part, told: Told) -> None:
    """Take the answer to a request for what is missing of the part."""
    status = response.status_code
    answer = f"the server answered {status} {response.reason}".strip()
    if status == 416:
        # The part is as long as the file or longer, so that it cannot be a part of it: from the beginning.
        part.remove()
    if status == 416 or status in TRY_AGAIN:
        raise _TransferError(answer)
    if status not in (200, 206):
        raise DataError(f"{response.url}: expected to download it, but {answer}; try again another day")
    if not _continues(response, part):
        part.restart(_mark_of(response))
        if status == 206:
            raise _TransferError("the server sent another piece than it was asked for")
    _store(response, part, told)


def _transfer(url: str, part: _Part, told: Told) -> None:
    """One attempt to fetch what is missing of the part; _TransferError when another attempt may do better."""
    import requests
    import urllib3

    headers = {"Accept-Encoding": "identity", "User-Agent": "ushape"}
    if part.n_bytes and part.mark:
        headers |= {"Range": f"bytes={part.n_bytes}-", "If-Range": part.mark}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            _receive(response, part, told)
    except requests.ConnectionError as error:
        raise _TransferError("there was no connection to the server") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _TransferError(f"the connection broke after {part.n_bytes} bytes ({type(error).__name__})") from error


def _complete(remote: Remote, part: _Part, told: Told) -> None:
    """Attempt after attempt until the part is whole."""
    furthest, attempt = part.n_bytes, 0
    while True:
        try:
            return _transfer(remote.url, part, told)
        except _TransferError as error:
            attempt = 0 if part.n_bytes > furthest else attempt
            furthest = max(furthest, part.n_bytes)
            if attempt == len(PAUSES):
                raise DataError(
                    f"{remote.url}: expected to download it, but {error}, and again in {attempt} further attempts; "
                    "check the connection and run it again, which goes on from there"
                ) from error
            time.sleep(PAUSES[attempt])
            attempt += 1


def _ignore(n_bytes: int, total: int | None) -> None:
    """Tell nobody."""


def fetch(remote: Remote, path: Path, told: Told = _ignore) -> None:
    """Fetch one file to `path`, which exists afterwards only as a whole and with the right checksum.

    What an earlier, interrupted call left is continued. A file that is there already is kept.

    DataError for a file that the server does not give, for a connection that stays broken (what came is kept, and the
    next call goes on from there), and for a wrong checksum (what came is removed).
    """
    if path.exists():
        return
    part = _Part(path)
    _complete(remote, part, told)
    difference = _difference(part.path, remote.checksum) if remote.checksum else ""
    if difference:
        part.remove()
        raise DataError(f"{remote.url}: {difference}; it was removed, try again")
    part.path.rename(path)
    part.remove()


def _members(archive: Path) -> Iterator[tuple[str, Callable[[], IO[bytes] | None] | None]]:
    """(name, what opens it) of all that lies in an archive; None instead of the latter for what is no plain file."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    yield info.filename, partial(zipped.open, info)
    else:
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.isdir():
                    yield member.name, partial(tar.extractfile, member) if member.isreg() else None


def _is_safe(name: str) -> bool:
    """Whether a name stays inside the folder that it is unpacked to, on any system."""
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts and ":" not in name


def _is_litter(name: str) -> bool:
    """Whether a member is what Macs add to archives: a twin of each file with its attributes."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith("._")


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of a .zip or .tar, compressed or not, into a folder; the litter of Macs is left out.

    DataError, before anything is written, for an archive with links, devices or a name that leads out of the folder;
    DataError as well for a file that is no archive or is damaged.
    """
    try:
        for name, opener in _members(archive):
            if opener is None or not _is_safe(name):
                raise DataError(
                    f"{archive}: expected only files that lie inside the archive's folder, found '{name}'; "
                    "nothing was unpacked, get the archive from a source that you trust"
                )
        for name, opener in _members(archive):
            source = opener() if opener is not None and not _is_litter(name) else None
            if source is not None:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        reason = (str(error).splitlines() or ["it ends early"])[0].rstrip(":")
        raise DataError(
            f"{archive}: expected a .zip or .tar archive, found a damaged one ({reason}); get it again"
        ) from error


@contextmanager
def _bar(title: str) -> Iterator[Told]:
    """A progress bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=None)
        yield lambda n_bytes, total: progress.update(task, completed=n_bytes, total=total)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One program at a time: a second one waits until the first is done, wherever the system has such locks."""
    lock = FileLock(folder / "lock")
    with suppress(NotImplementedError, OSError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _gather(remote: Remote, folder: Path, whole: Path) -> None:
    """Fetch one file into `folder`, and put it, or what the archive holds, into the folder `whole`."""
    path = folder / remote.name
    with _bar(remote.name) as told:
        fetch(remote, path, told)
    if remote.checksum is None:
        print(f"{path.name}: sha256 {content_hash(path)} (no verified value to compare)", file=sys.stderr)
    if not path.name.lower().endswith(ARCHIVES):
        shutil.copyfile(path, whole / path.name)
        return
    try:
        unpack(path, whole)
    except DataError:
        path.unlink()
        raise


def download_files(files: Sequence[Remote], target: Path) -> None:
    """Fetch all files of a dataset into the folder `target`, which exists only when it is complete.

    files   of which archives are unpacked, and others kept as they are
    target  is made with what leads to it, unless it is there already; unfinished work lies beside it in
            NAME.download, and the next call goes on from there

    DataError, naming the file, for whatever goes wrong.
    """
    work = target.with_name(f"{target.name}.download")
    whole = work / "whole"
    try:
        work.mkdir(parents=True, exist_ok=True)
        with _alone(work):
            if not target.exists():
                shutil.rmtree(whole, ignore_errors=True)
                whole.mkdir()
                for remote in files:
                    _gather(remote, work, whole)
                whole.rename(target)
        shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{work}: expected to write a download there, but it failed ({error}); make room") from error
