"""Spoiled replies against everything that the server does with one, short of Flower's transport."""

import logging
import math
import re

import numpy as np
import torch

from common.clustering.centroids import Centroids
from common.config import recipes
from common.metrics import nmi
from common.protocol.exchanges import EXCHANGES
from common.protocol.layout import Layout
from common.protocol.messages import Instruction, MessageError, Reply, decode, encode
from common.solvers.landmark_spectral import solve_spectrum
from common.solvers.patch_pca import leading
from common.utils.errors import UserError
from deploy.engines.in_process import InProcessGrid
from server.clustering import lloyd
from server.clustering.landmarks import near_their_own, shared_landmarks
from server.clustering.splitting import split_landmarks
from server.conclusions import CONCLUSIONS
from server.conversation.guard import limited_memory
from server.conversation.inquiry import Inquiry, Participants, account
from server.conversation.registration import SiteInfo, read_greeting
from server.conversation.validation import Expected, Refused
from server.measurements import clustering, drop_none, sizes_of
from tests.intruders.mutations import Mutator

WIDTH, CLUSTERS, IMAGES = 3, 2, 20
PLAN = recipes.load("fedmcc").plan({"clusters": CLUSTERS, "deadline": 5})
LAYOUT = Layout({"encoder": (("weight", (4,)),)})
EXPECTED = Expected(LAYOUT, WIDTH, landmarks_of=lambda images: images // 10)
SETS = lloyd.KEPT
CENTROIDS = {
    **dict.fromkeys(
        ("landmark_sums", "lloyd", "trial"),
        Centroids(np.tile(np.eye(2, WIDTH, dtype=np.float32), (SETS, 1)), np.ones(2 * SETS, int)),
    ),
    "score": Centroids(np.eye(2, WIDTH, dtype=np.float32), np.array([5, 5])),
    "weigh": Centroids(np.tile(np.eye(2, WIDTH, dtype=np.float32), (2, 1)), np.ones(4, int)),
}
MEMORY = 1 << 26  # bytes that a thousand spoiled messages together may take beside what was there
BATCH = 1000
NAME = re.compile(r"[a-z][a-z0-9._-]{0,59}")  # of what is shown as it is

PARAMETERS = ("train", "prepare", "statistics", "gradient")  # of what brings them
POINTS = np.eye(2, WIDTH, dtype=np.float32)
TABLE = np.array([[5, 0], [0, 5]])
OWN = {
    "centroids": Centroids(POINTS, np.array([5, 5])),
    "tables": {"local": TABLE, "head": TABLE},
    "vectors": {"sum": np.ones(WIDTH), "squares": np.full(WIDTH, 10 / WIDTH)},
}
GRAM = np.diag([4.0, 4.0, 2.0, 10.0])
PARTS = {
    "train": OWN | {"sums": {"images": 10.0, "loss.contrast": 9.5, "seen": 8.0}},
    "prepare": {"sums": {"images": 10.0}},
    "statistics": {"sums": {"images": 10.0}},
    "gradient": {"sums": {"images": 10.0, "loss.repulsion": 9.5, "seen": 8.0}},
    "assess": OWN
    | {
        "moments": {"gram": GRAM, "cross": np.ones((WIDTH + 1, 2))},
        "sums": {"images": 10.0, "knn_correct": 1.0, "held": 2.0},
    },
    "patches": {"moments": {"gram": GRAM}, "sums": {"images": 10.0}},
    "moments": {"moments": {"gram": GRAM, "within": np.eye(WIDTH)}, "sums": {"images": 10.0}},
    "landmarks": {"centroids": OWN["centroids"], "sums": {"images": 10.0}},
    "landmark_sums": {
        "moments": {"sums": np.ones((2 * SETS, WIDTH))},
        "tables": {"lloyd": np.full((2 * SETS, 1), 1)},
        "sums": {"images": 10.0},
    },
    "trial": {
        "tables": {"views": np.full((2 * SETS, CLUSTERS), 2)},
        "sums": {"images": 10.0},
    },
    "affinity": {"moments": {"affinity": np.eye(WIDTH)}, "sums": {"images": 10.0}},
    "lloyd": {
        "moments": {"sums": np.ones((2 * SETS, WIDTH))},
        "tables": {"lloyd": np.full((2 * SETS, 1), 5)},
        "sums": {"images": 10.0} | {f"inertia.{n}": 1.0 for n in range(SETS)},
    },
    "score": {
        "tables": {"centroids": TABLE, "head": TABLE, "views": np.full((CLUSTERS, CLUSTERS), 1)},
        "sums": {"images": 10.0, "silhouette": 3.0, "probe_correct": 1.0, "held": 2.0},
    },
    "weigh": {
        "sums": {"images": 10.0, "weighed": 9.0}
        | {f"{name}.{n}": 5.0 for name in ("silhouette", "views", "twins") for n in range(2)}
    },
    "deliver": {"sums": {"images": 10.0}},
}


def asked(kind):
    groups = {"encoder": np.zeros(4, np.float32)}
    return Instruction(
        kind, "run", 1, PLAN, 0, LAYOUT.digest, "s", groups, CENTROIDS.get(kind), None, ("a", "b")
    )


def good(kind, site="bad"):
    brings = kind in PARAMETERS
    return Reply(
        kind=kind,
        site=site,
        round=1,
        examples=8,
        layout=LAYOUT.digest if brings else "",
        groups={"encoder": np.arange(4, dtype=np.float32)} if brings else {},
        seconds={"embed": 0.5},
        **PARTS[kind],
    )


def greeting():
    info = {"channels": 1, "side": 8, "kind": "digits", "classes": ["a", "b"], "device": "cpu"}
    return Reply("hello", "bad", 0, 10, info=info)


SITES = {name: SiteInfo(name, IMAGES, 1, 8, ("a", "b"), {}) for name in ("bad", "good")}


def exchange(kind, message):
    """One that the good site has answered."""
    opened = Inquiry(asked(kind), Participants({"bad": 2, "good": 3}, SITES), EXPECTED)
    message.content = good(kind, "good").to_record()
    opened.fold([("good", message)])
    assert opened.answered == ["good"], opened.refused
    return opened


def state(opened):
    """Every number that the exchange has added up, as bytes."""
    parts = [repr(sorted(opened.answered)), str(opened.update.examples), str(opened.bytes_up)]
    totals = vars(opened.measured.totals)
    sums = {**vars(opened.update)["_sums"], **totals["_exact"]}
    for name, total in sorted(sums.items()):
        parts += [name, total.total().tobytes().hex(), total._low.tobytes().hex()]
    for name in ("_numbers", "_seconds"):
        parts.append(repr(sorted(totals[name].items())))
    for name, table in sorted(totals["_tables"].items()):
        cells = b"" if table.cells is None else table.cells.tobytes()
        parts += [name, table.sizes.tobytes().hex(), cells.hex()]
    parts += [f"{k}{v.tobytes().hex()}" for k, v in sorted(totals["own_tables"].items())]
    parts += [f"{k}{v.points.tobytes().hex()}{v.counts}" for k, v in opened.measured.centroids]
    return "".join(parts)


def finite(value):
    """Whether every number in nested values is one that a report can show."""
    if isinstance(value, dict):
        return all(finite(each) for each in value.values())
    if isinstance(value, list | tuple):
        return all(finite(each) for each in value)
    if isinstance(value, np.ndarray):
        return bool(np.isfinite(value).all())
    return not isinstance(value, float) or math.isfinite(value)


def conclude(kind, opened):
    """All that the server computes from an exchange: it must come to an end in numbers."""
    measured = opened.measured
    figures = [
        measured.losses(), measured.spread(), measured.rank(), account(opened),
        *(clustering(measured.assigned(by)) for by in ("centroids", "head")),
        sizes_of(measured.assigned("head")), measured.totals.seconds(),
        *(drop_none(conclude_from(measured)) for conclude_from in CONCLUSIONS.values()),
    ]  # fmt: skip
    probe = measured.probe()
    figures.append({} if probe is None else probe)
    for rule in ("k-means", "k-fed"):
        merged = measured.merge(rule, None, 0)
        if merged is not None:
            figures += [merged.centroids.points, merged.centroids.counts]
            figures.append(clustering(measured.assigned("centroids", merged)))
    if kind == "landmarks":
        figures.append(shared_landmarks(measured.centroids, 3, 0))
        figures.append(near_their_own(measured.centroids))
    if kind == "landmark_sums":
        sums, counts = measured.totals.sum("sums"), measured.totals.table("lloyd").sizes
        width, steps = sums.shape[1], [(sums[:1], counts[:1]), (sums[:2], counts[:2])]
        step = lambda centres: steps[len(centres.counts) > 1]  # noqa: E731
        try:
            figures.append(split_landmarks(step, width, lambda images: 2, 1, 0))
        except UserError as why:
            assert "no site has enough images" in str(why)
    if kind == "trial":
        views = measured.totals.added(EXCHANGES[kind].sums[0])
        figures += [nmi(table) for table in np.split(views.astype(np.int64), SETS)]
    if kind == "patches":
        figures.append(leading(torch.from_numpy(measured.totals.sum("gram")), 2).numpy())
    if kind == "affinity":
        figures.append(solve_spectrum(torch.from_numpy(measured.totals.sum(kind)), 2, 1.0).numpy())
    if kind in PARAMETERS:
        figures.append(opened.update.result())
    if kind == "lloyd":
        counts = np.ones(2 * SETS)
        sets = lloyd.Clustering(
            CENTROIDS["lloyd"].points, np.zeros((2 * SETS, WIDTH)), counts, np.zeros(SETS)
        )
        figures.append(vars(lloyd.step(sets, measured, 0.5)))
    assert finite(figures), figures
    totals = vars(measured.totals)
    for name in (*totals["_numbers"], *totals["_seconds"], *totals["_tables"]):
        assert NAME.fullmatch(name), name


class Tally:
    """How many were refused and why, how many passed."""

    def __init__(self):
        self.refused, self.passed = 0, 0
        self.reasons = {}

    def refuse(self, why):
        assert len(why) <= 300 and why.isprintable(), why
        self.refused += 1
        part = why.partition(":")[0][:30]
        self.reasons[part] = self.reasons.get(part, 0) + 1

    def __str__(self):
        return (
            f"{self.refused} refused for {len(self.reasons)} reasons, {self.passed} as good as any"
        )


def bombard(count, seed=0):
    """`count` spoiled replies of every kind; a `Tally`. Fails where one raises anything but a
    refusal, takes memory without bound, or changes what was added up though it was refused."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    InProcessGrid({})  # Flower's messages want to know whose process this is
    kinds = [*PARTS, "hello"]
    bases = {kind: encode(good(kind).to_record()) for kind in PARTS}
    bases["hello"] = encode(greeting().to_record())
    mutator = Mutator(seed, list(bases.values()))
    message = next(
        iter(Inquiry(asked("train"), Participants({"bad": 2}, SITES), EXPECTED).messages().values())
    )
    opened = {kind: exchange(kind, message) for kind in PARTS}
    before = {kind: state(opened[kind]) for kind in PARTS}
    tally = Tally()
    for start in range(0, count, BATCH):
        with limited_memory(MEMORY):
            for number in range(start, min(count, start + BATCH)):
                kind = kinds[number % len(kinds)]
                spoiled = mutator.spoil(bases[kind])
                try:
                    message.content = decode(spoiled)
                    if kind == "hello":
                        read_greeting(message, "")
                    else:
                        opened[kind]._fold_one("bad", message)
                except (Refused, MessageError, UserError) as why:
                    tally.refuse(str(why))
                    if kind != "hello":
                        assert state(opened[kind]) == before[kind]
                else:
                    tally.passed += 1
                    if kind != "hello":
                        conclude(kind, opened[kind])
                        opened[kind] = exchange(kind, message)
    return tally
