"""What is written is so: commands, options, links, pictures, pins; and the repository stays small and portable."""

import json
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
MOST_BYTES = 1_000_000
SHELLS = {"", "bash", "sh", "shell", "console"}

# Paths of the machines that this was written on, put together here so that this file does not contain them.
MACHINE_PATHS = ["/" + name + "/" for name in ("work", "root")] + ["/tmp" + "/w/"]


@cache
def repository() -> list[Path]:
    """Every file that is tracked, or would be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git repository: its files cannot be listed")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def documents() -> list[Path]:
    """What a user or a contributor follows."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@cache
def options_of_commands() -> dict[str, list[str]]:
    """The options of each command, asked of the program itself."""
    code = (
        "import json, typer\nfrom ushape.cli import app\ncommands = typer.main.get_command(app).commands\n"
        "print(json.dumps({name: [o for p in c.params for o in (*p.opts, *p.secondary_opts)]"
        " for name, c in commands.items()}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


# Reading Markdown.


def fences(text: str) -> list[tuple[str, str]]:
    """(what stands after the backticks, content) of each fenced block."""
    return re.findall(r"^```([^\n]*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def commands_in(text: str) -> list[str]:
    """Each `ushape ...` that a reader is shown: lines of shell blocks, and code within sentences."""
    blocks = [content.replace("\\\n", " ") for language, content in fences(text) if language.strip() in SHELLS]
    spans = re.findall(r"`([^`\n]+)`", without_fences(text))
    lines = [line for block in blocks for line in block.splitlines()] + spans
    found = (re.match(r"\s*(?:\$ )?(?:[\w./]*/)?ushape +([a-z].*)", line) for line in lines)
    return [match[1].split(" #")[0].strip() for match in found if match]


def unknown_in(text: str, known: dict[str, list[str]]) -> list[str]:
    """Commands and options that a text shows and the program does not have."""
    unknown = []
    for words in map(str.split, commands_in(text)):
        if words[0] not in known:
            unknown.append(words[0])
            continue
        options = [word.strip("[],.").split("=")[0] for word in words if word.strip("[").startswith("-")]
        unknown += [f"{words[0]} {option}" for option in options if option not in [*known[words[0]], "--help"]]
    return unknown


def links_in(text: str) -> list[str]:
    """Targets of links and pictures that lie in the repository."""
    text = re.sub(r"`[^`\n]*`", "", without_fences(text))
    targets = re.findall(r"\]\(([^)\s]+)", text) + re.findall(
        r"<(?:img|a|source)[^>]*(?:src|href|srcset)=\"([^\"]+)", text
    )
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors_in(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", without_fences(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    text, broken = path.read_text(encoding="utf-8"), []
    for link in links_in(text):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors_in(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


# The checks themselves can fail.


def test_a_wrong_text_is_found(tmp_path):
    text = (
        "Run `ushape trian DATA` or `ushape train DATA --minute=3`, see [this](other.md) and ![that](there.png).\n"
        "The package `ushape` is [here](https://example.org/x).\n"
        "```bash\n$ .venv/bin/ushape train DATA --minutes 3 \\\n  --hours 2  # in the dark\nushape look\n```\n"
        "```python\nushape nothing\n```\n"
    )
    assert unknown_in(text, {"train": ["--minutes"]}) == ["train --hours", "look", "trian", "train --minute"]
    path = tmp_path / "a.md"
    path.write_text(text + "# One: two `three`\n[up](#one-two-three) [off](#four)", encoding="utf-8")
    assert broken_links(path) == ["other.md", "there.png", "#four"]


# What is written is so.


def test_every_command_and_option_in_the_documents_exists():
    unknown = {path.name: unknown_in(path.read_text(encoding="utf-8"), options_of_commands()) for path in documents()}
    assert not {name: words for name, words in unknown.items() if words}


def test_every_command_is_in_the_readme():
    shown = {line.split()[0] for line in commands_in((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert set(options_of_commands()) - shown == set()


def test_links_lead_somewhere():
    markdown = [path for path in repository() if path.suffix == ".md"]
    assert ROOT / "README.md" in markdown
    broken = {str(path.relative_to(ROOT)): broken_links(path) for path in markdown}
    assert not {name: links for name, links in broken.items() if links}


RACES = (("dic-hela-01", "SEG"), ("isbi2012", "pixel error"))


def test_the_race_in_the_readme_is_that_of_the_rows():
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "benchmarks" / "rows").glob("*-test.json")]
    measured = {
        (row["split"], row["recipe"], row["budget"], name): value
        for row in rows
        if row["seed"] == 0
        for name, value in row["scores"]["test"].items()
    }
    lines = [line.strip("| \n").split(" | ") for line in (ROOT / "README.md").read_text("utf-8").splitlines()]
    (head,) = (cells for cells in lines if cells[0] == "scored on")
    ways = {"ushape": "auto", "MONAI's tutorial loop": "monai", "plain PyTorch loop": "plain", "nnU-Net 2d": "nnunet"}
    told = 0
    for split, score in RACES:
        (cells,) = (cells for cells in lines if f"({split}), {score}" in cells[0])
        for title, cell in zip(head[1:], cells[1:], strict=True):
            way, budget = title.split(", ")
            assert cell.strip("*") == f"{measured[split, ways[way], budget, score]:.3f}", (split, title)
            told += 1
    assert told == 8
    first = [measured[split, "auto", "1 minute", score] for split, score in RACES]
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert "after one minute of it ours has {:.3f} and {:.3f}.".format(*first) in text


def test_the_speed_of_prediction_in_the_readme_is_that_of_the_table():
    table = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8").partition("<!-- speed predict -->")[2]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:2] == "| "]
    rows = {cells[0]: cells for cells in lines[1:] if len(cells) == len(lines[0])}
    monai, *ours = (
        {
            head: float(cell.split()[0].rstrip("%-") or "nan")
            for head, cell in zip(lines[0][1:], rows[name][1:], strict=True)
        }
        for name in (
            "MONAI, defaults, window 256",
            "ushape, openvino",
            "ushape, torch",
            "ushape, torch, float32",
        )
    )
    told = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    times = [f"{monai['s'] / way['s']:.1f} times" for way in ours]
    assert f"takes {times[0]} as long for a large image" in told
    assert f"{times[1]} as long as PyTorch in bfloat16, and {times[2]} as long as PyTorch in float32" in told
    assert f"{monai['peak MB'] / ours[0]['peak MB']:.1f} times the memory" in told
    changed = [f"{way['labels changed']:.2f} %" for way in ours[:2]]
    assert f"Of the labels {changed[0]}, {changed[1]} and none differ" in told
    assert ours[2]["labels changed"] == 0
    assert f"of MONAI's {monai['labels changed']:.1f} %" in told


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_examples_run(path, tmp_path):
    """Blocks that begin with ```python runs, one after the other in one program, in an empty folder."""
    examples = [
        content for info, content in fences(path.read_text(encoding="utf-8")) if info.split() == ["python", "runs"]
    ]
    if not examples:
        pytest.skip(f"{path.name} has no example that is marked with: python runs")
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(examples)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


# The environment.


def pins() -> dict[str, str]:
    """The version of each package in the lock."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def needed(name: str, extras: frozenset[str], found: dict[str, str]) -> dict[str, str]:
    """Every installed package that a package needs here, and its version, without local labels such as +cpu."""
    for text in distribution(name).requires or []:
        requirement = Requirement(text)
        wanted = not requirement.marker or any(requirement.marker.evaluate({"extra": e}) for e in (extras or {""}))
        key = canonicalize_name(requirement.name)
        if wanted and key not in found:
            found[key] = distribution(key).version.partition("+")[0]
            needed(key, frozenset(requirement.extras), found)
    return found


def test_the_lock_pins_everything_that_is_installed():
    try:
        packages = needed("ushape", frozenset({"dev", ""}), {})
    except PackageNotFoundError as missing:
        pytest.skip(f"{missing.name} is not installed: make .venv installs everything")
    assert len(packages) > 40
    assert sorted(set(packages) - set(pins())) == []


def test_the_lock_says_exact_versions_in_order():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    for block in "\n".join(line for line in lines if not line.startswith("#")).strip().split("\n\n"):
        names = [line.split("==")[0] for line in block.splitlines()]
        assert names == sorted(set(names))
        assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in block.splitlines())


# The repository.


def test_no_file_is_large():
    large = {str(path.relative_to(ROOT)): size for path in repository() if (size := path.stat().st_size) >= MOST_BYTES}
    assert not large, f"each file must stay below {MOST_BYTES} bytes"


def test_no_path_of_a_machine_is_written_down():
    for path in repository():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        named = [name for name in MACHINE_PATHS if name.encode() in content]
        assert not named, f"{path.relative_to(ROOT)} names {named}"
