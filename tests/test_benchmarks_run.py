"""Runs are killed at each of their stages and go on; rows are repeated when an input changed, and only then."""

import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch

import run as command
import ushape
from bench import execution, provenance
from bench.execution import Bench, Deadline
from bench.experiments import Experiment, Run, Variant, experiments_named, read_experiments
from bench.provenance import RecipeContents, code_version, recipe_fingerprint, short_hash, without_words
from bench.records import Records
from bench.splits import Part, Split, opened, read_splits
from conftest import disc_image
from ushape.data.dataset import Dataset, Sample
from ushape.errors import DataError, RecipeError
from ushape.training import rules
from ushape.training.examples import DataSummary
from ushape.training.listening import Listener
from ushape.training.planning import make_plan
from ushape.training.recipe import write_recipe
from ushape.training.rules import plan_recipe

TINY = ("network.channels=4", "network.depth=3", "patch=[32, 32]", "batch=2")
STEPS = 6


@pytest.fixture
def stack(tmp_path):
    """A folder with a stack of 12 slices of discs."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_stack(folder)
    opened.cache_clear()
    yield folder
    opened.cache_clear()


def write_stack(folder, seed=0):
    pairs = [disc_image(seed + i, 64) for i in range(12)]
    tifffile.imwrite(folder / "train-volume.tif", np.stack([image[0] for image, _ in pairs]))
    masks = np.stack([np.where(mask > 0, 255, 0).astype(np.uint8) for _, mask in pairs])
    tifffile.imwrite(folder / "train-labels.tif", masks)


@pytest.fixture
def split(stack):
    def part(*block):
        return Part(str(stack), (block,))

    return Split("discs", part(0, 8), part(10, 11), ("mean Dice",), part(0, 5), part(7, 8), gap=1)


@pytest.fixture
def bench(tmp_path):
    return Bench(Records(tmp_path / "rows", tmp_path / "looks.jsonl"), tmp_path / "runs")


def run_of(split, stage="tune", **options):
    return Run(split, stage, Variant("tiny", settings=TINY), **({"seed": 0, "steps": STEPS} | options))


def weights(bench, run):
    return ushape.load(bench.run_folder(run)).network.state_dict()


class KilledError(Exception):
    """A kill."""


# Interrupted at each stage.


def test_a_run_becomes_a_row_and_is_done(bench, split):
    job = bench.job(run_of(split), "list")
    assert bench.state(job) == "new"
    assert bench.train(job)
    assert bench.state(job) == "trained"
    row = bench.score(job)
    assert bench.state(job) == "done"
    assert bench.records.row(job.run) == row
    assert row["steps"] == STEPS
    assert set(row["scores"]) == {"val", "tune"}
    assert row["trained on"].endswith("data 0-5")
    assert row["scored on"].endswith("data 7-8")
    assert row["network"]["channels"] == 4
    assert "channels = 4" in row["trained recipe"]
    assert "reasons" not in row["trained recipe"]
    assert row["seconds"] > 0
    assert bench.seconds_wanted(job) == 0


def test_an_interrupted_training_goes_on_and_ends_as_if_nothing_had_happened(bench, split, tmp_path):
    job = bench.job(run_of(split), "list")
    # A sitting that is over at the first report.
    assert not bench.train(job, until=0.0)
    assert bench.state(job) == "interrupted"
    assert bench.train(job)
    whole = Bench(bench.records, tmp_path / "other")
    assert whole.train(whole.job(run_of(split), "list"))
    assert [e["event"] for e in execution.events_in(bench.run_folder(job.run))].count("resume") == 1
    for name, tensor in weights(whole, job.run).items():
        assert torch.equal(tensor, weights(bench, job.run)[name])


def test_a_training_killed_before_its_first_checkpoint_begins_again(bench, split, monkeypatch):
    def kill(self, *progress):
        raise KilledError

    job = bench.job(run_of(split), "list")
    with monkeypatch.context() as patch:
        patch.setattr(Deadline, "progress", kill)
        with pytest.raises(KilledError):
            bench.train(job)
    assert bench.state(job) == "interrupted"
    assert bench.train(job)
    assert bench.state(job) == "trained"


def test_a_run_killed_while_it_was_planned_begins_again(bench, split, monkeypatch):
    def kill(*arguments, **options):
        raise KilledError

    job = bench.job(run_of(split), "list")
    with monkeypatch.context() as patch:
        patch.setattr(execution, "train_run", kill)
        with pytest.raises(KilledError):
            bench.train(job)
    assert bench.state(job) == "new"
    assert bench.train(job)


def test_a_run_killed_after_training_is_only_scored(bench, split, monkeypatch):
    job = bench.job(run_of(split), "list")
    assert bench.train(job)
    # Killed before the seconds were written: the events know them too.
    (bench.run_folder(job.run) / "seconds.json").unlink()
    monkeypatch.setattr(execution, "train_run", lambda *a, **k: pytest.fail("trained again"))
    assert command.execute(bench, job, None)
    row = bench.records.row(job.run)
    assert row["seconds"] == round(execution.events_in(bench.run_folder(job.run))[-1]["elapsed"], 1)


def test_a_run_killed_between_look_and_row_is_looked_at_again_and_both_looks_are_counted(bench, split, monkeypatch):
    job = bench.job(run_of(split, "test"), "list")
    assert bench.train(job)
    with monkeypatch.context() as patch:
        patch.setattr(Bench, "row", lambda *a: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            bench.score(job)
    assert bench.state(job) == "trained"
    bench.score(job)
    assert bench.records.n_looks(str(split.test)) == 2


def test_scores_of_fewer_images_than_the_part_has_make_no_row(bench, split, monkeypatch):
    job = bench.job(run_of(split, "test"), "list")
    assert bench.train(job)
    first, *rest = job.scored.samples

    def unreadable():
        raise DataError("slice 10: expected an image, found half of one")

    broken = replace(job, scored=job.scored.subset([replace(first, image=unreadable), *rest]))
    with pytest.raises(
        DataError,
        match=r"data 10-11: expected all images to be scored, found 1 that could not be .*half of one.*no row",
    ):
        bench.score(broken)
    assert bench.records.row(job.run) is None
    # No score was told, so it was no look.
    assert bench.records.n_looks(str(split.test)) == 0
    assert bench.state(job) == "trained"
    bench.score(job)
    assert bench.state(job) == "done"


def test_scores_of_images_that_were_learnt_from_make_no_row(bench, split):
    job = bench.job(run_of(split), "list")
    assert bench.train(job)
    leaking = replace(job, scored=job.training.subset([*job.scored.samples, job.training.samples[0]]))
    with pytest.raises(DataError, match=r"data 7-8: expected images that the model has not seen, found 1 .*no row"):
        bench.score(leaking)
    assert bench.records.row(job.run) is None


def test_ways_to_predict_share_a_training(bench, split, monkeypatch):
    job = bench.job(run_of(split), "list")
    turned = replace(job.run, variant=replace(job.run.variant, name="turned", rotations=8))
    assert bench.train(job)
    bench.score(job)
    again = bench.job(turned, "list")
    assert bench.state(again) == "trained"
    assert bench.score(again)["rotations"] == 8
    assert len(list(bench.records.rows.iterdir())) == 2


# Repeated when an input changed, and only then.


def finished(bench, split, **options):
    job = bench.job(run_of(split, **options), "list")
    assert bench.train(job)
    bench.score(job)
    return job


def test_other_data_repeat_a_row(bench, split, stack):
    job = finished(bench, split)
    write_stack(stack, seed=50)
    opened.cache_clear()
    again = bench.job(job.run, "list")
    assert bench.changes(again) == ["data", "scored data"]
    assert bench.state(again) == "new"


def test_another_part_seed_budget_recipe_or_setting_is_another_run(bench, split):
    run = run_of(split)
    others = [
        replace(run, seed=1),
        replace(run, steps=7),
        replace(run, steps=None, minutes=6.0),
        replace(run, stage="test"),
        replace(run, variant=Variant("tiny", "paper", TINY)),
        replace(run, variant=Variant("tiny", settings=(*TINY, "foreground=0"))),
        replace(run, split=replace(split, learn=Part(split.learn.data, ((0, 4),)))),
    ]
    assert len({each.training for each in [run, *others]}) == 1 + len(others)
    assert replace(run, variant=replace(run.variant, name="renamed")).slug == run.slug


def test_what_is_scored_repeats_the_scoring_and_not_the_training(bench, split):
    job = finished(bench, split)
    other = replace(job.run, split=replace(split, tune=Part(split.tune.data, ((8, 8),))))
    again = bench.job(other, "list")
    assert bench.changes(again) == ["scored data"]
    assert bench.state(again) == "trained"


def test_a_row_without_the_scores_of_membranes_is_scored_again_and_not_trained_again(bench, split):
    job = finished(bench, split)
    assert "membranes" not in bench.records.row(job.run)
    again = bench.job(replace(job.run, split=replace(split, membranes=True)), "list")
    assert bench.changes(again) == ["scored data"]
    assert bench.state(again) == "trained"
    row = bench.score(again)
    assert set(row["membranes"]["slices"]) == {sample.name for sample in again.scored.samples}
    assert set(row["scores"]["tune"]) > {"mean Dice", "pixel error", "least pixel error", "warping error"}
    assert bench.state(again) == "done"


def test_a_rule_that_decides_otherwise_for_these_data_repeats_a_row(bench, split, monkeypatch):
    job = finished(bench, split)

    def changed(*arguments, **options):
        return replace(rules.plan_recipe(*arguments, **options), foreground=0.9)

    monkeypatch.setattr(provenance, "plan_recipe", changed)
    fresh = Bench(bench.records, bench.folder)
    fresh.contents = RecipeContents(bench.folder / "elsewhere.json")
    again = fresh.job(job.run, "list")
    assert fresh.changes(again) == ["recipe"]
    assert fresh.state(again) == "new"


def test_other_code_marks_a_row_and_repeats_it_when_asked_to(bench, split, monkeypatch):
    job = finished(bench, split)
    monkeypatch.setattr(execution, "code_version", lambda: "other")
    assert bench.state(job) == "older code"
    assert bench.seconds_wanted(job) == 0
    bench.renew = True
    assert bench.state(job) == "new"
    assert bench.train(job)
    row = bench.score(job)
    assert row["code"] == "other"
    assert bench.state(job) == "done"


def test_a_row_tells_when_training_began_with_other_code(bench, split, monkeypatch):
    job = bench.job(run_of(split), "list")
    assert bench.train(job)
    monkeypatch.setattr(execution, "code_version", lambda: "other")
    assert bench.score(job)["code"] == f"{code_version()}, other"
    assert bench.state(job) == "older code"


def test_a_row_tells_what_trained_in_each_sitting(bench, split, monkeypatch):
    """Scored later, elsewhere, from a clean checkout: the training was still of changes that nobody committed."""
    job = bench.job(run_of(split), "list")
    monkeypatch.setattr(execution, "commit", lambda: ("first", True))
    monkeypatch.setattr(execution, "machine", lambda: "a slow one")
    assert not bench.train(job, until=0)
    monkeypatch.setattr(execution, "commit", lambda: ("second", False))
    monkeypatch.setattr(execution, "machine", lambda: "a fast one")
    assert bench.train(job)
    monkeypatch.setattr(execution, "commit", lambda: ("third", False))
    row = bench.score(job)
    assert row["commit"] == "first, second, third"
    assert row["dirty"]
    assert row["machine"] == "a slow one; a fast one"


def test_the_seconds_of_an_image_are_no_single_measurement(monkeypatch):
    """The first one is not counted, and a disturbed one of three decides nothing."""
    took, clock = iter([50.0, 1.0, 9.0, 2.0]), SimpleNamespace(now=0.0)

    def maps(image, symmetries):
        assert symmetries == 1
        clock.now += next(took)

    monkeypatch.setattr(execution.time, "perf_counter", lambda: clock.now)
    data = SimpleNamespace(samples=[SimpleNamespace(read_image=lambda: "pixels")])
    assert execution.seconds_an_image(SimpleNamespace(maps=maps), data) == 2.0


def test_recipes_are_remembered_and_data_not_read_again(bench, split, monkeypatch):
    first = bench.job(run_of(split), "list").inputs
    monkeypatch.setattr(provenance, "summary_of", lambda dataset: pytest.fail("read again"))
    assert Bench(bench.records, bench.folder).job(run_of(split), "list").inputs == first


# Where rows come from.


def test_words_are_no_code():
    plain = 'def f(x):\n    return x + "a"\n'
    assert without_words(f'"""Words."""\n# more\n{plain}') == without_words(plain)
    assert without_words(plain.replace("return", '"""Says."""\n    return')) == without_words(plain)
    assert without_words('A = 1\n"""Said of A."""\n') == without_words("A = 1\n")
    assert without_words(plain.replace('"a"', '"b"')) != without_words(plain)


def test_the_code_version_follows_the_code_that_computes(tmp_path):
    for name in provenance.RESULT_CODE:
        path = tmp_path / name if name.endswith(".py") else tmp_path / name / "module.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("A = 1\n")
    (tmp_path / "cli.py").write_text("A = 1\n")

    def version():
        code_version.cache_clear()
        return code_version(tmp_path)

    first = version()
    (tmp_path / "cli.py").write_text("A = 2\n")
    assert version() == first
    (tmp_path / "scoring" / "module.py").write_text("A = 2\n")
    assert version() != first
    code_version.cache_clear()


def test_what_can_change_a_result_is_there():
    package = Path(ushape.__file__).parent
    assert all((package / name).exists() for name in provenance.RESULT_CODE)


WITHOUT_RESULTS = {"__init__.py", "cli.py", "console.py", "errors.py", "files"} | {
    *("model_file.py", "picture", "progress.py", "reporting.py")
}
"""What of the package can change no score."""


def test_all_of_the_package_can_change_a_result_or_is_known_not_to():
    package = Path(ushape.__file__).parent
    found = {path.name for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found == {*provenance.RESULT_CODE} | WITHOUT_RESULTS


PROCESSOR = """processor\t: 0
cpu family\t: {}
model\t\t: {}
model name\t: AMD EPYC

processor\t: 1
cpu family\t: 0
model\t\t: 0
model name\t: another
"""


def test_two_processors_of_one_name_are_told_apart(tmp_path):
    told = tmp_path / "cpuinfo"
    names = []
    for family, model in ((25, 17), (26, 2)):
        told.write_text(PROCESSOR.format(family, model))
        names.append(provenance.processor(told))
    assert names == ["AMD EPYC (family 25, model 17)", "AMD EPYC (family 26, model 2)"]
    # As on ARM, and as on no Linux.
    told.write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert provenance.processor(told) == platform.machine()
    assert provenance.processor(tmp_path / "none") == (platform.processor() or platform.machine())
    assert provenance.processor() in provenance.machine()


# Looks.


def test_each_scoring_on_a_test_part_is_a_line(bench, split):
    finished(bench, split)
    assert not bench.records.looks.exists()
    finished(bench, split, stage="test")
    (look,) = map(json.loads, bench.records.looks.read_text().splitlines())
    assert (look["part"], look["experiment"], look["seed"], look["budget"]) == (str(split.test), "list", 0, "6 steps")
    assert set(look["scores"]) == {"mean Dice"}
    assert set(look) >= {"date", "commit", "dirty", "variant", "split"}


def test_the_log_of_looks_is_made_of_whole_lines():
    for line in Records().looks.read_text("utf-8").splitlines():
        assert set(json.loads(line)) >= {"date", "commit", "part", "split", "scores"}


@pytest.fixture
def looks(tmp_path):
    """Records with looks at the parts of this name."""

    def with_looks(*parts):
        records = Records(tmp_path / "rows", tmp_path / "looks.jsonl")
        records.looks.write_text("".join(json.dumps({"part": part}) + "\n" for part in parts))
        return records

    return with_looks


def test_a_look_at_some_of_a_part_is_a_look_at_it_whatever_its_split(looks):
    records = looks(
        "isbi2012 24-29", "isbi2012 24-29", "dsb2018 fifths 0", "dsb2018:fluorescence fifths 0", "dic-hela:01"
    )
    counts = {
        "isbi2012 20-29": 2,
        "isbi2012 10-19": 0,
        "dsb2018 fifths 0": 2,
        "dsb2018:fluorescence fifths 0": 2,
        "dsb2018 fifths 1": 0,
        "dic-hela:01": 1,
        "dic-hela:02": 0,
    }
    assert {part: records.n_looks(part) for part in counts} == counts


def test_looks_at_the_folds_of_the_repository_are_counted():
    records, splits = Records(), read_splits()
    looks = {name: records.n_looks(str(split.test)) for name, split in splits.items()}
    assert looks["isbi2012-fold3"] >= looks["isbi2012"] >= 20
    assert looks["dsb2018"] == looks["dsb2018-fluorescence"] >= 4


# Lists.


def test_a_list_is_a_product_with_the_short_budgets_first(split):
    other = replace(split, name="other")
    variants = (Variant("a"), Variant("b", settings=("batch=3",), splits=("other",)))
    listed = Experiment("l", "t", ("discs", "other"), (1, 3), (0, 1), variants=variants, seeds_of={"other": [5]})
    runs = listed.runs({"discs": split, "other": other}, "tune")
    assert [(r.minutes, r.variant.name, r.split.name, r.seed) for r in runs[:4]] == [
        (1, "a", "discs", 0),
        (1, "a", "discs", 1),
        (1, "a", "other", 5),
        (1, "b", "other", 5),
    ]
    assert [r.minutes for r in runs] == [1] * 4 + [3] * 4
    assert {r.budget for r in listed.runs({"discs": split, "other": other}, "tune", steps=9)} == {"9 steps"}


def test_lists_that_choose_never_look_at_test(split):
    listed = Experiment("choosing", "t", ("discs",), (1,))
    with pytest.raises(RecipeError, match="choosing: expected a list that may be scored on test parts"):
        listed.runs({"discs": split}, "test")


def test_the_lists_of_the_repository_can_be_read_and_their_settings_hold():
    splits = read_splits()
    known = read_experiments(splits)
    assert {"main", "minutes", "ablation", "ingredients"} <= set(known)
    assert not known["ablation"].test
    assert not known["ingredients"].test
    cells = rules.DataSummary("c", "instances", ("background", "object"), 9, 1, ((512, 512),), 110.0)
    membranes = rules.DataSummary("m", "semantic", ("a", "b"), 9, 1, ((512, 512),), None, (0.3, 0.7))
    for experiment in known.values():
        names = [(v.name, split) for v in experiment.variants for split in v.splits or experiment.splits]
        assert len(names) == len(set(names))
        for run in experiment.runs(splits, "tune"):
            summary = membranes if run.split.name.startswith("isbi") else cells
            provenance.plan_for(summary, run.variant.recipe, run.variant.settings, run.minutes)


def test_an_unknown_name_is_told(tmp_path, split):
    with pytest.raises(RecipeError, match="expected one of the lists a, b, found 'c'"):
        experiments_named(["c"], {"a": None, "b": None})
    path = tmp_path / "lists.toml"
    path.write_text('[a]\ntitle = "t"\nsplits = ["dics"]\n')
    with pytest.raises(RecipeError, match="a: expected known fields and splits, found dics"):
        read_experiments({"discs": split}, path)


def test_a_number_of_rotations_that_is_not_offered_is_told_before_the_training():
    assert [Variant("v", rotations=n).rotations for n in (1, 2, 4, 7, 8)] == [1, 2, 4, 7, 8]
    with pytest.raises(RecipeError, match="expected 1, 2, 4, 7 or 8 rotations, found 6"):
        Variant("v", rotations=6)


# The command.


@pytest.fixture
def lists(monkeypatch, split):
    """The command with one list, `tiny`, of two seeds."""
    listed = Experiment("tiny", "Tiny", ("discs",), (6.0,), (0, 1), variants=(Variant("v", settings=TINY),), test=True)
    monkeypatch.setattr(command, "read_splits", lambda: {"discs": split})
    monkeypatch.setattr(command, "read_experiments", lambda splits: {"tiny": listed})


def options(bench):
    return ["--folder", str(bench.folder), "--page", str(bench.folder / "page.md")]


def test_a_trial_is_no_row_of_the_benchmark(bench, lists, capsys):
    assert command.main(["tiny", "--steps", "3", "--test", *options(bench)], bench.records) == 0
    assert not bench.records.rows.exists()
    assert len(list((bench.folder / "trials").iterdir())) == 2
    assert len(bench.records.looks.read_text().splitlines()) == 2
    assert command.main(["tiny", "--steps", "3", "--test", *options(bench)], bench.records) == 0
    assert len(bench.records.looks.read_text().splitlines()) == 2
    assert "mean Dice 0." in capsys.readouterr().out


def test_a_dry_run_says_what_is_to_come_and_does_nothing(bench, lists, capsys):
    assert command.main(["tiny", "--dry-run", *options(bench)], bench.records) == 0
    out = capsys.readouterr().out
    assert "2 runs, 12 minutes of training to come" in out
    assert "new             6.0 min  discs, v, 6 minutes, seed 1, scored on tune" in out
    assert not list(bench.folder.glob("discs*"))


def test_a_run_that_fails_is_told_and_the_others_are_finished(bench, lists, capsys, monkeypatch):
    train = execution.train_run

    def failing(*arguments, **options):
        if options["seed"] == 0:
            raise RecipeError("expected better")
        return train(*arguments, **options)

    monkeypatch.setattr(execution, "train_run", failing)
    assert command.main(["tiny", "--steps", "3", *options(bench)], bench.records) == 1
    assert "expected better" in capsys.readouterr().err
    assert len(list((bench.folder / "trials").iterdir())) == 1


def page_of(bench, *words):
    assert command.main([*words, "--tables", *options(bench)], bench.records) == 0
    page = bench.folder / "page.md"
    return page.read_text("utf-8") if page.exists() else ""


def made_row(bench, run, **changes):
    """A row as if a run had made it, with the inputs of today."""
    trained, scored = run.split.parts(run.stage)
    row = {"split": run.split.name, "trained on": str(trained), "scored on": str(scored), "steps": 1, "seconds": 1.0}
    row |= {"scores": {run.stage: {"mean Dice": 0.5}}, "seed": run.seed, "machine": "a laptop", "date": "2026-01-02"}
    row |= {"code": code_version(), "commit": "abc", "dirty": False, "inputs": bench.inputs_today(run)}
    bench.records.write(run, row | changes)


def test_rows_of_another_recipe_or_of_other_data_are_marked_in_tables(bench, lists, split):
    run = command.read_experiments({})["tiny"].runs({"discs": split}, "tune")[0]
    made_row(bench, run)
    told = "‡: of another recipe or of other data than today's."
    assert "| 0 | abc |" in page_of(bench)
    assert told not in page_of(bench)
    for name in ("recipe", "data", "scored data"):
        made_row(bench, run, inputs=bench.inputs_today(run) | {name: "before"})
        assert "| 0 | abc‡ |" in page_of(bench)
        assert told in page_of(bench)
    # Other code is another mark, and says nothing about the recipe.
    made_row(bench, run, code="before")
    assert "| 0 | abc° |" in page_of(bench)


def test_without_a_name_the_tables_of_all_lists_are_written_and_words_around_them_stay(bench, lists, split, capsys):
    run = command.read_experiments({})["tiny"].runs({"discs": split}, "tune")[0]
    made_row(bench, run)
    page = bench.folder / "page.md"
    page.write_text(
        "# Results\n\n## Tiny\n\nBefore.\n\n<!-- benchmark tiny -->\nold\n<!-- end of benchmark tiny -->\n\nAfter.\n"
    )
    text = page_of(bench)
    assert "| discs | v | 6 minutes | 0.500 |" in text
    assert "old" not in text
    assert text.startswith("# Results\n\n## Tiny\n\nBefore.\n\n<!-- benchmark tiny -->\n")
    assert text.endswith("<!-- end of benchmark tiny -->\n\nAfter.\n")


def test_a_table_that_is_kept_is_replaced_only_by_name(bench, lists, split, capsys):
    made_row(bench, command.read_experiments({})["tiny"].runs({"discs": split}, "tune")[0])
    page = bench.folder / "page.md"
    kept = "# Results\n\n<!-- benchmark tiny, kept -->\nold\n<!-- end of benchmark tiny -->\n"
    page.write_text(kept)
    assert page_of(bench) == kept
    assert "tiny: its table is kept as it was; name the list to replace it" in capsys.readouterr().out
    text = page_of(bench, "tiny")
    assert text.startswith("# Results\n\n<!-- benchmark tiny -->\n")
    assert "old" not in text


def test_names_are_asked_for_before_hours_are_spent(bench, lists, capsys):
    assert command.main([*options(bench)], bench.records) == 0
    assert capsys.readouterr().out == "tiny         Tiny\n"
    assert command.main(["tany", *options(bench)], bench.records) == 1


def test_a_sitting_ends_in_time():
    assert command.fits(600, left=601, sitting=10800)
    assert not command.fits(600, left=599, sitting=10800)
    assert command.fits(20000, left=599, sitting=10800)
    assert not command.fits(20000, left=0, sitting=10800)
    assert command.fits(0.0, left=1, sitting=10800)


def test_a_long_run_is_interrupted_when_the_sitting_ends(bench, lists, capsys, monkeypatch):
    monkeypatch.setattr(command, "fits", lambda *seconds: True)
    tiny = ["tiny", "--only", "seed0", "--steps", "200", *options(bench)]
    assert command.main([*tiny, "--until", "0.002"], bench.records) == 0
    assert "interrupted; everything is saved" in capsys.readouterr().out
    assert not (bench.folder / "trials").exists()


def test_deadlines_are_listeners_that_ask_once(monkeypatch):
    asked = []
    monkeypatch.setattr(execution.signal, "raise_signal", asked.append)
    deadline = Deadline(0.0)
    assert isinstance(deadline, Listener)
    for _ in range(3):
        deadline.progress(1, 2, 0.5, None, 1.0)
    assert len(asked) == 1
    Deadline(None).progress(1, 2, 0.5, None, 1.0)
    assert len(asked) == 1


def test_the_command_can_be_started_as_the_page_says():
    path = provenance.REPOSITORY / "benchmarks" / "run.py"
    done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--dry-run" in done.stdout


def test_a_later_field_that_changes_nothing_leaves_rows_as_they_are():
    recipe = plan_recipe(DataSummary("d", "semantic", ("a", "b"), 1, 1, ((64, 64),)))
    before = write_recipe(replace(recipe, reasons=())).replace("clip = 0.0\n", "").replace("members = 1\n", "")
    assert recipe_fingerprint(recipe) == short_hash(before)
    clipped = replace(recipe, optimiser=replace(recipe.optimiser, clip=0.5))
    assert recipe_fingerprint(clipped) != recipe_fingerprint(recipe)


def test_a_row_is_of_what_the_rules_looked_at():
    """Structures of two classes decide about the working scale, and so belong to a recipe's fingerprint."""
    rows = (np.arange(200) + 40) % 80 >= 10
    mask = (rows[:, None] & rows).astype(np.int32)
    samples = tuple(Sample(f"m{n}", lambda: mask[None].astype(np.float32), lambda: mask) for n in range(2))
    dataset = Dataset("membranes", samples, "semantic", ("membrane", "cell"))
    summary = provenance.summary_of(dataset)
    assert provenance.plan_for(summary, "auto", (), None).network.scale == make_plan(dataset).recipe.network.scale == 2
