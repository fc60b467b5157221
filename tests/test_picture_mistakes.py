"""Confident mistakes: order, words, pictures, and nothing to run in the page."""

import numpy as np

from ushape.picture.mistakes import MOST_SHOWN, SIDE, Mistake, mistakes_html, thumbnail


def mistake(name, confidence, reference="cat", estimate="dog"):
    return Mistake(name, np.zeros((1, 8, 8), np.uint8), reference, estimate, confidence)


def test_the_most_confident_come_first_and_say_what_they_were_taken_for():
    html = mistakes_html([mistake("a", 0.5), mistake("b", 0.93), mistake("c", 0.7)], 10)
    assert "3 of 10 images were given a wrong class." in html
    assert html.index("93 % sure, b") < html.index("70 % sure, c") < html.index("50 % sure, a")
    assert html.count("cat, taken for dog</") == 0
    assert html.count("<figcaption>cat, taken for dog<br>") == 3


def test_no_more_are_shown_than_can_be_looked_at():
    html = mistakes_html([mistake(str(i), 0.5) for i in range(MOST_SHOWN + 5)], 1000)
    assert f"{MOST_SHOWN + 5} of 1000 images were given a wrong class, of which the {MOST_SHOWN} most" in html
    assert html.count("<figure>") == MOST_SHOWN


def test_names_cannot_break_the_page():
    assert "<script>" not in mistakes_html([mistake("<script>", 0.5, reference="<b>")], 1)


def test_without_mistakes_there_is_nothing():
    assert mistakes_html([], 10) == ""


def test_small_images_keep_their_pixels_as_squares_and_large_ones_shrink():
    image = np.array([[[0, 255], [255, 0]]], np.uint8)
    drawn = thumbnail(image)
    assert drawn.shape == (SIDE, SIDE, 3)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 2
    assert thumbnail(np.zeros((3, 200, 400), np.uint8)).shape == (SIDE // 2, SIDE, 3)
