"""Run the notebooks from top to bottom, each in a clean kernel, and write them back with their outputs.

    python notebooks/execute.py                  # all, as they are committed; mnist wants its data ($USHAPE_DATA)
    python notebooks/execute.py segmentation     # one of them
    python notebooks/execute.py --short          # in seconds, to see that they run; nothing is written

A notebook's first code cell is tagged `parameters`; the short form puts other values in its place. What is written is
normalised, so that running again changes outputs and nothing else: cells keep their ids, metadata is the same
everywhere, and neither times nor paths are kept.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
NAMES = tuple(sorted(path.stem for path in HERE.glob("*.ipynb")))

SHORT = {
    "inside_the_unet": 'CHANNELS, SIZE = 4, 188\nSTEPS, MINUTES = 4, None\nSETTINGS = ("network.channels=8",)',
    "mnist": 'DATA, N_HELD_OUT = "digits:train", 200\nSTEPS, MINUTES = 30, None',
    "segmentation": "N_IMAGES, N_FRESH, LARGE = 3, 3, (300, 400)\nSTEPS, MINUTES = 4, None",
}
"""What stands in the cell `parameters` of the short form."""

TIMEOUT = 900
"""Seconds that a cell may take, on the slowest machine."""

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read(name: str) -> NotebookNode:
    """The notebook of this name, as it is committed."""
    return nbformat.read(HERE / f"{name}.ipynb", as_version=4)


def shortened(notebook: NotebookNode, source: str) -> NotebookNode:
    """The notebook with another source in the cell that is tagged `parameters`."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    assert len(cells) == 1, "expected one cell tagged parameters"
    cells[0].source = source
    return notebook


def executed(notebook: NotebookNode) -> NotebookNode:
    """The notebook with the outputs of a clean kernel, which runs in an empty folder and imports this repository.

    nbclient's CellExecutionError where a cell fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            startup_timeout=TIMEOUT,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        paths = [str(HERE.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        # Without the start-up files and the history of whoever runs it.
        client.execute(env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "IPYTHONDIR": folder})
    return normalised(notebook)


def normalised(notebook: NotebookNode) -> NotebookNode:
    """The notebook with the same metadata as every other one, and none of a single run."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        for output in cell.get("outputs", ()):
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
    nbformat.validate(notebook)
    return notebook


def write(name: str, notebook: NotebookNode) -> None:
    """Write the notebook, complete or not at all, with one newline at the end."""
    path = HERE / f"{name}.ipynb"
    temporary = path.with_name(path.name + ".part")
    nbformat.write(notebook, temporary)
    os.replace(temporary, path)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(NAMES)}; default: all")
    parser.add_argument("--short", action="store_true", help="with other parameters, in seconds; nothing is written")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in NAMES]
    if unknown:
        parser.error(f"expected names of notebooks ({', '.join(NAMES)}), found {', '.join(unknown)}")
    for name in asked.names or NAMES:
        notebook = read(name)
        print(name, file=sys.stderr, flush=True)
        notebook = executed(shortened(notebook, SHORT[name]) if asked.short else notebook)
        if not asked.short:
            write(name, notebook)


if __name__ == "__main__":
    main()
