"""`python -m deploy.coordinator.share_out`: what a federation in containers needs before it starts.

Makes a server, invites the sites, and gives each its invitation and its share of a data set; each
folder may be a volume of its own. What is there is left as it is, so that it can run before every
start.
"""

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from common.data import ImageData, load
from common.data.partition import make_partition
from common.utils.errors import UserError
from common.utils.files import write_atomic
from deploy.coordinator.folder import ServerFolder, init, invite

INVITATION, IMAGES = "invitation.covey", "images.npz"


def share_out(server: Path, address: str, shares: Mapping[Path, ImageData]) -> Iterator[str]:
    """Make the server in the folder `server` and, for each folder of `shares`, which is named as
    its site, the invitation and the images; a line for each thing that was made."""
    if not (server / "server.toml").exists():
        init(server, address)
        yield f"made a server that sites dial at {address}"
    inviting = ServerFolder(server.absolute())
    for folder, share in shares.items():
        if not (folder / INVITATION).exists():
            invite(inviting, folder.name, folder / INVITATION)
            yield f"invited {folder.name}"
        if not (folder / IMAGES).exists():
            write_atomic(folder / IMAGES, archive(share))
            yield f"gave {folder.name} {len(share.images)} images"


def spread(data: ImageData, folders: Sequence[Path], partition: str) -> dict[Path, ImageData]:
    """The images of `data` over `folders` by the rule `partition`, the same every time."""
    parts = make_partition(
        data.labels, partition, len(folders), seed=0, images=len(data.images)
    ).sites
    return {folder: data.subset(indices) for folder, indices in zip(folders, parts, strict=True)}


def archive(data: ImageData) -> bytes:
    """The .npz that `read_npz` reads."""
    arrays: dict[str, NDArray[Any]] = {"images": data.images}
    if data.labels is not None:
        arrays |= {"labels": data.labels, "classes": np.array(data.classes)}
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def check_writable(folder: Path) -> None:
    """`UserError` where a run could not be written to `folder`: said before it begins."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            f"{folder} cannot be written by user {os.getuid()}: it belongs to user "
            f'{folder.stat().st_uid} (docs/coordinator/containers.md, "Whose files")'
        )


def main(
    server: Annotated[Path, typer.Option(help="the server's folder")],
    address: Annotated[str, typer.Option(help="what sites dial, HOST:PORT")],
    site: Annotated[list[Path], typer.Option(help="a folder named as its site; repeatable")],
    dataset: Annotated[str, typer.Option(help="what is spread over the sites")] = "digits",
    partition: Annotated[
        str, typer.Option(help="how (docs/researcher/data.md)")
    ] = "dirichlet(0.3)",
    runs: Annotated[Path | None, typer.Option(help="to be checked: where runs will go")] = None,
) -> None:
    """Make a server, and give each site its invitation and its share of a data set."""
    try:
        if runs is not None:
            check_writable(runs)
        for line in share_out(server, address, spread(load(dataset), site, partition)):
            print(line)
    except UserError as error:
        print(f"covey: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
