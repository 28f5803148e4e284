"""How files become images of one shape and depth: what a plan, a site and a model say of it.

Importing this imports neither NumPy nor PIL: options and commands read it, and start quickly.
"""

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from common.utils.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Fit = Literal["crop", "pad", "squash"]
Copies = Literal["keep", "drop"]
BACKGROUND = "white"
LARGEST = 180  # megapixels of a picture, 540 MB of RGB: beyond, PIL too takes a file for an attack
FIRST, ALL = "first", "all"  # pages of a file that has several
OWN = "own"  # window: each DICOM file's own
COLOUR = re.compile(r"white|black|grey|#[0-9a-fA-F]{6}")
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
WINDOW = re.compile(f"({NUMBER}):({NUMBER})")


@dataclass(frozen=True)
class Window:
    """The values `low` and `high` that become 0 and 255."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """`"-1000:400"`; `UserError` for anything else."""
        found = WINDOW.fullmatch(text.strip())
        low, high = map(float, found.groups()) if found else (math.nan, math.nan)
        if not (math.isfinite(high - low) and low < high):
            raise UserError(f"window {text!r}: expected LOW:HIGH, such as 0:4095, or {OWN}")
        return cls(low, high)

    def __str__(self) -> str:
        return f"{self.low:.8g}:{self.high:.8g}"

    def apply(self, values: "NDArray[Any]") -> "NDArray[np.uint8]":
        """Values of any shape and type as 0 to 255; what is outside is cut, NaN is 0."""
        import numpy as np  # noqa: PLC0415 (see above)

        with np.errstate(over="ignore", invalid="ignore"):  # what is too large is infinite: cut
            wide = (values.astype(np.float64) - self.low) * (255 / (self.high - self.low))
        wide = np.nan_to_num(wide, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
        shown: NDArray[np.uint8] = np.rint(wide.clip(0, 255)).astype(np.uint8)
        return shown


@dataclass(frozen=True)
class Preparation:
    """How a folder's files become images.

    `side` in pixels (0: the most common shorter side, at most 224); `channels` 1 or 3 (0: grey
    where every image is); `fit`: how a picture becomes square; `window`: which values of pictures
    deeper than 8 bits become 0 and 255 ("": the percentiles of a sample, "own": each DICOM file's
    own, or LOW:HIGH); `background`: what shows through, and what `pad` adds; `pages`: "first",
    "all" or a number from 1, of TIFF stacks and DICOM files; `largest`: megapixels of a picture;
    `copies`: whether files with the content of an earlier one are used.
    """

    side: int = 0
    channels: int = 0
    fit: Fit = "crop"
    window: str = ""
    background: str = BACKGROUND
    pages: str = FIRST
    largest: int = LARGEST
    copies: Copies = "keep"

    def __post_init__(self) -> None:
        if self.copies not in get_args(Copies) or self.fit not in get_args(Fit):
            raise UserError(f"copies {self.copies!r} or fit {self.fit!r} is none that there is")
        if self.window not in ("", OWN):
            Window.parse(self.window)
        if not COLOUR.fullmatch(self.background):
            raise UserError(
                f"background {self.background!r}: expected white, black, grey or #rrggbb"
            )
        if self.pages not in (FIRST, ALL) and not (self.pages.isdecimal() and int(self.pages)):
            raise UserError(f"pages {self.pages!r}: expected first, all, or a number from 1")

    def to_json(self) -> str:
        """As text, for another process of ours."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`; `UserError` where it is not."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            raise UserError(f"{text!r} is no preparation of images") from None

    @property
    def given_window(self) -> Window | None:
        """The window, where it is one for all."""
        return Window.parse(self.window) if self.window not in ("", OWN) else None

    @property
    def colour(self) -> tuple[int, int, int]:
        """Red, green and blue of the background, 0 to 255."""
        named = {"white": "#ffffff", "black": "#000000", "grey": "#808080"}
        digits = named.get(self.background, self.background)[1:]
        red, green, blue = bytes.fromhex(digits)
        return red, green, blue


AUTO = Preparation()
"""What is done where nobody says anything."""
