"""`python -m deploy.flower.connection`: a site's connection, one of the two processes that a site
is.

Flower's own way to the SuperLink (`deploy/flower/fleet.py`) in a loop: take a message, look whether
its run is one of Covey's (`deploy/flower/pin.py`), have the trainer answer it, send the answer. It
imports no torch, and no code but what is installed here. The trainer, a process of its own, is
started from here, and again whenever it ends.
"""

import argparse
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.supercore.run import RunNotRunningException

from client.app import build_app
from client.resident.process import TrainerProcess
from common.utils.errors import UserError, plain
from common.utils.lock import locked
from common.utils.logs import set_up
from deploy.flower import bundle
from deploy.flower.fleet import Fleet, NotLetInError
from deploy.flower.lines import AGAIN_THERE, COUNTED, JOINED, NO_WAY, TRAINER_ENDED
from deploy.flower.mark import Mark
from deploy.flower.pin import check
from deploy.flower.whole import Delivery, DisplacedError

LOG = logging.getLogger("deploy.flower.connection")  # it runs as __main__
REFUSED_KEY = "the server does not know this site's key"
FOREIGN = f"the site runs no bundle but that of its own Covey {bundle.version()}"
BROKEN = "the message cannot be put together"
ATTEMPTS = 5  # at one message
DEADLY = f"the site's connection ended {ATTEMPTS} times at work on this"
UNSENT = "the answer could not be sent"
LOCK = "connection.lock"
LEAVING = 10.0  # seconds that a killed connection's successor waits for its lock
FIRST, LONGEST = 4.0, 20.0  # seconds between two attempts while another process is counted
LOOK = 0.05  # seconds between two looks for the file with the server's address
LATELY = 64  # runs of which it is remembered whether they are Covey's


class Left(BaseException):
    """Somebody has asked this process to end."""


class KeyRefused(BaseException):
    """The server does not accept this site's key any more, or not yet."""


class InHand:
    """Which message this site is at work on, noted in the file `path` for the process that follows
    a killed one: what is handed out again and again may be what ends them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, message_id: str) -> int:
        """Note it; how often it has been begun, this time counted."""
        try:
            before, times = self._path.read_text(encoding="ascii").split()
            times_now = int(times) + 1 if before == message_id else 1
        except (OSError, ValueError):
            times_now = 1
        with suppress(OSError):  # a disk that is full loses the note alone
            self._path.write_text(f"{message_id} {times_now}", encoding="ascii")
        return times_now

    def end(self) -> None:
        """It has been answered, or will not be."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class Site:
    """Has the messages that come in by `fleet` answered by the `trainer`."""

    def __init__(self, fleet: Fleet, trainer: TrainerProcess, in_hand: InHand) -> None:
        self._fleet = fleet
        self._in_hand = in_hand
        self._trainer = trainer
        self._app: ClientApp = build_app(lambda _context, record: trainer.ask(record))
        self._is_own = lru_cache(LATELY)(self._look_at)

    def serve(self) -> NoReturn:
        """Answer for ever; ends with an exception where the site is not to go on."""
        while not self._trainer.failed:
            try:
                delivery = self._fleet.next()
                if delivery is not None:
                    self._answer(delivery)
                    self._in_hand.end()
            except RunNotRunningException:
                LOG.info("its run is over: the message or its answer is dropped")
            except httpx.HTTPError as error:  # Flower has tried again where it thinks that helps
                LOG.warning("%s: %s", NO_WAY, _about(error))
                self._fleet.lost()
                time.sleep(FIRST)
                if self._fleet.is_heard():
                    LOG.info(AGAIN_THERE)
        raise UserError(TRAINER_ENDED)

    def _answer(self, delivery: Delivery) -> None:
        head = delivery.head
        run_id = head.metadata.run_id
        about = f"run {run_id}, round {head.metadata.group_id}: {head.metadata.message_type}"
        LOG.info("received: %s", about)
        started = time.monotonic()
        if self._in_hand.begin(head.metadata.message_id) > ATTEMPTS:
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, DEADLY), reply_to=head)
        elif self._is_own(run_id):
            reply = self._reply(delivery)
        else:
            reply = Message(Error(ErrorCode.INVALID_FAB, FOREIGN), reply_to=head)
        seconds = time.monotonic() - started
        LOG.info("sending: %s", about)
        try:
            self._fleet.reply(reply, seconds)
        except httpx.HTTPStatusError as error:
            reason = f"{UNSENT}: HTTP status {error.response.status_code}"
            LOG.warning(reason)
            refused = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)
            self._fleet.reply(Message(refused, reply_to=head), seconds)

    def _reply(self, delivery: Delivery) -> Message:
        head = delivery.head
        context = Context(head.metadata.run_id, self._fleet.node, {}, RecordDict(), {})
        what = BROKEN
        try:
            message = delivery.open()
            what = "the site failed"
            return self._app(message, context)
        except Exception as error:  # whatever a message brings about, the next is another one
            reason = plain(f"{what}: {type(error).__name__}: {error}")
            LOG.warning(reason)
            failed = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)
            return Message(failed, reply_to=head)

    def _look_at(self, run_id: int) -> bool:
        """Whether the run's bundle is the one that the Covey installed here would write. Nothing of
        it is imported or unpacked."""
        run = self._fleet.run(run_id)
        fab = self._fleet.bundle(run)
        try:
            check(run, fab)
        except Exception as why:  # whatever goes wrong in looking at it, it does not run
            LOG.warning("%s %s: %s", bundle.REFUSED, run_id, plain(" ".join(str(why).split())))
            return False
        return True


def enter(fleet: Fleet, trainer: TrainerProcess) -> None:
    """Be let in, at once as the process that was killed before this one, else when the trainer is
    ready; as long as another process with this site's key is counted as there, that is tried again.
    `UserError` where the server does not know the key."""
    if fleet.go_on():
        return
    trainer.wait()
    pause = FIRST
    while True:
        try:
            fleet.enter()
        except NotLetInError as refused:
            if not refused.known:
                raise UserError(REFUSED_KEY) from None
            LOG.warning(COUNTED)
        except httpx.HTTPError as error:
            LOG.warning("%s: %s", NO_WAY, _about(error))
        else:
            return
        time.sleep(pause)
        pause = min(LONGEST, 2.0 * pause)


def address_in(file: Path) -> str:
    """The server's host:port, as soon as the file is there."""
    while not file.exists():
        time.sleep(LOOK)
    return file.read_text(encoding="utf-8")


def _about(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP status {error.response.status_code}"
    return plain(str(error) or type(error).__name__)


def _leave(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left to do is bounded
    raise Left


def _refuse(_number: int, _frame: object) -> NoReturn:
    """Flower's clients send this signal to their own process where a key is not accepted."""
    raise KeyRefused(REFUSED_KEY)


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="deploy.flower.connection", description=__doc__)
    parser.add_argument("--address", required=True, type=Path, help="a file with host:port")
    parser.add_argument("--root-certificates", required=True, type=Path)
    parser.add_argument("--key", required=True, type=Path, help="the site's private key")
    parser.add_argument("--folder", required=True, type=Path, help="private, and the site's own")
    parser.add_argument("--trainer-log", required=True, type=Path)
    parser.add_argument("--trainer", required=True, type=Path, help="a file with its command")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    """Be a site until somebody asks for the end; the exit status."""
    set_up(sys.stderr)
    logging.getLogger("flwr").handlers.clear()  # each of its lines once
    options = arguments(given)
    key = serialization.load_ssh_private_key(options.key.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"{options.key} is no elliptic curve key")
    roots = options.root_certificates.read_bytes()
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _refuse)
    with ExitStack() as stack:
        try:
            # Until the one before this one, however it ended, can no longer say anything.
            stack.enter_context(locked(options.folder / LOCK, LEAVING))
            command = json.loads(options.trainer.read_text(encoding="utf-8"))
            trainer = TrainerProcess(command, options.trainer_log, LOG.warning)
            stack.callback(trainer.stop)
            mark = Mark(options.folder / "node.json")
            fleet = stack.enter_context(Fleet(address_in(options.address), roots, key, mark))
            stack.callback(trainer.stop)  # at once, before the goodbye
            enter(fleet, trainer)
            LOG.info("%s %s", JOINED, fleet.node)
            Site(fleet, trainer, InHand(options.folder / "in-hand")).serve()
        except Left:
            return 0
        except (UserError, KeyRefused, DisplacedError) as error:
            sys.stderr.write(f"covey: {error}\n")  # its last word, as of every process of ours
            return 1


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # whatever threads there still are
