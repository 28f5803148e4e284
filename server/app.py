"""The ServerApp: from a run's configuration to a finished run folder."""

import importlib.metadata
import logging
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.config import recipes
from common.config.checks import check_plan
from common.config.options import Plan
from common.data.partition import Partition
from common.models.pretrained.settle import settle_encoder
from common.models.pretrained.store import WeightStore
from common.record.follow_up import read_order as read_follow_up
from common.record.forgetting import Forgetting, read_order
from common.record.schema import Run, SiteFacts, Spread, WarningEvent
from common.stages import settle_parameters
from common.utils.errors import UserError
from common.utils.home import covey_home
from common.utils.logs import kept_in, set_up
from common.utils.names import place
from common.utils.version import covey_version
from server.conversation.guard import guarded
from server.conversation.registration import SiteInfo
from server.conversation.roster import Roster
from server.conversation.weights import Handing
from server.delivery import SIMULATED, deliver
from server.publishing import publish
from server.questions import answer
from server.report import write_report
from server.run import estimate
from server.run.folder import RunFolder, timestamp
from server.run.progress import JOIN, Progress
from server.settling import say_grey, settle_clusters, settle_landmarks, settle_window
from server.strategy import CoveyStrategy
from server.unlearning import unlearn

LOG = logging.getLogger(__name__)
LOG_FILE = "run.log"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Flower's entry: run what the run configuration says."""
    set_up(sys.stderr)
    config = dict(context.run_config)
    folder = RunFolder(_run_folder(config))
    with folder.held():
        try:
            engine = str(config.get("engine") or "flower")
            run(guarded(grid), plan_of(config, folder), folder, engine)
        except UserError as error:  # raised again: Flower tells its text to who started the run
            folder.finish("failed", str(error))
            raise
        except OSError as error:
            reason = f"{error.filename or folder.path}: {error.strerror or error}"
            folder.finish("failed", reason)
            raise UserError(reason) from error
        except Exception as error:
            folder.finish("failed", f"{type(error).__name__}: {error}")
            raise


def plan_of(config: Mapping[str, Any], folder: RunFolder) -> Plan:
    """The plan of a run configuration: `recipe`, and any option of a run; without a recipe, the
    plan of the run that the folder holds already."""
    if not config.get("recipe"):
        return folder.plan()
    options = {k: v for k, v in config.items() if k not in ("recipe", "run-folder", "engine")}
    return recipes.load(str(config["recipe"])).plan(options)


def run(grid: Grid, plan: Plan, folder: RunFolder, engine: str) -> None:
    """Run `plan` over the sites of `grid`, from the folder's checkpoint if it has one; the log of
    it is in the folder, too."""
    plan = settle_encoder(plan, WeightStore())
    check_plan(plan)
    with kept_in(folder.path / LOG_FILE):
        try:
            _run(grid, plan, folder, engine)
        except UserError as error:
            LOG.error("%s", error)
            raise
        except Exception:
            LOG.exception("the run failed")
            raise


def _run(grid: Grid, plan: Plan, folder: RunFolder, engine: str) -> None:

    def warn(text: str) -> None:  # at once: who started the run reads it in the folder's metrics
        LOG.warning("%s", text)
        folder.log(WarningEvent(round=folder.reached, text=text))

    def meet(site: SiteInfo) -> None:
        changed = folder.meet(site.name, own_facts(site, partition), roster.classes)
        if changed:
            warn(f"site {site.name} is not as it was: {changed}")

    partition = _partition(folder.path / "partition.json")
    order = read_order(folder.path)
    only = frozenset(order.sites) if order else frozenset()
    roster = Roster(grid, plan, folder.name, warn, folder.shape(), meet, only)
    folder.progress.begin(Progress(JOIN, asked=plan.expected_sites))
    roster.gather(plan.deadline, folder.progress.count)
    if order and order.asked in only:
        _check_there(order.asked, roster)
    handing = Handing(grid, roster, plan, folder.name, folder.progress, warn)
    handed = handing()
    forgetting = order.among(_withdrawn(roster)) if order else None
    plan, settled = settle_window(plan, roster.sites.values(), warn)
    settled += () if plan.clusters else ("clusters",)
    before = folder.began_with()
    clusters = settle_clusters(plan, roster.sites.values(), before, warn)
    plan = plan.model_copy(update={"clusters": clusters})
    plan = settle_landmarks(settle_parameters(plan), roster.sites.values(), before)
    say_grey(plan, roster.sites.values(), warn)
    strategy = CoveyStrategy(plan, folder, roster)
    folder.begin(_facts(strategy, engine, settled, forgetting))
    if handed:
        strategy.note(f"took the weights of {plan.encoder}: {', '.join(handed)}", folder.reached)
    long = estimate.warning(plan, roster.sites, engine, strategy.state.round)
    if long:
        warn(long)
    strategy.summary()
    if forgetting is not None:
        unlearn(strategy, grid, forgetting)
    strategy.run(grid)
    later = read_follow_up(folder.path)
    is_new = answer(later, strategy, grid) if later else True
    model = publish(strategy, later.names if later else ()) if is_new else None
    for_an_audit = order is not None and order.reference
    if model is not None and engine not in SIMULATED and not for_an_audit:
        deliver(strategy, grid, model)
    folder.finish("finished")
    write_report(folder.path)


def _facts(
    strategy: CoveyStrategy, engine: str, settled: tuple[str, ...], forgetting: Forgetting | None
) -> Run:
    """What goes into `run.json`: everything that decides the result, and who took part."""
    plan, roster = strategy.plan, strategy.roster
    partition = _partition(strategy.folder.path / "partition.json")
    sites = {name: own_facts(site, partition) for name, site in sorted(roster.sites.items())}
    files = next((site.facts.files for site in roster.sites.values()), None) if partition else None
    later = read_follow_up(strategy.folder.path)
    packages = ("flwr", "torch", "torchvision", "numpy")
    return Run(
        id=strategy.folder.name,
        created=timestamp(),
        recipe=plan.recipe,
        engine=engine,
        status="running",
        plan=plan.model_dump(mode="json", by_alias=True),
        settled=settled,
        versions={
            "covey": covey_version(),
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
        sites=sites,
        classes=roster.classes,
        parameters=strategy.model.parameters(len(plan.stages) - 1),
        partition=partition,
        files=files,
        forgetting=forgetting,
        follow_up=later.follow_up if later else None,
    )


def _check_there(site: str, roster: Roster) -> None:
    """`UserError` unless the site, which takes images back here, has joined."""
    if site not in roster.sites:
        raise UserError(
            f"site {site} takes images back here, and has not joined: "
            f"{roster.reasons.get(site, 'it is away')} (covey forget --site {site} --all forgets "
            "it whole, without asking it)"
        )


def _withdrawn(roster: Roster) -> dict[str, int]:
    """How many images each site says that it has taken back."""
    return {name: site.facts.withdrawn or 0 for name, site in roster.sites.items()}


def own_facts(site: SiteInfo, partition: Spread | None) -> SiteFacts:
    """What is recorded of a site. In a local federation all have the files of one folder, which are
    the run's to account for and no site's."""
    return site.facts.model_copy(update={"files": None}) if partition else site.facts


def _partition(path: Path) -> Spread | None:
    """Which partition a local federation runs on; None where the sites hold their own data."""
    if not path.exists():
        return None
    partition = Partition.load(path)
    sizes = tuple(len(part) for part in partition.sites)
    return Spread(spec=partition.spec, hash=partition.hash, sizes=sizes)


def _run_folder(config: Mapping[str, Any]) -> Path:
    """`run-folder` of the configuration, or a new one under `$COVEY_HOME/runs`."""
    given = str(config.get("run-folder") or "")
    if given:
        return place(given)
    recipe = recipes.file_name(str(config.get("recipe") or recipes.DEFAULT))
    return covey_home() / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{recipe}"
