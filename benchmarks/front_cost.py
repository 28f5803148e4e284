"""What the front costs: a model fetched and brought back through it, against without it.

    python benchmarks/front_cost.py

Three processes with TLS on loopback: a stand-in for the SuperLink, which answers a question of a
site with a whole message or takes one, and does nothing else; the front, as `covey server start`
starts it; and this one as a site. Both ways in turn, `turns` times; the ratio is of the medians of
one run. The stand-in does no work, where a SuperLink checks and stores each message, so that the
ratio is the largest there can be. The front's CPU seconds are read from the system.
"""

import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
import uvicorn
from _table import save_json, show
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from deploy.flower.frames import AT_ONCE
from deploy.flower.reach import check_server
from deploy.flower.whole import SITE_PULL, SITE_PUSH
from deploy.identity.address import Address
from deploy.identity.certificates import Authority, ServerCertificate, issue_server, make_authority
from deploy.processes.supervisor import LOOPBACK, environment, free_port

PATIENCE = 60.0
DIRECT, FRONT = "without the front", "through the front"


def main(
    megabytes: Annotated[float, typer.Option(help="size of the model, MB")] = 45.0,
    turns: int = 7,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
    standing_in: Annotated[int, typer.Option(hidden=True)] = 0,
    certificates: Annotated[Path, typer.Option(hidden=True)] = Path(),
) -> None:
    """Measure and print the table."""
    if standing_in:
        stand_in(standing_in, certificates)
        return
    size = round(megabytes * 1e6)
    seconds: dict[str, list[float]] = {DIRECT: [], FRONT: []}
    with tempfile.TemporaryDirectory(prefix="cb-") as private, started(Path(private)) as place:
        authority, addresses, front = place
        for turn in range(turns + 1):
            spent = cpu_seconds(front)
            for name, address in addresses.items():
                taken = carry(address, authority, size)
                if turn:  # the first connects and warms up
                    seconds[name].append(taken)
        spent = cpu_seconds(front) - spent
    report(megabytes, seconds, spent, json)


@contextmanager
def started(folder: Path) -> Iterator[tuple[Authority, dict[str, Address], int]]:
    """(authority, the two addresses, the front's process id)."""
    authority = make_authority(folder)
    issue_server(authority, folder, ())
    inner, outer = free_port(), free_port()
    addresses = {DIRECT: Address(LOOPBACK, inner), FRONT: Address(LOOPBACK, outer)}
    behind = ("--standing-in", str(inner), "--certificates", str(folder))
    options = ("--listen", str(addresses[FRONT]), "--superlink", str(addresses[DIRECT]))
    commands = (
        (sys.executable, __file__, *behind),
        (sys.executable, "-m", "deploy.coordinator.front", *options, "--certificates", str(folder)),
    )
    variables = environment(folder)
    processes = [subprocess.Popen(command, env=variables) for command in commands]
    try:
        for address in addresses.values():
            await_answer(address, authority.certificate)
        yield authority, addresses, processes[1].pid
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)


def stand_in(port: int, certificates: Path) -> None:
    """Answer a question with as many bytes as it asks for, and take whatever is pushed."""
    server = ServerCertificate(certificates / "server.crt", certificates / "server.key")

    async def pull(request: Request) -> Response:
        await request.body()
        size = int(request.headers["x-size"])

        async def body() -> AsyncIterator[bytes]:
            for piece in pieces(size):
                yield piece

        return StreamingResponse(body(), headers={"content-length": str(size)})

    async def push(request: Request) -> Response:
        taken = 0
        async for chunk in request.stream():
            taken += len(chunk)
        return Response(str(taken))

    async def health(_request: Request) -> Response:
        return Response()

    routes = [
        Route(SITE_PULL, pull, methods=["POST"]),
        Route(SITE_PUSH, push, methods=["POST"]),
        Route("/health", health),
    ]
    uvicorn.run(
        Starlette(routes=routes),
        host=LOOPBACK,
        port=port,
        ssl_certfile=server.certificate,
        ssl_keyfile=str(server.key),
        log_level="warning",
    )


def await_answer(address: Address, authority: Path) -> None:
    """Return when it answers."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            check_server(address, authority, proxies=False)
        except ValueError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def carry(address: Address, authority: Authority, size: int) -> float:
    """Seconds to fetch so many bytes in one message, and to bring as many in one."""
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    with httpx.Client(
        verify=tls, base_url=f"https://{address}", trust_env=False, timeout=PATIENCE
    ) as client:
        began = time.perf_counter()
        with client.stream("POST", SITE_PULL, headers={"x-size": str(size)}) as answer:
            fetched = sum(map(len, answer.iter_raw()))
        brought = int(client.post(SITE_PUSH, content=pieces(size)).text)
        if (fetched, brought) != (size, size):
            raise SystemExit("a message did not arrive whole")
        return time.perf_counter() - began


def pieces(size: int) -> Iterator[bytes]:
    """So many bytes, as many at once as a message travels in."""
    blank = bytes(AT_ONCE)
    for left in range(size, 0, -AT_ONCE):
        yield blank[: min(left, AT_ONCE)]


def cpu_seconds(process: int) -> float:
    """CPU seconds that a process has spent."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(
    megabytes: float, seconds: dict[str, list[float]], spent: float, json: Path | None
) -> None:
    """The table and the file."""
    median = {name: statistics.median(times) for name, times in seconds.items()}
    ratio = median[FRONT] / median[DIRECT]
    show(
        f"Seconds to fetch and bring back {megabytes:g} MB, {len(seconds[DIRECT])} times in turn, "
        f"{os.cpu_count()} CPU cores",
        ("", "seconds", "fastest", "slowest", "ratio"),
        [(n, median[n], min(t), max(t), median[n] / median[DIRECT]) for n, t in seconds.items()],
    )
    print(
        f"The front spends {spent:.2f} CPU seconds on it; it adds "
        f"{median[FRONT] - median[DIRECT]:.2f} s."
    )
    if json:
        figures = {"ratio": ratio, "seconds": median, "front_cpu_seconds": spent, "MB": megabytes}
        save_json(json, figures)


if __name__ == "__main__":
    typer.run(main)
