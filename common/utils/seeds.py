"""Seeds for every random choice, derived from what the choice is about.

No random state is carried from round to round, so a run that was killed and resumed draws exactly
what the undisturbed run would have drawn.
"""

import hashlib

import torch


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed from SHA-256 of the parts, such as (plan seed, site, round, purpose)."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(device: torch.device | str, *parts: str | int) -> torch.Generator:
    """A generator on `device` seeded by `derive_seed(*parts)`."""
    return torch.Generator(device=device).manual_seed(derive_seed(*parts))
