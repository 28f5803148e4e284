"""A frozen encoder that is an ONNX file: the network itself is in it, not its weights alone.

It is run by onnxruntime on the CPU, from bytes whose digest is known. What the file would want from
other files is not read.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.config.encoder import LARGEST_SIDE
from common.config.options import Plan
from common.models.pretrained.library import Architecture, Three
from common.utils.errors import UserError, plain

NOWHERE = "/nonexistent"  # where a file may look for others
WIDEST = 1 << 16  # numbers for an image
ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
Run = Callable[[Any], Any]


class OnnxNetwork(nn.Module):
    """Images (N, 3, side, side) -> (N, d); it has nothing to train, and no state."""

    def __init__(self) -> None:
        super().__init__()
        self._run: Run | None = None

    def open(self, data: bytes, called: str) -> int:
        """Take the file's bytes; the side of its images, 0 for any. `UserError` where it is none,
        or takes no colour images."""
        session = _session(data, called)
        inputs = session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else ()
        if len(shape) != 4 or inputs[0].type != "tensor(float)":
            raise UserError(f"{called}: an encoder has one input of images, float32 (N, 3, H, W)")
        many, channels, high, wide = (size if isinstance(size, int) else 0 for size in shape)
        if channels not in (0, 3) or high != wide or many not in (0, 1):
            raise UserError(f"{called} takes images {tuple(shape)}, not (N, 3, side, side)")
        name, first = inputs[0].name, [session.get_outputs()[0].name]

        def run(images: Any) -> Any:
            parts = np.split(images, len(images)) if many else [images]
            return np.concatenate([session.run(first, {name: part})[0] for part in parts])

        self._run = run
        return int(high)

    def width(self, side: int, called: str) -> int:
        """Numbers that it gives for an image of this side; `UserError` where it gives none."""
        try:
            found = self(torch.zeros(2, 3, side, side))
        except Exception as error:  # whatever onnxruntime raises
            why = plain(str(error).partition("\n")[0])
            raise UserError(f"{called} gives nothing for images of side {side}: {why}") from None
        width = found[0].numel() if len(found) == 2 else 0
        if not 1 <= width <= WIDEST or not bool(torch.isfinite(found).all()):
            shape = tuple(found.shape)
            raise UserError(f"{called} gives {shape} for two images, not (2, d)")
        return width

    def forward(self, images: Tensor) -> Tensor:
        if self._run is None:
            raise RuntimeError("an ONNX encoder was asked before it had its file")
        found = self._run(images.detach().float().cpu().contiguous().numpy())
        return torch.from_numpy(np.asarray(found, np.float32)).to(images.device).flatten(1)


def onnx_architecture(
    width: int, side: int, mean: Three = ZEROS, std: Three = ONES
) -> Architecture:
    """As one of a library, still without its file."""
    return Architecture(OnnxNetwork(), width, (), side, mean, std, "bilinear")


def read_architecture(data: bytes, called: str, plan: Plan) -> Architecture:
    """What the file of a plan that is not settled takes and gives; `UserError` where that is not
    what an encoder does, or the plan does not say which side."""
    network = OnnxNetwork()
    fixed = network.open(data, called)
    if not (plan.encoder_side or fixed):
        raise UserError(f"{called} takes images of any side: --encoder-side says which")
    if fixed > LARGEST_SIDE or (fixed and plan.encoder_side not in (0, fixed)):
        raise UserError(f"encoder-side {plan.encoder_side}: {called} takes side {fixed} alone")
    side = plan.encoder_side or fixed
    mean = _three(plan.encoder_mean, "encoder-mean", ZEROS)
    std = _three(plan.encoder_std, "encoder-std", ONES)
    if min(std) <= 0:
        raise UserError(f"encoder-std {plan.encoder_std!r}: not above 0")
    return onnx_architecture(network.width(side, called), side, mean, std)


def _three(text: str, option: str, default: Three) -> Three:
    try:
        values = [float(part) for part in text.split(",")] if text else list(default)
        red, green, blue = values * 3 if len(values) == 1 else values
    except ValueError:
        raise UserError(f"{option} {text!r}: one number, or three with commas") from None
    if not all(map(math.isfinite, (red, green, blue))):
        raise UserError(f"{option} {text!r}: not finite")
    return red, green, blue


def _session(data: bytes, called: str) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 (an extra)
    except ImportError:
        raise UserError("ONNX encoders need onnxruntime: pip install 'covey[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong is said in one line
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", NOWHERE
    )
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds, which have no common one
        why = plain(str(error).partition("\n")[0])
        raise UserError(f"{called} is no ONNX file that onnxruntime reads: {why}") from None
