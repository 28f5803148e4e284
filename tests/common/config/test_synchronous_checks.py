"""What does not go together with synchronous steps is refused when a run is planned."""

import pytest

from common.config.checks import check_plan
from common.utils.errors import UserError
from tests.builders.runs import plan

OPTIONS = {
    "objective": "spectral-contrastive",
    "normalisation": "layer",
    "synchronous": True,
    "sites": 3,
}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"objective": "simclr"}, "the loss of 'simclr' is no function of means"),
        (
            {"objective": "fedu2", "parameters": "first=spectral-contrastive"},
            "no function of means",
        ),
        (
            {"normalisation": "batch", "encoder": "resnet18"},
            "21 BatchNorms would take 44 exchanges a step, so normalisation must be group or layer",
        ),
        ({"head-normalisation": "batch", "batchnorm": "local"}, "batchnorm must be average"),
        ({"local-epochs": 2}, "local-epochs must be 1, not 2"),
        ({"local-steps": 2}, "local-steps must be 0, not 2"),
        ({"aggregation": "median", "byzantine": 1}, "aggregation must be mean, not median"),
        ({"server-optimiser": "adam"}, "server-optimiser must be none, not adam"),
        ({"merge": "fedu"}, "merge must be replace, not fedu"),
        ({"proximal": 0.1}, "proximal must be 0.0, not 0.1"),
    ],
)
def test_what_does_not_go_with_synchronous_steps_is_said_in_a_line(options: dict, why: str) -> None:
    with pytest.raises(UserError, match=f"stage 'representation' is synchronous: .*{why}"):
        check_plan(plan("fedsimclr", **OPTIONS | options))
    check_plan(plan("fedsimclr", **OPTIONS))
