"""How objects are read from the same maps: scores of several decisions, for runs that are there.

    python benchmarks/run.py width scale            the runs (or any other list on cells)
    python benchmarks/reading.py [--only TEXT]      a table of them, on the tune parts
    python benchmarks/reading.py --thresholds       the run's own decision at several thresholds of the mask instead,
                                                    the other fields as they were tuned beside its own
    python benchmarks/reading.py --gold             either, against gold truth alone

Few frames have gold truth, and five of them tell little. So these scores are against all frames of the tune part, gold
truth where there is some and silver elsewhere (the Cell Tracking Challenge's; made by entrants who had trained on both
sequences). They serve choosing, not reporting.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import ushape
from bench.execution import RUNS
from bench.splits import open_part, read_splits
from ushape.errors import UshapeError
from ushape.tally import Tally
from ushape.targets.instances import Decision, default_decision, maps_to_instances, object_sizes

SCORES = ("SEG", "F1@0.5", "AP@0.5:0.95", "AP@0.5", "AP@0.9")


def decisions(own: Decision, default: Decision, kind: str) -> Iterator[tuple[str, Decision]]:
    """(name, decision): the run's own, and the default for maps of `kind` with one or two fields changed."""
    yield "the run's own", own
    yield "default", default
    yield "smoothed by 1 px only", replace(default, smoothing=1.0)
    for share in (0.5, 2):
        yield f"smoothed {share:g} times as much", replace(default, smoothing=share * default.smoothing)
    for threshold in (0.4, 0.6):
        yield f"mask above {threshold:g}", replace(default, mask_threshold=threshold)
    if kind == "distance":
        for merging in (0.6, 0.7, 0.75, 0.85, 0.9):
            yield f"merging {merging:g}", replace(default, merging=merging)
        # Merging 1 reads depth as told, seeds by their height.
        for seed in (0.5, 0.6, 0.7, 0.8, 0.9):
            yield f"seeds {seed:g}, as told", replace(default, seed_threshold=seed, merging=1.0, smoothing=1.0)
        return
    for merging in (0.5, 0.8, 1.0):
        yield f"merging {merging:g}", replace(default, merging=merging)
    for seed in (0.5, 0.8, 0.95):
        yield f"seeds {seed:g}", replace(default, seed_threshold=seed)
        yield f"seeds {seed:g}, merging 1", replace(default, seed_threshold=seed, merging=1.0)


def thresholds(own: Decision) -> Iterator[tuple[str, Decision]]:
    """(name, decision): the run's own, and the same with other thresholds of the mask."""
    yield "the run's own", own
    for threshold in (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8):
        yield f"mask above {threshold:g}", replace(own, mask_threshold=threshold)


def scores_of(run: Path, *, by_threshold: bool = False, gold: bool = False) -> dict[str, list[float]]:
    """The scores by decision, of a run on `learn` against the tune part of its split.

    by_threshold  the run's own decision at several thresholds of the mask, not decisions of several kinds
    gold          against what is a reference alone, of partial frames too; otherwise against all complete masks
    """
    split = next(s for s in read_splits().values() if run.name.startswith(f"{s.name}-learn-"))
    model = ushape.load(run, device="cpu", engine="torch")
    part = open_part(split.parts("tune")[1]).samples
    samples = [s for s in part if s.annotated and (s.scored if gold else s.complete)]
    masks = [sample.read_reference() if gold else sample.read_mask() for sample in samples]
    default = default_decision(model.encoding, float(np.median(object_sizes(masks))), masks[0].ndim)
    tried = dict(
        thresholds(model.decision) if by_threshold else decisions(model.decision, default, model.encoding.kind)
    )
    tallies = {name: Tally("instances", model.classes) for name in tried}
    for sample, mask in zip(samples, masks, strict=True):
        maps = model.maps(sample.read_image())
        for name, decision in tried.items():
            tallies[name].add(sample.name, mask, maps_to_instances(maps, model.encoding, decision), sample.complete)
    found = {name: tally.evaluation().scores for name, tally in tallies.items()}
    return {name: [scores[key] for key in SCORES] for name, scores in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, score, print a table of each run and of the mean of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="runs whose folder's name holds this text")
    parser.add_argument("--folder", type=Path, default=RUNS, help="where run folders lie; default: runs/benchmarks")
    parser.add_argument("--thresholds", action="store_true", help="the run's own decision at other thresholds")
    parser.add_argument("--gold", action="store_true", help="score against gold truth alone")
    asked = parser.parse_args(arguments)
    try:
        runs = sorted(path.parent for path in asked.folder.glob("*-learn-*/model.safetensors"))
        chosen = [run for run in runs if asked.only in run.name]
        if not chosen:
            raise UshapeError(f"{asked.folder}: expected finished runs on `learn`, found none; run benchmarks/run.py")
        # Maps of another kind are read by other decisions, so that each kind has a table of its own.
        found: dict[tuple[str, ...], list[dict[str, list[float]]]] = {}
        for run in chosen:
            scores = scores_of(run, by_threshold=asked.thresholds, gold=asked.gold)
            found.setdefault(tuple(scores), []).append(scores)
            print(run.name)
            for name, values in scores.items():
                print(f"    {name:<24}", *(f"{value:.3f}" for value in values), flush=True)
        for names, alike in found.items():
            print(f"mean of {len(alike)} runs\n\n| decision | {' | '.join(SCORES)} |\n|---|{'---|' * len(SCORES)}")
            for name in names:
                mean = np.mean([scores[name] for scores in alike], axis=0)
                print(f"| {name} | {' | '.join(f'{score:.3f}' for score in mean)} |")
    except UshapeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
