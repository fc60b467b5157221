"""Which models the results in a folder are of, noted beside them.

    .prediction.json    {"models": [{"fingerprint": ..., "task": ..., "trained on": ...}, ...]}

An interrupted prediction can only be continued with the same model: results of another would stand among its own, and
nothing in them would tell. Folders from before have no note, and are continued as they are. The note is hidden, so that
whoever opens all files of the folder opens results only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from ushape.errors import DataError
from ushape.files import finished
from ushape.model import Model

__all__ = ["NOTE", "NOTES", "Origin"]

NOTE = ".prediction.json"
NOTES = (NOTE, finished.NOTE)
"""What lies beside the results and is none."""


class Origin:
    """The note in a folder of results, for one more model.

    folder  the results
    model   whose results come to them
    """

    def __init__(self, folder: Path, model: Model) -> None:
        self.path = folder / NOTE
        data = model.facts.get("data", "unknown data")
        self.own = {"fingerprint": model.fingerprint, "task": model.task, "trained on": data}
        self.written = False

    def others(self) -> list[dict[str, Any]]:
        """What is noted of other models; nothing without a note that makes sense, or where their results are gone."""
        if not self.path.exists() or all(path.name in NOTES for path in self.path.parent.iterdir()):
            return []
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            models: list[dict[str, Any]] = json.loads(self.path.read_text(encoding="utf-8"))["models"]
            return [about for about in models if about["fingerprint"] != self.own["fingerprint"]]
        return []

    def check(self) -> None:
        """DataError where the results are not this model's alone, so that they cannot be continued with it."""
        others = self.others()
        if others:
            own, found = self.own["fingerprint"], " and ".join(str(about["fingerprint"]) for about in others)
            raise DataError(
                f"{self.path.parent}: expected results of the same model to continue ({own}), found some of another "
                f"({found}); do all of them anew with --overwrite, or name another folder with -o"
            )

    def write(self, *, alone: bool = False) -> None:
        """Note the model once; `alone`: the results are all its own, and other models are not noted any more."""
        if self.written and not alone:
            return
        temporary = self.path.with_name(f"{NOTE}.{os.getpid()}.part")
        models = [*([] if alone else self.others()), self.own]
        temporary.write_text(json.dumps({"models": models}, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, self.path)
        self.written = True

    def settle(self, results: Collection[Path]) -> None:
        """Note the model alone where every file in the folder is among `results`, those of this prediction."""
        if self.written and self.others():
            found = {path for path in self.path.parent.iterdir() if path.name not in NOTES}
            if found <= set(results):
                self.write(alone=True)
