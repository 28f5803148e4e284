"""How the tensors of a module lie in one flat float32 array.

Parameters cross the wire as one flat array per group, with names and shapes agreed on once: both
ends build the same modules from the plan and compare the layouts' digest. Integer buffers
(BatchNorm's 0-d `num_batches_tracked`) are counters of a site and never travel.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

BUFFERS = ".buffers"  # suffix of the group that holds a module's running statistics


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the tensors in each group, in order."""

    groups: Mapping[str, tuple[tuple[str, tuple[int, ...]], ...]]

    @property
    def digest(self) -> str:
        """SHA-256 (16 hex digits) of all names and shapes."""
        text = json.dumps([[k, v] for k, v in self.groups.items()], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def size(self, group: str) -> int:
        """Numbers in one group."""
        return sum(int(np.prod(shape, dtype=np.int64)) for _, shape in self.groups[group])


def tensors(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    """group -> name -> tensor (live, not a copy): parameters under the module's name, floating
    buffers under `<name>.buffers`. A module without buffers has no such group."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, module in modules.items():
        groups[name] = {key: p.data for key, p in module.named_parameters()}
        buffers = {k: b for k, b in module.named_buffers() if b.is_floating_point()}
        if buffers:
            groups[name + BUFFERS] = buffers
    return {name: group for name, group in groups.items() if group}


def module_of(group: str) -> str:
    """The name of the module that a group belongs to."""
    return group.removesuffix(BUFFERS)


def layout_of(modules: Mapping[str, nn.Module]) -> Layout:
    """The layout of `modules`."""
    return Layout(
        {
            group: tuple((name, tuple(tensor.shape)) for name, tensor in members.items())
            for group, members in tensors(modules).items()
        }
    )


def flatten(modules: Mapping[str, nn.Module]) -> dict[str, NDArray[np.float32]]:
    """Each group as one flat float32 array on the CPU (copies; one transfer per group)."""
    return {
        group: torch.cat([t.detach().reshape(-1).float() for t in members.values()]).cpu().numpy()
        for group, members in tensors(modules).items()
    }


def flatten_gradients(modules: Mapping[str, nn.Module]) -> dict[str, NDArray[np.float32]]:
    """The gradient of each group of parameters, as `flatten` lays the parameters out; 0 where there
    is none."""
    return {
        name: torch.cat(
            [
                (torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float()
                for p in parameters
            ]
        )
        .cpu()
        .numpy()
        for name, module in modules.items()
        if (parameters := list(module.parameters()))
    }


def digest_of(groups: Mapping[str, NDArray[np.float32]]) -> str:
    """SHA-256 (16 hex digits) of the numbers in all groups."""
    digest = hashlib.sha256()
    for name in sorted(groups):
        digest.update(f"{name}/{len(groups[name])}/".encode())
        digest.update(np.ascontiguousarray(groups[name]).data)
    return digest.hexdigest()[:16]


@torch.no_grad()
def load(modules: Mapping[str, nn.Module], groups: Mapping[str, NDArray[np.float32]]) -> None:
    """Write flat arrays into `modules`; groups that are not given stay as they are.

    `ValueError` for an unknown group or a wrong size.
    """
    live = tensors(modules)
    for group, flat in groups.items():
        if group not in live:
            raise ValueError(f"no group {group!r} in this model: it has {', '.join(live)}")
        members = live[group]
        size = sum(t.numel() for t in members.values())
        if flat.shape != (size,):
            raise ValueError(f"group {group!r} has {size} numbers, not shape {flat.shape}")
        source = torch.from_numpy(np.ascontiguousarray(flat)).to(
            next(iter(members.values())).device
        )
        for tensor, piece in zip(members.values(), _split(source, members), strict=True):
            tensor.copy_(piece.view(tensor.shape))


def _split(flat: Tensor, members: Mapping[str, Tensor]) -> Iterator[Tensor]:
    return iter(flat.split([t.numel() for t in members.values()]))
