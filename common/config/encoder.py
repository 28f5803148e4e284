"""The options of a run that say which network is the encoder, and what all agree on of one whose
weights are in a file.

Imports no torch.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from common.config.images import ImageOptions

RESNETS = ("resnet18", "resnet34", "resnet50")
ENCODERS = ("convnet", "small-convnet", "layered-convnet", "pixels", "noise-filters", *RESNETS)
ONNX = "onnx"  # what stands for a library before the name of a network that is an ONNX file
LIBRARIES = ("timm", "torchvision", ONNX)
"""Whose networks take their weights from a file: `--encoder timm:NAME --weights FILE`."""

LARGEST_SIDE = 1024  # pixels that a network takes
DIGEST = re.compile(r"[0-9a-f]{64}")  # SHA-256, as hex digits
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Three = tuple[FiniteFloat, FiniteFloat, FiniteFloat]


class EncoderOptions(ImageOptions):
    """Which network sees the images."""

    encoder: str = Field(
        default="convnet",
        description=f"the network: {', '.join(ENCODERS)}; or, with --weights, timm:NAME, "
        "torchvision:NAME, onnx:NAME",
    )
    weights: str = Field(
        default="",
        description="the safetensors file with the weights of a pretrained encoder (an ONNX file: "
        "the encoder), or its SHA-256; nothing is ever fetched",
    )
    train_from: str = Field(
        default="",
        description="the layer of a pretrained encoder from which on it is trained, such as "
        "blocks.6; nothing: none of it is",
    )
    encoder_side: int = Field(
        default=0,
        ge=0,
        le=LARGEST_SIDE,
        description="pixels to which a pretrained encoder scales the images; 0: the network's own",
    )
    encoder_crop: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share of an image's side, from its middle, that a pretrained encoder sees",
    )

    encoder_mean: str = Field(
        default="",
        description="of an ONNX encoder's images: the mean of each channel in [0, 1], such as "
        ".485,.456,.406; nothing: 0",
    )
    encoder_std: str = Field(
        default="",
        description="and their standard deviation; nothing: 1",
    )

    @property
    def is_pretrained(self) -> bool:
        """Whether the encoder's weights are those of a file."""
        return bool(self.weights) or library_of(self.encoder)[0] in LIBRARIES


class Network(BaseModel):
    """What all sites must do alike with a pretrained encoder, beside its name and its weights.

    `size`: bytes of the file with the weights; `side` in pixels to which an image is scaled by
    `interpolation`, after `crop` of its side was cut out of the middle; `mean`, `std`: of each
    channel in [0, 1], by which it is standardised; `root`: features are the square roots of what
    the network gives; `width`: numbers that an ONNX file gives for an image, 0: as the library's
    network does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: PositiveInt
    side: Annotated[PositiveInt, Field(le=LARGEST_SIDE)]
    mean: Three
    std: Three
    interpolation: Interpolation
    crop: Annotated[FiniteFloat, Field(gt=0, le=1)]
    root: bool = False
    width: Annotated[NonNegativeInt, Field(le=1 << 16)] = 0

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if min(self.std) <= 0:
            raise ValueError(f"a standard deviation of {min(self.std)}")
        return self


def is_onnx(encoder: str) -> bool:
    """Whether the encoder is an ONNX file."""
    return library_of(encoder)[0] == ONNX


def library_of(encoder: str) -> tuple[str, str]:
    """ "timm:resnet50" -> ("timm", "resnet50"); a name of ours -> ("", name)."""
    library, colon, name = encoder.partition(":")
    return (library, name) if colon else ("", encoder)
