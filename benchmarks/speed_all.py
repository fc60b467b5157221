"""All speed benchmarks, one after the other, and their tables into docs/performance.md.

    PYTHONPATH=src python benchmarks/speed_all.py [--form quick]    measure: about 10 minutes; the full form 2 hours
    PYTHONPATH=src python benchmarks/speed_all.py --tables          results that lie in runs/speed into the page

Both times are for two quiet cores. Each script is a process of its own, so that one that fails costs only its own
tables; the exit status then says so.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.provenance import REPOSITORY
from speed.program import parser, tell
from speed.tables import Result, insert_results, read_results

ENGINES = ("--engines", "torch,openvino,int8")
SCRIPTS = (
    ("speed_step.py", *ENGINES),
    ("speed_step.py", "--old"),
    ("speed_predict.py", *ENGINES),
    ("speed_sizes.py",),
    ("speed_sampling.py",),
)
PAGE = REPOSITORY / "docs" / "performance.md"
ORDER = ("step", "widths", "step-avx2", "predict", "sizes", "sampling", "gpu")
"""Of the results in the page; the last is of a script of its own, for a machine that has a GPU."""


def run_all(form: str, folder: Path) -> list[str]:
    """Run every script; returns those that failed."""
    failed, begun = [], time.perf_counter()
    for name, *options in SCRIPTS:
        told = " ".join([name, *options])
        tell(f"{told}, after {(time.perf_counter() - begun) / 60:.1f} minutes")
        path = str(Path(__file__).parent / name)
        command = [sys.executable, path, *options, "--form", form, "--output", str(folder)]
        if subprocess.run(command, check=False).returncode:
            failed.append(told)
    tell(
        f"all: {(time.perf_counter() - begun) / 60:.1f} minutes" + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return failed


def known_results(folder: Path) -> list[Result]:
    """The results in a folder that have a place in the page, in its order; of other files a line says so."""
    found, strange = read_results(folder)
    for path in strange:
        tell(f"{path}: expected a result of these scripts, found another JSON; skipped")
    for result in found:
        if result.name not in ORDER:
            tell(f"{folder}: expected results called {', '.join(ORDER)}, found {result.name}; skipped")
    return sorted((each for each in found if each.name in ORDER), key=lambda each: ORDER.index(each.name))


def main() -> None:
    """Measure everything, or put the tables into the page."""
    options = parser(__doc__)
    options.add_argument("--tables", action="store_true", help="do not measure; put the results into the page")
    options.add_argument("--page", type=Path, default=PAGE, help="where the tables go")
    asked = options.parse_args()
    if not asked.tables:
        sys.exit(bool(run_all(asked.form, asked.output)))
    shown = insert_results(asked.page, known_results(asked.output))
    print(f"{asked.page}: {', '.join(shown) or 'nothing: no quick or full results in ' + str(asked.output)}")


if __name__ == "__main__":
    main()
