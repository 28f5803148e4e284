"""A resident trainer whose model is full of NaN after every round: `python -m client.resident` but
for that."""

from dataclasses import replace

import numpy as np
import typer

from client.resident.__main__ import main
from client.trainer import Trainer
from common.protocol.messages import Instruction, Reply

honest = Trainer.handle


def poisoned(self: Trainer, instruction: Instruction) -> Reply:
    reply = honest(self, instruction)
    return replace(reply, groups={n: np.full_like(a, np.nan) for n, a in reply.groups.items()})


Trainer.handle = poisoned
if __name__ == "__main__":
    typer.run(main)
