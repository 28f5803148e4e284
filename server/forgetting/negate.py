"""NoT: the first layer of the encoder negated, and the last round again over what is left.

    w_1 <- -w_1,   then training on what is left,
which takes the network away from what it had learned further than noise of the same size does
(Khalil et al., NoT: Federated Unlearning via Weight Negation, CVPR 2025, arXiv 2503.05657). The
projector is new, too.
"""

from dataclasses import replace

import torch
from torch import nn

from common.config.options import Plan
from common.protocol import layout
from common.utils.errors import UserError
from server.forgetting.method import Method, Past, trained_again
from server.model import GlobalModel
from server.run.folder import Checkpoint


class Negate(Method):
    """The encoder has to learn anew, from a start that knows more than a random one."""

    name = "not"
    title = "NoT: the first layer negated, and the last round again over what is left"

    def start(self, plan: Plan, past: Past, model: GlobalModel) -> Checkpoint | None:
        """Before the last round; `UserError` for an encoder without a convolution."""
        stage, state = trained_again(plan, past.reached, model)
        modules = model.of(stage)
        layout.load(modules.shared(), state.groups)
        layers = (m for m in modules.encoder.modules() if isinstance(m, nn.Conv2d))
        first = next(layers, None)
        if first is None:
            raise UserError(f"--method {self.name}: {plan.encoder} has no layer to negate")
        with torch.no_grad():
            first.weight.neg_()
        groups = layout.flatten(modules.shared())
        return replace(state, groups={name: groups[name] for name in state.groups})
