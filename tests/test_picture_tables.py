"""The tables of a report, read back with an HTML parser; class scores against scikit-learn."""

import re
import statistics

import numpy as np
import pytest
from sklearn import metrics

from html_page import Page
from ushape.picture import tables as module
from ushape.picture.tables import class_table, confusion_table, image_table
from ushape.scoring.pixels import confusion_matrix

ROWS = (
    {"name": "good", "n_reference": 3, "F1": 0.9},
    {"name": "bad", "n_reference": 5, "F1": 0.25},
    {"name": "empty", "n_reference": 0},
)


def test_images_are_ordered_by_the_score_that_stands_first_under_its_spread():
    page = Page(image_table(ROWS, "F1"))
    assert page.of("th") == ["3 images", "F1", "n_reference", "mean", "sd", "lowest", "highest", "bad", "good", "empty"]
    cells = np.array(page.of("td")).reshape(7, 2)
    sd = statistics.stdev([0.9, 0.25])
    assert cells[:, 0].tolist() == ["0.575", f"{sd:.3f}", "0.250", "0.900", "0.250", "0.900", "–"]
    assert cells[:, 1].tolist() == ["2.7", "2.5", "0", "5", "5", "3", "0"]


def test_without_a_score_to_order_by_the_first_column_orders():
    assert Page(image_table(ROWS, "AP")).of("th")[-3:] == ["empty", "good", "bad"]


def test_the_spread_of_one_image_is_no_number():
    page = Page(image_table(({"name": "a", "Dice": 0.5},)))
    assert page.of("td") == ["0.500", "–", "0.500", "0.500", "0.500"]


def test_columns_that_say_the_same_of_one_image_are_left_out():
    row = {"name": "a", "AP": 0.5, "AP per image": 0.5, "PQ per image": 1.0, "n_images": 1, "note": "text"}
    assert Page(image_table((row,))).of("th") == [
        "1 image",
        "AP",
        "PQ per image",
        "mean",
        "sd",
        "lowest",
        "highest",
        "a",
    ]


def test_a_long_table_says_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    page = Page(image_table(tuple({"name": f"i{n}", "Dice": n / 10} for n in range(9, 0, -1))))
    assert page.of("th")[-3:] == ["i1", "i2", "i3"]
    assert page.of("td")[0] == "0.500"
    assert page.of("p") == ["The 3 lowest of 9 images."]


def test_of_nothing_there_is_no_table():
    assert image_table(()) == ""
    assert class_table((), ("background",), ((0, 0, 0),)) == ""


def test_class_scores_agree_with_scikit_learn():
    """Pooled, and mean, standard deviation and lowest over images; drawn so that each class occurs in each image."""
    generator = np.random.default_rng(0)
    references = generator.integers(0, 3, (4, 500))
    estimates = np.where(generator.random((4, 500)) < 0.7, references, generator.integers(0, 3, (4, 500)))
    confusions = [confusion_matrix(r, e, 3) for r, e in zip(references, estimates, strict=True)]
    page = Page(class_table(confusions, ("a", "b", "c"), ((0, 0, 0), (1, 2, 3), (4, 5, 6))))
    scores = {
        "Dice": metrics.f1_score,
        "IoU": metrics.jaccard_score,
        "precision": metrics.precision_score,
        "recall": metrics.recall_score,
    }
    assert page.of("th")[2:6] == list(scores)
    pooled = np.array([text for text in page.of("td") if "." in text]).reshape(3, 4)
    small = np.array(page.of("small")).reshape(3, 4, 2)
    for column, score in enumerate(scores.values()):
        whole = score(references.ravel(), estimates.ravel(), average=None)
        single = np.array([score(r, e, average=None) for r, e in zip(references, estimates, strict=True)])
        assert pooled[:, column].tolist() == [f"{value:.3f}" for value in whole]
        for index in range(3):
            mean, sd = single[:, index].mean(), single[:, index].std(ddof=1)
            assert small[index, column].tolist() == [f"{mean:.2f} ± {sd:.2f}", f"lowest {single[:, index].min():.2f}"]
    assert page.tags.count("circle") == 12


def test_a_class_that_is_missing_has_no_score():
    page = Page(class_table([np.array([[5, 0], [0, 0]])], ("a", "<b>"), ((0, 0, 0), (1, 2, 3))))
    assert page.of("td") == ["1.000"] * 4 + ["–"] * 4
    assert page.of("span") == ["a", "<b>"]
    assert page.of("th")[:5] == ["class", "Dice", "IoU", "precision", "recall"]
    page = Page(class_table([np.array([[5, 0], [0, 0]])] * 2, ("a", "b"), ((0, 0, 0), (1, 2, 3))))
    assert page.of("td") == ["1.000"] * 4 + ["2"] + ["–"] * 4 + ["0"]
    assert page.tags.count("svg") == 1


def test_classified_images_show_their_class_and_the_wrong_ones_first():
    rows = (
        {"name": "one", "class": "cat", "estimate": "cat", "confidence": 0.9, "right": 1},
        {"name": "two", "class": "cat", "estimate": "<dog>", "confidence": 0.5, "right": 0},
    )
    page = Page(image_table(rows, "right"))
    assert page.of("th")[:5] == ["2 images", "class", "estimate", "right", "confidence"]
    assert page.of("th")[-2:] == ["two", "one"]
    assert page.tags.count("td") == 4 * 6
    assert page.of("td")[-8:] == ["cat", "<dog>", "0", "0.500", "cat", "cat", "1", "0.900"]


def test_an_image_without_a_class_does_not_count_for_it():
    both, one = np.array([[2, 0], [1, 1]]), np.array([[4, 0], [0, 0]])
    page = Page(class_table([both, one], ("a", "b"), ((0, 0, 0), (1, 2, 3))))
    assert [text for text in page.of("td") if "." not in text] == ["2", "1"]


def test_confusion_is_a_share_of_the_row():
    page = Page(confusion_table(np.array([[3, 1, 0], [0, 999, 1], [0, 0, 0]]), ("a", "<b>", "c")))
    assert page.of("th") == ["reference, given as", "a", "<b>", "c", "a", "<b>", "c"]
    assert page.of("span") == ["75 %", "25 %", "0 %", "0 %", "99.9 %", "0.1 %"]
    assert page.of("td") == ["–"] * 3
    tones = re.findall(r"var\(--(\w+)\) (\d+)%", "".join(page.values("span", "style")))
    assert tones == [
        ("accent", "30"),
        ("error", "30"),
        ("error", "0"),
        ("error", "0"),
        ("accent", "40"),
        ("error", "0"),
    ]


@pytest.mark.parametrize("n", [1, 3])
def test_the_number_of_images_is_said(n):
    expected = {1: "1 image", 3: "3 images"}[n]
    assert Page(image_table(({"name": "a", "Dice": 0.5},) * n)).of("th")[0] == expected


def test_of_many_classes_the_most_frequent_confusions_are_listed():
    total = 10 * np.eye(300, dtype=np.int64)
    total[3, 7], total[250, 1] = 10, 5
    html = confusion_table(total, [f"class {i}" for i in range(300)])
    assert html.index("class 3<") < html.index("class 250<")
    assert "50 %" in html
    assert "33 %" in html
    assert html.count("<tr>") == 3
    assert len(html) < 2000
