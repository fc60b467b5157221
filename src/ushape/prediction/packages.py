"""Packages that only some engines need: imported when they are first used, and one sentence where they are missing.

They are handed out without types: most of them have none, and none of them is there everywhere.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from ushape.errors import RecipeError

__all__ = ["is_there", "need", "version_of"]

SILENT = "openvino_telemetry"
"""What OpenVINO and NNCF report their use with, to servers, unless told otherwise."""


def is_there(package: str) -> bool:
    """Whether a package can be imported; it is not."""
    if package in sys.modules:
        return sys.modules[package] is not None
    return find_spec(package) is not None


def need(package: str, purpose: str, extra: str = "") -> Any:
    """The package; RecipeError that says how to install it where it is missing.

    purpose  what needs it, as in "for --engine openvino"
    extra    of ushape, which brings it; none where it should be there anyway
    """
    # ushape sends nothing anywhere. Without this module both packages use their own one that does nothing; where a
    # program has imported it before, that program's user has been asked.
    sys.modules.setdefault(SILENT, None)  # type: ignore[arg-type]
    try:
        return import_module(package)
    except ImportError as error:
        install = f"'ushape[{extra}]'" if extra else package
        found = "none" if not is_there(package) else f"one that cannot be imported ({error})"
        raise RecipeError(
            f"expected the package {package} {purpose}, found {found}; install it with: pip install {install}"
        ) from error


def version_of(package: str) -> str:
    """The installed version; empty where it is not known."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
