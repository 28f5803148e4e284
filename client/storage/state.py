"""What a site keeps between rounds, as files: targets, queues, its own BatchNorm statistics.

One file per round, written whole and then renamed, so that a kill at any moment leaves the last
good one. A round starts from the newest state *before* it: a round that is asked for again (the
server was killed and resumed) starts from the same state and gives the same answer.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from common.learned.file import FILE
from common.utils.errors import UserError
from common.utils.files import utf8_path, write_atomic

LATER = re.compile(r"(.+)-(?:split-\d+|choose-k)(?:-\d+)?")
"""What a run is called that asks the one whose name stands before (`deploy/questions/`)."""
AUDITED = re.compile(r".+-without-\d+-(?:seed-\d+|audit(?:-\d+)?)")
"""What runs are called that an audit of forgetting makes and deletes (`deploy/audit/served.py`)."""
KEPT = 2  # the round in flight may have to be done again, so the one before it is kept


def remove_audits(site: Path, but: Path) -> None:
    """Remove what the `site`'s folder has of runs that were made for an audit alone, `but` of the
    one that goes on. Such a run has handed over no model: a folder that has one is another's."""
    for path in site.glob("*-without-*"):
        if path != but and AUDITED.fullmatch(path.name) and not (path / FILE).exists():
            shutil.rmtree(path, ignore_errors=True)


class StateStore:
    """The states of one site in one run, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, round_number: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the state after `round_number`; drop what is older than the last two."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        write_atomic(self._path(round_number), data)
        for old in self._rounds()[:-KEPT]:
            self._path(old).unlink(missing_ok=True)

    def load(self, round_number: int) -> dict[str, Tensor] | None:
        """The newest readable state from before `round_number`, or None at the site's first.

        States of this round and later are deleted: they belong to a future that was taken back.
        """
        for later in [r for r in self._rounds() if r >= round_number]:
            self._path(later).unlink(missing_ok=True)
        return self._newest()

    def load_earlier(self) -> dict[str, Tensor] | None:
        """Of a run that asks an earlier one something (`covey split`): the state that the site
        ended that one with; None for another run. `UserError` where it has none."""
        found = LATER.fullmatch(self.folder.name)
        if found is None:
            return None
        while found:
            earlier = StateStore(self.folder.with_name(found[1]))
            state = earlier._newest()
            if state is not None:
                return state
            found = LATER.fullmatch(found[1])
        raise UserError(f"this site has kept nothing of the run that {self.folder.name} is about")

    def _newest(self) -> dict[str, Tensor] | None:
        for number in reversed(self._rounds()):
            try:
                with utf8_path(self._path(number)) as name:
                    return load_file(name)
            except (SafetensorError, OSError):
                self._path(number).rename(self._path(number).with_suffix(".broken"))
        return None

    def _path(self, round_number: int) -> Path:
        return self.folder / f"state-{round_number:06d}.safetensors"

    def _rounds(self) -> list[int]:
        names = (re.fullmatch(r"state-(\d+)\.safetensors", p.name) for p in self.folder.glob("*"))
        return sorted(int(match[1]) for match in names if match)
