"""`covey datasets`: which there are, and which of them are on this machine."""

from typing import Any

from rich.console import Console

from common.data import DATASETS
from deploy.terminal.table import show_table


def list_datasets(console: Console) -> list[dict[str, Any]]:
    """Print and return one row per known data set."""
    cells = []
    rows = []
    for name, entry in DATASETS.items():
        place = entry.place()
        channels, side = entry.shape
        cells.append(
            (
                name,
                entry.title,
                f"{sum(entry.images):,}",
                f"{channels}×{side}×{side}",
                str(len(entry.classes)),
                place or "no: fetched when it is first used",
            )
        )
        rows.append(
            {
                "name": name,
                "title": entry.title,
                "train_images": entry.images[0],
                "test_images": entry.images[1],
                "channels": channels,
                "side": side,
                "classes": len(entry.classes),
                "licence": entry.licence,
                "source": entry.source,
                "place": place,
            }
        )
    heads = ("name", "what", "images", "size", "classes", "on this machine")
    show_table(console, heads, cells, numbers=("images", "classes"))
    console.print(
        "Also: --dataset FOLDER (images, with or without class subfolders) or FILE.npz",
        highlight=False,
        markup=False,
    )
    return rows
