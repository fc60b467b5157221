"""Named lists of experiments, run, resumed, written down and put into tables.

    python benchmarks/run.py NAME... [--test] [--until MINUTES] [--only TEXT] [--renew]
    python benchmarks/run.py NAME... --dry-run        what would run, and how many minutes it takes
    python benchmarks/run.py [NAME...] --tables       tables into docs/results.md; without a name, those of all lists

Lists stand in experiments.toml, the parts of the data in splits.toml, rows in rows/ and looks at test parts in
looks.jsonl; docs/benchmarks.md tells how they belong together. The same command goes on where it was interrupted.
Tables open the data too, to mark rows of another recipe or of other data than today's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.execution import RUNS, Bench, Job
from bench.experiments import Experiment, Run, experiments_named, read_experiments
from bench.provenance import REPOSITORY
from bench.records import Records
from bench.splits import Stage, read_splits
from bench.tables import insert_table, is_kept, render
from ushape.errors import UshapeError

RESULTS = REPOSITORY / "docs" / "results.md"
TRIALS = "trials"


def read_command(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="lists in experiments.toml; default: all")
    parser.add_argument("--test", action="store_true", help="train on all of train and look at test: counted")
    add_sitting(parser)
    return parser.parse_args(arguments)


def add_sitting(parser: argparse.ArgumentParser) -> None:
    """Options of every command that runs lists of experiments."""
    parser.add_argument("--only", default="", metavar="TEXT", help="runs whose name or variant holds this text")
    parser.add_argument("--until", type=float, metavar="MINUTES", help="the length of the sitting")
    parser.add_argument("--renew", action="store_true", help="repeat also what older code made")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and what they need")
    parser.add_argument("--tables", action="store_true", help="render the rows")
    parser.add_argument("--page", type=Path, default=RESULTS, help="where tables go; default: docs/results.md")
    trial = parser.add_argument_group("trials, whose rows stay in the run folders")
    trial.add_argument("--steps", type=int, help="steps instead of the minutes of the list")
    trial.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--folder", type=Path, default=RUNS, help="where run folders lie; default: runs/benchmarks")


def records_for(asked: argparse.Namespace, records: Records) -> Records:
    """Where rows go: what was changed by hand is no benchmark, so its rows stay in the folder that git ignores.

    A look is a look.
    """
    trial = asked.steps is not None or asked.settings
    return replace(records, rows=asked.folder / TRIALS) if trial else records


def chosen_runs(experiments: Sequence[Experiment], asked: argparse.Namespace) -> list[tuple[str, Run]]:
    """(list, run) of all that was asked for; a run that several lists ask for once."""
    splits = read_splits()
    stage: Stage = "test" if asked.test else "tune"
    chosen: dict[str, tuple[str, Run]] = {}
    for experiment in experiments:
        for run in experiment.with_settings(asked.settings).runs(splits, stage, asked.steps):
            if asked.only in run.slug or asked.only in run.variant.name:
                chosen.setdefault(run.slug, (experiment.name, run))
    return list(chosen.values())


def told(job: Job) -> str:
    """A run in a line."""
    run = job.run
    return f"{run.split.name}, {run.variant.name}, {run.budget}, seed {run.seed}, scored on {run.stage}"


def fits(wanted: float, left: float, sitting: float) -> bool:
    """Whether a run is begun with `left` seconds to go.

    One that is longer than a whole sitting always is, and goes on in the next one.
    """
    return left > 0 and (wanted <= left or wanted > sitting)


def dry_run(bench: Bench, chosen: Sequence[tuple[str, Run]]) -> int:
    """Say what would be done."""
    total = 0.0
    for name, run in chosen:
        job = bench.job(run, name)
        wanted, state = bench.seconds_wanted(job) / 60, bench.state(job)
        changed = f" (its row is of other {', '.join(names)})" if (names := bench.changes(job)) else ""
        print(f"{state:<12} {wanted:6.1f} min  {told(job)}{changed}", flush=True)
        total += wanted
    print(f"{len(chosen)} runs, {total:.0f} minutes of training to come, scoring not counted")
    return 0


def execute(bench: Bench, job: Job, until: float | None) -> bool:
    """Bring one run to its row; False when its training was interrupted, with everything saved."""
    print(f"{told(job)} ({bench.state(job)})", flush=True)
    if bench.training_state(job) != "trained" and not bench.train(job, until):
        return False
    row = bench.score(job)
    shown = {key: row["scores"][job.run.stage].get(key) for key in job.run.split.scores}
    scores = ", ".join(f"{key} {value:.3f}" for key, value in shown.items() if value is not None)
    print(f"    {scores}; {row['steps']} steps in {row['seconds']:.0f} s", flush=True)
    return True


def sit(bench: Bench, chosen: Sequence[tuple[str, Run]], minutes: float | None) -> int:
    """Run what is missing, for so many minutes; the exit status."""
    end = None if minutes is None else time.monotonic() + 60 * minutes
    failed = older = 0
    for name, run in chosen:
        try:
            job = bench.job(run, name)
            state = bench.state(job)
            if state in ("done", "older code"):
                older += state == "older code"
                continue
            left = float("inf") if end is None else end - time.monotonic()
            if not fits(bench.seconds_wanted(job), left, 60 * (minutes or 0)):
                print(f"left for the next sitting: {told(job)}", flush=True)
            elif not execute(bench, job, end):
                print("interrupted; everything is saved, and the same command goes on", flush=True)
                return 0 if end is not None and time.monotonic() > end else 130
        except UshapeError as error:
            print(f"{run.slug}: {error}", file=sys.stderr, flush=True)
            failed += 1
    if older:
        print(f"{older} rows were made by older code and are kept; --renew repeats them")
    return 1 if failed else 0


def write_tables(asked: argparse.Namespace, experiments: Sequence[Experiment], records: Records) -> None:
    """The tables of some lists into a page; a block that is history only where its list is named."""
    marking = replace(records, inputs_today=Bench(records, asked.folder).inputs_today)
    for experiment in experiments:
        if not asked.names and is_kept(asked.page, experiment):
            print(f"{experiment.name}: its table is kept as it was; name the list to replace it")
        elif text := render(experiment, read_splits(), marking):
            insert_table(asked.page, experiment, text)


def perform(asked: argparse.Namespace, records: Records) -> int:
    """Do what the command line asks; the exit status."""
    experiments = experiments_named(asked.names, read_experiments(read_splits()))
    if asked.tables:
        write_tables(asked, experiments, records)
        return 0
    if not asked.names:
        print("\n".join(f"{each.name:<12} {each.title}" for each in experiments))
        return 0
    bench = Bench(records, asked.folder, asked.renew)
    chosen = chosen_runs(experiments, asked)
    return dry_run(bench, chosen) if asked.dry_run else sit(bench, chosen, asked.until)


def guarded(
    action: Callable[[], int], afterwards: str = "the same command goes on where the last checkpoint was"
) -> int:
    """The exit status of an action; errors are told in a sentence.

    afterwards  what a person should know behind an interruption
    """
    try:
        return action()
    except UshapeError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; {afterwards}", file=sys.stderr)
        return 130


def main(arguments: Sequence[str] | None = None, records: Records | None = None) -> int:
    """Read the command line and do what it asks; the exit status."""
    asked = read_command(arguments)
    return guarded(lambda: perform(asked, records_for(asked, records or Records())))


if __name__ == "__main__":
    sys.exit(main())
