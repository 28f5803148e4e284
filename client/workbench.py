"""The model on the device, kept warm between rounds and, in a simulation, between sites.

A `Workbench` is everything that a round needs and that depends on the plan alone: the stage's model
(its objective or solver), the augmentation, the layout of what is shared. Nothing of a site stays
in it: `set_up` writes every tensor anew before each use.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from client.merge import MERGES, Memory, Merging
from common.augmentations import Augmentation, build_augmentation
from common.config.options import Plan, Stage
from common.models.model import Model
from common.models.pretrained.store import WeightStore
from common.objectives.base import Objective
from common.protocol import layout
from common.protocol.declaration import Brings
from common.protocol.layout import BUFFERS, Layout, digest_of, module_of
from common.protocol.messages import NEEDS_MODEL, Floats, Groups, Instruction
from common.protocol.packing import Packed, unpack
from common.stages import build_stage
from common.utils.errors import UserError

MOST_NUMBERS = 2**29  # in a model with its targets and queues: 2 GiB of float32
OWN, MEMORY, ROUND = "own/", "memory/", "round"  # in a site's state: what a merge rule needs


@dataclass(frozen=True)
class Workbench:
    """The built modules of one stage on one device."""

    model: Model
    augmentation: Augmentation
    layout: Layout
    initial: Mapping[str, Tensor]
    device: torch.device
    wanted_precision: str
    local_statistics: bool

    @property
    def objective(self) -> Objective:
        """The model of a stage that is trained; `UserError` where it is not."""
        if not isinstance(self.model, Objective):
            raise UserError(f"{self.model.name} is not trained")
        return self.model

    @property
    def prepares(self) -> str:
        """The module that a round of the stage begins with (`Objective.prepares`), if any."""
        return self.model.prepares if isinstance(self.model, Objective) else ""

    def precision(self) -> torch.autocast:
        """Mixed precision where the plan wants it."""
        return mixed_precision(self.wanted_precision, self.device)

    def set_up(self, groups: Mapping[str, Floats], state: Mapping[str, Tensor]) -> None:
        """Write the received `groups` and the site's own `state` into the modules.

        What has no state yet (a site's first round, a new stage's target) starts from what was
        received.
        """
        self.model.load_state_dict(dict(self.initial))
        layout.load(self.model.shared(), groups)
        self.model.restart_local()
        with torch.no_grad():
            for name, tensor in self.own_tensors().items():
                if name in state and state[name].shape == tensor.shape:
                    tensor.copy_(state[name])

    def own_tensors(self) -> dict[str, Tensor]:
        """What stays at the site, by name: local modules, and running statistics kept local."""
        tensors = {
            f"{module}/{name}": tensor
            for module, part in self.model.local().items()
            for name, tensor in part.state_dict(keep_vars=False).items()
        }
        if self.local_statistics:
            for group, members in layout.tensors(self.model.shared()).items():
                if group.endswith(BUFFERS):
                    tensors |= {f"{group}/{name}": tensor for name, tensor in members.items()}
        return tensors

    @torch.no_grad()
    def merge(self, state: Mapping[str, Tensor], number: int, stage: Stage) -> Memory:
        """Let the stage's merge rule join the received model with the site's own in `state`."""

        def kept(prefix: str) -> dict[str, Tensor]:
            found = {k: v for k, v in state.items() if k.startswith(prefix)}
            return {k.removeprefix(prefix): v.to(self.device) for k, v in found.items()}

        return MERGES[stage.merge](
            Merging(
                modules=self.model.shared(),
                own=kept(OWN),
                memory=kept(MEMORY),
                missed=ROUND in state and int(state[ROUND]) != number - 1,
                strength=stage.merge_strength,
            )
        )

    def remember(self, memory: Memory, number: int, stage: Stage) -> dict[str, Tensor]:
        """What the merge rule will need in the site's next round; nothing for `replace`."""
        if stage.merge == "replace":
            return {}
        own = {
            f"{OWN}{module}/{name}": parameter.detach()
            for module, part in self.model.shared().items()
            for name, parameter in part.named_parameters()
        }
        kept = {f"{MEMORY}{name}": tensor for name, tensor in memory.items()}
        return own | kept | {ROUND: torch.tensor(number)}

    def shared_groups(self, modules: Collection[str] = ()) -> dict[str, Floats]:
        """What is sent: one flat array per group of `modules`, or of all that is shared; running
        statistics only where averaged."""
        shared = self.model.shared()
        groups = layout.flatten({n: m for n, m in shared.items() if not modules or n in modules})
        if self.local_statistics:
            groups = {name: g for name, g in groups.items() if not name.endswith(BUFFERS)}
        return groups

    def gradient_groups(self) -> dict[str, Floats]:
        """The gradient of what is trained, one flat array per group."""
        shared = self.model.shared().items()
        return layout.flatten_gradients({n: m for n, m in shared if n != self.prepares})


class Workshop:
    """Builds workbenches and keeps the last one, and the last model that came with a `prepare`,
    which the same round's `train` need not bring again. `weights`: of pretrained encoders."""

    def __init__(self, device: torch.device, weights: WeightStore | None = None) -> None:
        self.device = device
        self.weights = weights or WeightStore()
        self._key: tuple[str, int, int, int, str] | None = None
        self._bench: Workbench | None = None
        self._received: Groups = {}

    def bench(self, instruction: Instruction, channels: int, side: int, kind: str) -> Workbench:
        """The workbench for an instruction; `UserError` where this site's model would not be the
        server's."""
        plan = instruction.plan
        stage = instruction.stage
        key = (plan.to_json(), stage, channels, side, kind)
        if self._bench is None or key != self._key:
            check_size(plan, stage, channels, side)
            model = build_stage(plan, stage, channels, side, plan.clusters, self.weights)
            model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._bench = Workbench(
                model=model,
                augmentation=build_augmentation(plan.views, kind, side),
                layout=layout.layout_of(model.shared()),
                initial={k: v.clone() for k, v in model.state_dict().items()},
                device=self.device,
                wanted_precision=plan.precision,
                local_statistics=plan.batchnorm == "local",
            )
            self._key = key
        if instruction.layout != self._bench.layout.digest:
            raise UserError(
                f"the server's model (layout {instruction.layout}) is not the one that this site "
                f"builds from the same plan (layout {self._bench.layout.digest}): "
                f"images here are {channels}×{side}×{side}"
            )
        return self._bench

    def receive(self, groups: Groups) -> None:
        """Keep the model that a `prepare` or a `statistics` brought."""
        self._received = groups

    def whole(self, instruction: Instruction, prepared: str) -> Instruction:
        """A message that brings the `prepared` module (and running statistics) alone, with the
        other groups as they were received, or as they are after its `changes`; `UserError` where
        they are not there, or not the same."""
        groups = instruction.groups
        alone = prepared and all(module_of(n) == prepared or n.endswith(BUFFERS) for n in groups)
        if instruction.exchange.brings is Brings.NOTHING or not alone:
            return instruction
        groups = {**self._received, **groups}
        if digest_of(groups) != instruction.state:
            groups |= self._changed(instruction.changes)
            if digest_of(groups) != instruction.state:
                raise UserError(NEEDS_MODEL)
        return replace(instruction, groups=groups, changes={})

    def _changed(self, changes: Mapping[str, Packed]) -> dict[str, Floats]:
        """Of the received groups, those that have changed."""
        for name, packed in changes.items():
            if name not in self._received or self._received[name].shape != packed.mantissas.shape:
                raise UserError(NEEDS_MODEL)
        return {name: self._received[name] + unpack(packed) for name, packed in changes.items()}


def check_size(plan: Plan, stage: int, channels: int, side: int) -> None:
    """`UserError` for a model that cannot be built, or is too large, found out without its
    memory."""
    try:
        with torch.device("meta"):
            model = build_stage(plan, stage, channels, side, plan.clusters)
            numbers = sum(tensor.numel() for tensor in model.state_dict().values())
    except (RuntimeError, ArithmeticError, TypeError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(f"stage {stage}: its model cannot be built: {why}") from None
    if numbers > MOST_NUMBERS:
        raise UserError(f"stage {stage}: a model of {numbers} numbers, at most {MOST_NUMBERS}")


def pick_device(name: str) -> torch.device:
    """ "auto" takes a GPU where there is one; `UserError` for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r}: {str(error).splitlines()[0]}") from None
    return device


def mixed_precision(precision: str, device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 where a plan's `precision` says so: "auto" does on a GPU."""
    on = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=on)
