"""Tables of rows: whole at any moment, and continued where the work stopped."""

import csv

import pytest

from ushape.errors import DataError
from ushape.files.table import GrowingTable, unfinished, write_table


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "objects.csv"


def columns(*areas, **more):
    return {"object": list(range(1, len(areas) + 1)), "area": list(areas), **more}


def test_rows_are_in_the_file_at_once_and_the_name_comes_last(path):
    table = GrowingTable(path)
    table.add("a", columns(3, 4))
    assert rows_of(table.part) == [
        {"image": "a", "object": "1", "area": "3"},
        {"image": "a", "object": "2", "area": "4"},
    ]
    table.add("b", columns())
    assert not path.exists()
    assert table.close()
    assert len(rows_of(path)) == 2
    assert [p.name for p in path.parent.iterdir()] == ["objects.csv"]


def test_without_an_image_there_is_no_table(path):
    assert not GrowingTable(path).close()
    assert not path.exists()


def test_images_without_objects_still_name_the_columns(path):
    table = GrowingTable(path)
    table.add("a", columns())
    table.close()
    assert path.read_text() == "image,object,area\n"


def test_a_column_that_comes_later_is_empty_before(path):
    table = GrowingTable(path)
    table.add("a", columns(3))
    table.add("s", columns(5, **{"class": ["cell"], "area_um2": [1.25]}), page=7)
    table.add("b", columns(6))
    table.close()
    assert path.read_text().splitlines() == [
        "image,page,object,class,area,area_um2",
        "a,,1,,3,",
        "s,7,1,cell,5,1.25",
        "b,,1,,6,",
    ]


def test_names_may_hold_anything(path):
    table = GrowingTable(path)
    table.add('a, "b"\nc', columns(3))
    table.add("µ", columns(4, more=[1]))
    table.close()
    assert [row["image"] for row in rows_of(path)] == ['a, "b"\nc', "µ"]


def test_a_table_is_not_continued_unless_that_is_asked_for(path):
    first = GrowingTable(path)
    first.add("a", columns(3))
    first.close()
    second = GrowingTable(path)
    second.add("b", columns(4))
    assert [row["image"] for row in rows_of(path)] == ["a"]
    second.close()
    assert [row["image"] for row in rows_of(path)] == ["b"]


def test_a_finished_table_is_continued(path):
    first = GrowingTable(path)
    first.add("a", columns(3))
    first.add("b", columns(4))
    first.close()
    second = GrowingTable(path, resume=True)
    assert second.complete == {"a", "b"}
    second.forget("a")
    second.add("a", columns(5))
    second.forget("c")
    second.add("c", columns(6))
    second.close()
    assert [(row["image"], row["area"]) for row in rows_of(path)] == [("b", "4"), ("a", "5"), ("c", "6")]


def finished(path, **areas):
    """A table of images with objects of these areas."""
    table = GrowingTable(path)
    for name, found in areas.items():
        table.add(name, columns(*found))
    table.close()


def areas_in(path):
    return [(row["image"], row["area"]) for row in rows_of(path)]


def test_images_that_are_not_done_anew_keep_their_rows(path):
    finished(path, a=[3], b=[4, 5], c=[6], d=[7])
    second = GrowingTable(path, others=True)
    second.forget("b")
    second.add("b", columns(8, more=[1]))
    second.forget("c")
    second.add("c", columns())
    assert areas_in(path) == [("a", "3"), ("b", "4"), ("b", "5"), ("c", "6"), ("d", "7")]
    second.close()
    assert areas_in(path) == [("b", "8"), ("a", "3"), ("d", "7")]
    assert [row["more"] for row in rows_of(path)] == ["1", "", ""]


def test_columns_that_no_row_has_any_more_are_gone(path):
    first = GrowingTable(path)
    first.add("a", columns(3, old=[1]))
    first.close()
    second = GrowingTable(path, others=True)
    second.add("a", columns(4))
    second.close()
    assert path.read_text().splitlines() == ["image,object,area", "a,1,4"]


@pytest.mark.parametrize("options", [{"resume": True}, {"others": True}])
def test_an_interrupted_replacement_loses_no_rows(path, options):
    finished(path, a=[3], b=[4], c=[5], d=[6])
    stopped = GrowingTable(path, others=True)
    stopped.add("a", columns(30))
    stopped.add("b", columns(40))
    again = GrowingTable(path, **options)
    for name in "bc":
        again.forget(name)
        again.add(name, columns(50))
    again.close()
    assert sorted(areas_in(path)) == [("a", "30"), ("b", "50"), ("c", "50"), ("d", "6")]
    assert [p.name for p in path.parent.iterdir()] == ["objects.csv"]


def test_a_table_that_a_spreadsheet_has_saved_is_continued(path):
    path.write_bytes("\ufeffimage,object,area\r\n".encode() + b"\xb5,1,3\r\n")
    table = GrowingTable(path, others=True)
    table.add("a", columns(4))
    table.close()
    assert path.read_bytes().splitlines() == [b"image,object,area", b"a,1,4", b"\xb5,1,3"]


def test_a_file_that_is_no_table_of_images_is_replaced_but_not_continued(path):
    path.write_text("notes;of\nmine;1\n")
    with pytest.raises(
        DataError, match=r"objects.csv: expected the table of an earlier prediction, .* found something"
    ):
        GrowingTable(path, resume=True)
    unfinished(path).write_text("also;not\n")
    table = GrowingTable(path, others=True)
    assert not table.close()
    table.add("a", columns(4))
    table.close()
    assert areas_in(path) == [("a", "4")]


def test_an_interrupted_table_may_lack_rows_of_its_last_image(path):
    first = GrowingTable(path)
    first.add("a", columns(3))
    first.add("b", columns(4, 5))
    # The power fails while a row is written.
    first.part.write_text(first.part.read_text()[:-5])
    second = GrowingTable(path, resume=True)
    assert second.complete == {"a"}
    second.forget("b")
    second.add("b", columns(4, 5))
    second.close()
    assert [(row["image"], row["area"]) for row in rows_of(path)] == [("a", "3"), ("b", "4"), ("b", "5")]


def test_a_row_that_was_cut_short_is_left_out(path):
    first = GrowingTable(path)
    first.add("a", columns(3))
    first.add("b", columns(44, 55))
    first.part.write_text(first.part.read_text()[:-5])  # "b,2,"
    second = GrowingTable(path, resume=True)
    second.add("c", columns(6))
    second.close()
    assert [(row["image"], row["area"]) for row in rows_of(path)] == [("a", "3"), ("b", "44"), ("c", "6")]


def test_rows_are_written_whole_or_not_at_all(path):
    write_table(path, [{"name": "a", "x": 1}, {"name": "b", "y": 2}])
    before = path.read_text()
    assert before.splitlines() == ["name,x,y", "a,1,", "b,,2"]

    class Unwritable:
        def __str__(self):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_table(path, [{"name": Unwritable()}])
    assert path.read_text() == before
    assert [p.name for p in path.parent.iterdir()] == ["objects.csv"]
