"""The report, read back with an HTML parser as a browser would."""

import base64
import io
import os
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ushape.picture import report as module
from ushape.picture.overlay import FOUND, INVENTED, MISSED
from ushape.picture.report import MOST_BYTES, Panel, Report, report_html, write_report

WITHOUT_END = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements, texts by tag, links and tables of a page; checks that what is opened is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[tuple[str, str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in WITHOUT_END:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if data.strip() and self.open:
            self.texts.append((self.open[-1], data.strip()))

    def of(self, *tags: str) -> list[str]:
        """The texts directly inside these elements, in order."""
        return [text for tag, text in self.texts if tag in tags]

    def values(self, tag: str, name: str) -> list[str]:
        """The values of an attribute of an element, in order."""
        return [value for at, key, value in self.attributes if (at, key) == (tag, name)]

    def pictures(self) -> list[np.ndarray]:
        """The decoded pictures, in order."""
        sources = [src.removeprefix("data:image/jpeg;base64,") for src in self.values("img", "src")]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))) for source in sources]


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
)


def test_everything_is_said():
    page = Page(report_html(FULL))
    assert page.of("h1") == page.of("title") == ["cells in 10 minutes"]
    assert page.of("b") == ["0.912", "0.800", "0.750", "0.700"]
    assert page.of("code") == ["ushape train cells/ --minutes 10 --seed 0"]
    assert page.of("li") == [
        "b.tif was left out.",
        "Images are used at half resolution.",
        "1200 steps fit.",
        "Masks are instances.",
        "step 7: plan (stop 20)",
    ]
    facts = dict(zip(page.of("dt"), page.of("dd"), strict=True))
    assert facts == {"recall": "0.600", "n_reference": "412", "device": "cpu"}
    assert "Validation images, used for choosing." in page.of("p")
    assert "svg" in page.tags


def test_an_empty_report_has_no_empty_parts():
    page = Page(report_html(Report("nothing")))
    assert page.of("h2", "h3", "li", "td") == []
    assert page.of("h1") == ["nothing"]


def test_nothing_is_loaded_from_elsewhere():
    """Links are data or parts of the page itself, and the policy would forbid all others."""
    html = report_html(FULL)
    page = Page(html)
    links = [v for _, name, v in page.attributes if name in ("src", "href", "xlink:href", "srcset", "action", "data")]
    assert len(links) > 9
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not {"script", "iframe", "object", "embed"} & page.tags
    assert re.findall(r"@import|url\((?!#)", html) == []
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page.values("meta", "content")


def test_every_string_is_escaped():
    evil = "<script>alert('$x & \"y\"')</script>"
    report = Report(
        evil,
        evil,
        (evil,),
        (evil,),
        (evil,),
        {evil: 0.5, "b": 0.1, "c": 0.1, "d": 0.1, evil + "2": 0.1},
        evil,
        ({"name": evil, evil: 0.5},),
        (Panel(evil, evil, 0.5, *(np.zeros(s, int) for s in ((1, 4, 4), (4, 4), (4, 4))), instances=True),),
        FULL.history,
        [{"step": 1, "event": evil, evil: evil}],
        {evil: evil},
    )
    page = Page(report_html(report))
    assert "script" not in page.tags
    assert sum(text.count(evil) for _, text in page.texts) == 19


def test_the_worst_come_first():
    panels = [panel(name, score) for name, score in (("b", 0.5), ("d", float("nan")), ("a", 0.5), ("c", 0.125))]
    page = Page(report_html(Report("t", gallery=tuple(panels))))
    assert page.of("h3") == ["c", "a", "b", "d"]
    assert page.of("span")[0] == "F1 0.125"


def test_the_table_is_ordered_by_the_gallerys_score_and_shows_its_spread():
    page = Page(report_html(FULL))
    assert page.of("th") == ["3 images", "F1", "n_reference", "mean", "sd", "lowest", "highest", "bad", "good", "empty"]
    cells = np.array(page.of("td")).reshape(7, 2)
    sd = statistics.stdev([0.9, 0.25])
    assert cells[:, 0].tolist() == ["0.575", f"{sd:.3f}", "0.250", "0.900", "0.250", "0.900", "–"]
    assert cells[4:, 1].tolist() == ["5", "3", "0"]
    assert cells[0, 1] == "2.667"


def test_the_spread_of_one_image_is_no_number():
    page = Page(report_html(Report("t", rows=({"name": "a", "Dice": 0.5},))))
    assert page.of("td") == ["0.500", "–", "0.500", "0.500", "0.500"]


def test_columns_that_say_the_same_of_one_image_are_left_out():
    row = {"name": "a", "AP": 0.5, "AP per image": 0.5, "PQ per image": 1.0, "n_images": 1, "note": "text"}
    page = Page(report_html(Report("t", rows=(row,))))
    assert page.of("th") == ["1 images", "AP", "PQ per image", "mean", "sd", "lowest", "highest", "a"]


def test_a_long_table_says_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    page = Page(report_html(Report("t", rows=tuple({"name": f"i{n}", "Dice": n / 10} for n in range(9, 0, -1)))))
    assert page.of("th")[-3:] == ["i1", "i2", "i3"]
    assert page.of("td")[0] == "0.500"
    assert "The 3 lowest of 9 images." in page.of("p")


def test_a_panel_is_image_reference_estimate_and_errors():
    reference, estimate = np.zeros((2, 90, 120), np.int32)
    reference[10:40, 10:40], reference[50:80, 10:40] = 1, 2
    estimate[12:40, 10:40], estimate[50:80, 70:100] = 5, 6
    shown = Panel("x", "F1", 0.5, np.zeros((1, 90, 120)), reference, estimate, instances=True)
    page = Page(report_html(Report("t", gallery=(shown,))))
    assert page.of("figcaption") == ["image", "reference", "estimate", "errors"]
    assert page.of("span")[-3:] == ["found", "missed", "invented"]
    image, with_reference, with_estimate, wrong = (picture.astype(int) for picture in page.pictures())
    assert image.shape == wrong.shape == (90, 120, 3)
    assert np.ptp(image, axis=-1).max() < 10
    assert np.ptp(with_reference[60, 20]) > 60
    assert np.ptp(with_reference[60, 85]) < 10
    assert np.ptp(with_estimate[60, 85]) > 60

    # Inside an object, the tint points from the grey around it to the colour of the legend.
    grey = wrong[5, 60]
    for place, colour in (((25, 25), FOUND), ((65, 25), MISSED), ((65, 85), INVENTED)):
        tint = wrong[place] - grey
        expected = np.array(colour) - grey
        assert tint @ expected > 0.98 * np.linalg.norm(tint) * np.linalg.norm(expected), colour


@pytest.mark.parametrize("size, expected", [((1000, 2000), (240, 480)), ((900, 30), (480, 16)), ((30, 20), (30, 20))])
def test_pictures_are_shrunk_and_never_enlarged(size, expected):
    page = Page(report_html(Report("t", gallery=(panel("a", 0.5, size),))))
    assert [picture.shape[:2] for picture in page.pictures()] == [expected] * 4
    assert page.values("img", "class") == (["few"] * 4 if expected[1] < 160 else [])


def test_shrinking_averages_the_image_and_keeps_labels_whole():
    image = np.arange(960 * 960, dtype=np.uint16).reshape(1, 960, 960) % 2 * 1000
    np.testing.assert_allclose(module._small_image(image), np.full((1, 480, 480), 500))
    labels = np.kron(np.array([[3, 70_000], [-1, 0]]), np.ones((480, 480), np.int64))
    np.testing.assert_array_equal(
        module._small_labels(labels, (480, 480)), np.kron([[3, 70_000], [-1, 0]], np.ones((240, 240), int))
    )
    assert module._small_labels(np.arange(9).reshape(3, 3), (1, 1)).item() == 4


def test_many_large_noisy_images_stay_below_the_limit():
    """Noise compresses worst: the page keeps to its size, shows the worst images and says so."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (3, 1000, 1000), np.uint8)
    labels = generator.integers(0, 2, (1000, 1000), np.int32)
    panels = tuple(Panel(f"p{n}", "F1", 1 - n / 100, image, labels, labels, instances=False) for n in range(60))
    html = report_html(Report("t", gallery=panels, history=FULL.history))
    names = Page(html).of("h3")
    assert len(html.encode()) < MOST_BYTES
    assert 1 <= len(names) <= 12
    assert names == [f"p{n}" for n in range(59, 59 - len(names), -1)]
    assert f"The {len(names)} worst of 60 images." in Page(html).of("p")


def test_the_number_of_panels_is_limited():
    panels = tuple(panel(f"p{n}", n) for n in range(60))
    assert len(Page(report_html(Report("t", gallery=panels))).of("h3")) == 12


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
