"""What can go wrong, in one place.

Every message says what was expected, what was found, in which file, and what to do next; it is one sentence (or
two) that a person can act on. The command line prints it without a traceback and leaves with status 1.

    UshapeError
    ├── DataError       images, masks, folders and datasets
    ├── SizeError       a size that a network cannot take (also a ValueError)
    ├── ModelFileError  a model file or checkpoint that cannot be used
    └── RecipeError     a recipe or an option that contradicts itself or the data
"""

__all__ = ["DataError", "ModelFileError", "RecipeError", "SizeError", "UshapeError"]


class UshapeError(Exception):
    """The root: catch this to catch everything that ushape raises on purpose."""


class DataError(UshapeError):
    """An image, a mask, a folder or a dataset is not what was expected."""


class SizeError(UshapeError, ValueError):
    """A network cannot take an input of this size."""


class ModelFileError(UshapeError):
    """A model file or a checkpoint cannot be read or does not fit."""


class RecipeError(UshapeError):
    """A recipe or an option contradicts itself, the data or the device."""
