"""The next file is read while one is computed, and nothing else changes by it."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from conftest import disc_image
from test_files import answering, write_png, write_stack
from test_model import noise, small_model
from ushape.errors import DataError, RecipeError
from ushape.files import ahead, predict_files
from ushape.files.ahead import opened_ahead
from ushape.preparation import Preparation


def nothing_done(item):
    return False


@pytest.fixture
def reads(monkeypatch):
    """(name, page, thread) of each image that is read."""
    noted = []
    real = ahead.read_image

    def read_image(path, *, page=None, axes=None):
        noted.append((path.name, page, threading.current_thread() is threading.main_thread()))
        return real(path, page=page, axes=axes)

    monkeypatch.setattr(ahead, "read_image", read_image)
    return noted


def test_the_next_file_is_read_while_one_is_computed(tmp_path, monkeypatch):
    arrived = {f"{name}.png": threading.Event() for name in "abc"}
    real = ahead.read_image

    def read_image(path, **options):
        arrived[path.name].set()
        return real(path, **options)

    monkeypatch.setattr(ahead, "read_image", read_image)
    for name in arrived:
        write_png(tmp_path / "in" / name)
    waited, names = [], iter("bc")

    def answer(image):
        following = next(names, None)
        waited.append(following is None or arrived[f"{following}.png"].wait(timeout=60))
        return np.zeros((3, *image.shape[1:]))

    written, problems, _ = predict_files(
        answering(small_model("instances"), answer), [tmp_path / "in"], tmp_path / "out"
    )
    assert (waited, problems) == ([True] * 3, [])
    assert [path.name for path in written] == ["a.tif", "b.tif", "c.tif"]


def test_files_come_in_order_with_their_images(tmp_path, reads):
    paths = [write_png(tmp_path / f"{name}.png", disc_image(seed)[0][0]) for seed, name in enumerate("abcd")]
    for seed, file in enumerate(opened_ahead(paths, Preparation(), nothing_done)):
        item = file.item()
        assert item.path == paths[seed]
        np.testing.assert_array_equal(file.image(item, 0), disc_image(seed)[0])
    assert sorted(reads) == [(f"{name}.png", 0, name == "a") for name in "abcd"]


def test_each_page_of_a_stack_is_read(tmp_path):
    stack = noise(4, 20, 24)
    paths = [write_png(tmp_path / "a.png"), write_stack(tmp_path / "b.tif", stack)]
    *_, last = opened_ahead(paths, Preparation(), nothing_done)
    item = last.item()
    for index in (1, 0, 3, 0):
        np.testing.assert_array_equal(last.image(item, index)[0], stack[index])


def test_what_fails_ahead_is_told_in_its_turn(tmp_path):
    write_png(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"\x89PNG nonsense")
    write_png(tmp_path / "in" / "c.png", noise(20, 24, 3))
    tifffile.imwrite(tmp_path / "in" / "d.tif", disc_image(0)[0][0])
    words = []
    model = small_model("instances")
    written, problems, _ = predict_files(model, [tmp_path / "in"], tmp_path / "out", say=words.append)
    assert [path.name for path in written] == ["a.tif", "d.tif"]
    assert [problem.split(":")[0].split("/")[-1] for problem in problems] == ["b.png", "c.png"]
    assert [line.split(":")[0] for line in words] == ["a", "d"]


def test_an_image_that_fails_ahead_is_raised_where_it_is_asked_for(tmp_path, monkeypatch):
    def read_image(path, **options):
        raise DataError(f"{path.name} is broken")

    monkeypatch.setattr(ahead, "read_image", read_image)
    paths = [write_png(tmp_path / f"{name}.png") for name in "ab"]
    files = opened_ahead(paths, Preparation(), nothing_done)
    for path, file in zip(paths, files, strict=True):
        item = file.item()
        with pytest.raises(DataError, match=f"^{path.name} is broken$"):
            file.image(item, 0)


@pytest.mark.parametrize("reason", ["done before", "large"])
def test_what_is_done_or_large_is_not_read_ahead(tmp_path, reads, monkeypatch, reason):
    paths = [write_png(tmp_path / f"{name}.png") for name in "ab"]
    if reason == "large":
        monkeypatch.setattr(ahead, "MOST_BYTES", 10)
    files = opened_ahead(paths, Preparation(), lambda item: reason == "done before")
    next(files)
    second = next(files)
    assert reads == []
    second.image(second.item(), 0)
    assert reads == [("b.png", 0, True)]


@pytest.mark.parametrize("array", [np.zeros((200, 300), np.uint8), noise(20, 24)], ids=["compressed", "noise"])
@pytest.mark.parametrize("missing", [0, 1])
def test_the_array_counts_and_not_its_file(tmp_path, reads, monkeypatch, array, missing):
    paths = [write_png(tmp_path / f"{name}.png", array) for name in "ab"]
    # Zeros take less in a file than in memory, noise more.
    assert (paths[1].stat().st_size < array.nbytes) == (not array.any())
    monkeypatch.setattr(ahead, "MOST_BYTES", array.nbytes - missing)
    files = opened_ahead(paths, Preparation(), nothing_done)
    next(files)
    second = next(files)
    assert reads == ([] if missing else [("b.png", 0, False)])
    np.testing.assert_array_equal(second.image(second.item(), 0)[0], array)


def test_the_pages_that_are_read_at_once_count_together(tmp_path, reads, monkeypatch):
    paths = [write_png(tmp_path / "a.png"), write_stack(tmp_path / "b.tif", noise(4, 20, 24))]
    monkeypatch.setattr(ahead, "MOST_BYTES", 4 * 20 * 24 - 1)
    *_, last = opened_ahead(paths, Preparation(), nothing_done)
    assert reads == []
    last.image(last.item(), 0)
    assert reads == [("b.tif", None, True)]


@pytest.mark.parametrize("unknown", [lambda layout: replace(layout, itemsize=None), lambda layout: None])
def test_what_would_take_unknown_memory_is_not_read_ahead(tmp_path, reads, monkeypatch, unknown):
    def input_of(path, preparation):
        item = real(path, preparation)
        return replace(item, layout=unknown(item.layout))

    real = ahead.input_of
    monkeypatch.setattr(ahead, "input_of", input_of)
    paths = [write_png(tmp_path / f"{name}.png") for name in "ab"]
    list(opened_ahead(paths, Preparation(), nothing_done))
    assert reads == []


def test_an_error_that_ends_everything_leaves_no_thread_behind(tmp_path):
    for name in "ab":
        write_png(tmp_path / "in" / f"{name}.png")

    def answer(image):
        raise RecipeError("enough")

    with pytest.raises(RecipeError, match=r"^enough$") as caught:
        predict_files(answering(small_model("instances"), answer), [tmp_path / "in"], tmp_path / "out")
    # Whoever holds the error holds all that was there when it arose.
    assert caught.tb is not None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read ahead")]


def test_a_file_that_memory_has_no_room_for_ahead_is_read_in_its_turn(tmp_path, monkeypatch):
    paths = [write_png(tmp_path / f"{name}.png", disc_image(seed)[0][0]) for seed, name in enumerate("ab")]
    real = ahead.read_image

    def read_image(path, **options):
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError
        return real(path, **options)

    monkeypatch.setattr(ahead, "read_image", read_image)
    found = [file.image(file.item(), 0) for file in opened_ahead(paths, Preparation(), nothing_done)]
    assert [image.tobytes() for image in found] == [disc_image(seed)[0].tobytes() for seed in range(2)]
