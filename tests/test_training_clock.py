"""What fits into a budget: integers, worked out by hand."""

import math
from dataclasses import replace

import pytest

from ushape.training.clock import REPORT_SECONDS, Clock, Pace


def pace() -> Pace:
    return Pace(Clock(), minutes=10, image_seconds=2.0, decide_seconds=0.5)


def test_images_that_are_looked_at_several_times_take_so_much_longer():
    # A tenth of ten minutes: 60 s at 2.5 s an image, then at 5 s, then at 16.5 s.
    each = pace().judge_seconds()
    assert [pace().affordable(100, 0.1, each), pace().affordable(100, 0.1, 2 * each)] == [24, 12]
    assert pace().affordable(100, 0.1, pace().judge_seconds(8)) == 3
    assert pace().affordable(2, 0.1, pace().judge_seconds(8)) == 2
    assert pace().affordable(5, 0.001, each) == 1
    assert Pace(Clock(), minutes=None).affordable(5, 0.001, 100.0) == 5


def test_the_end_of_a_run_counts_every_look():
    # Four watched images and six judged ones, none tuned on.
    assert pace().ending_seconds(4, 6, 0) == pytest.approx(1.1 * 10 * 2.5 + REPORT_SECONDS)
    assert pace().ending_seconds(4, 6, 0, views=8) == pytest.approx(1.1 * (10 * 0.5 + 4 * 2 + 48 * 2) + REPORT_SECONDS)
    assert replace(pace(), n_watching=4).ending_seconds(4, 6, 0) == pytest.approx(1.1 * (16 + 15) + REPORT_SECONDS)
    # Thirteen decisions for each of two images.
    assert pace().ending_seconds(4, 6, 26) == pytest.approx(1.1 * (10 * 2.5 + 26 * 0.5) + REPORT_SECONDS)


def test_a_large_image_has_room_in_part():
    # Watched ten times in 24 s; eight turned copies in 72 s; thirteen decisions in 72 s. The first is the narrowest.
    assert pace().affordable_share(1, 13) == pytest.approx(24 / 25)
    assert pace().affordable_share(80, 13) == pytest.approx(72 / 160.5)
    assert pace().affordable_share(1, 600) == pytest.approx(72 / 300)
    assert Pace(Clock(), minutes=None, image_seconds=9.0).affordable_share(1, 13) == math.inf
    assert Pace(Clock(), minutes=10).affordable_share(1, 13) == math.inf
    # Maps that are read four times each time they are watched.
    assert replace(pace(), n_watching=4).affordable_share(1, 13) == pytest.approx(24 / 40)
