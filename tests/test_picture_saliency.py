import numpy as np
import pytest

from ushape.errors import DataError
from ushape.picture import saliency
from ushape.picture.overlay import INVENTED
from ushape.picture.saliency import draw_saliency


def test_image_map_and_both(monkeypatch):
    seen: list = []
    monkeypatch.setattr(saliency, "draw_panels", lambda title, panels, **options: seen.extend(panels) or panels)
    found = np.zeros((6, 7))
    found[2, 3] = 5
    where = np.zeros((6, 7), bool)
    where[1:4, 2:5] = True
    plate = draw_saliency(np.ones((1, 6, 7)), found, "this is a cell", where=where)
    assert [panel.title for panel in seen] == ["Image", "Saliency", "Saliency, on the image"]
    # The rim lies just outside the region, and never hides it.
    rim = (seen[0].picture == INVENTED).all(axis=-1)
    expected = np.zeros((6, 7), bool)
    expected[:5, 1:6] = True
    np.testing.assert_array_equal(rim, expected & ~where)
    # The map is bright at its maximum alone; on the image it glows there.
    assert seen[1].picture.max(axis=-1)[2, 3] > 200
    assert np.delete(seen[1].picture.reshape(-1, 3), 2 * 7 + 3, axis=0).max() < 10
    assert seen[2].picture[2, 3].max() > seen[2].picture[2, 4].max()
    assert plate.caption.startswith("The decision: this is a cell. Saliency is the magnitude of the gradient")
    assert "It does not say that the decision would be another without that pixel" in plate.caption
    assert "SmoothGrad" not in plate.caption


def test_several_maps_side_by_side():
    found = np.random.default_rng(0).random((20, 20))
    plate = draw_saliency(np.ones((3, 20, 20)), [("Gradient", found), ("SmoothGrad of 9", found)], "the class 7")
    assert "SmoothGrad its mean over noisy copies of the image" in plate.caption
    one = draw_saliency(np.ones((3, 20, 20)), found, "the class 7")
    assert plate.picture.shape[1] > 1.5 * one.picture.shape[1]


def test_another_size():
    words = r"^expected saliency of the image's size \(6, 7\), found \(7, 6\); ask it of the same image$"
    with pytest.raises(DataError, match=words):
        draw_saliency(np.ones((1, 6, 7)), np.ones((7, 6)), "the class 7")
