"""Who is in the federation: which sites are there, what they hold, and under which node id.

A node is greeted (`hello`) before it takes part, and again where it was away. A site whose images
have another shape than the federation's, or whose name is taken, is refused by name, and is told
why. The federation's shape is that of most of the sites that gather (`prevailing`), or of the run
that goes on. Names come from the server's own register where it has one, so that a site cannot take
another's.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from common.config.options import Plan
from common.protocol.messages import MOST_CLASSES, Instruction
from common.protocol.taken_back import TOO_FEW_LEFT
from common.utils.errors import UserError, plain
from common.utils.seeds import derive_seed
from server.conversation.registration import (
    MOST_IN_ALL,
    Shape,
    SiteInfo,
    by_shape,
    check_shape,
    in_words,
    prevailing,
    read_greeting,
)
from server.conversation.transport import CLOCKS, HELD, drop, hear, pause, push, withdraw

LATECOMERS = 10.0  # seconds for others when as many as expected are there, some of them refused
GREET_AGAIN = 120.0  # seconds after which a hello without an answer may have been lost
WELCOME = 2.0  # seconds between two looks for newcomers while an exchange is held
AFTER_ERROR = 15.0  # seconds after an error in place of an answer: the site may be starting
HELLO_AGE = 1200.0  # seconds for which it is listened to all the same: the site may be slow


@dataclass(frozen=True)
class _Greeting:
    """A `hello` that has not been answered yet."""

    node: int
    registered: str
    since: float


class Roster:
    """The sites of one run.

    A site that has not answered in a round, or was offline, is *away*: it is greeted, and asked
    again only when it has answered that, which it does after whatever it was still at work on. So
    no site lags behind by a round, and none that is gone is waited for twice. `met` is told each
    site that is let in, and again when it comes back.
    """

    def __init__(
        self,
        grid: Grid,
        plan: Plan,
        run: str,
        warn: Callable[[str], None],
        shape: Shape | None = None,
        met: Callable[[SiteInfo], None] = lambda _: None,
        only: frozenset[str] = frozenset(),
    ) -> None:
        self._grid = grid
        self._plan = plan
        self._run = run
        self._warn = warn
        self._met = met
        self._only = only
        self.sites: dict[str, SiteInfo] = {}
        self.shape = shape  # of the federation's images; None until enough sites have joined
        self.tardy: set[str] = set()  # missed a deadline, and have not kept one since
        self._nodes: dict[str, int] = {}
        self._online: dict[int, str] = {}
        self._welcomed = -math.inf  # when it was last looked for newcomers
        self._refused: dict[int, float] = {}  # node -> when it may be greeted again
        self._told: dict[int, str] = {}  # node -> why it could not say who it is
        self.reasons: dict[str, str] = {}  # site -> why it was refused last
        self._differing = ""  # what was last said of shapes that differ
        self._notices: dict[str, str] = {}  # message id -> itself, of refusals that were told
        self._greeted: dict[str, _Greeting] = {}  # by message id
        self._away: dict[str, set[str]] = {}  # site -> messages that it has not answered

    def gather(self, patience: float, count: Callable[[int], None] = lambda _joined: None) -> None:
        """Wait until the plan's number of sites has joined, or `patience` seconds; not for sites in
        whose place others were refused, or that have taken back their images. `UserError` if fewer
        than the quorum are there then. `count` is told how many have joined."""
        expected = self._plan.expected_sites
        end = latest = time.monotonic() + patience  # `latest`: when as many as expected are there
        while True:
            self.refresh()
            count(len(self.sites))
            now = time.monotonic()
            refused = list(self._refused.values()).count(math.inf)
            refused += sum(TOO_FEW_LEFT in self._told.get(node, "") for node in self._online)
            if len(self.sites) + refused >= expected:
                latest = min(latest, now + LATECOMERS)
                complete = len(self.sites) >= expected and not self._greeted
                if complete or now >= latest:
                    break
            elif now >= end:
                break
            self.wait()
        self._settle_shape(least=0)
        joined = len(self.sites)
        if joined < max(1, self._plan.quorum * expected):
            why = "; ".join(f"{site} refused: {why}" for site, why in self.reasons.items())
            within = f" in {patience:.0f} s" if not why else f" ({why})"
            raise UserError(f"only {joined} of {expected} sites joined{within}")
        if joined < expected:
            self._warn(f"started with {joined} of {expected} sites")

    def refresh(self) -> dict[str, int]:
        """Greet the new and the away, hear answers, wait for none; who may be asked: name -> id."""
        here = {n.node_id: n.name for n in self._grid.get_nodes() if self._may_come(n.name)}
        before, self._online = self._online, here
        now = time.monotonic()
        self._refused = {n: t for n, t in self._refused.items() if n in self._online and t > now}
        for site, node in self._nodes.items():
            if node in self._online and node not in before:
                self._away.setdefault(site, set())
        self._greet(now)
        self._hear(now)
        self._settle_shape(least=self._plan.expected_sites // 2 + 1)
        return {
            site: node
            for site, node in sorted(self._nodes.items())
            if node in self._online and site not in self._away
        }

    def welcome(self) -> None:
        """Greet whoever has come while an exchange is held, and hear them: one who does not fit is
        told so within seconds, however long the others train. Looks every `WELCOME` seconds."""
        now = time.monotonic()
        if now - self._welcomed < WELCOME:
            return
        self._welcomed = now
        known = set(self._nodes.values())
        new = {n.node_id: n.name for n in self._grid.get_nodes() if n.node_id not in known}
        self._online |= new
        self._greet(now)
        self._hear(now)

    def wait(self, seconds: float = HELD) -> None:
        """Until a site has come or said who it is; a moment where the grid cannot tell, and never
        longer than `seconds`."""
        if self._greeted:
            self._hear(time.monotonic(), seconds)
        else:
            pause(self._grid, seconds)

    def settle(self, answered: Iterable[str], waiting: Mapping[str, str], late: bool) -> None:
        """After an exchange: who `answered`, and which messages (id -> site) were not; `late`: the
        deadline had passed."""
        self.tardy -= set(answered)
        for message_id, site in waiting.items():
            self._away.setdefault(site, set()).add(message_id)
        if late:
            self.tardy |= set(waiting.values())
        withdraw(self._grid, waiting)

    def miss(self, sites: Iterable[str]) -> None:
        """These did not answer, and by which message they were asked is not known: each is greeted
        before it is asked again."""
        for site in sites:
            self._away.setdefault(site, set())

    def choose(self, round_number: int, available: Iterable[str], step: int = 0) -> list[str]:
        """The sites of a round, or of one of the steps 1, 2, ... at its end: a seeded sample of the
        plan's `participation`, and as many more as `over-sampling` says."""
        names = sorted(available)
        count = math.ceil(self._plan.over_sampling * self._plan.share(len(names)) - 1e-9)
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

    def _greet(self, now: float) -> None:
        """Say hello to the nodes that are here and not known, or known and away."""
        kept = {i: g for i, g in self._greeted.items() if now - g.since < HELLO_AGE}
        recent = {g.node for g in kept.values() if now - g.since < GREET_AGAIN}
        spoken = recent | self._refused.keys()
        known = {node for site, node in self._nodes.items() if site not in self._away}
        new = [node for node in self._online if node not in known | spoken]
        if new:
            hello = Instruction(kind="hello", run=self._run, round=0, plan=self._plan).to_record()
            messages = {
                str(n): Message(hello, n, "query", group_id="hello", ttl=HELLO_AGE + CLOCKS)
                for n in new
            }
            for message_id, node in push(self._grid, messages).items():
                kept[message_id] = _Greeting(int(node), self._online[int(node)], now)
        self._greeted = kept

    def _hear(self, now: float, seconds: float = 0.0) -> None:
        """Hear those who have answered; for up to `seconds` wait for the first of them."""
        for _ in hear(self._grid, self._notices, deadline=0):
            pass  # a site that was refused has nothing to say
        waiting = {message_id: message_id for message_id in self._greeted}
        heard = hear(self._grid, waiting, seconds, enough=lambda _since: seconds > 0)
        for message_id, answer in heard:
            greeting = self._greeted.pop(message_id, None)
            if greeting is None:  # it was greeted twice, and has answered
                continue
            if not answer.has_error():
                others = {i: g for i, g in self._greeted.items() if g.node != greeting.node}
                self._greeted = others
            self._admit(greeting.node, greeting.registered, answer, now)

    def _admit(self, node: int, registered: str, answer: Message, now: float) -> None:
        if answer.has_error():  # it may be starting: its trainer, its connection
            reason = plain(answer.error.reason or f"error {answer.error.code}")
            self._refused[node] = now + AFTER_ERROR
            how = "does not say who it is"
            if TOO_FEW_LEFT in reason:
                how, self.reasons[registered or str(node)] = "takes no part", reason
            if self._told.get(node) != reason:
                self._warn(f"site {registered or node} {how}: {reason}")
            self._told[node] = reason
            return
        try:
            site = read_greeting(answer, registered)
            self._check(site, node)
        except UserError as error:
            self._refuse(node, registered or str(node), str(error))
            return
        self._told.pop(node, None)
        self.reasons.pop(site.name, None)
        self.sites[site.name] = site
        self._nodes[site.name] = node
        drop(self._grid, self._away.pop(site.name, ()))
        self._met(site)

    def _refuse(self, node: int, name: str, why: str) -> None:
        """Leave a site out until it has left and come back, and tell it why."""
        self._refused[node] = math.inf
        self._nodes = {name: n for name, n in self._nodes.items() if n != node}
        self.reasons[name] = why
        self._warn(f"site {name} refused: {why}")
        told = Instruction("hello", self._run, 0, self._plan, refusal=why).to_record()
        message = Message(told, node, "query", group_id="hello", ttl=HELLO_AGE + CLOCKS)
        self._notices |= {mid: mid for mid in push(self._grid, {name: message})}

    def _settle_shape(self, least: int) -> None:
        """Decide on the shape of the federation's images, once `least` sites have the same."""
        if self.shape is not None or not self.sites:
            return
        shape, votes = prevailing(self.sites.values())
        if votes < least:
            self._warn_of_shapes()
            return
        self.shape = shape
        for site in list(self.sites.values()):
            try:
                check_shape(site, shape)
            except UserError as error:
                del self.sites[site.name]
                self._refuse(self._nodes[site.name], site.name, str(error))

    def _warn_of_shapes(self) -> None:
        """Say it once where the sites' images differ, and too few have joined to decide."""
        shapes = by_shape(self.sites.values())
        said = "; ".join(f"{in_words(shape)}: {', '.join(shapes[shape])}" for shape in shapes)
        if len(shapes) > 1 and said != self._differing:
            self._differing = said
            self._warn(f"the sites' images differ ({said}): those of most sites will count")

    def _may_come(self, name: str) -> bool:
        """Whether a site of that name takes part, as far as it has one before it says it."""
        return not self._only or not name or name in self._only

    def _check(self, site: SiteInfo, node: int) -> None:
        if not self._may_come(site.name):
            raise UserError("the run is one that it takes no part in")
        owner = self._nodes.get(site.name, node)
        if owner != node and owner in self._online:
            raise UserError(f"the name {site.name!r} is taken")
        before = self.sites[site.name].examples if site.name in self.sites else 0
        if self.examples - before + site.examples >= MOST_IN_ALL:
            raise UserError(f"{site.examples} images are too many beside the others'")
        if len({*self.classes, *site.classes}) > MOST_CLASSES:
            raise UserError(f"{len(site.classes)} classes are too many beside the others'")
        if self.shape is not None:
            check_shape(site, self.shape)
