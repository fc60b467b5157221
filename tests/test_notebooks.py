"""The notebooks run from top to bottom, and what is committed of them is whole, small and of no machine."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from test_documentation import links_in, options_of_commands, unknown_in

pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install '.[dev]' brings what runs notebooks")

import nbformat
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

FOLDER = Path(__file__).parent.parent / "notebooks"
NAMES = ("inside_the_unet", "mnist", "segmentation")
MOST_BYTES = 1_000_000
SILENT = {"parameters", "imports"}
"""Cells that show nothing."""

OF_A_MACHINE = re.compile(
    r"(?<![\w.])/(?:tmp|work|home|root|Users|usr|opt|var)/|[A-Z]:\\\\|\bat 0x[0-9a-f]+|site-packages"
)
"""Paths, and addresses in memory."""


def load_execute():
    """`notebooks/execute.py` as a module; it belongs to no package."""
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


execute = load_execute()


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def words(notebook) -> str:
    """All that a reader reads: sources and outputs, without pictures."""
    said = [cell.source for cell in notebook.cells]
    for output in outputs(notebook):
        said.append(output.get("text", ""))
        said += [str(data) for kind, data in output.get("data", {}).items() if kind not in ("image/png", "image/jpeg")]
    return "\n".join(said)


def with_outputs(notebook) -> set[str]:
    """The ids of the cells that show something."""
    return {cell.id for cell in code_cells(notebook) if cell.outputs}


def bad_outputs(notebook) -> list[str]:
    """Errors, and what went to standard error: warnings and progress."""
    return [
        f"{output.output_type}: {output.get('evalue', output.get('text'))}"
        for output in outputs(notebook)
        if output.output_type == "error" or output.get("name") == "stderr"
    ]


def small_notebook(*sources: str):
    return new_notebook(cells=[new_code_cell(source) for source in sources])


# The checks themselves can fail.


def test_a_path_an_address_and_a_warning_are_found():
    for text in ("see /home/a/b", "'/tmp/x.png'", "<Axes at 0x7f00>", "lib/site-packages/x.py"):
        assert OF_A_MACHINE.search(text)
    for text in ("cells/images/a.tif", "https://example.org/home/a", "../docs/tmp/x"):
        assert not OF_A_MACHINE.search(text)
    notebook = small_notebook("1")
    notebook.cells[0].outputs = [new_output("stream", name="stderr", text="UserWarning: old")]
    assert bad_outputs(notebook) == ["stream: UserWarning: old"]


def test_other_parameters_take_the_place_of_the_tagged_cell():
    notebook = small_notebook("A = 1", "print(A)")
    notebook.cells[0].metadata = {"tags": ["parameters"]}
    assert [cell.source for cell in execute.shortened(notebook, "A = 2").cells] == ["A = 2", "print(A)"]
    with pytest.raises(AssertionError, match="expected one cell tagged parameters"):
        execute.shortened(small_notebook("A = 1"), "A = 2")


def test_what_belongs_to_one_run_is_removed():
    notebook = new_notebook(cells=[new_code_cell("1", id="a"), new_markdown_cell("words", id="b")])
    notebook.metadata = {"kernelspec": {"name": "mine"}, "widgets": {}}
    notebook.cells[0].metadata = {"tags": ["parameters"], "execution": {"iopub.status.busy": "2026"}, "scrolled": True}
    notebook.cells[0].outputs = [
        new_output("display_data", {"text/plain": "x"}, metadata={"needs_background": "light"})
    ]
    cleaned = execute.normalised(notebook)
    assert cleaned.metadata == execute.METADATA
    assert [cell.metadata for cell in cleaned.cells] == [{"tags": ["parameters"]}, {}]
    assert [cell.id for cell in cleaned.cells] == ["a", "b"]
    assert cleaned.cells[0].outputs[0].metadata == {}


def test_a_cell_that_fails_stops_the_run():
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute.executed(small_notebook("1 / 0"))


# What is committed.


def test_every_notebook_is_known():
    assert tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb"))) == NAMES == execute.NAMES
    assert tuple(sorted(execute.SHORT)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_notebook_is_whole_and_small(name):
    notebook = execute.read(name)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert {cell.id for cell in cells} - with_outputs(notebook) == {cell.id for cell in cells} & SILENT
    assert bad_outputs(notebook) == []
    assert OF_A_MACHINE.findall(words(notebook)) == []
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_notebook_is_normalised(name):
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert nbformat.writes(execute.normalised(execute.read(name))) + "\n" == text


@pytest.mark.parametrize("name", NAMES)
def test_links_and_commands_in_the_notebook_exist(name):
    text = "\n".join(cell.source for cell in execute.read(name).cells if cell.cell_type == "markdown")
    links = [link.partition("#")[0] for link in links_in(text)]
    assert links, "each notebook says where to read on"
    assert [link for link in links if not (FOLDER / link).exists()] == []
    assert unknown_in(text, options_of_commands()) == []


# They run.


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_runs_in_a_short_form(name):
    committed = execute.read(name)
    notebook = execute.executed(execute.shortened(execute.read(name), execute.SHORT[name]))
    assert bad_outputs(notebook) == []
    assert OF_A_MACHINE.findall(words(notebook)) == []
    # The outputs that are committed come from these cells.
    assert with_outputs(notebook) == with_outputs(committed)


def test_an_unknown_name_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["execute.py", "inside"])
    with pytest.raises(SystemExit):
        execute.main()
    assert "expected names of notebooks (inside_the_unet, mnist, segmentation), found inside" in capsys.readouterr().err
