"""`python -m client.resident`: a site's resident trainer."""

import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from client.resident.lean_torch import leave_compiler_out
from client.resident.service import NamedSocket, serve_inherited, serve_named
from client.resident.warm_up import warm_up
from client.site import load_site_data, open_site
from client.storage.exclusions import Exclusions
from client.workbench import Workshop, pick_device
from common.config.preparation import Preparation
from common.data.cache import cache_of
from common.models.pretrained.store import WEIGHTS, WeightStore
from common.utils.errors import UserError
from common.utils.logs import set_up

LOG = logging.getLogger("client.resident")


def main(
    site: Annotated[str, typer.Option(help="this site's name")],
    dataset: Annotated[str, typer.Option(help="a data set's name, a folder of images, or an .npz")],
    folder: Annotated[Path, typer.Option(help="where the site's own files go")],
    channel: Annotated[int, typer.Option(help="the inherited socket to answer on")] = -1,
    socket: Annotated[Path | None, typer.Option(help="or a unix socket to listen on")] = None,
    images: Annotated[int, typer.Option(help="images drawn from the data set; 0: all")] = 0,
    seed: Annotated[int, typer.Option(help="seed of that draw")] = 0,
    preparation: Annotated[str, typer.Option(help="how files become images, as JSON")] = "{}",
    partition: Annotated[Path | None, typer.Option(help="a local federation's partition")] = None,
    index: Annotated[int, typer.Option(help="this site's part of the partition")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    min_count: Annotated[int, typer.Option(help="the site's own, whatever a plan says")] = 1,
    take_weights: Annotated[
        bool, typer.Option("--take-weights", help="take an encoder's weights from the server")
    ] = False,
    threads: Annotated[int, typer.Option(help="CPU threads of torch; 0: torch's choice")] = 0,
) -> None:
    """Keep torch, the images and the model of one site ready between rounds."""
    # At once, whatever is going on: every file is written whole, and what is lost is asked again.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    set_up(sys.stderr)
    if threads:
        torch.set_num_threads(threads)
    leave_compiler_out()
    try:
        how = Preparation.from_json(preparation)
        source = partial(
            load_site_data, dataset, images, seed, partition, index, cache=cache_of(folder)
        )
        data = source(how)
        own = folder / WEIGHTS
        workshop = Workshop(pick_device(device), WeightStore((own,), own if take_weights else None))
        exclusions = Exclusions(folder, dataset)
        handle = open_site(site, data, folder, workshop, min_count, source, exclusions).handle
        warm_up(workshop.device)
        serve = partial(serve_inherited, channel)
        if socket is not None:
            serve = partial(serve_named, NamedSocket(socket))
    except UserError as error:
        sys.exit(f"covey: {error}")
    LOG.info("trainer of %s: %d images, ready", site, len(data.images))
    serve(handle)


if __name__ == "__main__":
    typer.run(main)
