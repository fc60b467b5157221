"""What `auto` plans for six data sets and budgets, into docs/plans.md.

    USHAPE_DATA=FOLDER python docs/make_plans.py

A plan depends on the machine: its speed, measured for the occasion, decides how wide the network is. Run it where
nothing else does.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ushape.data.catalog import open_dataset
from ushape.network.hardware import describe_device, set_threads
from ushape.training.advice import describe_decisions
from ushape.training.planning import make_plan

PLANS = (
    ("digits", 1),
    ("phc-u373:01", 3),
    ("isbi2012:train", 30),
    ("dic-hela:02", 10),
    ("dsb2018:train", 20),
    ("hippocampus:train", 60),
)
HEAD = """# Six plans

What `ushape plan DATA --minutes N` says of six data sets and budgets on {machine};
the recipe as TOML, which it prints below, is left out. Made by `python docs/make_plans.py`. Another machine has other
numbers of steps, and so other widths.
"""


def plan(name: str, minutes: int) -> str:
    """The section of one plan."""
    planned = make_plan(open_dataset(name), minutes=minutes, device="cpu")
    return f"## {name}, {minutes} minute{'s' if minutes > 1 else ''}\n\n{describe_decisions(planned)}\n"


def main() -> None:
    """Plan and write."""
    set_threads()
    sections = [plan(*each) for each in PLANS]
    head = HEAD.format(machine=describe_device(torch.device("cpu")))
    (Path(__file__).parent / "plans.md").write_text("\n".join([head, *sections]), "utf-8")


if __name__ == "__main__":
    main()
