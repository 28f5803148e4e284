"""The options of a run that say which images it is on, and how files become images."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from common.config.preparation import BACKGROUND, FIRST, LARGEST, Copies, Fit, Preparation

CHANNELS = {"auto": 0, "grey": 1, "rgb": 3}


def kebab(name: str) -> str:
    """`local_epochs` -> `local-epochs`."""
    return name.replace("_", "-")


class Options(BaseModel):
    """Options under their one name, `local-epochs`; no others are taken."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=kebab, populate_by_name=True
    )


class ImageOptions(Options):
    """Which images, and of what form."""

    dataset: str = Field(
        default="digits", description="a name from `covey datasets`, a folder of images, or an .npz"
    )
    images: int = Field(default=0, ge=0, description="use this many images, drawn by seed; 0: all")
    side: int = Field(
        default=0, ge=0, le=4096, description="scale the images to this side in pixels; 0: as is"
    )
    colours: Literal["auto", "grey", "rgb"] = Field(
        default="auto", description="of the images; auto: grey where all of a data set's are"
    )
    fit: Fit = Field(
        default="crop",
        description="how a folder's pictures become square: the middle is cut out (crop), the "
        "background fills the rest (pad), or they are drawn out of shape (squash)",
    )
    window: str = Field(
        default="",
        description="LOW:HIGH, the values that become black and white in pictures of more than 8 "
        "bits; own: each DICOM file's own; nothing: the percentiles of a sample of the data set",
    )
    background: str = Field(
        default=BACKGROUND,
        description="white, black, grey or #rrggbb: what shows through where a picture is "
        "transparent, and what pad adds",
    )
    pages: str = Field(
        default=FIRST,
        description="of TIFF stacks and DICOM files with several frames: first, all, or a number",
    )
    largest: int = Field(
        default=LARGEST,
        ge=1,
        le=100_000,
        description="megapixels of the largest picture that is read",
    )
    copies: Copies = Field(
        default="keep",
        description="what becomes of files with the content of an earlier one of the folder",
    )

    @property
    def preparation(self) -> Preparation:
        """How the files of a folder become images; `UserError` names what does not fit."""
        return Preparation(
            side=self.side,
            channels=CHANNELS[self.colours],
            fit=self.fit,
            window=self.window,
            background=self.background,
            pages=self.pages,
            largest=self.largest,
            copies=self.copies,
        )
