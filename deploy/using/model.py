"""A model as the commands and `import covey` open it: a `model.covey`, or a run's folder."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from common.learned.facts import Facts, facts_of
from common.learned.file import FILE, read_learned
from common.record.reader import read_run, read_settings
from common.utils.errors import UserError
from deploy.evaluation.networks import Networks, load_networks
from deploy.evaluation.trained import load_trained


@dataclass(frozen=True)
class Opened:
    """A model and where it was read from. `identity`: the same for the same networks and centroids,
    whatever the clusters are called."""

    path: Path
    facts: Facts
    networks: Networks
    identity: str

    def centroids(self) -> Tensor:
        """The centroids (K, d); `UserError` where each site has its own."""
        if self.networks.centroids is None:
            raise UserError(
                f"{self.path}: with batchnorm local each site has centroids of its own: take the "
                f"{FILE} that a site got, or cluster what embed gives"
            )
        return self.networks.centroids


def open_model(path: Path, device: str = "auto") -> Opened:
    """Read a model; `UserError` for what is none, is damaged, or belongs to a run that has not
    finished."""
    if path.is_dir() and read_settings(path).status == "finished" and (path / FILE).exists():
        path = path / FILE
    if not path.is_dir():
        learned = read_learned(path)
        networks = load_networks(learned, path, device)
        return Opened(path, learned.facts, networks, learned.identity)
    trained = load_trained(path, device)  # a run of a Covey that wrote no such file
    return Opened(path, facts_of(read_run(path)), trained, str(path.absolute()))
