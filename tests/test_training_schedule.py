"""Warm-up, stable, decay, and revisions that never make the rate jump."""

from itertools import pairwise

import pytest

from ushape.errors import RecipeError
from ushape.training.schedule import Plan, learning_rate_factor


def factors(plans, n, warm_up=0):
    return [learning_rate_factor(step, plans, warm_up) for step in range(n)]


def test_a_plan_warms_up_stays_and_falls_to_zero():
    values = factors([Plan(0, 50, 100)], 101, warm_up=9)
    assert values[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert values[10:51] == [1.0] * 41
    assert values[75] == pytest.approx(0.5)
    assert values[100] == 0


def test_a_revision_before_the_decay_moves_the_decay():
    values = factors([Plan(0, 50, 100), Plan(20, 100, 200)], 201)
    assert values[:101] == [1.0] * 101
    assert values[150] == pytest.approx(0.5)


def test_a_revision_within_the_decay_goes_on_from_the_rate_reached():
    plans = [Plan(0, 50, 100), Plan(75, 50, 175)]
    assert learning_rate_factor(75, plans, 0) == pytest.approx(0.5)
    assert learning_rate_factor(125, plans, 0) == pytest.approx(0.25)
    assert learning_rate_factor(175, plans, 0) == 0


def test_later_plans_do_not_change_the_past():
    one, two = [Plan(0, 50, 100)], [Plan(0, 50, 100), Plan(60, 60, 80)]
    assert factors(one, 60) == factors(two, 60)


def test_no_revision_makes_the_rate_jump():
    plans = [Plan(0, 10, 40), Plan(15, 10, 60), Plan(30, 10, 50), Plan(45, 10, 52)]
    values = factors(plans, 53)
    assert max(abs(a - b) for a, b in pairwise(values)) < 0.06


def test_extending_a_finished_run_begins_anew():
    values = factors([Plan(0, 50, 100), Plan(100, 150, 200)], 200)
    assert values[100:151] == [1.0] * 51
    assert values[175] == pytest.approx(0.5)


def test_a_plan_that_ends_before_it_was_made_is_refused():
    with pytest.raises(RecipeError, match="expected a plan that ends after it was made"):
        Plan(10, 5, 8)
