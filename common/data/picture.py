"""A picture as a file has it, before it is made into an image of the run's shape.

Eight bits stay what they are. What is deeper comes as numbers (`Deep`), whose window is the data
set's. Readers of file formats (`pil`, `dicom`, `scientific`) give both.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.config.preparation import Preparation, Window
from common.record.account import Kind

if TYPE_CHECKING:
    from PIL.Image import Image

LONG = 4.0  # times as long as wide, from where a square from the middle is a small part
ORIENTATION = 0x0112  # EXIF


class UnusableError(Exception):
    """A file that cannot be used: `kind`, and half a sentence why."""

    def __init__(self, why: str, kind: Kind = Kind.UNREADABLE) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why


@dataclass(frozen=True)
class Header:
    """What a file says before it is decoded. `grey`: of one channel; `deep`: of more than 8 bits;
    `pages`: pictures in a stack; `moving`: an animation; `reduced`: of more than 8 bits, of which
    its decoder gives 8."""

    width: int
    height: int
    grey: bool
    deep: bool = False
    pages: int = 1
    moving: bool = False
    reduced: bool = False

    @property
    def shorter(self) -> int:
        """The shorter side in pixels."""
        return min(self.width, self.height)

    @property
    def is_long(self) -> bool:
        """Whether a square from its middle would leave most of it out."""
        return max(self.width, self.height) > LONG * self.shorter


@dataclass(frozen=True)
class Deep:
    """Numbers (H, W) or (H, W, 3) of any type; NaN is nothing. `alpha` (H, W) 0 to 255;
    `inverted`: low is white; `own`: the file's own window."""

    values: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None
    inverted: bool = False
    own: Window | None = None
    orientation: int = 1

    def shown(self, window: Window) -> "Image":
        """As a picture of 8 bits, grey or RGB, with its alpha if it has one."""
        from PIL import Image  # noqa: PLC0415 (the command line starts without it)

        seen = window.apply(self.values)
        image = Image.fromarray(255 - seen if self.inverted else seen)
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        return upright(image, self.orientation)


def upright(image: "Image", orientation: int) -> "Image":
    """The picture turned and mirrored as EXIF's orientation 1 to 8 says."""
    from PIL.Image import Transpose  # noqa: PLC0415

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def orientation_of(image: "Image") -> int:
    """EXIF's orientation; 1 where there is none, or what is there cannot be read."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # whatever PIL's parsers raise at bytes that are no EXIF
        return 1
    return found if isinstance(found, int) else 1


def shaped(image: "Image", how: Preparation, grey: bool) -> NDArray[np.uint8]:
    """A picture of 8 bits, upright, as (C, side, side) with `how.side` > 0: over the background,
    grey or RGB, made square as `how.fit` says, scaled bilinearly with antialiasing."""
    from PIL import Image, ImageOps  # noqa: PLC0415

    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = _over(image.convert("RGBA"), how.colour)
    image = image.convert("L" if grey else "RGB")
    size, method = (how.side, how.side), Image.Resampling.BILINEAR
    if how.fit == "crop":
        image = ImageOps.fit(image, size, method)
    elif how.fit == "pad":
        red, green, blue = how.colour
        colour = Image.new("RGB", (1, 1), (red, green, blue)).convert(image.mode).getpixel((0, 0))
        image = ImageOps.pad(image, size, method, color=colour)  # type: ignore[arg-type]
    else:
        image = image.resize(size, method)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _over(image: "Image", colour: tuple[int, int, int]) -> "Image":
    from PIL import Image  # noqa: PLC0415

    below = Image.new("RGB", image.size, colour)
    below.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return below


def sample(deep: Deep, most: int) -> NDArray[np.float64]:
    """At most `most` of its finite values, evenly spread."""
    flat = deep.values.reshape(-1)
    values: NDArray[np.float64] = flat[:: max(1, len(flat) // most)].astype(np.float64)
    finite: NDArray[np.float64] = values[np.isfinite(values)]
    return finite


def checked(deep: Deep) -> Deep:
    """`UnusableError` where no value is a finite number."""
    if deep.values.dtype.kind == "f" and not np.isfinite(deep.values).any():
        raise UnusableError("none of its values is a number")
    return deep
