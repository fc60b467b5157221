"""The pieces of a page and its frame, read back with an HTML parser."""

import math

import numpy as np
import pytest

from html_page import Page
from ushape.picture.page import chip, code, facts, folded, number, page, paragraph, percent, section, sentences, table


@pytest.mark.parametrize(
    "value, text",
    [(0.91234, "0.912"), (np.float32(0.5), "0.500"), (7, "7"), (np.int64(7), "7"), (None, "–"), (math.nan, "–")],
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    "share, text",
    [
        (0, "0 %"),
        (0.0001, "< 0.1 %"),
        (0.004, "0.4 %"),
        (0.5, "50 %"),
        (0.994, "99 %"),
        (0.996, "99.6 %"),
        (0.9999, "> 99.9 %"),
        (1, "100 %"),
    ],
)
def test_percent_hides_neither_the_rest_nor_its_absence(share, text):
    assert percent(share) == text


def test_pieces_without_content_leave_no_trace():
    pieces = [section("A", ""), paragraph(""), sentences([]), code(""), facts({}), folded("more", "")]
    assert pieces == [""] * 6
    text = page("t", pieces)
    assert Page(text).of("h2", "p", "li", "dt", "nav", "summary") == []


def test_pieces_escape():
    evil = "<b>&'\""
    text = "".join(
        [
            paragraph(evil),
            sentences([evil]),
            code(evil),
            facts({evil: evil}),
            folded(evil, "x"),
            chip(evil),
            table([evil], []),
            page(evil, []),
        ]
    )
    assert "<b>" not in text
    assert text.count("&lt;b&gt;&amp;") == 10


def test_backticks_become_code():
    assert Page(paragraph("use `a < b` now")).texts == [("p", "use"), ("code", "a < b"), ("p", "now")]


def test_a_table_keeps_its_head_and_its_summary_together():
    read = Page(table(["n", "a"], [("row", ["1"])], [("mean", ["2"])]))
    assert read.of("th", "td") == ["n", "a", "mean", "2", "row", "1"]
    assert read.tags == ["div", "table", "thead", *["tr", "th", "th"], *["tr", "th", "td"], "tbody", "tr", "th", "td"]


def test_sections_are_linked_from_the_top():
    read = Page(page("t", [section(name, "<p>x</p>") for name in ("One", "Two words", "Three")]))
    assert read.of("a") == ["One", "Two words", "Three"]
    assert read.values("a", "href") == ["#one", "#two-words", "#three"]
    assert read.values("section", "id") == ["one", "two-words", "three"]
    assert Page(page("t", [section("One", "x"), section("Two", "y")])).of("a") == []
