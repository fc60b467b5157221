"""The command line: parse, call one function, print.

Standard output carries results (with --json one object and nothing else, for a mistake its sentence as "error"); words
and progress go to standard error.
Exit status: 0 done, 1 the input was wrong or some inputs failed, 2 bad usage, 130 interrupted with everything saved.
Everything heavy is imported inside the command that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ushape.console import Output, answering, listener, open_data, path_list, score_table, show_scores

if TYPE_CHECKING:
    from ushape.data.dataset import Dataset, Task
    from ushape.prediction.choice import Engine
    from ushape.training.clock import Clock

# Threads that spin while they wait take the processors from those that work, wherever other programs run beside this
# one: a training step took 2 s instead of 0.8 s. Alone on the machine it makes no difference. Read when torch loads.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

STARTED = time.perf_counter()
"""When the process began its work: a time budget counts from here."""

app = typer.Typer(
    name="ushape",
    help="Turn a few annotated images into a segmenter, in minutes, on a laptop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class EngineChoice(StrEnum):
    """What runs a network in prediction."""

    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"
    INT8 = "int8"
    ONNXRUNTIME = "onnxruntime"

    @property
    def engine(self) -> Engine:
        """The engine that was asked for."""
        return self.value


class TaskChoice(StrEnum):
    """What the masks of a folder are read for."""

    AUTO = "auto"
    SEMANTIC = "semantic"
    INSTANCES = "instances"
    CLASSIFICATION = "classification"

    @property
    def task(self) -> Task | None:
        """The task that was asked for; None where the masks decide."""
        return None if self is TaskChoice.AUTO else cast("Task", self.value)


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error arose.")]
TaskOption = Annotated[
    TaskChoice,
    typer.Option("--task", help="What the masks of a folder mean: classes of pixels, or objects one by one."),
]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write each image's scores to this file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
EngineOption = Annotated[
    EngineChoice,
    typer.Option("--engine", help="What runs the network; int8 wants a model that `ushape quantise` has prepared."),
]
Data = Annotated[str, typer.Argument(help="A folder, or a name from `ushape datasets list`, with a part as name:part.")]
ModelArgument = Annotated[str, typer.Argument(help="A run folder or a model file.")]
Rotations = Annotated[
    int | None,
    typer.Option(
        help="Average over 1, 2, 4 or 8 flips and quarter turns of each image, or the paper's 7 angles; default: as "
        "the recipe chose."
    ),
]


def clock() -> Clock:
    """The clock of a time budget, running since the process began its work."""
    from ushape.training.clock import Clock

    return Clock(STARTED)


def run_training(
    out: Output, data: Dataset, *, validation: Dataset | None, device: str, **options: Any
) -> tuple[Any, Path]:
    """Train, and turn Ctrl-C into a saved run; returns the finished run's result and folder."""
    from ushape.run import train_run

    finished = train_run(
        data,
        validation=validation,
        device=device,
        clock=clock(),
        listener=listener(),
        command=command_line(),
        **options,
    )
    if finished.interrupted:
        sentence = f"interrupted; everything is saved in {finished.folder}; continue with --resume"
        out.error(sentence)
        out.say(sentence)
        raise typer.Exit(130)
    assert finished.folder is not None
    return finished, finished.folder


def command_line() -> str:
    """The command that was typed, to repeat it."""
    return shlex.join(["ushape", *sys.argv[1:]])


@app.command()
def demo(
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The run folder; default runs/demo, or the next free number behind it."),
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="Time budget of the training, its report included; scores of fresh images come after.")
    ] = 1.5,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train on simulated microscopy, score on images never seen, and write a report."""
    with answering(as_json, debug) as out:
        from ushape.data.catalog import open_dataset
        from ushape.run_folder import new_run_folder

        out.say("Simulated cells, touching and noisy; no threshold separates them. Training a U-Net on them.")
        finished, folder = run_training(
            out,
            open_dataset("phantom:train"),
            validation=open_dataset("phantom:val"),
            device="auto",
            output=output or new_run_folder("demo"),
            minutes=minutes,
        )
        out.say("Scoring on fresh images:")
        evaluation = finished.model.evaluate(open_dataset("phantom:test"))
        values = {"scores": evaluation.scores, "report": str(folder / "report.html"), "model": str(folder)}
        chosen = {k: evaluation.scores[k] for k in ("AP@0.5", "AP@0.75", "F1@0.5", "SEG") if k in evaluation.scores}
        out.result(values, f"{score_table(chosen)}\nreport  {folder / 'report.html'}\nmodel   {folder}")


@app.command()
def check(
    data: Data,
    write: Annotated[
        bool, typer.Option("--write", help="Draft a dataset.toml in the folder, to say what the masks mean.")
    ] = False,
    task: TaskOption = TaskChoice.AUTO,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Look through DATA and say what is wrong with it, if anything, and what training would do about it."""
    with answering(as_json, debug) as out:
        from dataclasses import asdict

        from ushape.data.catalog import open_dataset
        from ushape.data.doctor import examine
        from ushape.data.draft import write_draft

        dataset = open_dataset(data, task=task.task)
        findings = examine(dataset)
        written = write_draft(Path(data), dataset) if write else None
        counts = {s: sum(finding.severity == s for finding in findings) for s in ("error", "warning", "note")}
        head = f"{len(dataset)} images, {len(dataset.annotated)} annotated, for {dataset.task} of "
        lines = [head + ", ".join(dataset.classes), *(f"{f.severity:<8} {f}" for f in findings)]
        lines.append(", ".join(f"{n} {severity}{'s' * (n != 1)}" for severity, n in counts.items()))
        lines += [f"written  {written}"] if written else []
        values = {"findings": [asdict(finding) for finding in findings], **counts, "images": len(dataset)}
        values |= {"annotated": len(dataset.annotated), "task": dataset.task, "classes": dataset.classes}
        out.result(values | ({"written": str(written)} if written else {}), "\n".join(lines))
        if counts["error"]:
            raise typer.Exit(1)


@app.command()
def plan(
    data: Data,
    minutes: Annotated[float | None, typer.Option(help="Time budget.")] = 10.0,
    task: TaskOption = TaskChoice.AUTO,
    recipe: Annotated[str, typer.Option(help="auto, paper or a TOML file.")] = "auto",
    settings: Annotated[list[str] | None, typer.Option("--set", help="Change a field, as in network.depth=4.")] = None,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what would be trained on DATA, and why; nothing is trained."""
    with answering(as_json, debug) as out:
        from dataclasses import asdict

        from ushape.run_folder import check_minutes
        from ushape.training.advice import describe_plan
        from ushape.training.planning import make_plan

        check_minutes(minutes)
        planned = make_plan(
            open_data(data, out, task.task), recipe=recipe, settings=settings or (), minutes=minutes, device=device
        )
        for problem in (*planned.problems, *planned.concerns):
            out.say(f"  warning: {problem}")
        values = {"recipe": asdict(planned.recipe), "training": len(planned.training)}
        values |= {"validation": len(planned.validation), "problems": planned.problems, "concerns": planned.concerns}
        out.result(values, describe_plan(planned))


@app.command()
def train(
    data: Data,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The run folder; default runs/DATA.")] = None,
    val: Annotated[str | None, typer.Option(help="Data to validate on; default: a part of DATA is held out.")] = None,
    task: TaskOption = TaskChoice.AUTO,
    recipe: Annotated[str, typer.Option(help="auto, paper or a TOML file.")] = "auto",
    settings: Annotated[list[str] | None, typer.Option("--set", help="Change a field, as in network.depth=4.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time budget, everything included; default 10.")] = None,
    steps: Annotated[int | None, typer.Option(help="Train exactly so many steps instead.")] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="A run folder or model file to start from: its network and weights.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of initial weights and batches.")] = 0,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in the folder.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a model on DATA and write it, with a report, to a run folder."""
    with answering(as_json, debug) as out:
        dataset = open_data(data, out, task.task)
        finished, folder = run_training(
            out,
            dataset,
            validation=None if val is None else open_data(val, out, dataset.task, dataset.classes),
            device=device,
            output=output,
            recipe=recipe,
            settings=settings or (),
            minutes=minutes,
            steps=steps,
            seed=seed,
            start=start,
            resume=resume,
        )
        values = {"model": str(folder), "report": str(folder / "report.html"), "steps": finished.steps}
        values |= {"seconds": finished.seconds, "validation": finished.evaluation.scores, "problems": finished.problems}
        values["refit_from"] = finished.refit_from
        weights = "before the end of each training" if finished.model.others else f"up to step {finished.refit_from}"
        learnt = f"; of weights {weights}, before these were learnt from" if finished.refit_from else ""
        out.result(
            values,
            f"validation scores (also used for choosing{learnt})\n{score_table(finished.evaluation.scores)}\n"
            f"report  {folder / 'report.html'}\nmodel   {folder}",
        )


@app.command()
def predict(
    model: ModelArgument,
    images: Annotated[list[str], typer.Argument(help="Image files, folders of images, or patterns like 'new/*.tif'.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    save: Annotated[str, typer.Option(help="Any of labels,probabilities,overlay,table,geojson,rois.")] = "labels",
    format: Annotated[str, typer.Option(help="Of the label images: tif, png or nii.gz.")] = "tif",
    rotations: Rotations = None,
    engine: EngineOption = EngineChoice.AUTO,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist already.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Skip images whose results are there already.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Segment or classify images of any size; a file that fails is reported and the others are done."""
    with answering(as_json, debug) as out:
        from ushape.files import predict_files
        from ushape.model import load

        loaded = load(model, device=device, engine=engine.engine)
        done, problems, computing = predict_files(
            loaded,
            images,
            output,
            save=tuple(dict.fromkeys(filter(None, map(str.strip, save.split(","))))),
            format=format,
            symmetries=rotations,
            overwrite=overwrite,
            resume=resume,
            say=out.say,
        )
        for problem in problems:
            out.say(f"error: {problem}")
        out.result({"written": done, "problems": problems, **computing}, path_list(done, output))
        if problems:
            raise typer.Exit(1)


@app.command()
def evaluate(
    model: ModelArgument,
    data: Data,
    rotations: Rotations = None,
    csv: Csv = None,
    engine: EngineOption = EngineChoice.AUTO,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict the images of DATA and score the result against their masks."""
    with answering(as_json, debug) as out:
        from ushape.files import make_room_for_rows
        from ushape.model import load

        if csv is not None:
            make_room_for_rows(csv)
        loaded = load(model, device=device, engine=engine.engine).settled()
        dataset = open_data(data, out, loaded.task, loaded.classes)
        warning = loaded.has_seen(dataset)
        if warning:
            out.say(f"warning: {warning}")
        found = loaded.evaluate(dataset, symmetries=rotations)
        cost = loaded.engines.news()
        if cost:
            out.say(cost)
        if not warning and (warning := loaded.has_seen_some(dataset, found)):
            out.say(f"warning: {warning}")
        computing = loaded.computing()
        out.say(f"predicted by {computing['engine']} in {computing['precision']}")
        show_scores(out, found, csv, warning, computing)


@app.command()
def quantise(
    model: ModelArgument,
    data: Data,
    val: Annotated[
        str | None, typer.Option(help="Data to judge on; default: the part of DATA that training would hold out.")
    ] = None,
    bound: Annotated[float, typer.Option(help="The score may fall by less than this.")] = 0.005,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make an 8-bit copy of MODEL from images of DATA, for --engine int8, if it scores nearly as well on others."""
    with answering(as_json, debug) as out:
        from dataclasses import asdict

        from ushape.model import load
        from ushape.training import int8

        loaded = load(model)
        dataset = open_data(data, out, loaded.task, loaded.classes)
        validation = None if val is None else open_data(val, out, loaded.task, loaded.classes)
        warning = int8.what_was_seen(loaded, dataset, validation)
        if warning:
            out.say(f"warning: {warning}")
        found = int8.quantise(loaded, dataset, validation, bound)
        if found.note:
            out.say(f"  {found.note}")
        for problem in found.problems:
            out.say(f"error: {problem}")
        lost = found.accepted and found.path is None
        values = asdict(found) | {"drop": found.drop, "accepted": found.accepted, "kept": found.path is not None}
        kept = "" if found.path is None else "; kept for --engine int8"
        out.result(values | ({"warning": warning} if warning else {}), f"{found}{kept}")
        if lost:
            out.say(
                f"error: {model}: expected to write the 8-bit copy beside the model, but that failed; check the rights "
                "and the space left there"
            )
        if found.problems or not found.accepted or lost:
            raise typer.Exit(1)


@app.command()
def score(
    reference: Annotated[Path, typer.Argument(help="A mask, or a folder of masks.")],
    estimate: Annotated[Path, typer.Argument(help="A mask, or a folder of masks with the same names.")],
    classes: Annotated[
        bool, typer.Option("--classes", help="The values are classes of pixels, not ids of objects.")
    ] = False,
    csv: Csv = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score masks made by any tool: REFERENCE first, ESTIMATE second."""
    with answering(as_json, debug) as out:
        from ushape.files import make_room_for_rows, score_files

        if csv is not None:
            make_room_for_rows(csv)
        show_scores(out, score_files(reference, estimate, classes=classes, say=out.say), csv)


class DatasetAction(StrEnum):
    """What `ushape datasets` does."""

    LIST = "list"
    GET = "get"
    PATH = "path"


@app.command()
def datasets(
    action: Annotated[DatasetAction, typer.Argument(help="list, get or path.")] = DatasetAction.LIST,
    name: Annotated[str | None, typer.Argument(help="Which dataset, for get and path.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Public datasets by name: list them, get one, or say where one lies."""
    with answering(as_json, debug) as out:
        from ushape.data import catalog

        if action is DatasetAction.LIST:
            entries = {entry: catalog.describe(entry) for entry in catalog.names()}
            out.result(entries, "\n\n".join(entries.values()))
            return
        if name is None:
            raise typer.BadParameter(f"name the dataset: ushape datasets {action.value} NAME")
        path = catalog.dataset_path(name, download=action is DatasetAction.GET)
        if action is DatasetAction.GET:
            out.say(f"{catalog.terms(name)}\n{catalog.check_copy(name)}")
        out.result({"name": name, "path": str(path)}, str(path))


class Picture(StrEnum):
    """What `ushape show` draws."""

    ARCHITECTURE = "architecture"
    SKIP = "skip"
    FEATURES = "features"
    RECEPTIVE = "receptive"
    SALIENCY = "saliency"
    SKIPS = "skips"
    BORDERS = "borders"
    TILES = "tiles"
    AUGMENTATION = "augmentation"


def pixel(text: str | None) -> tuple[int, ...] | None:
    """'100,200' as (100, 200)."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"expected --at ROW,COLUMN such as 100,200, found {text}") from None


@app.command()
def show(
    what: Annotated[
        Picture,
        typer.Argument(
            help="architecture or skip of a network; features, receptive (field), saliency or skips (left out) of a "
            "model at an image; tiles that an image is predicted in; borders of the objects in a data set, or the "
            "augmentation of its images."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Argument(
            help="A run folder or model file (default: the paper's U-Net), or DATA for borders and augmentation "
            "(default for the latter: phantom:train)."
        ),
    ] = None,
    image: Annotated[Path | None, typer.Argument(help="An image file, to look inside a model at, or to tile.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the input or of a tile; default: what suits.")] = None,
    depth: Annotated[int | None, typer.Option(help="Levels of another network than the paper's.")] = None,
    channels: Annotated[int | None, typer.Option(help="Channels of its first level.")] = None,
    padding: Annotated[str | None, typer.Option(help="valid or same.")] = None,
    level: Annotated[int, typer.Option(help="Of the skip connection, from 0 at the top.")] = 0,
    at: Annotated[str | None, typer.Option(help="The pixel ROW,COLUMN for receptive, saliency and tiles.")] = None,
    recipe: Annotated[str, typer.Option(help="Of augmentation: auto, paper or a TOML file.")] = "auto",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a field, as in augmentation.elastic=20.")
    ] = None,
    task: TaskOption = TaskChoice.AUTO,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The picture to write: .png; also .svg for architecture, skip, tiles and augmentation.",
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the U of a real network in numbers and pictures, or what happens inside it at an image."""
    with answering(as_json, debug) as out:
        from ushape.picture import show as shown

        if output is not None:
            shown.keep_inputs(output, model, image)
        if what in (Picture.ARCHITECTURE, Picture.SKIP):
            from ushape.picture.describe import architecture_facts, describe_architecture

            network, loaded = shown.chosen_network(model, depth=depth, channels=channels, padding=padding)
            wanted = size if size is not None else shown.suiting_size(network, loaded)
            text, values = describe_architecture(network, wanted), architecture_facts(network, wanted)
            if output is not None:
                shown.write_picture(output, network, wanted, level=level if what is Picture.SKIP else None)
        elif what in (Picture.TILES, Picture.AUGMENTATION):
            if output is None:
                raise typer.BadParameter(f"expected ushape show {what.value} ... -o PICTURE, found no -o")
            if what is Picture.TILES:
                drawing = shown.tiles_drawing(
                    model, image, tile_size=size, at=pixel(at), depth=depth, channels=channels, padding=padding
                )
            else:
                data = open_data(model or "phantom:train", out, task.task)
                shown.keep_inputs(output, *(file for sample in data.samples for file in sample.files))
                drawing = shown.augmentation_drawing(data, recipe=recipe, settings=settings or ())
            shown.write_drawing(output, drawing)
            text, values = drawing.description, {"caption": drawing.description}
        else:
            if output is None or model is None or (image is None and what is not Picture.BORDERS):
                needed = "DATA -o PICTURE" if what is Picture.BORDERS else "MODEL IMAGE -o PICTURE"
                raise typer.BadParameter(f"expected ushape show {what.value} {needed}, found less")
            if what is Picture.BORDERS:
                data = open_data(model, out, task.task)
                shown.keep_inputs(output, *(file for sample in data.samples for file in sample.files))
                plate = shown.borders_plate(data)
            else:
                assert image is not None
                plate = shown.inside_plate(what.value, model, image, pixel(at))
            shown.write_plate(output, plate)
            text, values = plate.caption, {"caption": plate.caption}
        if output is not None:
            text, values = f"{text}\npicture  {output}", values | {"picture": str(output)}
        out.result(values, text)


@app.command()
def info(model: ModelArgument, as_json: Json = False, debug: Debug = False) -> None:
    """Say what is in a model file."""
    with answering(as_json, debug) as out:
        from ushape.model_file import describe_model

        values, text = describe_model(model)
        out.result(values, text)


def main(run: Callable[[], Any] = app) -> None:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        # File names may be in no encoding, and what was computed is to be told all the same.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    run()


if __name__ == "__main__":
    main()
