"""A question that a SuperLink fails at is asked again; what it refuses, or could do twice, not."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flwr.proto.control_pb2 import ListNodesResponse
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from common.utils.errors import UserError
from deploy.flower import control
from deploy.flower.control import BrokenError, Control
from deploy.identity.certificates import issue_server, make_authority
from deploy.processes.supervisor import LOOPBACK, free_port
from tests.deploy.serving import serving


@contextmanager
def superlink(folder, *statuses: int, patience: float = 20.0) -> Iterator[tuple[Control, list]]:
    """A client of what answers its calls with these statuses, then with 200; and the calls."""
    left, calls = list(statuses), []

    async def answer(request) -> Response:
        calls.append(request.url.path)
        status = left.pop(0) if left else 200
        return Response(ListNodesResponse().SerializeToString() if status == 200 else b"", status)

    app = Starlette(routes=[Route("/v1/control/{method}", answer, methods=["POST"])])
    authority = make_authority(folder)
    port = free_port()
    with serving(app, port, issue_server(authority, folder, ())):
        yield Control(LOOPBACK, port, authority.certificate, patience), calls


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(control, "PAUSE", 0.01)


def test_a_question_before_the_tables_are_there_is_asked_again(tmp_path) -> None:
    with superlink(tmp_path, 500, 503) as (asking, calls):
        assert asking.nodes() == []
        assert calls == ["/v1/control/list-nodes"] * 3


def test_a_superlink_that_stays_broken_is_told_when_patience_ends(tmp_path) -> None:
    with superlink(tmp_path, *[500] * 1000, patience=0.1) as (asking, calls):
        with pytest.raises(BrokenError, match="refused /v1/control/list-nodes: HTTP status 500"):
            asking.nodes()
        assert len(calls) > 1


def test_what_is_refused_and_what_would_be_done_twice_is_sent_once(tmp_path) -> None:
    with superlink(tmp_path, 403, 500) as (asking, calls):
        with pytest.raises(UserError, match="refused /v1/control/list-nodes: HTTP status 403"):
            asking.nodes()
        with pytest.raises(BrokenError, match="refused /v1/control/stop-run"):
            asking.stop(7)
        assert len(calls) == 2
