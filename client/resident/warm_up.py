"""What a process does once, before somebody waits for it."""

import torch
from torch import nn

SIDE = 8  # pixels of the image that stands in for the site's


def warm_up(device: torch.device) -> None:
    """One step of a small network on `device`: loads the kernels and libraries of convolutions, of
    their gradients and of the optimiser, which is seconds of the first round otherwise. The
    process's own random numbers are as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
        ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = torch.ones(4, 1, SIDE, SIDE, device=device)
        loss = net(images).square().mean()
        optimiser = torch.optim.AdamW(net.parameters(), fused=True)
        loss.backward()
        optimiser.step()
