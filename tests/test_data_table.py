"""CSV files that list images with masks or labels."""

import csv

import numpy as np
import pytest

from ushape.data.folder import find_parts, open_folder
from ushape.data.table import read_table, tables_in
from ushape.errors import DataError
from written_files import BINARY, IMAGE, save


def write(path, *rows, delimiter=",", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def write_files(root, *names):
    for name in names:
        save(root / f"{name}.png")
        save(root / f"drawn_{name}.png", BINARY)


@pytest.mark.parametrize("header", [("image", "mask"), ("Filename", "Annotation"), ("image path", "MASK_PATH")])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("whole", [True, False])
def test_images_with_masks(tmp_path, header, delimiter, whole):
    write_files(tmp_path / "a", "x", "y")
    path = write(
        tmp_path / "list.csv",
        header,
        *(("a/x.png", "a/drawn_x.png"), ("a/y.png", "a/drawn_y.png")),
        delimiter=delimiter,
        encoding="utf-8-sig",
    )
    dataset = open_folder(tmp_path if whole else path)
    assert [s.name for s in dataset.annotated.samples] == ["x", "y"]
    assert dataset.name == (tmp_path.name if whole else "list")
    np.testing.assert_array_equal(dataset.samples[1].read_mask(), BINARY // 255)
    assert "list.csv: 2 lines with image and mask." in dataset.findings
    assert dataset.problems == ()


def test_images_with_labels(tmp_path):
    for name in "abc":
        save(tmp_path / "images" / f"{name}.png")
    write(tmp_path / "l.csv", ("Image", "Class", "age"), ("b.png", "dog", 3), ("a.png", "cat", 4), ("c.png", "dog", 5))
    dataset = open_folder(tmp_path)
    assert (dataset.task, dataset.classes) == ("classification", ("cat", "dog"))
    assert [(s.name, s.label) for s in dataset.samples] == [("b", 1), ("a", 0), ("c", 1)]
    assert dataset.findings == (
        "l.csv: 3 lines with image and label, classes cat (1), dog (2).",
        "Columns that are not read: age.",
    )


def test_a_column_label_may_hold_masks(tmp_path):
    write_files(tmp_path, "x")
    path = write(tmp_path / "l.tsv", ("image", "label"), ("x.png", "drawn_x.png"), delimiter="\t")
    dataset = open_folder(path)
    assert (dataset.task, len(dataset.annotated)) == ("semantic", 1)


@pytest.mark.parametrize("space", ["", " ", "  "])
def test_a_space_behind_the_comma_is_no_part_of_a_name(tmp_path, space):
    write_files(tmp_path, "x", "y, z")
    text = 'image,{}"mask"\n"x.png",{}"drawn_x.png"\n"y, z.png",{}"drawn_y, z.png"\n'
    (tmp_path / "l.csv").write_text(text.replace("{}", space), encoding="utf-8")
    dataset = open_folder(tmp_path / "l.csv")
    assert (dataset.task, len(dataset.annotated), dataset.problems) == ("semantic", 2, ())


@pytest.mark.parametrize(
    "column, cells, target",
    [
        ("mask", ("cat", "dog"), "masks"),
        ("Mask path", ("drawn_x.png", "drawn_y.roi"), "masks"),
        ("label", ("drawn_x.png", "none"), "masks"),
        ("label", ("drawn_x", "none"), "masks"),
        ("annotation", ("cat", "dog"), "labels"),
        ("mask", ("", ""), "masks"),
    ],
)
def test_files_and_what_is_called_mask_are_masks(tmp_path, column, cells, target):
    write_files(tmp_path, "x", "y")
    (tmp_path / "drawn_x").write_bytes(b"")
    table = write(tmp_path / "l.csv", ("image", column), ("x.png", cells[0]), ("y.png", cells[1]))
    assert read_table(table).target == target


def test_masks_are_taken_before_labels_unless_classification_is_asked_for(tmp_path):
    write_files(tmp_path, "x", "y")
    path = write(
        tmp_path / "l.csv",
        ("image", "mask", "label"),
        ("x.png", "drawn_x.png", "2"),
        ("y.png", "drawn_y.png", "10"),
    )
    assert open_folder(path).task == "semantic"
    dataset = open_folder(path, task="classification")
    assert (dataset.classes, [s.label for s in dataset.samples]) == (("2", "10"), [0, 1])


def test_groups_and_parts(tmp_path):
    write_files(tmp_path, "x", "y", "z")
    path = write(
        tmp_path / "l.csv",
        ("image", "mask", "group", "split"),
        ("x.png", "drawn_x.png", "p1", "Training"),
        ("y.png", "drawn_y.png", "p2", "test"),
        ("z.png", "drawn_z.png", "p2", "maybe"),
    )
    train, test = open_folder(path), open_folder(tmp_path, split="test")
    assert find_parts(path) == find_parts(tmp_path) == ("train", "test")
    assert [[(s.name, s.group) for s in d.samples] for d in (train, test)] == [[("x", "p1")], [("y", "p2")]]
    assert "l.csv, line 4: expected train, val or test as split, found 'maybe'; correct it" in train.problems[0]
    assert train.findings[-1] == "Part train is read; test not."


def test_classes_are_counted_over_all_parts(tmp_path):
    write_files(tmp_path, "x", "y")
    path = write(tmp_path / "l.csv", ("image", "label", "split"), ("x.png", "b", "train"), ("y.png", "a", "test"))
    assert open_folder(path).classes == open_folder(path, split="test").classes == ("a", "b")


def test_missing_files_are_problems_with_their_line(tmp_path):
    write_files(tmp_path, "x", "y", "z")
    path = write(
        tmp_path / "l.csv",
        ("image", "mask"),
        ("x.png", "drawn_x.png"),
        ("nowhere.png", "drawn_y.png"),
        ("y.png", "nothing.png"),
        ("", "drawn_z.png"),
        ("x.png", "drawn_z.png"),
        ("z.png", ""),
    )
    dataset = open_folder(path)
    assert [(s.name, s.mask is not None) for s in dataset.samples] == [("x", True), ("y", False), ("z", False)]
    text = "\n".join(dataset.problems)
    assert f"l.csv, line 3: expected an image {tmp_path / 'nowhere.png'}, found none; correct the path" in text
    assert f"l.csv, line 4: expected a mask {tmp_path / 'nothing.png'}, found none" in text
    assert "l.csv, line 5: expected the path of an image, found none; fill it in" in text
    assert "l.csv, line 6: expected each image once, found x.png as in line 2; remove one of the two" in text
    assert len(dataset.problems) == 4
    assert "1 line without mask: kept for prediction." in dataset.findings


def test_paths_may_be_absolute_or_with_backslashes_or_inside_the_folders_beside(tmp_path):
    save(tmp_path / "images" / "x.png")
    save(tmp_path / "masks" / "x.png", BINARY)
    save(tmp_path / "far" / "y.png")
    elsewhere = save(tmp_path / "far" / "y_drawn.png", BINARY)
    write(tmp_path / "l.csv", ("image", "mask"), ("x.png", "x.png"), ("far\\y.png", elsewhere))
    dataset = open_folder(tmp_path)
    assert [[p.name for p in s.files] for s in dataset.samples] == [["x.png", "x.png"], ["y.png", "y_drawn.png"]]
    assert dataset.samples[0].files[1].parent.name == "masks"


@pytest.mark.parametrize("there, listed", [("a\u0308", "\u00e4"), ("\u00e4", "a\u0308")])
def test_files_are_found_however_an_accent_is_written(tmp_path, there, listed):
    write_files(tmp_path / there, there)
    masks = write(tmp_path / "m.csv", ("image", "mask"), (f"{listed}/{listed}.png", f"{listed}\\drawn_{listed}.png"))
    assert len(open_folder(masks).annotated) == 1
    labels = write(tmp_path / "l.csv", ("image", "label"), (f"{there}/{there}.png", f"{listed}1"))
    assert open_folder(labels).classes == ("\u00e41",)


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in ("p1", "p2"):
        write_files(tmp_path / folder, "x")
    rows = [(f"{p}/x.png", f"{p}/drawn_x.png") for p in ("p1", "p2")]
    assert [s.name for s in open_folder(write(tmp_path / "l.csv", ("image", "mask"), *rows)).samples] == [
        "p1_x",
        "p2_x",
    ]


def test_a_csv_file_wins_over_folders_only_where_every_line_fits(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "images" / f"{name}.png")
        save(tmp_path / "masks" / f"{name}.png", BINARY)
    table = write(tmp_path / "l.csv", ("image", "mask"), ("a.png", "a.png"))
    assert [s.name for s in open_folder(tmp_path).samples] == ["a"]
    write(table, ("image", "mask"), ("a.png", "a.png"), ("c.png", "c.png"))
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.samples] == ["a", "b"]
    assert "l.csv is not read, because not every line of it has files that exist." in dataset.findings
    write(table, ("object", "area"), ("1", "17"))
    assert tables_in(tmp_path) == []
    assert open_folder(tmp_path).findings == (
        "The masks hold two values (0 and 255): read as background and foreground.",
    )


def test_a_table_that_does_not_fit_is_still_better_than_nothing(tmp_path):
    write_files(tmp_path / "deep" / "down", "x")
    write(tmp_path / "l.csv", ("image", "mask"), ("deep/down/x.png", "deep/down/drawn_x.png"), ("no.png", "no.png"))
    dataset = open_folder(tmp_path)
    assert ([s.name for s in dataset.samples], len(dataset.problems)) == (["x"], 1)


def test_two_tables_have_to_be_named(tmp_path):
    for name in ("a.csv", "b.csv"):
        write(tmp_path / name, ("image", "label"), ("x.png", "1"))
    with pytest.raises(DataError, match=r"expected one CSV file with a column of images, found a\.csv, b\.csv; name"):
        open_folder(tmp_path)


def test_tables_that_tell_nothing_are_errors(tmp_path):
    path = write(tmp_path / "l.csv", ("id", "area"), ("1", "2"))
    with pytest.raises(
        DataError, match=r"l\.csv: expected a first line with the columns image and mask, .* found id, area; name"
    ):
        open_folder(path)
    write(path, ("image", "mask"), ("no.png", "no.png"))
    with pytest.raises(DataError, match=r"l\.csv: expected lines with images that exist, found none \(.*line 2"):
        open_folder(path)
    write(path, ("image", "mask"), ("no.png", "no.png"), ("nor.png", "no.png"), ("neither.png", "no.png"))
    with pytest.raises(DataError, match=r"found none \(.*line 2: .* \(left out\), and 2 more\); correct the paths$"):
        open_folder(path)
    write(path, ("image", "mask"))
    with pytest.raises(DataError, match=r"expected lines with images that exist, found no line; add some"):
        open_folder(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"found an empty file; name the columns"):
        open_folder(path)


def test_quantities_are_no_classes(tmp_path):
    write_files(tmp_path, "x", "y")
    path = write(tmp_path / "l.csv", ("image", "label"), ("x.png", "1.0"), ("y.png", "0.37"))
    with pytest.raises(DataError, match=r"l\.csv, line 3: expected the name of a class, found the quantity 0\.37"):
        open_folder(path)


def test_spreadsheets_on_windows_write_another_encoding(tmp_path):
    save(tmp_path / "x.png", IMAGE)
    path = write(tmp_path / "l.csv", ("image", "label"), ("x.png", "Möwe"), delimiter=";", encoding="cp1252")
    assert read_table(path).classes == ("Möwe",)


def test_images_alone_in_a_table_are_for_prediction(tmp_path):
    write_files(tmp_path, "x")
    path = write(tmp_path / "l.csv", ("image",), ("x.png",))
    assert open_folder(path).findings[0] == "No masks: 1 image for prediction."


def test_a_csv_file_that_fits_decides_about_parts(tmp_path):
    for name in ("train/x", "train/y", "test/z"):
        save(tmp_path / f"{name}.png")
    rows = ("train/x.png", "a", "train"), ("train/y.png", "b", "val"), ("test/z.png", "b", "test")
    path = write(tmp_path / "l.csv", ("image", "label", "split"), *rows)
    assert find_parts(tmp_path) == ("train", "val", "test")
    assert [[s.label for s in open_folder(tmp_path, split=p).samples] for p in (None, "val", "test")] == [[0], [1], [1]]
    write(path, ("image", "label", "split"), *rows, ("no.png", "b", "val"))
    assert find_parts(tmp_path) == ("train", "test")
    assert len(open_folder(tmp_path).annotated) == 0
    write(path, ("image", "label"), *(row[:2] for row in rows))
    assert (find_parts(tmp_path), len(open_folder(tmp_path))) == ((), 3)
