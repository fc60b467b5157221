"""What counts as done when a prediction is continued: no more than is there, and no less."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import tifffile

from test_files import answering, objects_by_threshold, rows_of, stopping_at, write_png, write_stack
from test_model import small_model
from ushape.files import predict_files
from ushape.files.finished import NOTE, Finished


def refusing(model):
    """The model, which refuses images that hold values that are no numbers, as networks do."""
    answer = model.maps

    def maps(image, **options):
        model.preparation(image)
        return answer(image)

    model.maps = maps
    return model


@pytest.fixture
def model():
    return refusing(objects_by_threshold(small_model("instances")))


def saved(folder):
    """The products that are noted as whole, by image."""
    return {image: set(noted.saved) for image, noted in Finished(folder).images.items()}


# The note.


@pytest.fixture
def path(tmp_path):
    return write_png(tmp_path / "image.png")


def test_a_line_says_of_which_file_an_image_is(path, tmp_path):
    Finished(tmp_path).begin("a", path, {"labels"})
    line = json.loads((tmp_path / NOTE).read_text())
    assert re.fullmatch("[0-9a-f]{16}", line.pop("digest"))
    about = {"image": "a", "path": str(path), "size": path.stat().st_size}
    assert line == about | {"saved": [], "unfinished": ["labels"], "rows": None}


def test_what_is_saved_of_another_file_is_none_of_this_one(path, tmp_path):
    note = Finished(tmp_path)
    note.begin("a", path, {"labels", "table"})
    note.end("a", {"labels", "table"}, 0)
    path.write_bytes(path.read_bytes() + b"more")
    again = Finished(tmp_path)
    again.begin("a", path, {"overlay"})
    again.end("a", {"overlay"}, None)
    assert (saved(tmp_path), Finished(tmp_path).without_rows()) == ({"a": {"overlay"}}, set())


def test_what_is_written_anew_is_not_saved_until_it_is_whole(path, tmp_path):
    note = Finished(tmp_path)
    note.begin("a", path, {"labels", "table"})
    assert saved(tmp_path) == {"a": set()}
    note.end("a", {"labels", "table"}, 3)
    note.begin("b", path, {"labels"})
    assert saved(tmp_path) == {"a": {"labels", "table"}, "b": set()}
    again = Finished(tmp_path)
    again.begin("a", path, {"table", "overlay"})
    assert saved(tmp_path)["a"] == {"labels"}
    again.end("a", {"table", "overlay"}, 0)
    assert Finished(tmp_path).without_rows() == {"a"}
    again.begin("b", path, {"labels"})
    again.end("b", {"labels"}, None)
    assert Finished(tmp_path).without_rows() == {"a"}
    # What was begun is not begun again by the next page.
    again.begin("a", path, {"table"})
    assert saved(tmp_path)["a"] == {"labels", "table", "overlay"}
    Finished(tmp_path).begin("a", path, {"table"})
    assert Finished(tmp_path).without_rows() == set()


@pytest.mark.parametrize("n_bytes", [1, 5, 20])
def test_a_line_that_was_cut_short_spoils_no_other(path, tmp_path, n_bytes):
    note = Finished(tmp_path)
    for image in ("a", "b\nµ\udc80"):
        note.begin(image, path, {"labels"})
        note.end(image, {"labels"}, None)
    note.begin("c", path, {"labels"})
    text = (tmp_path / NOTE).read_text()
    (tmp_path / NOTE).write_text(text[:-n_bytes])
    again = Finished(tmp_path)
    again.begin("d", path, {"labels"})
    found = saved(tmp_path)
    assert {image: found[image] for image in ("a", "b\nµ\udc80", "d")} == {
        "a": {"labels"},
        "b\nµ\udc80": {"labels"},
        "d": set(),
    }


@pytest.mark.parametrize(
    "text", ["", "\n", "[]\n3\n{}\n", '{"image": "a"}', '{"image": [], "saved": []}\n', "\x00\xff"]
)
def test_a_note_that_makes_no_sense_says_nothing(path, tmp_path, text):
    (tmp_path / NOTE).write_bytes(text.encode("latin-1"))
    note = Finished(tmp_path)
    assert note.images == {}
    note.begin("a", path, {"labels"})
    assert saved(tmp_path) == {"a": set()}


# Images without objects.


@pytest.fixture
def squares(tmp_path):
    """A folder of six images, of which 1, 2 and 5 hold no object."""
    for index in range(6):
        image = np.zeros((20, 24), np.uint8)
        image[5:15, 5:15] = 0 if index in (1, 2, 5) else 255
        write_png(tmp_path / "in" / f"{index}.png", image)
    return tmp_path / "in"


@pytest.mark.parametrize("save", [("table",), ("labels", "table")])
def test_images_without_objects_are_done(model, squares, tmp_path, save):
    out = tmp_path / "out"
    predict_files(model, [str(squares)], out, save=save)
    rows = rows_of(out / "objects.csv")
    assert [row["image"] for row in rows] == list("034")
    # Other products leave what is noted of the table.
    predict_files(model, [str(squares)], out, save=("overlay",), resume=True)
    assert predict_files(stopping_at(model, 0), [str(squares)], out, save=save, resume=True)[:2] == ([], [])
    assert rows_of(out / "objects.csv") == rows


@pytest.mark.parametrize("index", [2, 3, 5])
def test_images_without_objects_are_done_when_the_others_are_continued(model, squares, tmp_path, index):
    out, save, told, answer = tmp_path / "out", ("labels", "table"), [], model.maps
    with pytest.raises(KeyboardInterrupt):
        predict_files(stopping_at(model, index), [str(squares)], out, save=save)
    model.maps = answer
    predict_files(model, [str(squares)], out, save=save, resume=True, say=told.append)
    # The last image that has rows may lack some.
    again = {2: "0", 3: "0", 5: "4"}[index]
    assert [line for line in told if "done" in line] == [
        f"{name}: done before" for name in range(index) if str(name) != again
    ]
    assert [row["image"] for row in rows_of(out / "objects.csv")] == list("034")


def test_an_image_without_objects_is_not_done_once_the_table_is_gone(model, squares, tmp_path):
    out, told = tmp_path / "out", []
    predict_files(model, [str(squares)], out, save=("labels", "table"))
    (out / "objects.csv").unlink()
    predict_files(model, [str(squares)], out, save=("labels", "table"), resume=True, say=told.append)
    assert not [line for line in told if "done" in line]
    assert [row["image"] for row in rows_of(out / "objects.csv")] == list("034")


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_objects_from_before_do_not_come_back(model, squares, tmp_path, option):
    """Image 0 had an object; it has none any more when it is replaced, which is interrupted later."""
    out, save, answer = tmp_path / "out", ("labels", "table"), model.maps
    predict_files(model, [str(squares)], out, save=save)
    write_png(squares / "0.png", np.zeros((20, 24), np.uint8))
    with pytest.raises(KeyboardInterrupt):
        predict_files(stopping_at(model, 4), [str(squares)], out, save=save, overwrite=True)
    model.maps = answer
    names = [str(squares)] if option == "resume" else [str(squares / "4.png")]
    predict_files(model, names, out, save=save, **{option: True})
    assert sorted(row["image"] for row in rows_of(out / "objects.csv")) == ["3", "4"]


# Stacks some of whose pages failed.


@pytest.fixture
def stack(tmp_path):
    """A stack of pages with one square each, the second of which holds a value that is no number."""
    pages = np.zeros((5, 20, 24), np.float32)
    pages[:, 5:15, 5:15] = 255
    pages[1, 0, 0] = np.nan
    return write_stack(tmp_path / "s.tif", pages)


def mended(path):
    """The same file without what made a page fail."""
    write_stack(path, np.nan_to_num(tifffile.imread(path)))


def page_numbers(out):
    return [int(row["page"]) for row in rows_of(out / "objects.csv")]


@pytest.mark.parametrize("save", [("labels",), ("overlay",), ("labels", "table")])
def test_a_stack_with_a_page_that_failed_is_not_done(model, stack, tmp_path, save):
    out, told = tmp_path / "out", []
    assert len(predict_files(model, [str(stack)], out, save=save)[1]) == 1
    if "labels" in save:
        assert [int(page.max()) for page in tifffile.imread(out / "s.tif")] == [1, 0, 1, 1, 1]
    again = predict_files(model, [str(stack)], out, save=save, resume=True, say=told.append)
    assert len(again[1]) == 1
    mended(stack)
    assert predict_files(model, [str(stack)], out, save=save, resume=True, say=told.append)[1] == []
    assert "s: done before" not in told
    if "labels" in save:
        assert [int(page.max()) for page in tifffile.imread(out / "s.tif")] == [1] * 5
    if "table" in save:
        assert page_numbers(out) == [0, 1, 2, 3, 4]
    stopped = stopping_at(model, 0)
    assert predict_files(stopped, [str(stack)], out, save=save, resume=True, say=told.append)[:2] == ([], [])
    assert told[-1] == "s: done before"


def test_what_one_product_lacks_is_not_made_up_for_by_another(model, stack, tmp_path):
    """The overlays are whole after the second prediction, the labels only after the third."""
    out, told = tmp_path / "out", []
    predict_files(model, [str(stack)], out)
    mended(stack)
    for save in (("overlay",), ("labels",)):
        predict_files(model, [str(stack)], out, save=save, resume=True, say=told.append)
    assert "s: done before" not in told
    assert saved(out) == {"s": {"labels", "overlay"}}
    predict_files(stopping_at(model, 0), [str(stack)], out, save=("labels", "overlay"), resume=True)


def test_a_replacement_that_was_interrupted_is_not_done(model, stack, tmp_path):
    out, save, told = tmp_path / "out", ("labels", "overlay"), []
    mended(stack)
    predict_files(model, [str(stack)], out, save=save)
    answer = model.maps
    with pytest.raises(KeyboardInterrupt):
        predict_files(stopping_at(model, 2), [str(stack)], out, save=save, overwrite=True)
    model.maps = answer
    predict_files(model, [str(stack)], out, save=save, resume=True, say=told.append)
    assert "s: done before" not in told


@pytest.mark.parametrize("name", ["s.tif", "s_3_overlay.png", "objects.csv"])
def test_what_was_deleted_is_not_done(model, stack, tmp_path, name):
    out, save, told = tmp_path / "out", ("labels", "overlay", "table"), []
    mended(stack)
    predict_files(model, [str(stack)], out, save=save)
    (out / name).unlink()
    predict_files(model, [str(stack)], out, save=save, resume=True, say=told.append)
    assert "s: done before" not in told
    assert page_numbers(out) == [0, 1, 2, 3, 4]
    assert (out / name).exists()


def test_results_from_before_there_was_a_note_are_done(model, stack, tmp_path):
    out, save = tmp_path / "out", ("labels", "overlay", "table")
    mended(stack)
    predict_files(model, [str(stack)], out, save=save)
    (out / NOTE).unlink()
    assert predict_files(stopping_at(model, 0), [str(stack)], out, save=save, resume=True)[:2] == ([], [])


def test_results_from_before_there_was_a_note_stay_when_others_are_added(model, stack, tmp_path):
    """They may have been corrected by hand."""
    out = tmp_path / "out"
    mended(stack)
    predict_files(model, [str(stack)], out)
    (out / NOTE).unlink()
    predict_files(model, [str(stack)], out, save=("overlay",), resume=True)
    for save in (("labels",), ("labels", "overlay")):
        assert predict_files(stopping_at(model, 0), [str(stack)], out, save=save, resume=True)[:2] == ([], [])


def test_probabilities_of_a_class_that_were_replaced_are_not_done(tmp_path):
    """Class and probabilities are one row of one table."""
    path, out, both = write_png(tmp_path / "a.png"), tmp_path / "out", ("labels", "probabilities")
    model = small_model("classification", classes=("dark", "bright"))
    answering(model, lambda image: np.array([0.75, 0.25]))
    predict_files(model, [str(path)], out, save=both)
    columns = list(rows_of(out / "labels.csv")[0])
    predict_files(model, [str(path)], out, overwrite=True)
    assert list(rows_of(out / "labels.csv")[0]) != columns
    predict_files(model, [str(path)], out, save=both, resume=True)
    assert list(rows_of(out / "labels.csv")[0]) == columns
    predict_files(stopping_at(model, 0), [str(path)], out, save=both, resume=True)


def test_a_stack_of_which_a_page_has_no_class_is_not_done(tmp_path):
    pages = np.zeros((5, 20, 24), np.float32)
    pages[1, 0, 0] = np.nan
    path, out = write_stack(tmp_path / "s.tif", pages), tmp_path / "out"
    model = small_model("classification", classes=("dark", "bright"))
    refusing(answering(model, lambda image: np.array([0.75, 0.25])))
    assert len(predict_files(model, [str(path)], out)[1]) == 1
    mended(path)
    assert predict_files(model, [str(path)], out, resume=True)[1] == []
    assert [row["page"] for row in rows_of(out / "labels.csv")] == list("01234")
    # Labels and table of a classifier are one.
    assert predict_files(stopping_at(model, 0), [str(path)], out, save=("table",), resume=True)[:2] == ([], [])


# Results of other files.


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def days(tmp_path):
    """Two folders of images with the same names, and sizes in bytes."""
    for day in range(2):
        for index in range(3):
            image = np.zeros((1, 20, 24), np.uint8)
            image[0, 5:15, 5 : 10 + 5 * day] = 255
            write_stack(tmp_path / f"day{day}" / f"{index}.tif", image)
    return [tmp_path / f"day{day}" for day in range(2)]


def refusal(days, index):
    """What is said of an image of the second day where there are results of the first."""
    return (
        f"{days[1] / f'{index}.tif'}: expected no results of another image with this name, found those of "
        f"{days[0] / f'{index}.tif'}; predict this one into another folder with -o, or replace them with --overwrite"
    )


@pytest.mark.parametrize("save", [("labels",), ("overlay",), ("table",), ("labels", "table")])
def test_another_image_with_the_name_of_one_is_not_done(model, days, tmp_path, save):
    out, told = tmp_path / "out", []
    predict_files(model, [str(days[0])], out, save=save)
    before = contents(out)
    # Neither the same products nor others.
    for more in (save, ("geojson",)):
        written, problems, _ = predict_files(model, [str(days[1])], out, save=more, resume=True, say=told.append)
        assert (written, problems, told) == ([], [refusal(days, index) for index in range(3)], [])
    assert contents(out) == before
    assert predict_files(stopping_at(model, 0), [str(days[0])], out, save=save, resume=True)[:2] == ([], [])


def test_another_image_takes_the_place_of_one_that_was_deleted_or_is_replaced(model, days, tmp_path):
    out, told, save = tmp_path / "out", [], ("labels", "overlay")
    predict_files(model, [str(days[0])], out, save=save)
    for path in out.glob("0*"):
        path.unlink()
    assert predict_files(model, [str(days[1])], out, save=save, resume=True)[1] == [refusal(days, n) for n in (1, 2)]
    # The overlays that stay are not of the image whose labels are new.
    assert predict_files(model, [str(days[1])], out, overwrite=True)[1] == []
    assert predict_files(model, [str(days[1])], out, save=save, resume=True, say=told.append)[1] == []
    assert [line for line in told if "done" in line] == ["0: done before"]
    predict_files(stopping_at(model, 0), [str(days[1])], out, save=save, resume=True)


def test_images_that_were_moved_are_those_they_were(model, days, tmp_path):
    out = tmp_path / "out"
    predict_files(model, [str(days[0])], out)
    moved = days[0].rename(tmp_path / "moved")
    assert predict_files(model, [str(moved)], out, save=("overlay",))[1] == []
    assert predict_files(stopping_at(model, 0), [str(moved)], out, resume=True)[:2] == ([], [])


def test_another_image_is_known_where_the_first_is_gone(model, days, tmp_path):
    """Images of one camera have equal names and sizes day by day."""
    out = tmp_path / "out"
    predict_files(model, [str(days[0])], out)
    sizes = [path.stat().st_size for path in sorted(days[0].iterdir())]
    assert sizes == [path.stat().st_size for path in sorted(days[1].iterdir())]
    shutil.rmtree(days[0])
    assert predict_files(model, [str(days[1])], out, resume=True)[1] == [refusal(days, index) for index in range(3)]


def test_a_file_that_has_changed_in_place_is_not_done(model, days, tmp_path):
    out, path = tmp_path / "out", days[0] / "0.tif"
    predict_files(model, [str(path)], out)
    shutil.copy(days[1] / "0.tif", path)
    [problem] = predict_files(model, [str(path)], out, resume=True)[1]
    assert problem.startswith(f"{path}: expected the file that its results are of, ")


def test_labels_of_another_image_in_another_format_are_seen(model, days, tmp_path):
    out = tmp_path / "out"
    predict_files(model, [str(days[0] / "0.tif")], out, format="png")
    assert predict_files(model, [str(days[1] / "0.tif")], out)[1] == [refusal(days, 0)]


def test_a_table_without_the_image_refuses_no_other(model, days, tmp_path):
    out = tmp_path / "out"
    predict_files(model, [str(days[0] / "0.tif")], out)
    predict_files(model, [str(days[0] / "1.tif")], out, save=("table",))
    (out / "0.tif").unlink()
    assert predict_files(model, [str(days[1] / "0.tif")], out)[1] == []


def test_an_interrupted_image_is_not_continued_by_another_with_its_name(model, days, tmp_path):
    out, save = tmp_path / "out", ("labels", "table")
    with pytest.raises(KeyboardInterrupt):
        predict_files(stopping_at(model, 1), [str(days[0])], out, save=save)
    assert predict_files(model, [str(days[1] / "0.tif")], out, save=save, resume=True)[1] == [refusal(days, 0)]


def test_a_file_that_has_changed_is_not_done(model, days, tmp_path):
    out, path = tmp_path / "out", days[0] / "0.tif"
    predict_files(model, [str(path)], out)
    before = path.stat().st_size
    write_stack(path, np.zeros((1, 30, 24), np.uint8))
    assert predict_files(model, [str(path)], out, resume=True)[1] == [
        f"{path}: expected the file that its results are of, with {before} bytes, found another one with "
        f"{path.stat().st_size}; predict it into another folder with -o, or replace them with --overwrite"
    ]
    assert predict_files(model, [str(path)], out, overwrite=True)[1] == []
    assert predict_files(stopping_at(model, 0), [str(path)], out, resume=True)[:2] == ([], [])


def test_a_file_is_known_by_any_of_its_paths(model, days, tmp_path, monkeypatch):
    out = tmp_path / "out"
    predict_files(model, [str(days[0])], out)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "today").symlink_to(days[0])
    for name in ("day0", "today", os.path.join("day1", "..", "day0")):
        assert predict_files(stopping_at(model, 0), [name], out, resume=True)[:2] == ([], [])
    (tmp_path / "today").unlink()
    (tmp_path / "today").symlink_to(days[1])
    assert len(predict_files(model, ["today"], out, resume=True)[1]) == 3


def test_a_stack_that_was_mended_may_have_another_size(model, stack, tmp_path):
    out = tmp_path / "out"
    assert len(predict_files(model, [str(stack)], out)[1]) == 1
    write_stack(stack, np.zeros((6, 20, 24), np.float32))
    assert predict_files(model, [str(stack)], out, resume=True)[1] == []
    assert tifffile.imread(out / "s.tif").shape == (6, 20, 24)
