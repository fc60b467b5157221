"""Drawings of numbers, read back as XML: where each mark stands, from the axis it stands on."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from ushape.picture.charts import (
    MOST_DOTS,
    Scale,
    counts_svg,
    histogram_svg,
    reliability_svg,
    strip_svg,
)
from ushape.scoring.calibration import count_calibration


class Drawing:
    """An SVG with the scales of its two axes, found from their numbers."""

    def __init__(self, svg: str) -> None:
        self.root = ElementTree.fromstring(svg)
        words = [(e.text or "", float(e.get("x", 0)), float(e.get("y", 0)), e) for e in self.of("text")]
        numbers = [(float(t), x, y, e) for t, x, y, e in words if re.fullmatch(r"[\d.e+-]+", t)]
        self.x = [(value, x) for value, x, _, e in numbers if e.get("text-anchor") == "middle"]
        self.y = [(value, y - 4) for value, _, y, e in numbers if e.get("text-anchor") == "end"]

    def of(self, tag: str, kind: str | None = None) -> list[ElementTree.Element]:
        return [e for e in self.root.iter(tag) if kind is None or e.get("class") == kind]

    def value(self, axis: list[tuple[float, float]], place: float) -> float:
        """The value at a place of a linear axis."""
        (a, at_a), (b, at_b) = axis[0], axis[-1]
        return a + (b - a) * (place - at_a) / (at_b - at_a)

    def dots(self) -> np.ndarray:
        """(n, 2) values of x and y."""
        return np.array(
            [
                (self.value(self.x, float(e.get("cx"))), self.value(self.y, float(e.get("cy"))))
                for e in self.of("circle", "dot")
            ]
        )


def test_a_scale_maps_its_ends_and_its_middle():
    assert [Scale(2, 6, 10, 50)(value) for value in (2, 4, 6)] == [10, 30, 50]
    assert [Scale(0, 1, 50, 10)(value) for value in (0, 0.25, 1)] == [50, 40, 10]
    np.testing.assert_allclose([Scale(1, 100, 0, 20, log=True)(value) for value in (1, 10, 100)], [0, 10, 20])


@pytest.mark.parametrize(
    "scale, ticks",
    [
        (Scale(0, 1, 0, 1), [0, 0.5, 1]),
        (Scale(0, 44, 0, 1), [0, 20, 40]),
        (Scale(0.13, 0.42, 0, 1), [0.2, 0.3, 0.4]),
        (Scale(0, 2, 0, 1, whole=True), [0, 1, 2]),
        (Scale(0, 1, 0, 1, whole=True), [0, 1]),
        (Scale(3, 70, 0, 1, log=True), [5, 10, 20, 50]),
        (Scale(1, 20_000, 0, 1, log=True), [1, 10, 100, 1000, 10_000]),
    ],
)
def test_ticks_are_few_and_round(scale, ticks):
    assert scale.ticks() == pytest.approx(ticks)


def test_a_histogram_counts_every_object():
    """The bars' heights add up to the reference's objects, the line's to the estimate's."""
    generator = np.random.default_rng(0)
    reference, estimate = generator.uniform(10, 30, 300), generator.uniform(12, 33, 180)
    drawing = Drawing(histogram_svg(list(reference), list(estimate), "diameter (px)"))
    unit = drawing.y[0][1] - drawing.y[-1][1]
    per_object = unit / (drawing.y[-1][0] - drawing.y[0][0])
    heights = sum(float(e.get("height")) for e in drawing.of("rect", "reference")) / per_object
    assert heights == pytest.approx(300, abs=1)
    (line,) = drawing.of("path", "estimate")
    levels = [float(v) for v in re.findall(r"V([\d.]+)", line.get("d"))][:-1]
    assert sum(drawing.value(drawing.y, level) for level in levels) == pytest.approx(180, abs=1)
    assert drawing.root.get("aria-label") == (
        "Histogram of diameter (px): 300 objects of the reference, 180 of the estimate"
    )


def test_bars_stand_where_the_values_are():
    drawing = Drawing(histogram_svg([10.0] * 9 + [20.0] * 3, [], "d"))
    low, high = drawing.of("rect", "reference")
    for bar, value in ((low, 10), (high, 20)):
        left = float(bar.get("x"))
        right = left + float(bar.get("width"))
        assert drawing.value(drawing.x, left) - 0.1 <= value <= drawing.value(drawing.x, right) + 0.1
    assert float(low.get("height")) == pytest.approx(3 * float(high.get("height")), abs=0.3)


@pytest.mark.parametrize("values, log", [([5, 50], False), ([5, 500], True)])
def test_wide_values_have_a_logarithmic_axis(values, log):
    places = [x for _, x in Drawing(histogram_svg([float(v) for v in values], [], "d")).x]
    gaps = np.diff(places)
    assert (np.ptp(gaps) > 5) == log


@pytest.mark.parametrize("reference, estimate", [([7.0], []), ([], [7.0]), ([3.0, 3.0], [3.0])])
def test_hardly_any_objects_are_drawn_too(reference, estimate):
    drawing = Drawing(histogram_svg(reference, estimate, "d"))
    assert len(drawing.of("rect", "reference")) == (1 if reference else 0)


def test_each_image_is_a_dot_in_the_scatter_of_counts():
    counts = [(3, 4), (10, 9), (0, 0), (7, 20)]
    np.testing.assert_allclose(Drawing(counts_svg(counts)).dots(), counts, atol=0.1)
    assert Drawing(counts_svg([(0, 0)] * 2)).of("circle")
    assert len(Drawing(counts_svg([(1, 1)] * 5000)).of("circle")) == MOST_DOTS


@pytest.mark.parametrize("foreground, words", [(True, "share that is foreground"), (False, "share that is right")])
def test_each_bin_is_a_dot_in_the_reliability_plot(foreground, words):
    probabilities = np.array([[0.9, 0.4, 0.4, 0.1, 0.1], [0.1, 0.6, 0.6, 0.9, 0.9]])
    reference = np.array([0, 1, 0, 1, 1])
    drawing = Drawing(reliability_svg(count_calibration(probabilities, reference, 5, foreground=foreground)))
    expected = [(0.1, 0), (0.6, 0.5), (0.9, 1)] if foreground else [(0.6, 0.5), (0.9, 1)]
    np.testing.assert_allclose(drawing.dots(), expected, atol=0.005)
    assert words in [e.text for e in drawing.of("text")]
    assert drawing.root.get("aria-label") == f"Stated probability against the {words}, 5 pixels"


def test_a_strip_has_a_dot_for_each_image_and_a_stroke_at_the_mean():
    drawing = Drawing(strip_svg([0.0, 0.5, 1.0, 0.9]))
    places = [float(e.get("cx")) for e in drawing.of("circle", "dot")]
    left, right = places[0], places[2]
    assert places[1] == pytest.approx((left + right) / 2)
    (stroke,) = drawing.of("path", "estimate")
    mean = float(re.match(r"M([\d.]+)", stroke.get("d")).group(1))
    assert (mean - left) / (right - left) == pytest.approx(0.6, abs=0.001)
    assert drawing.root.get("aria-label") == "4 images from 0.00 to 1.00"


def test_labels_are_escaped():
    assert ElementTree.fromstring(histogram_svg([1.0], [2.0], "size <&> 'x'")) is not None


def test_marks_stay_inside_the_picture():
    generator = np.random.default_rng(1)
    for svg in (
        histogram_svg(list(generator.lognormal(3, 2, 500)), list(generator.lognormal(3, 2, 500)), "d"),
        counts_svg([(int(a), int(b)) for a, b in generator.integers(0, 3000, (50, 2))]),
    ):
        drawing = Drawing(svg)
        _, _, width, height = map(float, drawing.root.get("viewBox").split())
        for bar in drawing.of("rect"):
            assert float(bar.get("x")) >= 0
            assert float(bar.get("x")) + float(bar.get("width")) <= width
            assert float(bar.get("y")) >= 0
        for dot in drawing.of("circle"):
            assert 0 < float(dot.get("cx")) < width
            assert 0 < float(dot.get("cy")) < height
