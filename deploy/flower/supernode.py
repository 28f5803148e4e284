"""`python -m deploy.flower.supernode`: `flower-supernode`, pinned to the bundle of the Covey here,
and ending when it has failed.

flwr 1.41 lets a SuperNode refuse a bundle that no trusted entity has signed, but only where its
SuperLink is of the commercial edition. The same place in its loop is used here: a received bundle
is checked (`deploy/flower/pin.py`) before it is stored, a refused one is dropped and the server
gets an error in place of an answer. Every run is started as a ClientApp, whatever the server calls
it. With `--any-bundle` as the first argument there is no pin.

Its loop ends with an exception where a connection fails for good: the server's certificate has
expired, or the SuperLink answers 500. The process then stays, since a thread of it serves the
ClientApps, and the site would never be heard of again. Here it ends, to be started again.
"""

import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.metadata import entry_points
from logging import ERROR
from types import ModuleType
from typing import Any, NoReturn

from flwr.app import Error
from flwr.common.constant import APP_DIR, ErrorCode
from flwr.supercore import log
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run
from flwr.supercore.utils import get_flwr_home
from flwr.supernode import start_client_internal as loop
from flwr.supernode.fleet_http_connection import http_request_response

from deploy.flower import bundle
from deploy.flower.pin import check

NAME = "flower-supernode"
OWN, FOREIGN = "own", "foreign"
# Flower asks whether the SuperLink offers verification at all, and then for each signature.
VERDICT = "valid_license"
REPLY = f"the site runs no bundle but that of its own Covey {bundle.version()}"

Pieces = tuple[Any, ...]
"""What Flower's connection hands to its loop: node id, receive, send, get_run, get_fab, ..."""


def pinned(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Flower's connection to a SuperLink, where no bundle but our own comes through: what stands in
    the place of another is empty, and marked as foreign."""

    @contextmanager
    def connection(*arguments: Any, **options: Any) -> Iterator[Pieces]:
        with connect(*arguments, **options) as pieces:
            node, receive, send, get_run, get_fab, *rest = pieces
            runs: dict[int, Run] = {}

            def get_own_run(run_id: int) -> Run:
                runs[run_id] = replace(get_run(run_id), primary_task_type=TaskType.SERVER_APP)
                return runs[run_id]

            def get_own_fab(fab_hash: str, run_id: int) -> Fab:
                return judged(runs[run_id], get_fab(fab_hash, run_id))

            yield (node, receive, send, get_own_run, get_own_fab, *rest)

    return connection


def judged(run: Run, fab: Fab) -> Fab:
    """`fab`, marked as our own; or an empty one marked as foreign, with a line in the log."""
    try:
        check(run, fab)
    except Exception as why:  # whatever goes wrong in looking at it, it does not run
        log(ERROR, "%s %s: %s", bundle.REFUSED, run.run_id, " ".join(str(why).split()))
        return Fab("", b"", {VERDICT: FOREIGN})
    return replace(fab, verifications={VERDICT: OWN})


def is_own(fab: Fab, _trusted: object = None) -> bool:
    """Flower's question whether a bundle may run."""
    return fab.verifications.get(VERDICT) == OWN


def _put(module: ModuleType, name: str, value: object) -> None:
    """Replace what is there, and only that: where another flwr has moved it, nothing starts."""
    if not hasattr(module, name):
        sys.exit(f"covey: this flwr has no {module.__name__}.{name}: the pin cannot be set")
    setattr(module, name, value)


def pin() -> None:
    """Let no bundle but our own through, in this process."""
    start = loop.start_client_internal
    program = import_module("flwr.supernode.cli.flower_supernode")  # a function has its name, too

    def start_pinned(**options: Any) -> None:
        start(**options | {"trusted_entities": {"covey": ""}})

    _put(loop, "http_request_response", pinned(http_request_response))
    _put(loop, "_verify_fab", is_own)
    _put(loop, "FAB_VERIFICATION_ERROR", Error(ErrorCode.INVALID_FAB, REPLY))
    _put(program, "start_client_internal", start_pinned)
    # What an unpinned SuperNode may have unpacked: a folder's name has eight digits of a digest,
    # which another bundle can be made to share.
    shutil.rmtree(get_flwr_home() / APP_DIR, ignore_errors=True)


def end_with(run: Callable[[], object]) -> NoReturn:
    """Run it, and end the process with it, whatever threads there still are."""
    code = 1
    try:
        run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Run `flower-supernode` with this process's arguments."""
    if sys.argv[1:2] == [bundle.ANY]:
        del sys.argv[1]
    else:
        pin()
    (script,) = entry_points(group="console_scripts", name=NAME)
    sys.argv[0] = NAME
    end_with(script.load())


if __name__ == "__main__":
    main()
