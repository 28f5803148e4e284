"""A site's images in the form that the plan of the moment asks for.

Side, colours, window, fit and background may be the coordinator's: then the site reads its files
anew, and the sites of a federation need not have been told to join alike.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from client.dataset import LEAST, SiteImages
from client.storage.exclusions import Exclusions, Mark
from client.storage.taken_part import TakenPart
from common.config.options import Plan
from common.data import ImageData, Preparation
from common.data.identity import Identity
from common.protocol.declaration import Use
from common.protocol.taken_back import TOO_FEW_LEFT
from common.utils.errors import UserError
from common.utils.memory import available

Source = Callable[[Preparation], ImageData]
"""Reads the site's images anew."""


class Holdings:
    """What a site holds. `data`: as it has joined, in the form that holds where a plan says
    nothing; `source`: reads the same files in another. Without one `data` itself is scaled and
    recoloured. `exclusions`: what the site has taken back, looked at anew for each message;
    `forgotten`: such images, of a site without a list."""

    def __init__(
        self,
        site: str,
        data: ImageData,
        device: torch.device,
        source: Source | None = None,
        exclusions: Exclusions | None = None,
        forgotten: ImageData | None = None,
    ) -> None:
        self._site = site
        self._device = device
        self._source = source or _shaping(data)
        self._exclusions = exclusions
        self._forgotten = forgotten
        self._own = _form(data)
        self._from_files = data.account is not None
        self._count = len(data.images)
        self._mark = exclusions.mark if exclusions else None
        self._taken: set[Identity] = set()
        self._held: SiteImages | None = self._left_in(data)

    def of(self, plan: Plan) -> SiteImages:
        """The images as `plan` wants them; read anew where they are held in another form.
        `UserError` where they cannot be, or would not fit into memory."""
        wanted = self._wanted(plan)
        held, mark = self._held, self._exclusions.mark if self._exclusions else None
        if held is None or _form(held.data) != wanted or not self._may_stay(mark):
            self._held = held = None  # its memory is free before the other's is taken
            if not self._from_files:  # who reads files sees to it
                self._check_memory(wanted)
            self._mark = mark
            held = self._held = self._left_in(self._source(wanted))
        elif mark != self._mark:
            self._held = None  # whatever comes, these are not used any more
            held = self._held = self._left_in(held.data)
            self._mark = mark
        return held

    @property
    def has_list(self) -> bool:
        """Whether the site says itself what it takes back."""
        return self._exclusions is not None

    def taken_back(self, plan: Plan, of: TakenPart, use: Use) -> Tensor:
        """The images (m, C, H, W) uint8 that were taken back, that the site lets be put to that
        `use`, and that took part in the run that they are taken back `of`, as `plan` wants them;
        read for that alone, and not kept. `UserError` where that run's images are not known."""
        wanted, found = self._wanted(plan), self._forgotten
        if self._exclusions is not None:
            found = self._exclusions.allowed_in(self._source(wanted), use)
        if found is None:
            return torch.empty(0, wanted.channels, wanted.side, wanted.side, dtype=torch.uint8)
        images = found.shaped(wanted.channels, wanted.side).images
        return torch.from_numpy(images[of.had(images)] if self.has_list else images)

    def _may_stay(self, mark: Mark) -> bool:
        """Whether nothing has been let in again since the images were read."""
        if mark == self._mark or self._exclusions is None:
            return True
        return self._taken <= self._exclusions.read().keys()

    def _left_in(self, data: ImageData) -> SiteImages:
        """`data` without what was taken back; `UserError` where too few images are left."""
        if self._exclusions is not None:
            taken = self._exclusions.read()
            data, self._taken = self._exclusions.left_in(data, taken), set(taken)
        if data.withdrawn and len(data.images) < LEAST:
            raise UserError(
                f"site {self._site} has taken back {data.withdrawn:,} images: {TOO_FEW_LEFT} "
                "(covey client remember)"
            )
        return SiteImages(self._site, data, self._device)

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
