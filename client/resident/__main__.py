"""`python -m client.resident`: start a site's resident trainer."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer

from client.resident.service import serve
from client.site import load_site_data, open_site
from client.workbench import Workshop, pick_device
from common.utils.errors import UserError


def main(
    socket: Annotated[Path, typer.Option(help="the unix socket to listen on")],
    site: Annotated[str, typer.Option(help="this site's name")],
    dataset: Annotated[str, typer.Option(help="a data set's name, a folder of images, or an .npz")],
    folder: Annotated[Path, typer.Option(help="where the site's own files go")],
    images: Annotated[int, typer.Option(help="images drawn from the data set; 0: all")] = 0,
    seed: Annotated[int, typer.Option(help="seed of that draw")] = 0,
    side: Annotated[int, typer.Option(help="scale the images to this side; 0: as is")] = 0,
    partition: Annotated[Path | None, typer.Option(help="a local federation's partition")] = None,
    index: Annotated[int, typer.Option(help="this site's part of the partition")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    min_count: Annotated[int, typer.Option(help="the site's own, whatever a plan says")] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads of torch; 0: torch's choice")] = 0,
) -> None:
    """Keep torch, the images and the model of one site ready between rounds."""
    if threads:
        torch.set_num_threads(threads)
    try:
        data = load_site_data(dataset, images, seed, side, partition, index)
        workshop = Workshop(pick_device(device))
        server = serve(socket, open_site(site, data, folder, workshop, min_count).handle)
    except UserError as error:
        sys.exit(f"covey: {error}")
    print(f"trainer of {site}: {len(data.images)} images, listening", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: server.stop(grace=None))
    server.wait_for_termination()


if __name__ == "__main__":
    typer.run(main)
