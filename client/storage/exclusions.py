"""The images that a site has taken back: `forgotten.jsonl` in its folder, a line for each.

A line has the digest and the size of what is stored (`common/data/identity.py`), when it was taken
back and why; no name, and nothing of what is in it. Every run leaves these images out, from the
next message on. The file is written whole; one that cannot be read stops the site.
"""

import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from common.data import ImageData
from common.data.identity import Identity, rows_of
from common.protocol.declaration import Use
from common.utils.errors import UserError
from common.utils.files import write_atomic

FILE = "forgotten.jsonl"
Mark = tuple[int, int, int] | None


@dataclass(frozen=True)
class Withdrawal:
    """When an image was taken back, and how it was chosen. Whether it may be used once more:
    to `unlearn` it, to `audit` whether it was forgotten."""

    time: str
    why: str
    unlearn: bool = False
    audit: bool = False

    def allowing(self, other: "Withdrawal") -> "Withdrawal":
        """The same with what `other` allows, too."""
        return replace(self, unlearn=self.unlearn or other.unlearn, audit=self.audit or other.audit)


@dataclass(frozen=True)
class Exclusions:
    """What the site with this `folder` has taken back of its data `spec`."""

    folder: Path
    spec: str = ""

    @property
    def path(self) -> Path:
        """The list's file."""
        return self.folder / FILE

    @property
    def mark(self) -> Mark:
        """Another one whenever the list has changed; None where there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def read(self) -> dict[Identity, Withdrawal]:
        """All that was taken back; `UserError` where the list is damaged."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            raise self._damaged() from None
        try:
            read = [json.loads(line) for line in lines]
            return {
                Identity(str(each["digest"]), int(each["size"])): Withdrawal(
                    str(each["time"]),
                    str(each["why"]),
                    each.get("unlearn") is True,
                    each.get("audit") is True,
                )
                for each in read
            }
        except (ValueError, KeyError, TypeError):
            raise self._damaged() from None

    def add(
        self, images: Iterable[Identity], why: str, unlearn: bool = False, audit: bool = False
    ) -> int:
        """Take `images` back, and let those be unlearned, or looked for in an audit, where it is
        said so; how many of them were not taken back before."""
        known = self.read()
        now = Withdrawal(time.strftime("%Y-%m-%dT%H:%M:%S%z"), why, unlearn, audit)
        listed = list(images)
        after = known | {each: known.get(each, now).allowing(now) for each in listed}
        if after != known:
            self._write(after)
        return len(after) - len(known)

    def allowed_in(self, data: ImageData, use: Use) -> ImageData | None:
        """Those of `data` that were taken back and may be put to that `use`; None where there are
        none."""
        taken = [each for each, how in self.read().items() if getattr(how, use)]
        rows = rows_of(self.spec, data.names, taken)
        return data.subset(rows) if len(rows) else None

    def remove(self, images: Collection[Identity]) -> int:
        """Let `images` take part again; how many of them had been taken back."""
        known = self.read()
        kept = {each: how for each, how in known.items() if each not in images}
        if len(kept) < len(known):
            self._write(kept)
        return len(known) - len(kept)

    def left_in(self, data: ImageData, taken: Collection[Identity] | None = None) -> ImageData:
        """`data` without what was `taken` back (None: as the list says)."""
        rows = rows_of(self.spec, data.names, self.read() if taken is None else taken)
        if not len(rows):
            return data
        kept = np.delete(np.arange(len(data.images)), rows)
        account = data.account
        if account is not None:
            account = replace(account, used=max(0, account.used - len(rows)))
        withdrawn = data.withdrawn + len(rows)
        return replace(data.subset(kept), withdrawn=withdrawn, account=account)

    def _write(self, images: Mapping[Identity, Withdrawal]) -> None:
        told = (asdict(each) | asdict(how) for each, how in images.items())
        lines = (json.dumps({k: v for k, v in one.items() if v is not False}) for one in told)
        write_atomic(self.path, "".join(f"{line}\n" for line in lines).encode(), mode=0o600)

    def _damaged(self) -> UserError:
        return UserError(
            f"{self.path} is damaged: what was taken back is not known, and nothing leaves; put a "
            "copy of it in its place, or delete it and take back anew"
        )
