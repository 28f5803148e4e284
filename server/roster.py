"""Who is in the federation: which sites are there, what they hold, and under which node id.

A node is asked once (`hello`) before it takes part. A site whose images have another shape than the
federation's, or whose name is taken, is refused by name. Names come from the server's own register
where it has one, so that a site cannot take another's.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from common.errors import UserError
from common.messages import Instruction, MessageError, Reply
from common.options import Plan
from common.seeds import derive_seed
from server.conversation import POLL, converse

HELLO_DEADLINE = 120.0  # seconds: the trainer may still be loading its images


@dataclass(frozen=True)
class SiteInfo:
    """What a site said of itself."""

    name: str
    examples: int
    channels: int
    side: int
    classes: tuple[str, ...]
    facts: dict[str, str | int]


class Roster:
    """The sites of one run."""

    def __init__(self, grid: Grid, plan: Plan, run: str, warn: Callable[[str], None]) -> None:
        self._grid = grid
        self._plan = plan
        self._run = run
        self._warn = warn
        self.sites: dict[str, SiteInfo] = {}
        self._nodes: dict[str, int] = {}
        self._refused: set[int] = set()

    def gather(self, patience: float) -> None:
        """Wait until the plan's number of sites has joined, or `patience` seconds; `UserError` if
        fewer than the quorum are there then."""
        end = time.monotonic() + patience
        while True:
            self.refresh()
            if len(self.sites) >= self._plan.expected_sites:
                return
            if time.monotonic() >= end:
                break
            time.sleep(POLL)
        joined, expected = len(self.sites), self._plan.expected_sites
        if joined < max(1, self._plan.quorum * expected):
            raise UserError(f"only {joined} of {expected} sites joined in {patience:.0f} s")
        self._warn(f"started with {joined} of {expected} sites")

    def refresh(self) -> dict[str, int]:
        """Greet nodes that are new; the sites that are there now, name -> node id."""
        online = {node.node_id: node.name for node in self._grid.get_nodes()}
        known = set(self._nodes.values()) | self._refused
        self._greet({node: name for node, name in online.items() if node not in known})
        return {name: node for name, node in sorted(self._nodes.items()) if node in online}

    def choose(self, round_number: int, available: Iterable[str], step: int = 0) -> list[str]:
        """The sites of a round, or of one of the steps 1, 2, ... at its end: a seeded sample of the
        plan's `participation`, at least one."""
        names = sorted(available)
        count = max(1, round(self._plan.participation * len(names)))
        about = (round_number, "step", step) if step else (round_number,)
        rng = np.random.default_rng(derive_seed(self._plan.seed, "participation", *about))
        return sorted(rng.permutation(names)[:count].tolist())

    @property
    def examples(self) -> int:
        """Images over all sites that have joined."""
        return sum(site.examples for site in self.sites.values())

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes over all sites that have labels for evaluation, sorted."""
        return tuple(sorted({name for site in self.sites.values() for name in site.classes}))

    def _greet(self, nodes: dict[int, str]) -> None:
        hello = Instruction(kind="hello", run=self._run, round=0, plan=self._plan).to_record()
        messages = {str(n): Message(hello, n, "query", group_id="hello") for n in nodes}
        for key, answer in converse(self._grid, messages, HELLO_DEADLINE):
            self._admit(int(key), nodes[int(key)], answer)

    def _admit(self, node: int, registered: str, answer: Message) -> None:
        try:
            site = _read(answer, registered)
            self._check(site, node)
        except UserError as error:
            self._refused.add(node)
            self._warn(f"site {registered or node} refused: {error}")
            return
        self.sites[site.name] = site
        self._nodes[site.name] = node

    def _check(self, site: SiteInfo, node: int) -> None:
        if self._nodes.get(site.name, node) != node and site.name not in self._gone():
            raise UserError(f"the name {site.name!r} is taken")
        for other in self.sites.values():
            if (site.channels, site.side) != (other.channels, other.side):
                raise UserError(
                    f"its images are {site.channels}×{site.side}×{site.side}, the federation's "
                    f"{other.channels}×{other.side}×{other.side}"
                )

    def _gone(self) -> set[str]:
        online = {node.node_id for node in self._grid.get_nodes()}
        return {name for name, node in self._nodes.items() if node not in online}


def _read(answer: Message, registered: str) -> SiteInfo:
    if answer.has_error():
        raise UserError(answer.error.reason or f"error {answer.error.code}")
    reply = Reply.from_record(answer.content)
    info = reply.info
    channels, side, classes = info.get("channels"), info.get("side"), info.get("classes", [])
    if not isinstance(channels, int) or not isinstance(side, int) or not isinstance(classes, list):
        raise MessageError("hello: channels, side or classes are missing")
    if registered and registered != reply.site:
        raise UserError(f"it calls itself {reply.site!r}")
    if not reply.site or reply.examples <= 0:
        raise UserError("it has no name, or no images")
    facts = {k: v for k, v in info.items() if isinstance(v, str | int)}
    return SiteInfo(reply.site, reply.examples, channels, side, tuple(map(str, classes)), facts)
