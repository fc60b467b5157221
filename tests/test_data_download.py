"""Downloads from a server on this machine: whole, interrupted, continued, changed, refused, and unpacked."""

import gzip
import hashlib
import http.server
import io
import os
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field

import numpy as np
import pytest

from ushape.data import download
from ushape.data.download import Remote, check_file, content_hash, download_files, fetch, unpack
from ushape.errors import DataError

BYTES = np.random.default_rng(0).integers(0, 256, 40_000, np.uint8).tobytes()
OTHER = np.random.default_rng(1).integers(0, 256, 40_000, np.uint8).tobytes()


@dataclass
class Server:
    """What a server has and how it behaves; `requests` are (path, Range, If-Range) in their order."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    careful: bool = True  # honours If-Range
    marks: tuple[str, ...] = ("ETag", "Last-Modified")
    weak: bool = False
    cuts: list[int] = field(default_factory=list)  # bytes after which each connection in turn breaks
    answers: list[int] = field(default_factory=list)  # what it answers in turn instead of the file
    encoding: str = ""
    piece: int | None = None  # the most that it sends of a range
    shift: list[int] = field(default_factory=list)  # by how much it misses the beginning that it is asked for
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def mark_headers(self, body):
        tag = f'{"W/" if self.weak else ""}"{hashlib.md5(body).hexdigest()}"'
        day = 1 + body[0] % 28
        headers = {"ETag": tag, "Last-Modified": f"Wed, {day:02d} Jan 2020 00:00:00 GMT"}
        return {name: value for name, value in headers.items() if name in self.marks}


class Handler(http.server.BaseHTTPRequestHandler):
    server_state: Server

    def log_message(self, *arguments):
        pass

    def answer(self, status, body, headers=None, cut=None):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])

    def do_GET(self):
        state, path = self.server_state, self.path.lstrip("/")
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        state.requests.append((path, asked, condition))
        body = state.files.get(path)
        if state.answers or body is None:
            self.answer(state.answers.pop(0) if state.answers else 404, b"no")
            return
        headers = state.mark_headers(body) | ({"Content-Encoding": state.encoding} if state.encoding else {})
        cut = state.cuts.pop(0) if state.cuts else None
        same = not state.careful or condition in headers.values()
        if not (asked and state.ranges and same):
            self.answer(200, body, headers, cut)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        else:
            start += state.shift.pop(0) if state.shift else 0
            piece = body[start:][: state.piece]
            headers["Content-Range"] = f"bytes {start}-{start + len(piece) - 1}/{len(body)}"
            self.answer(206, piece, headers, cut)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))
    state = Server(files={"a.bin": BYTES})
    handler = type("HandlerOfThis", (Handler,), {"server_state": state})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{running.server_address[1]}/"
    yield state
    running.shutdown()
    running.server_close()


def tag(body):
    return f'"{hashlib.md5(body).hexdigest()}"'


def sha256(body):
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def get(server, folder, name="a.bin", checksum=None, **options):
    fetch(Remote(server.url + name, checksum), folder / name, **options)
    return (folder / name).read_bytes()


def test_a_file_is_fetched_once_and_nothing_else_is_left(server, tmp_path):
    told = []
    assert get(server, tmp_path, told=lambda n, total: told.append((n, total))) == BYTES
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert told == sorted(told)
    assert told[-1] == (len(BYTES), len(BYTES))
    assert get(server, tmp_path) == BYTES
    assert server.requests == [("a.bin", None, None)]


def test_a_broken_connection_goes_on_where_it_stopped(server, tmp_path):
    server.cuts = [15_000, 10_000]
    told = []
    assert get(server, tmp_path, told=lambda n, total: told.append((n, total))) == BYTES
    assert server.requests == [
        ("a.bin", None, None),
        ("a.bin", "bytes=15000-", tag(BYTES)),
        ("a.bin", "bytes=25000-", tag(BYTES)),
    ]
    assert {total for _, total in told} == {len(BYTES)}


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, tmp_path):
    server.cuts = [15_000, 0, 0, 0]
    with pytest.raises(
        DataError,
        match=r"a\.bin: expected to download it, but the connection broke after 15000 bytes \(\w+\), and again in "
        r"3 further attempts; check the connection and run it again, which goes on from there",
    ):
        get(server, tmp_path)
    assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin.part").read_bytes() == BYTES[:15_000]
    assert len(server.requests) == 4
    assert get(server, tmp_path) == BYTES
    assert server.requests[-1] == ("a.bin", "bytes=15000-", tag(BYTES))
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_attempts_that_bring_something_are_not_counted(server, tmp_path):
    server.cuts = [4_000] * 9
    assert get(server, tmp_path) == BYTES
    assert len(server.requests) == 10


def test_a_program_stopped_by_hand_leaves_a_part_to_go_on_with(server, tmp_path):
    def stop(n, total):
        raise KeyboardInterrupt

    server.cuts = [15_000]
    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path, told=stop)
    assert not (tmp_path / "a.bin").exists()
    assert get(server, tmp_path) == BYTES
    assert server.requests[-1] == ("a.bin", "bytes=15000-", tag(BYTES))


def test_a_server_without_ranges_sends_the_file_from_its_beginning(server, tmp_path):
    server.ranges, server.cuts = False, [15_000]
    assert get(server, tmp_path) == BYTES
    server.cuts = [15_000] * 9
    (tmp_path / "a.bin").unlink()
    with pytest.raises(DataError, match="and again in 3 further attempts"):
        get(server, tmp_path)


@pytest.mark.parametrize("careful", [True, False])
def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path, careful):
    """Also where the server sends the rest of the other file without looking at the condition."""
    server.careful, server.cuts = careful, [15_000, 0, 0, 0]
    with pytest.raises(DataError, match="15000 bytes"):
        get(server, tmp_path)
    server.files["a.bin"] = OTHER
    assert get(server, tmp_path) == OTHER


def test_a_server_without_strong_tags_is_asked_by_time_and_one_without_any_mark_not_at_all(server, tmp_path):
    server.weak, server.cuts = True, [15_000]
    assert get(server, tmp_path) == BYTES
    assert server.requests[-1] == ("a.bin", "bytes=15000-", server.mark_headers(BYTES)["Last-Modified"])
    (tmp_path / "a.bin").unlink()
    server.marks, server.cuts = (), [15_000]
    assert get(server, tmp_path) == BYTES
    assert server.requests[-1] == ("a.bin", None, None)


def test_a_server_may_send_the_rest_in_pieces_but_not_other_pieces(server, tmp_path):
    server.cuts, server.piece = [15_000], 5_000
    assert get(server, tmp_path) == BYTES
    assert [span for _, span, _ in server.requests] == [None, *(f"bytes={n}000-" for n in range(15, 40, 5))]
    (tmp_path / "a.bin").unlink()
    server.cuts, server.piece, server.shift = [15_000], None, [7]
    assert get(server, tmp_path) == BYTES


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(BYTES + b"more")
    (tmp_path / "a.bin.part.mark").write_text(tag(BYTES))
    assert get(server, tmp_path) == BYTES


def test_a_missing_file_is_told_at_once(server, tmp_path):
    with pytest.raises(
        DataError,
        match=r"b\.bin: expected to download it, but the server answered 404 Not Found; try again another day",
    ):
        get(server, tmp_path, "b.bin")
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again_but_not_for_ever(server, tmp_path):
    server.answers = [503, 429, 500]
    assert get(server, tmp_path) == BYTES
    (tmp_path / "a.bin").unlink()
    server.answers, server.requests = [503] * 9, []
    with pytest.raises(DataError, match="the server answered 503 Service Unavailable, and again in 3 further attempts"):
        get(server, tmp_path)
    assert len(server.requests) == 4


def test_pauses_grow(server, tmp_path, monkeypatch):
    slept = []
    monkeypatch.undo()
    monkeypatch.setattr(download.time, "sleep", slept.append)
    server.answers = [503] * 9
    with pytest.raises(DataError, match="503"):
        get(server, tmp_path)
    assert slept == [1, 2, 4]


def test_without_a_server_it_says_so(server, tmp_path):
    closed = Remote("http://127.0.0.1:9/a.bin")
    with pytest.raises(
        DataError, match="expected to download it, but there was no connection to the server, and again"
    ):
        fetch(closed, tmp_path / "a.bin")


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(
        DataError,
        match=rf"a\.bin: expected content with sha256 0+, found {sha256(BYTES)[7:]}; it was removed, try again",
    ):
        get(server, tmp_path, checksum="sha256:" + "0" * 64)
    assert list(tmp_path.iterdir()) == []
    assert get(server, tmp_path, checksum=sha256(BYTES)) == BYTES
    (tmp_path / "a.bin").unlink()
    assert get(server, tmp_path, checksum=f"md5:{hashlib.md5(BYTES).hexdigest()}") == BYTES


def test_a_checksum_is_of_the_decompressed_content(server, tmp_path):
    for name, compressed in {
        "plain": BYTES,
        "one.gz": gzip.compress(BYTES, 1, mtime=1),
        "nine.gz": gzip.compress(BYTES, 9, mtime=9),
    }.items():
        server.files[name] = compressed
        assert get(server, tmp_path, name, sha256(BYTES)) == compressed
        assert content_hash(tmp_path / name, "md5") == hashlib.md5(BYTES).hexdigest()
    (tmp_path / "cut.gz").write_bytes(gzip.compress(BYTES)[:-9])
    with pytest.raises(
        DataError, match=r"cut\.gz: expected content with sha256 .*, found a damaged file \(.*; get the"
    ):
        check_file(tmp_path / "cut.gz", sha256(BYTES))
    with pytest.raises(DataError, match=r"plain: expected content with sha256 .*, found .*; get the file again"):
        check_file(tmp_path / "plain", sha256(OTHER))


def test_what_is_stored_compressed_arrives_compressed(server, tmp_path):
    server.files["a.gz"], server.encoding = gzip.compress(BYTES), "gzip"
    assert get(server, tmp_path, "a.gz") == server.files["a.gz"]


FILES = {"deep/in/a.txt": b"one", "b.txt": b"two"}


def zip_of(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(members, mode="w", links=()):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, where in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, where
            archive.addfile(info)
    return buffer.getvalue()


def unpacked(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "make", [zip_of, tar_of, lambda members: tar_of(members, "w:gz")], ids=["zip", "tar", "tar.gz"]
)
def test_archives_are_unpacked_without_the_litter_of_macs(tmp_path, make):
    litter = {"deep/in/._a.txt": b"x", "__MACOSX/b.txt": b"x"}
    (tmp_path / "archive").write_bytes(make({**FILES, **litter}))
    unpack(tmp_path / "archive", tmp_path / "out")
    assert unpacked(tmp_path / "out") == FILES


@pytest.mark.parametrize("make", [zip_of, tar_of])
@pytest.mark.parametrize("name", ["../evil", "deep/../../evil", "/evil", "..\\evil", "C:evil"])
def test_a_name_that_leads_out_of_the_folder_is_refused_before_anything_is_written(tmp_path, make, name):
    (tmp_path / "archive").write_bytes(make({**FILES, name: b"x"}))
    with pytest.raises(DataError, match=r"archive: expected only files that lie inside .*evil'; nothing was unpacked"):
        unpack(tmp_path / "archive", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["archive"]


def test_links_in_an_archive_are_refused(tmp_path):
    (tmp_path / "archive").write_bytes(tar_of(FILES, links=[("link", "/etc")]))
    with pytest.raises(DataError, match="found 'link'; nothing was unpacked"):
        unpack(tmp_path / "archive", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_is_one_sentence(tmp_path):
    whole = zip_of({"a": BYTES})
    for content in (b"<html>moved</html>", whole[:2_000], whole.replace(BYTES[1_000:1_010], b"0" * 10)):
        (tmp_path / "archive").write_bytes(content)
        with pytest.raises(
            DataError,
            match=r"archive: expected a \.zip or \.tar archive, found a damaged one \([^\n]*\); get it again$",
        ):
            unpack(tmp_path / "archive", tmp_path / "out")


def test_a_dataset_of_several_files_appears_when_it_is_complete(server, tmp_path, capsys):
    files = [Remote(f"{server.url}a.bin", sha256(BYTES)), Remote(f"{server.url}more.zip")]
    target = tmp_path / "cache" / "set"
    with pytest.raises(DataError, match=r"more\.zip: .* 404"):
        download_files(files, target)
    assert not target.exists()
    server.files["more.zip"] = zip_of(FILES)
    server.requests = []
    download_files(files, target)
    assert unpacked(target) == {"a.bin": BYTES, **FILES}
    assert [path for path, *_ in server.requests] == ["more.zip"]
    assert [p.name for p in target.parent.iterdir()] == ["set"]
    said = capsys.readouterr()
    assert f"more.zip: {sha256(server.files['more.zip']).replace(':', ' ')} (no verified value to compare)" in said.err
    assert said.out == ""


def test_a_damaged_archive_is_fetched_again_by_the_next_call(server, tmp_path):
    server.files["more.zip"] = b"<html>log in</html>"
    files = [Remote(f"{server.url}more.zip")]
    with pytest.raises(DataError, match=r"more\.zip: expected a \.zip or \.tar archive, found a damaged one"):
        download_files(files, tmp_path / "set")
    server.files["more.zip"] = zip_of(FILES)
    download_files(files, tmp_path / "set")
    assert unpacked(tmp_path / "set") == FILES


@pytest.mark.skipif(os.name != "posix", reason="the lock is one of POSIX systems")
def test_two_at_once_fetch_it_once(server, tmp_path):
    files = [Remote(f"{server.url}a.bin")]
    failed = []

    def run():
        try:
            download_files(files, tmp_path / "set")
        except DataError as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert unpacked(tmp_path / "set") == {"a.bin": BYTES}
    assert len(server.requests) == 1


def test_a_place_that_cannot_be_written_to_is_one_sentence(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"set\.download: expected to write a download there, but it failed \(.*; make"):
        download_files([Remote(f"{server.url}a.bin")], tmp_path / "file" / "set")
