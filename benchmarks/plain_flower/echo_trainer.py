"""A trainer that has nothing to do: `python echo_trainer.py --channel N`."""

import sys

from echo_client import echo

from client.resident.service import serve_inherited
from common.protocol.messages import decode, encode

if __name__ == "__main__":
    print("an echo, ready", flush=True)
    serve_inherited(int(sys.argv[-1]), lambda record: encode(echo(decode(record))))
