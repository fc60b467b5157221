"""The catalog: names, parts, local copies, and a download from a server on this machine."""

import gzip
import hashlib
import http.server
import threading
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ushape.data import catalog, sets
from ushape.data.catalog import CATALOG, check_copy, dataset_path, describe, names, open_dataset, terms
from ushape.data.dataset import Dataset, Sample
from ushape.data.download import Remote
from ushape.errors import DataError


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    """No local copies and an empty cache."""
    monkeypatch.delenv("USHAPE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def write_stack(folder: Path) -> None:
    folder.mkdir(parents=True)
    volume = np.zeros((30, 16, 16), np.uint8)
    volume[:, 4:8] = 255
    for name in ("train-volume", "train-labels", "test-volume"):
        tifffile.imwrite(folder / f"{name}.tif", volume, photometric="minisblack")


# In turn: grey on dark, coloured on dark, grey on bright, coloured on bright.
BACKGROUNDS = [(20, 20, 20, 255), (20, 10, 18, 255), (200, 200, 200, 255), (200, 100, 180, 255)]


def write_bowl(folder: Path, n: int) -> None:
    for i in range(n):
        picture = np.full((8, 8, 4), BACKGROUNDS[i % 4], np.uint8)
        mask = np.zeros((8, 8), np.uint8)
        mask[2:5, 2:5] = 255
        for kind, array in (("images", picture), ("masks", mask)):
            path = folder / f"id{i:03d}" / kind / f"id{i:03d}.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(array).save(path)


NAMES = (
    "phantom",
    "isbi2012",
    "dic-hela",
    "phc-u373",
    "dsb2018",
    "hippocampus",
    "mnist",
    "fashion-mnist",
    "digits",
)


def test_every_entry_is_described_with_terms_source_and_citation():
    assert names() == NAMES
    for name in names():
        text, entry = describe(name), CATALOG[name]
        assert text.startswith(f"{name}: {entry.title}\n  parts     {name}:")
        assert text.endswith(terms(f"{name}:train"))
        assert max(len(line) for line in text.splitlines()) <= 130
        assert f"  terms     {entry.licence}" in terms(name)
        assert entry.licence
        if name != "phantom":
            assert f"  cite      {entry.citation}" in terms(name)
            assert entry.citation
        if name not in ("phantom", "digits"):
            assert f"  source    {entry.source}\n" in text
            assert all(remote.url.startswith(entry.source) for remote in entry.files)


def test_whatever_comes_without_encryption_has_a_checksum():
    for name in names():
        for remote in CATALOG[name].files:
            assert remote.url.startswith("https://") or str(remote.checksum).startswith("sha256:"), remote


def test_unknown_names_and_parts_list_the_known_ones(empty_home):
    with pytest.raises(DataError, match=r"isbi: expected a folder, or one of the datasets phantom, .*neither"):
        open_dataset("isbi")
    with pytest.raises(DataError, match=r"dic-hela:03: expected one of the parts 01, 02, .*found '03'"):
        open_dataset("dic-hela:03")
    with pytest.raises(DataError, match="mnst: expected the name of a dataset, found none of phantom, isbi2012"):
        describe("mnst")


def test_simulated_parts_share_nothing():
    parts = {part: {s.name for s in open_dataset(f"phantom:{part}").samples} for part in ("train", "val", "test")}
    assert [len(p) for p in parts.values()] == [16, 4, 8]
    assert len(set.union(*parts.values())) == 28 == len(open_dataset("phantom"))
    assert open_dataset("phantom:val").name == "phantom:val"
    with pytest.raises(
        DataError, match="phantom: expected a dataset that is downloaded, found one that needs no files; open it"
    ):
        dataset_path("phantom")


def test_a_local_copy_is_used_first(empty_home, monkeypatch):
    write_stack(empty_home / "copies" / "isbi2012")
    write_stack(empty_home / "cache" / "ushape" / "isbi2012")
    assert dataset_path("isbi2012") == empty_home / "cache" / "ushape" / "isbi2012"
    monkeypatch.setenv("USHAPE_DATA", str(empty_home / "copies"))
    assert dataset_path("isbi2012") == empty_home / "copies" / "isbi2012"
    dataset = open_dataset("isbi2012")
    assert (dataset.name, dataset.classes, len(dataset.annotated)) == ("isbi2012", ("membrane", "cell"), 30)
    np.testing.assert_array_equal(np.unique(dataset.samples[0].read_mask()), [0, 1])


def test_the_parts_of_a_stack_are_two_slices_apart(empty_home, monkeypatch):
    write_stack(empty_home / "copies" / "isbi2012")
    monkeypatch.setenv("USHAPE_DATA", str(empty_home / "copies"))
    assert [s.position for s in open_dataset("isbi2012:train").samples] == list(range(22))
    assert [s.position for s in open_dataset("isbi2012:test").samples] == list(range(24, 30))
    assert len(open_dataset("isbi2012:challenge").annotated) == 0


def test_parts_of_the_bowl_are_fixed_by_id_and_by_what_the_image_shows(empty_home, monkeypatch):
    write_bowl(empty_home / "copies" / "dsb2018" / "stage1_train", 40)
    monkeypatch.setenv("USHAPE_DATA", str(empty_home / "copies"))

    def part(name):
        return {s.name for s in open_dataset(name).samples}

    train, test, grey = part("dsb2018:train"), part("dsb2018:test"), part("dsb2018:fluorescence")
    assert train | test == part("dsb2018")
    assert not train & test
    held_out = {f"id{i:03d}" for i in range(40) if hashlib.sha256(f"id{i:03d}".encode()).digest()[0] % 5 == 0}
    assert test == held_out
    assert grey == {f"id{i:03d}" for i in range(0, 40, 4)}
    assert part("dsb2018:fluorescence-train") == grey & train
    assert part("dsb2018:fluorescence-test") == grey & test


def test_a_catalog_name_wins_over_a_folder_unless_it_is_written_as_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phantom").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "phantom" / "a.png")
    assert len(open_dataset("phantom:val")) == 4
    told = "This is the public dataset phantom, not the folder phantom here; write ./phantom for that."
    assert told in open_dataset("phantom:val").findings
    assert told not in open_dataset("./phantom").findings
    assert [s.name for s in open_dataset("./phantom").samples] == ["a"]
    assert [s.name for s in open_dataset(Path("phantom")).samples] == ["a"]


def test_a_part_of_a_folder_is_named_like_a_part_of_a_dataset(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / part / f"{part}.png")
    assert [s.name for s in open_dataset(f"{tmp_path}:val").samples] == ["val"]
    assert [s.name for s in open_dataset(str(tmp_path)).samples] == ["train"]
    with pytest.raises(
        DataError, match=r"val\.png: expected a folder of images, a table of files or a dataset's .*another file; name"
    ):
        open_dataset(str(tmp_path / "val" / "val.png"))
    with pytest.raises(DataError, match="expected a part called 'vla', found train, val; name one of them"):
        open_dataset(f"{tmp_path}:vla")
    (tmp_path / "all.zip").write_bytes(b"PK")
    with pytest.raises(
        DataError, match=r"all\.zip: expected a folder .*, found \.zip \(packed archives\); unpack them"
    ):
        open_dataset(str(tmp_path / "all.zip"))


def test_a_table_of_files_stands_where_a_folder_can(tmp_path):
    rows = ["image,part"]
    for part in ("train", "val"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / f"{part}.png")
        rows.append(f"{part}.png,{part}")
    table = tmp_path / "list.csv"
    table.write_text("\n".join(rows))
    assert [s.name for s in open_dataset(str(table)).samples] == ["train"]
    assert [s.name for s in open_dataset(table).samples] == ["train"]
    assert [s.name for s in open_dataset(f"{table}:val").samples] == ["val"]


@pytest.fixture
def server(empty_home, monkeypatch):
    """A server on this machine that has the ISBI archive, one folder deeper than needed."""
    root = empty_home / "server"
    write_stack(root / "unpacked" / "deep")
    with zipfile.ZipFile(root / "isbi.zip", "w") as archive:
        for path in (root / "unpacked").rglob("*.tif"):
            archive.write(path, path.relative_to(root / "unpacked"))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{running.server_address[1]}/isbi.zip"
    monkeypatch.setitem(catalog.CATALOG, "isbi2012", replace(CATALOG["isbi2012"], files=(Remote(url),)))
    yield root
    running.shutdown()
    running.server_close()


def test_a_download_is_unpacked_once_and_its_checksum_told(server, empty_home, capsys):
    with pytest.raises(
        DataError, match=r"isbi2012: expected a copy under \$USHAPE_DATA/isbi2012 .*ushape datasets get"
    ):
        dataset_path("isbi2012", download=False)
    assert len(open_dataset("isbi2012")) == 30
    found = hashlib.sha256((server / "isbi.zip").read_bytes()).hexdigest()
    told = capsys.readouterr()
    assert f"sha256 {found} (no verified value to compare)" in told.err.replace("\n", "")
    assert told.out == ""
    (server / "isbi.zip").unlink()
    assert dataset_path("isbi2012", download=False) == empty_home / "cache" / "ushape" / "isbi2012" / "deep"
    assert [p.name for p in (empty_home / "cache" / "ushape").iterdir()] == ["isbi2012"]


def test_a_wrong_checksum_and_a_missing_file_are_one_sentence(server, empty_home, monkeypatch):
    (remote,) = catalog.CATALOG["isbi2012"].files
    wrong = replace(catalog.CATALOG["isbi2012"], files=(replace(remote, checksum="sha256:" + "0" * 64),))
    monkeypatch.setitem(catalog.CATALOG, "isbi2012", wrong)
    with pytest.raises(
        DataError,
        match=r"isbi\.zip: expected content with sha256 0+, found \w+; it was removed, try again, "
        r"or put a copy under \$USHAPE_DATA/isbi2012",
    ):
        open_dataset("isbi2012")
    (server / "isbi.zip").unlink()
    with pytest.raises(DataError, match=r"isbi\.zip: expected to download it, but .* 404 .*put a copy under"):
        open_dataset("isbi2012")
    assert not (empty_home / "cache" / "ushape" / "isbi2012").exists()


def test_an_archive_without_the_data_is_told(server, empty_home):
    with zipfile.ZipFile(server / "isbi.zip", "w") as archive:
        archive.writestr("readme.txt", "moved")
    with pytest.raises(DataError, match=r"isbi\.zip: expected files with train-volume\.tif, found none of them"):
        open_dataset("isbi2012")
    write_stack(server / "again")
    with zipfile.ZipFile(server / "isbi.zip", "w") as archive:
        for path in (server / "again").iterdir():
            archive.write(path, path.name)
    assert len(open_dataset("isbi2012")) == 30


def test_terms_and_citation_are_told_before_and_after_a_download(server, capsys):
    open_dataset("isbi2012")
    told = capsys.readouterr().err
    before, _, after = told.partition("no verified value to compare")
    assert describe("isbi2012") in before
    assert "isbi2012 is kept in " in after
    assert terms("isbi2012") in after
    open_dataset("isbi2012")
    assert capsys.readouterr().err == ""


def idx_content(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, mtime: int = 0) -> None:
    """Six training and four test images in the layout of MNIST."""
    folder.mkdir(parents=True)
    for stem, n in (("train", 6), ("t10k", 4)):
        images, labels = np.arange(n * 12).reshape(n, 4, 3), np.arange(n) % 10
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{stem}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx_content(array), mtime=mtime))


@pytest.mark.parametrize("name, first, last", [("mnist", "0", "9"), ("fashion-mnist", "T-shirt/top", "Ankle boot")])
def test_the_parts_of_idx_sets_are_the_official_ones(empty_home, monkeypatch, name, first, last):
    write_mnist(empty_home / "copies" / name)
    monkeypatch.setenv("USHAPE_DATA", str(empty_home / "copies"))
    train, test = open_dataset(f"{name}:train"), open_dataset(f"{name}:test")
    assert [s.name for s in train.samples] == [f"train_{i}" for i in range(6)]
    assert [s.name for s in test.samples] == [f"test_{i}" for i in range(4)]
    assert (train.task, len(train.classes)) == ("classification", 10)
    assert (train.classes[0], train.classes[-1]) == (first, last)
    assert (train.name, open_dataset(name).name) == (f"{name}:train", name)
    assert [s.name for s in open_dataset(name).samples] == [s.name for s in train.samples]
    assert open_dataset(name).findings == (*train.findings, "Part train is read; test not.")


def test_labels_are_not_read_as_masks(empty_home):
    with pytest.raises(DataError, match="expected data for instances, found labels that are always read for classifi"):
        open_dataset("digits", task="instances")
    assert open_dataset("digits", task="classification").task == "classification"


def test_several_files_are_downloaded_whatever_their_compression_and_checked_again_later(
    server, empty_home, monkeypatch
):
    address = catalog.CATALOG["isbi2012"].source.rpartition("/")[0]
    write_mnist(server / "plain")
    checksums = {
        p.name: "sha256:" + hashlib.sha256(gzip.decompress(p.read_bytes())).hexdigest()
        for p in (server / "plain").iterdir()
    }
    write_mnist(server / "files", mtime=1)
    remotes = tuple(Remote(f"{address}/files/{name}", checksum) for name, checksum in checksums.items())
    monkeypatch.setitem(catalog.CATALOG, "mnist", replace(CATALOG["mnist"], files=remotes))
    assert catalog.CATALOG["mnist"].source == f"{address}/files/"
    assert len(open_dataset("mnist:test")) == 4
    folder = empty_home / "cache" / "ushape" / "mnist"
    assert sorted(p.name for p in folder.iterdir()) == sorted(checksums)
    assert check_copy("mnist:train") == f"mnist: 4 of 4 files in {folder} have the published content."
    labels = folder / "train-labels-idx1-ubyte.gz"
    (folder / labels.stem).write_bytes(gzip.decompress(labels.read_bytes()))
    labels.unlink()
    assert check_copy("mnist") == f"mnist: 4 of 4 files in {folder} have the published content."
    (folder / labels.stem).write_bytes(b"other")
    with pytest.raises(
        DataError, match=r"train-labels-idx1-ubyte: expected content with sha256 \w+, found \w+; get the"
    ):
        check_copy("mnist")


def test_a_copy_without_published_checksums_is_said_to_be_unchecked(empty_home, monkeypatch):
    with pytest.raises(DataError, match=r"isbi2012: expected a copy under .*found none; run: ushape datasets get isbi"):
        check_copy("isbi2012")
    write_stack(empty_home / "copies" / "isbi2012")
    monkeypatch.setenv("USHAPE_DATA", str(empty_home / "copies"))
    assert check_copy("isbi2012") == (
        f"isbi2012: the copy in {empty_home / 'copies' / 'isbi2012'} is unpacked, "
        "and no published checksum tells about single files."
    )


def test_cases_of_the_hippocampus_are_held_out_by_name_and_its_classes_named(empty_home, monkeypatch):
    (empty_home / "copies" / "hippocampus" / "labelsTr").mkdir(parents=True)
    monkeypatch.setenv("USHAPE_DATA", str(empty_home / "copies"))
    mask = partial(np.zeros, (2, 2, 2), np.int32)
    samples = tuple(Sample(f"hippocampus_{i:03d}", mask, mask) for i in range(40))
    found = Dataset("found", (*samples, Sample("without", mask)), "semantic", ("background", "1", "2"))
    monkeypatch.setattr(sets, "open_folder", lambda folder: found)
    whole, train, test = (open_dataset(f"hippocampus{part}") for part in ("", ":train", ":test"))
    assert whole.classes == ("background", "anterior", "posterior")
    assert whole.findings == ("Class 1 is called anterior, class 2 posterior.",)
    held_out = [s.name for s in samples if hashlib.sha256(s.name.encode()).digest()[0] % 5 == 0]
    assert [s.name for s in test.samples] == held_out
    assert [s.name for s in train.samples] == [s.name for s in samples if s.name not in held_out]
    assert len(whole) == 40


REAL_COUNTS = {
    "isbi2012": 30,
    "isbi2012:train": 22,
    "isbi2012:test": 6,
    "dic-hela": 67,
    "dic-hela:01": 33,
    "dic-hela:01-gold": 9,
    "phc-u373:02": 56,
    "phc-u373:gold": 34,
    "dsb2018": 222,
    "dsb2018:test": 48,
    "dsb2018:fluorescence": 177,
    "hippocampus": 130,
    "hippocampus:train": 108,
    "mnist": 60_000,
    "mnist:test": 10_000,
    "fashion-mnist:test": 10_000,
}


@pytest.mark.parametrize("name, n", REAL_COUNTS.items())
def test_real_copies_open_without_problems(real_data, name, n):
    dataset = open_dataset(name)
    assert (len(dataset), len(dataset.annotated), dataset.problems) == (n, n, ())
    sample = dataset.samples[n // 2]
    if dataset.task == "classification":
        assert sample.read_image().shape == (1, 28, 28)
    else:
        assert sample.read_mask().shape == sample.read_image().shape[1:]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_real_copies_have_the_published_content(real_data, name):
    assert check_copy(name) == f"{name}: 4 of 4 files in {real_data / name} have the published content."
