"""What a site's processes write into their logs that others wait for and read."""

from client.resident.process import AGAIN as TRAINER_AGAIN
from client.resident.process import ENDED as TRAINER_ENDED

__all__ = (
    "AGAIN_THERE",
    "COUNTED",
    "JOINED",
    "NO_WAY",
    "SUPERNODE_JOINED",
    "TRAINER_AGAIN",
    "TRAINER_ENDED",
    "TRAINER_READY",
)
JOINED = "joined as node"  # a connection that has been let in
COUNTED = "the server still counts a connection of this site: trying again"
NO_WAY = "no way to the server"
AGAIN_THERE = "the server is there again"
TRAINER_READY = ", ready"
SUPERNODE_JOINED = "SuperNode ID:"
