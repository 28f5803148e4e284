"""A site put together: its images, its folder, its trainer, and the log of what leaves.

`handle` takes and returns encoded records, so the resident trainer and the in-process engines use
a site in the same way.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from client.holdings import Source
from client.storage.exclusions import Exclusions
from client.storage.ledger import enter
from client.trainer import Trainer
from client.workbench import Workshop
from common.data import ImageData, Preparation, load
from common.data.partition import Partition
from common.protocol.messages import Instruction, decode, encode
from common.protocol.records import Encoded
from common.utils.errors import UserError

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Site:
    """One site: a trainer, and the ledger of what it answered."""

    trainer: Trainer
    ledger: Path

    def handle(self, record: Encoded) -> bytes:
        """Answer one encoded instruction; `UserError` where it does not fit, or a file cannot be
        written: what is not in the ledger does not leave."""
        instruction = Instruction.from_record(decode(record))
        about = f"run {instruction.run} round {instruction.round} {instruction.asked}"
        LOG.info("%s: asked with %d bytes", about, len(record))
        started = time.monotonic()
        try:
            reply = self.trainer.handle(instruction)
            answer = encode(reply.to_record())
            enter(self.ledger, instruction.run, reply, answer)
        except OSError as error:
            name = Path(error.filename).name if error.filename else "its files"
            why = f"{name} at the site: {error.strerror or error}"
            LOG.error("%s: %s", about, why)
            raise UserError(why) from None
        except UserError as error:
            LOG.warning("%s: refused: %s", about, error)
            raise
        seconds = time.monotonic() - started
        LOG.info("%s: answered with %d bytes after %.3f s", about, len(answer), seconds)
        return answer


def open_site(
    name: str,
    data: ImageData,
    folder: Path,
    workshop: Workshop,
    min_count: int = 1,
    source: Source | None = None,
    exclusions: Exclusions | None = None,
    forgotten: ImageData | None = None,
) -> Site:
    """The site called `name` with its images, what reads them in another form, and what it has
    taken back of them (a list of it, or the images); states, assignments and ledger in `folder`."""
    trainer = Trainer(name, data, folder, workshop, min_count, source, exclusions, forgotten)
    return Site(trainer, folder / "left.jsonl")


def load_site_data(
    dataset: str,
    images: int,
    seed: int,
    partition: Path | None,
    index: int,
    how: Preparation,
    cache: Path | None = None,
) -> ImageData:
    """A site's images: the whole of `dataset`, or part `index` of it by a partition file;
    `cache`: where those are kept that memory does not hold."""
    data = load(dataset, images=images, seed=seed, how=how, cache=cache)
    if partition is None:
        return data
    parts = Partition.load(partition).sites
    if not 0 <= index < len(parts):
        raise UserError(f"the partition {partition} has {len(parts)} sites: there is no {index}")
    return data.subset(parts[index])
