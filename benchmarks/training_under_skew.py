"""What a trained encoder adds to the fixed one, where every site has one class.

    python benchmarks/training_under_skew.py --dataset cifar10 --epochs 24

An encoder is trained on all sites' images in the steps that they take together (`covey-sync`: the
spread does not matter there), then `covey-exact`'s closing follows: on the fixed encoder's
features, on the trained one's, and on both side by side. With `--encoder head` it is a small head
on the fixed features that is trained (`_head_training.py`). NMI and ACC of the federation's
clusters on the data set's test images, which no site has, beside the sites' own; kNN and a linear
probe are fitted on the sites' images and scored on test images. `agreement` needs no label.
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from _closing import AS_CHOSEN, Seen, beside, close, look, projected
from _head_training import through, train_head
from _pooled_training import Training, train
from _table import save_json, show
from torch import Tensor

from client.features import STEP
from client.workbench import pick_device
from common.data import ImageData, load, load_test
from common.data.partition import make_partition
from common.models.noise_filters import noise_filters
from deploy.evaluation.pooled import probed

HEAD = "head"
COLUMNS = (
    "features", "partition", "seed", "agreement", "nmi plain", "nmi test", "acc test", "knn",
    "linear",
)  # fmt: skip


def main(
    dataset: str = "cifar10",
    images: Annotated[int, typer.Option(help="drawn by seed; 0: all")] = 5000,
    sites: int = 10,
    partitions: Annotated[str, typer.Option(help="with | between")] = "iid|p-skew(1.0)",
    seeds: str = "0",
    encoder: str = "small-convnet",
    objectives: str = "spectral-contrastive",
    epochs: int = 24,
    batch: int = 256,
    rate: float = 1e-3,
    start: bool = True,
    views: Annotated[int, typer.Option(help="of each image, that a head is trained on")] = 8,
    seconds: Annotated[float, typer.Option(help="of training, at most")] = float("inf"),
    device: str = "auto",
    threads: int = 1,
    json: Annotated[Path | None, typer.Option(help="also write the rows here")] = None,
) -> None:
    """Train, close, print a row for each kind of features."""
    torch.set_num_threads(threads)
    where, rows = pick_device(device), list[dict[str, Any]]()
    for seed in map(int, seeds.split(",")):
        own, test = load(dataset, images=images, seed=seed), load_test(dataset)
        if test is None:
            raise typer.BadParameter(f"{dataset} has no test images")
        filters = noise_filters(own.channels, own.side)
        fixed = look(filters, own, test, seed, where)
        kinds = {"fixed": fixed}
        for objective in objectives.split(","):
            if encoder == HEAD:
                how = Training(objective, epochs=epochs, batch=batch, rate=rate, seconds=seconds)
                head = train_head(how, filters, fixed, own, seed, views, where)
                trained = through(head, fixed, where)
            else:
                how = Training(objective, encoder, epochs, batch, rate, start, seconds)
                trained = look(train(how, own, seed, where), own, test, seed, where)
            kinds |= {objective: trained, f"{objective} beside fixed": beside(trained, fixed)}
        for name, seen in kinds.items():
            for found in figures(seen, own, test, partitions.split("|"), sites, seed, where):
                rows.append({"features": name, "seed": seed, **found})
                print(rows[-1], flush=True)
                if json:
                    save_json(json, rows)
    what = f"{dataset}, {len(own.images):,} images, {encoder}, {epochs} passes of {batch}"
    show(what, COLUMNS, [tuple(str(row[column]) for column in COLUMNS) for row in rows])


def figures(
    seen: Seen,
    own: ImageData,
    test: ImageData,
    partitions: list[str],
    sites: int,
    seed: int,
    device: torch.device,
) -> list[dict[str, Any]]:
    """A row for each partition; kNN and probe do not depend on it."""
    assert own.labels is not None and test.labels is not None
    solver = projected(seen, AS_CHOSEN, len(own.classes), device=device)
    fit, held = _scaled(seen.plain, own, device), _scaled(seen.test, test, device)
    probes = {key: round(value, 4) for key, value in probed(fit, held, len(own.classes)).items()}
    rows = []
    for partition in partitions:
        parts = make_partition(own.labels, partition, sites, seed).sites
        found = close(solver, seen, own, test, parts, seed)
        rows.append({"partition": partition, **found, **probes})
    return rows


def _scaled(features: Tensor, data: ImageData, device: torch.device) -> tuple[Tensor, Tensor]:
    assert data.labels is not None
    return features.to(device).float() * STEP, torch.from_numpy(data.labels).to(device)


if __name__ == "__main__":
    typer.run(main)
