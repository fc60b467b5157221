"""The ways in which a whole image is looked at; what else is done to images is tested with the model."""

import numpy as np
import pytest

from ushape.preparation import Preparation

IMAGE = np.arange(12, dtype=np.float32).reshape(1, 3, 4)


def test_one_way_unless_asked_for_more():
    (only,) = Preparation().views(IMAGE)
    assert only is IMAGE


def test_moved_images_repeat_the_edge():
    plain, up, down, left, right = Preparation(moved=1).views(IMAGE)
    assert plain is IMAGE
    assert up[0].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert down[0].tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [8, 9, 10, 11]]
    assert left[0, 0].tolist() == [0, 0, 1, 2]
    assert right[0, 0].tolist() == [1, 2, 3, 3]


@pytest.mark.parametrize(("moved", "n"), [(0, 2), (1, 10)])
def test_both_ways_doubles_them(moved, n):
    views = Preparation(moved=moved, both_ways=True).views(IMAGE)
    assert len(views) == Preparation(moved=moved, both_ways=True).n_views == n
    for view, mirrored in zip(views[: n // 2], views[n // 2 :], strict=True):
        assert np.array_equal(view[..., ::-1], mirrored)


def test_volumes_are_moved_along_three_axes():
    views = Preparation(dims=3, moved=1).views(np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32))
    assert len(views) == Preparation(dims=3, moved=1).n_views == 7
    assert {view.shape for view in views} == {(2, 3, 4, 5)}


def test_images_are_moved_as_far_as_is_asked():
    views = Preparation(moved=2).views(np.arange(5.0, dtype=np.float32)[None, None])
    assert [view[0, 0].tolist() for view in views[3:]] == [[0, 0, 0, 1, 2], [2, 3, 4, 4, 4]]
