"""The peak of a piece of work, against what it was made to hold."""

import sys

import numpy as np
import pytest

from speed import memory
from speed.memory import peak_over, status_bytes

STATUS = "Name:\tpython\nVmHWM:\t  300 kB\nVmRSS:\t  200 kB\n"


def test_lines_of_a_process_in_bytes():
    assert (status_bytes(STATUS, "VmHWM"), status_bytes(STATUS, "VmRSS")) == (307_200, 204_800)
    with pytest.raises(KeyError, match="expected a line VmPeak in the status of a process, found none; measure on"):
        status_bytes(STATUS, "VmPeak")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_peak_is_what_was_held_at_once_and_not_what_was_held_before():
    held = np.ones(30_000_000, np.uint8)

    def work():
        np.ones(40_000_000, np.uint8)
        return np.ones(20_000_000, np.uint8)

    result, peak = peak_over(work)
    assert (len(held), len(result)) == (30_000_000, 20_000_000)
    assert 39_000_000 < peak < 58_000_000


def test_elsewhere_it_is_the_growth_of_the_largest(monkeypatch, tmp_path):
    sizes = iter([1000, 1500])
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "nowhere" / "clear_refs")
    monkeypatch.setattr(memory, "largest_so_far", lambda: next(sizes))
    assert peak_over(lambda: "done") == ("done", 500)
