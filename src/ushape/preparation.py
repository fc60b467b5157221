"""Images as people have them become what a network takes: axes in order, the right channels, grey values normalised.

Conventions: images are (C, *space), or (H, W), (H, W, 3 or 4), or anything with `axes`. Normalisation comes from the
training images or from the whole image, never from a tile of it: that would leave seams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ushape.data.headers import has_channels_last
from ushape.data.images import is_grey
from ushape.errors import DataError

__all__ = ["Preparation", "has_colours_last", "shrunk", "to_channels_first"]

Image = NDArray[Any]


def has_colours_last(image: Image) -> bool:
    """Whether an array without a word about its axes is taken for (H, W, 3 or 4)."""
    return image.ndim == 3 and image.shape[-1] in (3, 4) and min(image.shape[:2]) > 4


def to_channels_first(image: Image, axes: str | None = None) -> Image:
    """An array as people have it -> (C, *space).

    Without `axes`: (H, W), (H, W, C) with up to 4 channels last, far fewer than the other two sizes, or (C, H, W) with
    C below them. With `axes`, any order of Z, Y, X and C, for example "CZYX" or "YX".
    """
    if axes is None:
        if image.ndim == 2:
            axes = "YX"
        elif image.ndim == 3 and has_channels_last(image.shape):
            axes = "YXC"
        elif image.ndim == 3 and image.shape[0] < min(image.shape[1:]):
            axes = "CYX"
        else:
            raise DataError(
                f"expected an image (H, W), (H, W, 3) or (C, H, W), found shape {image.shape}; "
                "say what its axes are, for example axes='ZYX'"
            )
    axes = axes.upper()
    if len(axes) != image.ndim or len(set(axes)) != len(axes) or not set("YX") <= set(axes) <= set("CZYX"):
        raise DataError(
            f"expected axes that name each of the {image.ndim} dimensions of shape {image.shape} once, out of C, Z, Y "
            f"and X, found {axes!r}; correct them"
        )
    ordered = image.transpose([axes.index(axis) for axis in "CZYX" if axis in axes])
    return ordered if "C" in axes else ordered[None]


def shrunk(image: Image, least: int) -> Image:
    """An image (C, *space) averaged over whole blocks of pixels, as far as its shortest side stays `least` or more.

    Its type stays, so that a photograph of 12 megapixels takes as little memory as a small one.
    """
    factor = min(image.shape[1:]) // least
    if factor < 2:
        return image
    for axis in range(1, image.ndim):
        n = image.shape[axis] // factor
        whole = image[(slice(None),) * axis + (slice(0, n * factor),)]
        image = whole.reshape(*image.shape[:axis], n, factor, *image.shape[axis + 1 :]).mean(axis=axis + 1)
        image = image if whole.dtype.kind == "f" else np.rint(image).astype(whole.dtype)
    return image


@dataclass(frozen=True)
class Preparation:
    """What is done to an image before the network sees it.

    channels       how many the network takes
    normalisation  `image`: each channel to mean 0 and standard deviation 1 over the whole image;
                   `dataset`: by the mean and standard deviation of the training images
    mean, std      of the training images, one per channel, in the file's units
    dims           2 for images, 3 for volumes
    size           every image is brought to this size first, for classes of whole images; None: images stay as they are
    moved, both_ways  a whole image's class is the mean of what is said of it, of it moved by so many pixels along
                   each axis, either way, and where `both_ways` of all these mirrored
    """

    channels: int = 1
    normalisation: Literal["image", "dataset"] = "image"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    dims: int = 2
    size: tuple[int, ...] | None = None
    moved: int = 0
    both_ways: bool = False

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """(C, *space) of any type -> (channels, *space) float32, normalised.

        DataError for other channels than those trained on, and for NaN or infinite pixels, which would spread over
        everything that the network says.
        """
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            n = int((~np.isfinite(image)).sum())
            raise DataError(
                f"expected finite pixel values, found {n} NaN or infinite one{'s' * (n > 1)}; replace them (for "
                "example with numpy.nan_to_num) or leave the image out"
            )
        image = self.resized(self.with_channels(image))
        image = image if image.dtype == np.float64 else image.astype(np.float32)
        axes = tuple(range(1, image.ndim))
        if self.normalisation == "image":
            mean = image.mean(axis=axes, keepdims=True, dtype=np.float64)
            std = image.std(axis=axes, keepdims=True, dtype=np.float64)
        else:
            shape = (-1, *[1] * len(axes))
            mean, std = np.asarray(self.mean).reshape(shape), np.asarray(self.std).reshape(shape)
        # A constant channel carries nothing; it becomes 0 rather than noise blown up.
        resolution = 1e-6 if image.dtype == np.float32 else 1e-12
        scale = np.where(std > resolution * np.maximum(1e-30, np.abs(mean)), std, np.inf)
        normalised: NDArray[np.float32] = ((image - mean) / scale).astype(np.float32)
        return normalised

    @property
    def n_views(self) -> int:
        """How many ways `views` gives."""
        return (1 + 2 * self.dims * (self.moved > 0)) * (1 + self.both_ways)

    def views(self, prepared: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The ways to look at a whole image, itself first; what comes in at an edge repeats it."""
        ways = [prepared]
        for axis in range(1, prepared.ndim) if self.moved else ():
            places = np.arange(prepared.shape[axis])
            steps = (places + step for step in (-self.moved, self.moved))
            ways += [prepared.take(step.clip(0, places[-1]), axis) for step in steps]
        return ways + [way[..., ::-1] for way in ways] if self.both_ways else ways

    def resized(self, image: Image) -> Image:
        """The image at the size that the network wants, where it wants one; shrinking averages."""
        if self.size is None or image.shape[1:] == self.size:
            return image
        image = shrunk(image, 2 * max(self.size))
        from skimage.transform import resize

        wanted = (image.shape[0], *self.size)
        bring: Any = resize  # scikit-image has no types here
        return np.asarray(bring(image, wanted, order=1, mode="reflect", anti_aliasing=True, preserve_range=True))

    def with_channels(self, image: Image) -> Image:
        """The image with the network's number of channels: grey is repeated, grey stored as colour is reduced."""
        if image.ndim != self.dims + 1:
            raise DataError(
                f"expected an image with {self.dims} spatial axes, found shape {image.shape} (channels first); "
                "use a model trained on such images"
            )
        found = image.shape[0]
        if found == self.channels:
            return image
        if found == 1 and self.channels == 3:
            return np.repeat(image, 3, axis=0)
        if self.channels == 1 and is_grey(image):
            return image[:1]
        hint = "convert it to grey" if self.channels == 1 else "select the channels the model was trained on"
        raise DataError(
            f"expected an image with {self.channels} channel{'s' * (self.channels > 1)}, as in training, "
            f"found {found} channels that differ; {hint}, or train a model on such images"
        )
