"""`covey client offer-names`: what a site calls its clusters, offered to the federation.

Nothing leaves by it: it is noted, and goes with the answer in which the site says who it is, when
the coordinator asks that run's sites for names (`covey names RUN --server DIR`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.storage.names import OFFERED, RECEIVED, read_names, withdraw, write_names
from common.learned.facts import Facts
from common.learned.file import read_learned
from common.learned.offered import check_names
from common.utils.errors import UserError
from deploy.site.folder import SiteFolder
from deploy.using.naming import model_file


@dataclass(frozen=True)
class Offer:
    """What is to be offered, before it is: `names` of the clusters of the run whose folder of the
    site's `folder` is, "" where the federation's name stays."""

    folder: Path
    site: str
    names: tuple[str, ...]

    def lines(self) -> list[str]:
        """In words."""
        told = [f"{cluster:>5}  {name}" for cluster, name in enumerate(self.names) if name]
        return [
            f"offered by {self.site} to the federation of the run {self.folder.name}:",
            *told,
            "the coordinator sees these names beside the name of this site, and nothing else",
        ]

    def write(self) -> Path:
        """Note it; the file."""
        write_names(self.folder / OFFERED, self.names)
        return self.folder / OFFERED


def to_offer(model: Path) -> Offer:
    """What offering the names in a site's `model` would tell; nothing is changed. `UserError`
    where the model is none that a site has received, it has given no names, or one of them may not
    leave."""
    path = model_file(model).absolute()
    home = SiteFolder(path.parent.parent)
    site = home.owner()
    names = own_names(read_learned(path).facts, read_names(path.parent / RECEIVED))
    if not any(names):
        raise UserError(f"{model}: this site has given its clusters no names (covey name, gallery)")
    check_names(names)
    return Offer(path.parent, site, names)


def take_back(model: Path) -> bool:
    """Offer the names of that model no more; whether any were offered."""
    path = model_file(model).absolute()
    SiteFolder(path.parent.parent).owner()
    return withdraw(path.parent)


def own_names(facts: Facts, received: Sequence[str]) -> tuple[str, ...]:
    """What this site calls each cluster, "" where that is what it has received: a cluster that it
    said is the same as another has that one's name."""
    shown = [facts.shown(cluster) for cluster in range(facts.clusters)]
    nameless = [f"cluster {min((*_group(facts, k), k))}" for k in range(facts.clusters)]
    known = [*received, *[""] * facts.clusters]
    pairs = zip(shown, nameless, known, strict=False)
    return tuple("" if name in (none, before) else name for name, none, before in pairs)


def _group(facts: Facts, cluster: int) -> tuple[int, ...]:
    return next((group for group in facts.same if cluster in group), ())
