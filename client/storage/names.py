"""What the clusters of a run are called, as files of the site beside its model.

`received.json`: as the server said when it handed the model over. `offered.json`: as the site's
operator offers to call them in the whole federation; only what is in that file leaves, when the
server greets the site in that run (`covey client offer-names`).
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from common.learned.offered import are_names
from common.utils.files import write_atomic

RECEIVED, OFFERED = "received.json", "offered.json"


def write_names(path: Path, names: Sequence[str]) -> None:
    """Write a name for each cluster, "" where it has none."""
    write_atomic(path, json.dumps({"names": list(names)}, ensure_ascii=False).encode(), mode=0o600)


def read_names(path: Path) -> tuple[str, ...]:
    """The names in the file; none where it is not there, or is damaged."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["names"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def offered(folder: Path) -> list[str]:
    """The names that the site offers to a run, whose `folder` of the site's this is; none where it
    offers none, or one of them may not leave."""
    names = list(read_names(folder / OFFERED))
    return names if are_names(names) else []


def merged(own: Sequence[str], received: Sequence[str], now: Sequence[str]) -> tuple[str, ...]:
    """What clusters are called at a site: `own` names that it has given itself stay, in the place
    of all that it had `received` comes what is said `now`."""
    known = [*received, *[""] * len(own)]
    return tuple(
        new if mine in ("", before) else mine
        for mine, before, new in zip(own, known, now, strict=False)
    )


def withdraw(folder: Path) -> bool:
    """Offer no names any more; whether any were."""
    with suppress(FileNotFoundError):
        (folder / OFFERED).unlink()
        return True
    return False
