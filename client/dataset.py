"""Where a site's images lie, and how batches of them come to the device."""

import torch
from torch import Tensor


def place(images: Tensor, device: torch.device) -> Tensor:
    """The images (N, C, H, W) uint8 on the device if they fit into half of what is free there, so
    that no batch is copied in the loop; else where they are."""
    if device.type != "cuda":
        return images
    free, _total = torch.cuda.mem_get_info(device)
    return images.to(device) if images.nbytes < free / 2 else images


def take(images: Tensor, index: Tensor, device: torch.device) -> Tensor:
    """`images[index]` (B, C, H, W) on `device`; `index` (B,) lies where the images do. From a host
    to a GPU they go through pinned memory, so that nobody waits for the copy."""
    if images.device.type == device.type:
        return images[index]
    batch = torch.empty((len(index), *images.shape[1:]), dtype=images.dtype, pin_memory=True)
    torch.index_select(images, 0, index, out=batch)
    return batch.to(device, non_blocking=True)
