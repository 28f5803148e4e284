"""Exchanges about images that a site has taken back, declared as all others
(`common/protocol/exchanges.py`)."""

import json

from common.protocol.declaration import Asks, Brings, Exchange, Needs, When
from common.protocol.parts import IMAGES, RECALLED
from common.utils.errors import UserError

TOO_FEW_LEFT = "too few are left to take part"
"""How a site that has taken back its images says that it has none for a run."""
TAKEN_BACK = (
    Exchange(
        kind="unlearn",
        about="train the model away from images that the site has taken back",
        doing="unlearning",
        when=When.FORGETTING,
        asks=Asks.TAKING,
        use="unlearn",
        brings=Brings.SHARED,
        numbers=(IMAGES,),
        robust=False,
        call="train",
    ),
    Exchange(
        kind="recall",
        about="how well a model knows images that were taken back, beside those that stayed",
        doing="looking for what was taken back",
        when=When.FORGETTING,
        needs=Needs.EMBEDDINGS,
        after="recall",
        asks=Asks.TAKING,
        use="audit",
        numbers=(IMAGES, *RECALLED),
        robust=False,
        steps=True,
    ),
)


def run_of(about: str) -> str:
    """The run that images are taken back of, as a message about them says; `UserError` where it
    does not."""
    try:
        told = json.loads(about)["of"]
    except (ValueError, KeyError, TypeError):
        told = None
    if not isinstance(told, str):
        raise UserError("the message does not say of which run images were taken back")
    return told
