import numpy as np

from ushape.picture import borders
from ushape.picture.borders import RIDGE, draw_borders
from ushape.picture.plate import colour_map
from ushape.targets.borders import border_weights, separate_touching


def touching() -> np.ndarray:
    mask = np.zeros((20, 20), np.int32)
    mask[4:16, 2:10], mask[6:14, 10:18] = 1, 2
    return mask


def test_ridge_and_weights(monkeypatch):
    seen: list = []
    monkeypatch.setattr(borders, "draw_panels", lambda title, panels, **options: seen.extend(panels) or panels)
    mask = touching()
    plate = draw_borders(np.ones((1, 20, 20)), mask, ridge_width=2, w0=4.0, sigma=3.0)
    white = (seen[2].picture == RIDGE).all(axis=-1)
    separate = separate_touching(mask, 2)
    np.testing.assert_array_equal(white, (mask > 0) & (separate == 0))
    assert white.sum() > 0
    weights = border_weights(separate, 4.0, 3.0)
    np.testing.assert_array_equal(seen[3].picture, colour_map(weights, weights.max(), "viridis"))
    assert seen[1].lines == ("2 objects.",)
    assert seen[2].lines == (f"White: {white.sum()} px become background.",)
    assert f"{white.sum()} px of this image" in plate.caption
    assert "w0 = 4 and sigma = 3 px" in plate.caption
    highest = weights[separate == 0].max()
    assert f"weighs {weights[separate == 1][0]:.2f}, and background" in plate.caption
    assert f"up to {highest:.1f}:" in plate.caption


def test_ignored_pixels_and_an_empty_mask_are_drawn():
    mask = touching()
    mask[:3] = -1
    assert draw_borders(np.ones((1, 20, 20)), mask).picture.dtype == np.uint8
    assert "a pixel of an object weighs nothing" in draw_borders(np.ones((1, 20, 20)), mask * 0).caption
