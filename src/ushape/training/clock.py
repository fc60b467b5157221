"""Time: what is left of a budget, and how many steps fit into it.

A clock decides integers only (how many steps, how many images to look at); everything else follows from them.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

__all__ = ["VALIDATIONS", "Clock", "Pace", "is_tenth"]

VALIDATIONS = 10
"""How often a run is validated, so that its best weights can be kept and its curve be seen."""
WATCHING_SHARE = 0.04
"""Share of the budget for validating while training; fewer images are watched where it would take more."""
JUDGING_SHARE = 0.12
"""Share of the budget for the scores at the end; fewer images are scored where it would take more."""
TUNING_SHARE = 0.12
"""Share of the budget for tuning thresholds; they are tuned on fewer images where it would take more."""
REPORT_SECONDS = 3.0
"""Reserved for the report and the last saving, beside what was measured."""
FIRST_GUESS = 100
"""Steps planned until the clock has been heard."""


def is_tenth(step: int, stop: int) -> bool:
    """Whether a tenth of `stop` steps has just been completed."""
    return step >= stop or (VALIDATIONS * step) // stop > (VALIDATIONS * (step - 1)) // stop


@dataclass
class Clock:
    """Active seconds since the process began its work, those of earlier, interrupted sittings included."""

    started: float = field(default_factory=time.perf_counter)
    earlier: float = 0.0

    def seconds(self) -> float:
        """Active seconds so far."""
        return time.perf_counter() - self.started + self.earlier


@dataclass
class Pace:
    """How fast a session goes, as measured, and what that leaves room for.

    minutes         the budget; None where steps are counted
    step_seconds    of one training step
    image_seconds   of predicting one validation image of the average size of those that are watched
    decide_seconds  of reading objects or classes from one image's maps
    n_watching      how often the maps of an image that is watched are read
    """

    clock: Clock
    minutes: float | None
    step_seconds: float | None = None
    image_seconds: float = 0.0
    decide_seconds: float = 0.0
    n_watching: int = 1

    @property
    def watch_seconds(self) -> float:
        """Of one look at an image that is watched."""
        return self.image_seconds + self.n_watching * self.decide_seconds

    def affordable(self, count: int, share: float, each: float) -> int:
        """How many of `count` images, of `each` seconds, have room in a share of the budget; at least one."""
        if self.minutes is None or each <= 0:
            return count
        return max(1, min(count, int(60 * self.minutes * share / each)))

    def judge_seconds(self, views: int = 1) -> float:
        """Of one image that is scored at the end; `views` turned copies of it are averaged."""
        return views * self.image_seconds + self.decide_seconds

    def affordable_share(self, views: int, n_tried: int) -> float:
        """What share of a watched image, 1 and more being all of it, has room in its shares of the budget.

        views    turned copies of it that are averaged at the end
        n_tried  decisions that are tried on its maps
        """
        if self.minutes is None:
            return math.inf
        seconds = 60 * self.minutes
        costs = (
            (WATCHING_SHARE, VALIDATIONS * self.watch_seconds),
            (JUDGING_SHARE, self.judge_seconds(views)),
            (TUNING_SHARE, n_tried * self.decide_seconds),
        )
        return min(share * seconds / cost if cost > 0 else math.inf for share, cost in costs)

    def ending_seconds(self, n_watched: int, n_judged: float, n_tried: float, views: int = 1) -> float:
        """What the end of a run takes: the last validation, thresholds, the scores and the report.

        n_judged  images that are scored, as many watched ones as would take as long
        n_tried   decisions that are tried on maps, those of all such images together
        views     turned copies of each judged image that are averaged
        """
        looking = n_watched * self.watch_seconds + n_judged * self.judge_seconds(views) + n_tried * self.decide_seconds
        return 1.1 * looking + REPORT_SECONDS

    def stop(self, step: int, planned: int, n_watched: int, ending: float, validated: float = 1.0) -> int:
        """The step at which a run by the clock should stop, being at `step` of `planned`.

        validated  share of the steps, from the first, in which a validation follows after every tenth of all
        """
        assert self.minutes is not None
        if self.step_seconds is None:
            return max(planned, step + FIRST_GUESS)
        # The last of all is counted with the end of the run.
        ahead = max(0.0, VALIDATIONS * (validated - step / max(planned, 1)) - (validated == 1))
        watching = ahead * n_watched * self.watch_seconds
        left = 60 * self.minutes - self.clock.seconds() - ending - watching
        return step + max(0, int(left / self.step_seconds))
