"""The report, read back with an HTML parser as a browser would."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from html_page import Page
from ushape.picture import report as module
from ushape.picture.report import MOST_BYTES, Panel, Report, report_html, write_report
from ushape.scoring.calibration import count_calibration
from ushape.scoring.sizes import Sizes


@dataclass(frozen=True)
class Finding:
    """As the doctor's."""

    severity: str
    where: str
    sentence: str
    action: str


def panel(name: str, score: float, size: tuple[int, int] = (20, 30), n_channels: int = 1) -> Panel:
    image = np.zeros((n_channels, *size), np.float32)
    labels = np.zeros(size, np.int32)
    labels[4:12, 4:12] = 1
    return Panel(name, "F1", score, image, labels, labels, instances=True)


FULL = Report(
    title="cells in 10 minutes",
    command="ushape train cells/ --minutes 10 --seed 0",
    plan=("Images are used at half resolution.", "1200 steps fit."),
    findings=("Masks are instances.",),
    problems=("b.tif was left out.",),
    scores={"F1": 0.91234, "AP": 0.8, "SEG": 0.75, "PQ": 0.7, "recall": 0.6, "n_reference": 412},
    score_note="Validation images, used for choosing.",
    rows=(
        {"name": "good", "F1": 0.9, "n_reference": 3},
        {"name": "bad", "F1": 0.25, "n_reference": 5},
        {"name": "empty", "n_reference": 0},
    ),
    gallery=(panel("good", 0.9), panel("bad", 0.25)),
    history=[
        {"step": step, "loss": 1 / (step + 1), "learning_rate": 0.1, "images_per_second": 1.0, "elapsed": step}
        for step in range(20)
    ],
    events=[{"step": 7, "event": "plan", "stop": 20}],
    facts={"device": "cpu"},
    summary="A network learned cells.",
    intervals={"F1": (0.85, 0.95)},
    checks=(
        Finding("note", "", "c.tif is empty.", "It is used."),
        Finding("error", "d.tif", "It is broken.", "Copy it again."),
        Finding("warning", "c.tif", "Odd.", ""),
    ),
    classes=("background", "cell"),
    confusions=(np.array([[4, 1], [1, 4]]),),
    sizes=Sizes((10.0, 20.0), (11.0,), ((1, 1), (1, 0))),
    calibration=count_calibration(np.array([[0.2, 0.9], [0.8, 0.1]]), np.array([1, 0]), foreground=True),
)


def test_everything_is_said():
    page = Page(report_html(FULL))
    assert page.of("h1") == page.of("title") == ["cells in 10 minutes"]
    headings = ["Result", "Checks", "Images", "Scores of each image", "Classes", "Objects", "Calibration", "Plan"]
    assert page.of("h2") == page.of("a") == [*headings, "Data", "Training", "To do it again"]
    assert page.of("b") == ["0.912", "0.800", "0.750", "0.700"]
    assert page.of("code") == ["d.tif", "c.tif", "ushape train cells/ --minutes 10 --seed 0"]
    plan = ["Images are used at half resolution.", "1200 steps fit."]
    assert page.of("li") == [*plan, "Masks are instances.", "step 7: plan (stop 20)"]
    assert dict(zip(page.of("dt"), page.of("dd"), strict=True)) == {"device": "cpu"}
    assert page.tags.count("svg") == 2 + 1 + 1


def test_the_answer_comes_first():
    page = Page(report_html(FULL))
    words = page.of("p")
    assert words[0] == "A network learned cells. F1 is 0.91 (95 % interval 0.85 to 0.95)."
    assert words[1] == "Validation images, used for choosing."
    small = [text for text in page.of("small") if "%" in text]
    assert small == ["95 %: 0.850 to 0.950"]


def test_all_scores_stand_with_interval_and_meaning():
    text = report_html(FULL)
    cells = re.search(r"All scores.*?</table>", text, re.S).group()
    page = Page(f"<div>{cells[cells.index('<table') :]}</div>")
    assert page.of("th")[:4] == ["score", "value", "95 % interval", "meaning"]
    assert page.of("th")[4:] == list(FULL.scores)
    assert page.of("td") == ["0.912", "0.850 to 0.950", "0.800", "0.750", "0.700", "0.600", "412"]
    assert "objects in the reference" in page.of("div")
    without = Page(report_html(replace(FULL, intervals={})))
    assert "95 % interval" not in without.of("th")
    assert not any("bootstrap" in words for words in without.of("p"))


def test_checks_are_grouped_by_severity_in_words():
    page = Page(report_html(FULL))
    kinds = [text for text in page.of("span") if text in ("error", "warning", "note")]
    assert kinds == ["error", "warning", "warning", "note"]
    said = [text for text in page.of("div") if text.endswith(".")]
    assert said == ["It is broken.", "b.tif was left out.", "Odd.", "c.tif is empty."]
    assert "Copy it again." in page.of("small")


def test_a_file_that_the_sentence_names_is_not_named_twice():
    named = Page(report_html(Report("t", checks=(Finding("warning", "c.tif", "c.tif is empty.", ""),))))
    assert named.of("code") == []
    assert Page(report_html(Report("t", checks=(Finding("warning", "c.tif", "Empty.", ""),)))).of("code") == ["c.tif"]


def test_many_notes_are_folded_and_very_many_are_cut(monkeypatch):
    notes = tuple(Finding("note", "", f"Note {n}.", "") for n in range(6))
    assert Page(report_html(Report("t", checks=notes[:3]))).of("summary") == []
    assert Page(report_html(Report("t", checks=notes))).of("summary") == ["6 notes"]
    monkeypatch.setattr(module, "MOST_CHECKS", 4)
    page = Page(report_html(Report("t", checks=notes)))
    assert [text for text in page.of("div") if text.startswith("Note")] == [f"Note {n}." for n in range(4)]
    assert page.of("p", "code") == ["And 2 more;", "ushape check", "lists them all."]


def test_an_unknown_severity_is_a_warning():
    page = Page(report_html(Report("t", checks=(Finding("strange", "", "Look.", ""),))))
    assert page.of("span") == ["warning"]


def test_an_empty_report_has_no_empty_parts():
    page = Page(report_html(Report("nothing")))
    assert page.of("h2", "h3", "li", "td", "p", "figcaption") == []
    assert page.of("h1") == ["nothing"]
    nothing = count_calibration(np.full((2, 3), 0.5), np.full(3, -1))
    assert report_html(Report("nothing", sizes=Sizes(counts=((0, 0),)), calibration=nothing)) == report_html(
        Report("nothing")
    )


def test_nothing_is_loaded_from_elsewhere():
    """Links are data or parts of the page itself, and the policy would forbid all others."""
    html = report_html(FULL)
    page = Page(html)
    links = [v for _, name, v in page.attributes if name in ("src", "href", "xlink:href", "srcset", "action", "data")]
    assert len(links) > 9
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not {"script", "iframe", "object", "embed", "form"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert re.findall(r"@import|url\((?!#)", html) == []
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page.values("meta", "content")


def test_links_inside_the_page_lead_somewhere():
    page = Page(report_html(FULL))
    places = {value for _, name, value in page.attributes if name == "id"}
    targets = {value[1:] for tag, name, value in page.attributes if (tag, name) == ("a", "href")}
    assert len(targets) == 11
    assert targets <= places


def test_every_string_is_escaped():
    evil = "<script>alert('$x & \"y\"')</script>"
    report = Report(
        title=evil,
        command=evil,
        plan=(evil,),
        findings=(evil,),
        problems=(evil,),
        scores={evil: 0.5, "b": 0.1, "c": 0.1, "d": 0.1, evil + "2": 0.1},
        score_note=evil,
        rows=({"name": evil, evil: 0.5},),
        gallery=(Panel(evil, evil, 0.5, *(np.zeros(s, int) for s in ((1, 4, 4), (4, 4), (4, 4))), False, evil),),
        history=FULL.history,
        events=[{"step": 1, "event": evil, evil: evil}],
        facts={evil: evil},
        summary=evil,
        checks=(Finding("error", evil, "x", evil), Finding("note", "", evil, "")),
        classes=("background", evil, evil),
        confusions=(np.ones((3, 3), int),),
        sizes=Sizes((1.0,), (2.0,), ((1, 1),)),
        unit=evil,
    )
    page = Page(report_html(report))
    assert "script" not in page.tags
    assert sum(text.count(evil) for _, text in page.texts) == 37


def test_the_table_is_ordered_by_the_gallerys_score():
    headings = Page(report_html(FULL)).of("th")
    first = headings.index("3 images")
    assert headings[first + 7 : first + 10] == ["bad", "good", "empty"]


def test_two_classes_have_no_confusion_and_one_image_no_spread():
    two = Report("t", classes=("background", "cell"), confusions=(np.array([[4, 1], [1, 4]]),))
    assert Page(report_html(two)).of("h3", "p") == []
    three = Report("t", classes=("background", "cell", "rim"), confusions=(np.eye(3, dtype=int),) * 2)
    page = Page(report_html(three))
    assert page.of("h3") == ["Which class was taken for which"]
    assert len(page.of("p")) == 2


def test_sizes_and_counts_are_drawn_and_said():
    sizes = Sizes((10.0, 20.0, 24.0), (18.0,), ((3, 1), (0, 0)))
    page = Page(report_html(Report("t", sizes=sizes, unit="um")))
    assert page.of("span") == ["reference, median 20 um (3 objects)", "estimate, median 18 um (1 object)"]
    assert "equivalent diameter (um)" in page.of("text")
    assert "off by 1.0 on average" in page.of("figcaption")[0]
    assert page.tags.count("svg") == 2
    assert Page(report_html(Report("t", sizes=replace(sizes, counts=((3, 1),))))).tags.count("svg") == 1


@pytest.mark.parametrize(
    "foreground, words",
    [(True, "0.8, 80 % are foreground; dots above it mean"), (False, "0.8, 80 % have that class; dots below it mean")],
)
def test_calibration_is_said_for_the_question_asked(foreground, words):
    counted = count_calibration(np.array([[0.2], [0.8]]), np.array([1]), foreground=foreground)
    (said,) = Page(report_html(Report("t", calibration=counted))).of("p")
    assert said.startswith(
        "Expected calibration error 0.200: stated probabilities are off by 20.0 percentage points on average."
    )
    assert words in said


def test_a_page_of_everything_stays_below_the_limit():
    """Noise compresses worst; the tables, the matrix and the curves are long."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (3, 600, 600), np.uint8)
    labels = generator.integers(0, 9, (600, 600), np.int32)
    classes = tuple(f"class {n}" for n in range(9))
    values = tuple(generator.uniform(5, 50, 5000).tolist())
    report = replace(
        FULL,
        gallery=tuple(Panel(f"p{n}", "F1", n, image, labels, labels, instances=False) for n in range(30)),
        rows=tuple({"name": f"p{n}", **{f"Dice {c}": 0.5 for c in classes}} for n in range(1500)),
        history=[FULL.history[0] | {"step": step} for step in range(5000)],
        checks=tuple(Finding("warning", f"folder/{n}.tif", "A sentence about this file.", "") for n in range(3000)),
        classes=classes,
        confusions=[generator.integers(1, 9, (9, 9)) for _ in range(1500)],
        sizes=Sizes(values, values, tuple((n, n) for n in range(1500))),
    )
    assert len(report_html(report).encode()) < MOST_BYTES


def test_it_is_written_complete_or_not_at_all(tmp_path: Path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")

    def fail(*_):
        assert (tmp_path / "report.html.part").read_text(encoding="utf-8") == report_html(FULL)
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            write_report(path, FULL)
    assert path.read_text(encoding="utf-8") == "old"
    write_report(path, FULL)
    assert path.read_text(encoding="utf-8") == report_html(FULL)
