"""The gallery, read back with an HTML parser, and its pictures decoded."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from html_page import Page
from ushape.picture import gallery as module
from ushape.picture.gallery import PICTURE_BYTES, Panel, class_colours, gallery
from ushape.picture.overlay import FOUND, INVENTED, MISSED, label_colours


def panel(name: str, score: float, size: tuple[int, int] = (20, 30), n_channels: int = 1) -> Panel:
    image = np.zeros((n_channels, *size), np.float32)
    labels = np.zeros(size, np.int32)
    labels[4:12, 4:12] = 1
    return Panel(name, "F1", score, image, labels, labels, instances=True)


def chips(page: Page) -> list[str]:
    return [text for text in page.of("span") if text in ("typical", "best")]


def test_the_worst_come_first():
    panels = [panel(name, score) for name, score in (("b", 0.5), ("d", float("nan")), ("a", 0.5), ("c", 0.125))]
    page = Page(gallery(panels))
    assert page.of("h3") == ["c", "a", "b", "d"]
    assert page.of("span")[0] == "F1 0.125"
    assert chips(page) == []


def test_the_median_ones_are_typical_and_the_highest_is_the_best():
    """Of seven with a score those of rank 4 and 5 are typical, the seventh is the best; nan is none of these."""
    scores = {"a": 0.7, "b": 0.1, "c": 0.5, "d": 0.3, "e": 0.4, "f": 0.2, "g": 0.6, "h": float("nan")}
    text = gallery([panel(name, score) for name, score in scores.items()])
    headings = re.findall(r"<h3>(\w) .*?</h3>", text)
    assert headings == ["b", "f", "d", "e", "c", "g", "a", "h"]
    assert re.findall(r"<h3>(\w) [^\n]*typical", text) == ["e", "c"]
    assert re.findall(r"<h3>(\w) [^\n]*best", text) == ["a"]


def test_of_many_the_worst_two_typical_and_the_best_are_shown():
    page = Page(gallery([panel(f"p{n:02d}", n) for n in range(60)]))
    assert page.of("h3") == [f"p{n:02d}" for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 29, 30, 59)]
    assert page.of("p") == [
        "The 9 worst of 60 images, with two typical ones and the best. A click on a picture enlarges it."
    ]
    assert chips(page) == ["typical", "typical", "best"]


def test_many_large_noisy_images_stay_below_the_limit():
    """Noise compresses worst: the typical and the best are shown all the same, and fewer of the worst."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (3, 1000, 1000), np.uint8)
    labels = generator.integers(0, 2, (1000, 1000), np.int32)
    panels = [Panel(f"p{n:02d}", "F1", n, image, labels, labels, instances=False) for n in range(60)]
    html = gallery(panels)
    names = Page(html).of("h3")
    assert len(html) < PICTURE_BYTES + 10_000
    n_worst = len(names) - 3
    assert 1 <= n_worst < 9, names
    assert names == [f"p{n:02d}" for n in (*range(n_worst), 29, 30, 59)]
    assert f"The {n_worst} worst of 60 images, with two typical ones and the best." in Page(html).of("p")[0]


def test_one_image_is_shown_however_large_it_is(monkeypatch):
    monkeypatch.setattr(module, "PICTURE_BYTES", 10)
    page = Page(gallery([panel(f"p{n}", n) for n in range(9)]))
    assert page.of("h3") == ["p0"]
    assert page.of("p") == ["The 1 worst of 9 images. A click on a picture enlarges it."]


def test_what_compresses_badly_is_compressed_more():
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (480, 480, 3), np.uint8)
    flat = np.full((480, 480, 3), 77, np.uint8)
    sizes = {name: len(module.picture_uri(picture)) for name, picture in (("noise", noise), ("flat", flat))}
    fine = io.BytesIO()
    Image.fromarray(noise).save(fine, "JPEG", quality=85, subsampling=0)
    assert sizes["noise"] < 0.7 * fine.tell() * 4 / 3
    assert sizes["flat"] < 10_000


def test_nothing_is_shown_of_nothing():
    assert gallery([]) == ""


def test_a_panel_is_image_reference_estimate_and_errors():
    reference, estimate = np.zeros((2, 90, 120), np.int32)
    reference[10:40, 10:40], reference[50:80, 10:40] = 1, 2
    estimate[12:40, 10:40], estimate[50:80, 70:100] = 5, 6
    page = Page(gallery([Panel("x", "F1", 0.5, np.zeros((1, 90, 120)), reference, estimate, True, note="slice 3")]))
    assert page.of("figcaption") == ["image", "reference", "estimate", "errors"]
    assert page.values("img", "alt") == ["x: image", "x: reference", "x: estimate", "x: errors"]
    assert page.values("input", "aria-label") == [f"enlarge x: {what}" for what in page.of("figcaption")]
    assert page.of("span") == ["F1 0.500", "slice 3", "found", "missed", "invented"]
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


def test_what_is_not_annotated_is_striped_in_reference_and_errors():
    reference = np.zeros((80, 80), np.int32)
    reference[40:] = -1
    page = Page(gallery([Panel("x", "F1", 0.5, np.zeros((1, 80, 80)), reference, reference * 0, True)]))
    assert page.of("span") == ["F1 0.500", "not annotated", "found", "missed", "invented"]
    for picture, striped in zip(page.pictures(), (False, True, False, True), strict=True):
        grey = picture[..., 0].astype(int)
        assert np.ptp(grey[:30]) < 8
        assert (np.ptp(grey[50:]) > 30) == striped


def test_classes_have_the_colours_of_the_data_set_and_a_legend():
    classes, colours = ("background", "cell <1>", "rim"), ((0, 0, 0), (255, 0, 0), (0, 0, 255))
    labels = np.zeros((60, 60), np.int32)
    labels[:20], labels[40:] = 1, 2
    shown = Panel("x", "mean Dice", 0.5, np.zeros((1, 60, 60)), labels, labels, instances=False)
    page = Page(gallery([shown], classes, colours))
    assert page.of("span") == ["cell <1>", "rim", "mean Dice 0.500", "found", "missed or confused", "invented"]
    assert page.values("i", "style")[:2] == ["background:rgb(255,0,0)", "background:rgb(0,0,255)"]
    for picture in page.pictures()[1:3]:
        assert (picture[10, 30].argmax(), picture[50, 30].argmax()) == (0, 2)
    assert "missed" in Page(gallery([shown], classes[:2])).of("span")
    assert "rim" not in gallery([panel("o", 0.5)], classes, colours)


def test_class_colours_are_those_that_are_drawn():
    expected = [tuple(colour) for colour in label_colours(np.arange(3)).tolist()]
    assert class_colours(("a", "b", "c")) == expected
    assert class_colours(("a", "b", "c"), ((9, 9, 9), (1, 2, 3))) == [(0, 0, 0), (1, 2, 3), expected[2]]


@pytest.mark.parametrize("size, expected", [((1000, 2000), (240, 480)), ((900, 30), (480, 16)), ((30, 20), (30, 20))])
def test_pictures_are_shrunk_and_never_enlarged(size, expected):
    page = Page(gallery([panel("a", 0.5, size)]))
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
