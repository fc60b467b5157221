"""What every score asks of the two sides it compares."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ushape.errors import DataError

__all__ = ["check_sizes"]


def check_sizes(reference: NDArray[Any], estimate: NDArray[Any]) -> None:
    """DataError unless the two have the same size."""
    if reference.shape != estimate.shape:
        raise DataError(
            f"expected an estimate of the reference's size {reference.shape}, found {estimate.shape}; "
            "score each estimate against the mask of the same image"
        )
