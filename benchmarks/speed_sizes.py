"""What an image costs by its size: seconds and peak of memory, from 10^4 pixels on.

    PYTHONPATH=src python benchmarks/speed_sizes.py [--form quick]

The same network and weights in both; ours in the machine's best number format with its own tiles, MONAI's
`sliding_window_inference` at its defaults in float32. Each prediction has a process of its own; memory comes on top of
the program, the network and the image. What takes less than five seconds is predicted twice, and the second time
counts. The full form goes to 10^8 pixels, the quick form to 10^6.
"""

from __future__ import annotations

from functools import partial

from speed.interleave import Competitor, Limits, interleave
from speed.predicting import Task, in_own_process
from speed.program import Sitting, measure, parser, tell
from speed.tables import Table
from speed_predict import PATCH, trained_model

TITLE = "Cost against size"
COLUMNS = ("s", "x ours", "Mpx/s", "peak MB", "memory x ours", "runs")
POWERS = {"tiny": (4, 5), "quick": (4, 6), "full": (4, 5, 6, 7, 8)}
LARGE = 7
"""Power of ten from which on a prediction is made twice only in the full form."""


def tables(sitting: Sitting) -> list[Table]:
    """A table for each size."""
    path = str(trained_model(sitting))
    made = []
    for power in POWERS[sitting.form]:
        side = round(10 ** (power / 2))
        tasks = {
            "ushape": Task("ushape", path, side),
            f"MONAI, defaults, window {min(PATCH, side)}": Task("monai", path, side, tile=min(PATCH, side)),
        }
        listed = [Competitor(name, partial(in_own_process, task)) for name, task in tasks.items()]
        n = {"tiny": 1, "quick": 2, "full": 2 if power >= LARGE else 5}[sitting.form]
        outcomes = interleave(listed, Limits(n, n, 0), told=lambda name, p=power: tell(f"  10^{p} pixels: {name}"))
        made.append(Table(f"10^{power} pixels ({side} x {side})", COLUMNS, outcomes))
    return made


def main() -> None:
    """Measure, write, print."""
    asked = parser(__doc__).parse_args()
    about = (__doc__ or "").partition("\n\n")[2].partition("\n\n")[2].strip()
    measure(Sitting(asked.form, asked.output), "sizes", TITLE, about, tables)


if __name__ == "__main__":
    main()
