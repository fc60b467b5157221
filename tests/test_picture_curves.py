"""The curves of a run: what is drawn is read back from the axes, and from the SVG as a reader of XML sees it."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from ushape.picture.curves import INK, MOST_POINTS, PLACE, SIZE, curves_svg, draw_history


def record(step: int, loss: float, validation: float | None = None) -> dict:
    known = {"step": step, "loss": loss, "learning_rate": 0.01 / (1 + step), "images_per_second": 8.0, "elapsed": step}
    return known if validation is None else {**known, "validation": validation}


HISTORY = [record(step, 1 / (1 + step), {2: 0.25, 5: 0.875, 7: 0.5}.get(step)) for step in range(10)]


def drawn(records, events=()):
    """The panels from top to bottom."""
    figure = Figure()
    ax = figure.add_subplot()
    assert draw_history(ax, records, events) is ax
    return figure.axes


def texts(svg: str) -> set[str]:
    return {
        "".join(element.itertext()).strip() for element in ElementTree.fromstring(svg).iter() if "text" in element.tag
    }


def test_loss_validation_and_rate_stand_above_each_other():
    loss, validation, rate = drawn(HISTORY)
    assert [panel.get_ylabel() for panel in (loss, validation, rate)] == [
        "training\nloss",
        "validation\nscore",
        "learning\nrate",
    ]
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [(step, 1 / (1 + step)) for step in range(10)])
    np.testing.assert_allclose(validation.lines[0].get_xydata(), [(2, 0.25), (5, 0.875), (7, 0.5)])
    np.testing.assert_allclose(rate.lines[0].get_xydata(), [(step, 0.01 / (1 + step)) for step in range(10)])
    assert loss.get_xlim() == validation.get_xlim() == rate.get_xlim()


def test_the_best_validation_is_marked():
    validation = drawn(HISTORY)[1]
    np.testing.assert_allclose(validation.lines[1].get_xydata(), [(5, 0.875)])
    assert [text.get_text() for text in validation.texts] == ["best 0.875"]


def test_without_validation_there_is_no_panel_for_it():
    assert len(drawn([record(0, 1.0), record(1, 0.5)])) == 2


@pytest.mark.parametrize("losses, scale", [([1, 0.05], "log"), ([1, 0.5], "linear"), ([1, 0], "linear")])
def test_a_loss_over_more_than_a_decade_is_logarithmic(losses, scale):
    assert drawn([record(step, loss) for step, loss in enumerate(losses)])[0].get_yscale() == scale


def test_the_bold_line_is_a_centred_mean():
    """100 records: a mean over 5; of a straight line it is the line itself, of one peak a fifth over five steps."""
    straight = drawn([record(step, 3 + 2 * step) for step in range(100)])[0].lines[1].get_ydata()
    np.testing.assert_allclose(straight[2:-2], 3 + 2 * np.arange(2, 98))
    np.testing.assert_allclose(straight[0], 3 + 2 * 1)
    peak = drawn([record(step, 5.0 * (step == 50)) for step in range(100)])[0].lines[1].get_ydata()
    np.testing.assert_allclose(peak[46:55], [0, 0, 1, 1, 1, 1, 1, 0, 0])


def test_events_are_lines_through_all_panels_and_named_once_in_a_row():
    events = [
        {"step": 6, "event": "resume"},
        {"step": 0, "event": "plan", "stop": 9},
        {"step": 1, "event": "plan", "stop": 8},
        {"step": 9, "event": "plan", "stop": 9},
    ]
    plain, panels = drawn(HISTORY), drawn(HISTORY, events)
    for before, after in zip(plain, panels, strict=True):
        assert [line.get_xdata()[0] for line in after.lines[len(before.lines) :]] == [0, 6, 9]
    assert [text.get_text() for text in panels[0].texts] == ["plan", "resume", "plan"]
    assert panels[0].get_xlim() == plain[0].get_xlim()


def test_names_of_events_do_not_cover_each_other():
    history = [record(step, 1.0) for step in range(1000)]
    events = [{"step": 500, "event": "one"}, {"step": 505, "event": "two"}, {"step": 700, "event": "three"}]
    assert [text.get_text() for text in drawn(history, events)[0].texts] == ["one", "three"]


def test_the_svg_is_one_element_in_the_colour_of_the_page():
    svg = curves_svg(HISTORY, [{"step": 3, "event": "resume"}])
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert {"training", "loss", "step", "resume", "best 0.875"} <= texts(svg)
    assert "currentColor" in svg
    assert INK not in svg


def test_the_svg_asks_for_nothing_and_is_the_same_every_time():
    svg = curves_svg(HISTORY)
    links = [v for e in ElementTree.fromstring(svg).iter() for name, v in e.attrib.items() if name.endswith("href")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert svg == curves_svg(HISTORY)


def test_everything_drawn_is_inside_the_picture():
    figure = Figure(figsize=SIZE)
    draw_history(figure.add_axes(PLACE), HISTORY)
    box = figure.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= SIZE[0]
    assert box.y1 <= SIZE[1]


def test_a_long_run_stays_small():
    history = [record(step, 1 + step % 7, step / 1e5 if step % 1000 == 0 else None) for step in range(100_000)]
    assert len(drawn(history)[0].lines[0].get_xdata()) < 2 * MOST_POINTS
    assert len(curves_svg(history)) < 200_000


@pytest.mark.parametrize("history", [[], [record(0, 1.0)], [record(0, 1.0, 0.5)]])
def test_hardly_any_history_is_drawn_too(history):
    assert curves_svg(history).startswith("<svg")
