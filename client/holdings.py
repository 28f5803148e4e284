"""A site's images in the form that the plan of the moment asks for.

Side, colours, window, fit and background may be the coordinator's: then the site reads its files
anew, and the sites of a federation need not have been told to join alike.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from client.dataset import SiteImages
from common.config.options import Plan
from common.data import ImageData, Preparation
from common.utils.errors import UserError
from common.utils.memory import available

Source = Callable[[Preparation], ImageData]
"""Reads the site's images anew."""


class Holdings:
    """What a site holds. `data`: as it has joined, in the form that holds where a plan says
    nothing; `source`: reads the same files in another. Without one `data` itself is scaled and
    recoloured."""

    def __init__(
        self, site: str, data: ImageData, device: torch.device, source: Source | None = None
    ) -> None:
        self._site = site
        self._device = device
        self._source = source or _shaping(data)
        self._own = _form(data)
        self._from_files = data.account is not None
        self._count = len(data.images)
        self._held: SiteImages | None = SiteImages(site, data, device)

    def of(self, plan: Plan) -> SiteImages:
        """The images as `plan` wants them; read anew where they are held in another form.
        `UserError` where they cannot be, or would not fit into memory."""
        wanted = self._wanted(plan)
        held = self._held
        if held is None or _form(held.data) != wanted:
            self._held = held = None  # its memory is free before the other's is taken
            if not self._from_files:  # who reads files sees to it
                self._check_memory(wanted)
            held = self._held = SiteImages(self._site, self._source(wanted), self._device)
        return held

    def _wanted(self, plan: Plan) -> Preparation:
        own, said = self._own, plan.preparation
        shape = replace(own, side=said.side or own.side, channels=said.channels or own.channels)
        if not self._from_files:  # arrays are square and of 8 bits already
            return shape
        window = said.window if own.window else ""  # of 8 bits there is none
        return replace(shape, fit=said.fit, background=said.background, window=window or own.window)

    def _check_memory(self, wanted: Preparation) -> None:
        needed = self._count * wanted.channels * wanted.side**2
        if needed > available():
            raise UserError(
                f"{self._count:,} images of {wanted.channels}×{wanted.side}×{wanted.side} are "
                f"{needed / 1e9:.1f} GB, and {available() / 1e9:.1f} GB of memory are free here"
            )


def _form(data: ImageData) -> Preparation:
    return replace(data.prepared, side=data.side, channels=data.channels)


def _shaping(data: ImageData) -> Source:
    return lambda how: data.shaped(how.channels, how.side)
