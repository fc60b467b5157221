"""Imports point down only, and what does not need torch works without it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A Python of its own, so that nothing this process has imported counts."""
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def lint(cwd: Path) -> subprocess.CompletedProcess[str]:
    return run("-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())", cwd=cwd)


def loads_torch(code: str) -> bool:
    """Whether torch is loaded after some code has run; the code must succeed."""
    result = run("-c", f"{code}\nimport sys; print('torch' in sys.modules)")
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1] == "True"


def house(folder: Path, modules: dict[str, str]) -> Path:
    """A small package called ushape under this project's own contracts, every floor empty but for `modules`."""
    floors = {name.strip(" ()") for layer in CONTRACTS[0]["layers"] for name in layer.split("|")}
    texts = dict.fromkeys([*floors, "__init__"], "") | {"__init__": "import ushape.errors\n"} | modules
    (folder / "ushape").mkdir(parents=True)
    for name, text in texts.items():
        (folder / "ushape" / f"{name}.py").write_text(text, encoding="utf-8")
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    start = settings.index("[tool.importlinter]")
    (folder / "pyproject.toml").write_text(settings[start:], encoding="utf-8")
    return folder


# The contracts hold.


def test_imports_point_down():
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout
    assert f"{len(CONTRACTS)} kept, 0 broken" in result.stdout


# And they can break.


def test_a_house_in_order_passes(tmp_path):
    result = lint(house(tmp_path, {"cli": "import ushape.run\n", "network": "import torch\nimport ushape.geometry\n"}))
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "name, imported, complaint",
    [
        ("errors", "ushape.geometry", "ushape.errors is not allowed to import ushape.geometry"),
        ("geometry", "ushape.cli", "ushape.geometry is not allowed to import ushape.cli"),
        ("network", "ushape.model", "ushape.network is not allowed to import ushape.model"),
        ("data", "ushape.scoring", "ushape.data is not allowed to import ushape.scoring"),
        ("scoring", "ushape.targets", "ushape.scoring is not allowed to import ushape.targets"),
        ("targets", "torch", "ushape.targets is not allowed to import torch"),
        ("attic", "ushape.errors", "ushape.attic"),
    ],
)
def test_an_import_upwards_or_a_module_without_a_floor_is_found(tmp_path, name, imported, complaint):
    result = lint(house(tmp_path, {name: f"import {imported}\n"}))
    assert result.returncode == 1
    assert complaint in " ".join(result.stdout.split())


# What stands on the ground works without torch.


@pytest.mark.parametrize(
    "code",
    [
        "import ushape",
        "import ushape; ushape.open_dataset, ushape.Sample, ushape.UshapeError",
        "import ushape.data, ushape.targets, ushape.scoring, ushape.geometry",
        "import ushape.picture.overlay, ushape.picture.curves",
    ],
)
def test_torch_is_not_loaded(code):
    assert not loads_torch(code)


def test_torch_is_loaded_where_it_is_used():
    """The check itself can fail."""
    assert loads_torch("import ushape; ushape.UNet")


@pytest.mark.parametrize("command", [[], ["train"], ["predict"], ["demo"]])
def test_help_does_not_load_torch(command):
    arguments = [*command, "--help"]
    code = (
        "import sys\nfrom ushape.cli import app\n"
        f"try:\n    app({arguments!r})\nexcept SystemExit as stop:\n    assert not stop.code, stop.code"
    )
    assert not loads_torch(code)


@pytest.mark.parametrize("floor", ["data", "targets", "scoring", "geometry.py", "errors.py"])
def test_the_ground_floors_work_where_torch_is_missing(floor):
    """Every module of a floor is imported while torch cannot be."""
    path = ROOT / "src" / "ushape" / floor
    files = [path] if path.is_file() else sorted(path.glob("*.py"))
    assert files
    names = [".".join(file.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__") for file in files]
    imports = "\n".join(f"import {name}" for name in names)
    result = run("-c", f"import sys\nsys.modules['torch'] = None\n{imports}")
    assert result.returncode == 0, result.stderr
