"""The race: other ways to train, on the same images, in so many minutes, scored as our models are.

    PYTHONPATH=src .venv-peers/bin/python benchmarks/race.py PEER SPLIT [--minutes 15] [--seed 0] [--stage tune|test]
    PYTHONPATH=src .venv-peers/bin/python benchmarks/race.py --tables        tables into docs/results.md

PEER is nnunet, monai, monai-large or plain; SPLIT a name in splits.toml. Ours are the list `minutes` of run.py. A run
whose row is there is not repeated without --renew, and one that is interrupted leaves no row and begins anew. With
--stage test the peer is trained on the whole training part and looks at test: counted.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bench.execution import RUNS, Bench, refuse_unsound, rounded, seconds_an_image
from bench.experiments import Run, read_experiments
from bench.membranes import MembraneTally, pooled_scores
from bench.provenance import REPOSITORY, code_version, commit, machine, short_hash, without_words
from bench.records import Records, Row, now
from bench.splits import open_stage, read_splits
from bench.tables import insert_block
from racing.contest import Finish, Peer, Start, versions
from racing.peers import PEERS
from racing.table import MINUTES, TITLE, render_race, run_of
from run import guarded
from ushape.data.dataset import Dataset
from ushape.errors import RecipeError

EXPERIMENT = "race"
OURS = "minutes"
"""The list of our own runs."""
RESULTS = REPOSITORY / "docs" / "results.md"
LARGE_FILES = ("raw", "preprocessed", "results", "images")
"""What a peer leaves in its folder that nobody reads again."""


def read_command(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", nargs="?", metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("split", nargs="?", metavar="SPLIT", help="a name in splits.toml")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", choices=("tune", "test"), default="tune", help="what is scored; test is counted")
    parser.add_argument("--renew", action="store_true", help="repeat a run whose row is there")
    parser.add_argument("--trial", action="store_true", help="keep the row beside the run folders: no benchmark")
    parser.add_argument("--tables", action="store_true", help="render the rows")
    parser.add_argument("--page", type=Path, default=RESULTS, help="where tables go; default: docs/results.md")
    parser.add_argument("--folder", type=Path, default=RUNS / EXPERIMENT, help="where run folders lie")
    return parser.parse_args(arguments)


def chosen(name: str | None, known: Mapping[str, Any], what: str) -> Any:
    """What has this name; RecipeError where nothing has it."""
    if name not in known:
        raise RecipeError(f"expected {what} out of {', '.join(known)}, found {name}; correct the name")
    return known[name]


def inputs_of(peer: Peer, run: Run, training: Dataset, scored: Dataset) -> dict[str, str]:
    """What a row is repeated for when it changes."""
    return {
        "data": training.fingerprint,
        "scored data": scored.fingerprint + (" as membranes" if run.split.membranes else ""),
        "recipe": versions(peer.packages),
        "program": program_version(),
    }


@cache
def program_version() -> str:
    """A hash of the code that runs the peers: a learning rate or an epoch there decides about a row."""
    files = [*sorted((REPOSITORY / "benchmarks" / "racing").rglob("*.py")), REPOSITORY / "benchmarks/speed/peers.py"]
    return short_hash("\n".join(f"{path.name}\n{without_words(path.read_text('utf-8'))}" for path in files))


def inputs_today(run: Run, ours: Bench) -> dict[str, str]:
    """What tables hold a row against: of a peer's the data alone, since its packages need not be installed here."""
    if run.variant.recipe not in PEERS:
        return ours.inputs_today(run)
    inputs = inputs_of(PEERS[run.variant.recipe], run, *open_stage(run.split, run.stage))
    return {name: value for name, value in inputs.items() if name != "recipe"}


def row_of(peer: Peer, run: Run, inputs: Mapping[str, str], finish: Finish, scores: Mapping[str, float]) -> Row:
    """What is kept of a run."""
    name, dirty = commit("benchmarks/race.py", "benchmarks/racing", "benchmarks/speed")
    return run.about | {
        "recipe": peer.name,
        "settings": [],
        "scores": {"val": rounded(finish.chosen), run.stage: rounded(scores)},
        "steps": finish.steps,
        "seconds": round(finish.seconds, 1),
        "seconds an image": finish.seconds_an_image,
        "trained": dict(finish.trained),
        "inputs": dict(inputs),
        "versions": versions(peer.packages),
        "code": code_version(),
        "commit": name,
        "dirty": dirty,
        # Peers compute in float32, whatever this processor is fastest in.
        "machine": machine(f"cpu with {torch.get_num_threads()} threads, float32"),
        "date": now(),
    }


def score(peer: Peer, run: Run, finish: Finish, scored: Dataset, inputs: Mapping[str, str], records: Records) -> Row:
    """Predict, score as our models are scored, log the look where it was at a test part, and keep the row."""
    tally = MembraneTally() if run.split.membranes else None
    found = finish.rival.evaluate(scored, on_image=tally)
    refuse_unsound(run, found)
    scores = found.scores
    kept = {} if tally is None else {"membranes": tally.contents}
    if kept:
        scores = scores | pooled_scores([kept])
    if finish.seconds_an_image is None:
        finish = replace(finish, seconds_an_image=round(seconds_an_image(finish.rival, scored), 3))
    if run.stage == "test":
        records.log_look(run, EXPERIMENT, scores)
    row = row_of(peer, run, inputs, finish, scores) | kept
    records.write(run, row)
    return row


def race(peer: Peer, run: Run, folder: Path, records: Records, renew: bool) -> Row:
    """The row of a run: the one that is there, or a new one."""
    training, scored = open_stage(run.split, run.stage)
    inputs = inputs_of(peer, run, training, scored)
    row = records.current(run, inputs)
    if row is not None and not renew:
        print(f"{run.slug}: its row is there; --renew repeats it", flush=True)
        return row
    assert run.minutes is not None
    own = (folder / run.slug).resolve()
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    print(f"{peer.title} on {run.split.name}, {run.budget}, seed {run.seed}, scored on {run.stage}", flush=True)
    finish = peer.run(Start(training, scored, run.minutes, run.seed, own))
    row = score(peer, run, finish, scored, inputs, records)
    for name in LARGE_FILES:
        shutil.rmtree(own / name, ignore_errors=True)
    shown = {key: row["scores"][run.stage].get(key) for key in run.split.scores}
    told = ", ".join(f"{key} {value:.3f}" for key, value in shown.items() if value is not None)
    print(f"    {told}; {row['steps']} steps in {row['seconds']:.0f} s", flush=True)
    return row


def perform(asked: argparse.Namespace, records: Records) -> int:
    """Do what the command line asks; the exit status."""
    splits = read_splits()
    if asked.tables:
        ours = Bench(records)
        marking = replace(records, inputs_today=lambda run: inputs_today(run, ours))
        text = render_race(read_experiments(splits)[OURS], splits, PEERS, marking)
        if text:
            insert_block(asked.page, f"benchmark {EXPERIMENT}", TITLE, text)
        return 0
    peer, split = chosen(asked.peer, PEERS, "a peer"), chosen(asked.split, splits, "a split")
    if not asked.minutes > 0:
        raise RecipeError(f"expected more than 0 minutes, found {asked.minutes}; raise --minutes")
    race(peer, run_of(peer, split, asked.stage, asked.minutes, asked.seed), asked.folder, records, asked.renew)
    return 0


def main(arguments: Sequence[str] | None = None, records: Records | None = None) -> int:
    """Read the command line and do what it asks; the exit status."""
    asked = read_command(arguments)
    records = records or Records()
    if asked.trial:
        records = replace(records, rows=asked.folder / "trials")
    return guarded(lambda: perform(asked, records), "no row was written, and the same command begins anew")


if __name__ == "__main__":
    sys.exit(main())
