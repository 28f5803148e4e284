"""Exchanges about images that a site has taken back, declared as all others
(`common/protocol/exchanges.py`)."""

from common.protocol.declaration import Asks, Brings, Exchange, Needs, When
from common.protocol.parts import IMAGES, RECALLED

TAKEN_BACK = (
    Exchange(
        kind="unlearn",
        about="train the model away from images that the site has taken back",
        doing="unlearning",
        when=When.FORGETTING,
        asks=Asks.TAKING,
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
        numbers=(IMAGES, *RECALLED),
        robust=False,
        steps=True,
    ),
)
