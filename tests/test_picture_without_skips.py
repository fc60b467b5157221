import numpy as np
import pytest

from ushape.picture import without_skips
from ushape.picture.overlay import FOUND, MISSED
from ushape.picture.without_skips import Loss, draw_losses, share_changed

WHOLE = np.zeros((8, 8), np.int32)
WHOLE[1:4, 1:4], WHOLE[5:8, 5:8] = 1, 2
LESS = np.where(WHOLE == 2, 0, WHOLE)


def captured(monkeypatch) -> dict:
    seen: dict = {}

    def look(title, panels, **options):
        seen.update(options, panels=panels)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(without_skips, "draw_panels", look)
    return seen


def test_the_share_of_changed_pixels():
    other = WHOLE.copy()
    other[WHOLE == 1] = 2
    assert share_changed(WHOLE, LESS, instances=True) == 9 / 64
    assert share_changed(WHOLE, LESS, instances=False) == 9 / 64
    # Ids of objects carry no meaning; classes do.
    assert share_changed(WHOLE, other, instances=True) == 0
    assert share_changed(WHOLE, other, instances=False) == 9 / 64


def test_against_the_whole_networks_answer(monkeypatch):
    seen = captured(monkeypatch)
    losses = [
        Loss((), WHOLE, 0.0, {}),
        Loss((0,), LESS, 9 / 64, {}),
        Loss((1,), WHOLE, 0.0, {}),
        Loss((0, 1), LESS * 0, 0.3, {}),
    ]
    plate = draw_losses(np.ones((1, 8, 8)), losses, instances=True)
    titles = [panel.title for panel in seen["panels"]]
    assert titles == ["Image", "Answer with all skips", "Without skip 0", "Without skip 1", "Without any skip"]
    assert seen["columns"] == 3
    first = seen["panels"][2].picture
    # One object is kept, one is lost; small ones are all outline.
    np.testing.assert_array_equal((first == FOUND).all(axis=-1)[1:4, 1:4].sum(), 8)
    np.testing.assert_array_equal((first == MISSED).all(axis=-1)[5:8, 5:8].sum(), 5)
    assert seen["panels"][2].lines == ("14.1 % of the pixels change, 2 objects become 1.",)
    assert "zeros stand in its place" in plate.caption
    assert "Against the answer with all skips: green is kept, orange lost, sky blue new." in seen["note"]
    assert "not how well one trained without that skip would do" in plate.caption


def test_against_a_reference(monkeypatch):
    seen = captured(monkeypatch)
    losses = [Loss((), WHOLE, 0.0, {"SEG": 1.0}), Loss((0,), LESS, 9 / 64, {"SEG": 0.5})]
    plate = draw_losses(np.ones((1, 8, 8)), losses, instances=True, reference=WHOLE, filling="mean")
    titles = [panel.title for panel in seen["panels"]]
    assert titles == ["Image", "Reference", "Answer with all skips", "Errors with all skips", "Without skip 0"]
    assert seen["panels"][2].lines == ("SEG 1.000.",)
    assert seen["panels"][4].lines == ("14.1 % of the pixels change, 2 objects become 1; SEG 0.500.",)
    assert "the mean of each of its channels stands in its place" in plate.caption
    assert "green is found, orange missed, sky blue invented" in plate.caption


@pytest.mark.parametrize("instances", [True, False])
def test_it_is_drawn(instances):
    losses = [Loss((), WHOLE, 0.0, {}), Loss((0,), LESS, 9 / 64, {})]
    plate = draw_losses(np.ones((1, 8, 8)), losses, instances=instances, colours=((0, 0, 0), (9, 9, 9), (1, 1, 1)))
    assert plate.picture.dtype == np.uint8
    assert (plate.picture != 255).mean() > 0.2
