"""Competitors take turns, drawn here by hand; one that fails is a row and no crash."""

import pytest

from speed.interleave import Competitor, Limits, Outcome, Prepared, interleave, quartiles, timed


class Stopwatch:
    """A clock that only moves when somebody works."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def competitor(self, name, seconds, **ready):
        times = iter(seconds)

        def run():
            taken = next(times)
            self.now += taken
            self.order.append(name)
            return taken

        return Competitor(name, lambda: Prepared(run, **ready))


def test_turns_go_forwards_and_backwards_and_the_first_run_is_not_counted():
    clock = Stopwatch()
    listed = [clock.competitor("a", [9, 1, 2, 3]), clock.competitor("b", [9, 4, 5, 6], facts={"GFLOP": 7})]
    one, other = interleave(listed, Limits(3, 3, 0), clock=clock)
    assert "".join(clock.order) == "ab" + "ab" + "ba" + "ab"
    assert (one.seconds, other.seconds) == ([1, 2, 3], [4, 5, 6])
    assert (one.median, other.median, other.facts) == (2, 5, {"GFLOP": 7})


def test_what_is_warm_is_not_run_in_vain():
    clock = Stopwatch()
    assert interleave([clock.competitor("a", [5], warm=True)], Limits(1, 1, 0), clock=clock)[0].seconds == [5]


@pytest.mark.parametrize("least, most, seconds, rounds", [(2, 9, 0, 2), (2, 9, 5, 5), (2, 4, 99, 4), (1, 9, 1, 1)])
def test_rounds_end_when_the_time_is_up(least, most, seconds, rounds):
    clock = Stopwatch()
    (outcome,) = interleave([clock.competitor("a", [1] * 20)], Limits(least, most, seconds), clock=clock)
    assert len(outcome.seconds) == rounds


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match=r"^expected 1 <= least <= most, found least 3 and most 2; correct it$"):
        Limits(3, 2, 1)


def missing():
    raise ModuleNotFoundError("No module named 'monai'")


def test_one_that_is_not_there_is_a_row_and_the_others_go_on():
    clock = Stopwatch()
    gone, there = interleave([Competitor("gone", missing), clock.competitor("a", [1, 1])], Limits(1, 1, 0), clock=clock)
    assert (gone.failed, gone.seconds) == ("does not import here: No module named 'monai'", [])
    assert (there.failed, there.seconds) == ("", [1])


def test_one_that_breaks_in_the_middle_leaves_no_times():
    clock = Stopwatch()
    listed = [clock.competitor("breaks", [1, 1]), clock.competitor("a", [1] * 5)]
    broken, whole = interleave(listed, Limits(3, 3, 0), clock=clock)
    assert (broken.failed, broken.seconds) == ("failed: StopIteration: ", [])
    assert whole.seconds == [1, 1, 1]


def test_quartiles_by_hand():
    assert quartiles([5.0]) == (5, 5)
    assert quartiles([4, 1, 3, 2, 5]) == (2, 4)
    assert quartiles([1, 2]) == (1.25, 1.75)


def test_a_timed_run_does_the_work():
    done = []
    assert timed(lambda: done.append(1))() >= 0
    assert done == [1]


def test_the_median_of_an_even_number_lies_between():
    assert Outcome("a", [1, 2, 3, 10]).median == 2.5
