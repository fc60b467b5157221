"""The catalog: names, parts, local copies, and a download from a server on this machine."""

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

from ushape.data import catalog
from ushape.data.catalog import CATALOG, dataset_path, describe, names, open_dataset
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


def test_every_entry_is_described_with_terms_source_and_citation():
    assert names() == ("phantom", "isbi2012", "dic-hela", "phc-u373", "dsb2018")
    for name in names():
        text = describe(name)
        assert text.startswith(f"{name}: ")
        assert CATALOG[name].licence in text
        if name != "phantom":
            assert CATALOG[name].url.startswith("https://")
            assert CATALOG[name].url in text
            assert CATALOG[name].citation in text


def test_unknown_names_and_parts_list_the_known_ones(empty_home):
    with pytest.raises(DataError, match=r"isbi: expected a folder, or one of the datasets phantom, .*neither"):
        open_dataset("isbi")
    with pytest.raises(DataError, match=r"dic-hela:03: expected one of the parts 01, 02, .*found '03'"):
        open_dataset("dic-hela:03")
    with pytest.raises(DataError, match="mnist: expected the name of a dataset, found none of phantom, isbi2012"):
        describe("mnist")


def test_simulated_parts_share_nothing():
    parts = {part: {s.name for s in open_dataset(f"phantom:{part}").samples} for part in ("train", "val", "test")}
    assert [len(p) for p in parts.values()] == [16, 4, 8]
    assert len(set.union(*parts.values())) == 28 == len(open_dataset("phantom"))
    assert open_dataset("phantom:val").name == "phantom:val"
    with pytest.raises(DataError, match="phantom: expected a dataset with files, found a simulated one"):
        dataset_path("phantom")


def test_a_local_copy_is_used_first(empty_home, monkeypatch):
    write_stack(empty_home / "copies" / "isbi2012")
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
    assert [s.name for s in open_dataset("./phantom").samples] == ["a"]
    assert [s.name for s in open_dataset(Path("phantom")).samples] == ["a"]


def test_a_part_of_a_folder_is_named_like_a_part_of_a_dataset(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / part / f"{part}.png")
    assert [s.name for s in open_dataset(f"{tmp_path}:val").samples] == ["val"]
    assert [s.name for s in open_dataset(str(tmp_path)).samples] == ["train"]
    with pytest.raises(DataError, match=r"val\.png: expected a folder of images or a dataset's name, found a file"):
        open_dataset(str(tmp_path / "val" / "val.png"))


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
    threading.Thread(target=running.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{running.server_address[1]}/isbi.zip"
    monkeypatch.setitem(catalog.CATALOG, "isbi2012", replace(CATALOG["isbi2012"], url=url))
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
    monkeypatch.setitem(catalog.CATALOG, "isbi2012", replace(catalog.CATALOG["isbi2012"], sha256="0" * 64))
    with pytest.raises(DataError, match=r"expected to download and unpack isbi2012 to .*SHA256 hash.*put a copy under"):
        open_dataset("isbi2012")
    (server / "isbi.zip").unlink()
    with pytest.raises(DataError, match=r"isbi\.zip: expected to download and unpack isbi2012 .*404"):
        open_dataset("isbi2012")
    assert not (empty_home / "cache" / "ushape" / "isbi2012").exists()


def test_an_archive_without_the_data_is_told(server, empty_home):
    with zipfile.ZipFile(server / "isbi.zip", "w") as archive:
        archive.writestr("readme.txt", "moved")
    with pytest.raises(DataError, match=r"isbi\.zip: expected an archive with train-volume\.tif, found none in it"):
        open_dataset("isbi2012")


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
}


@pytest.mark.parametrize("name, n", REAL_COUNTS.items())
def test_real_copies_open_without_problems(real_data, name, n):
    dataset = open_dataset(name)
    assert (len(dataset), len(dataset.annotated), dataset.problems) == (n, n, ())
    sample = dataset.samples[n // 2]
    assert sample.read_mask().shape == sample.read_image().shape[1:]
