"""`covey datasets`: which there are, and which of them are on this machine."""

from typing import Any

from rich.console import Console
from rich.table import Table

from common.data import DATASETS


def list_datasets(console: Console) -> list[dict[str, Any]]:
    """Print and return one row per known data set."""
    table = Table("name", "what", "images", "size", "classes", "on this machine")
    rows = []
    for name, entry in DATASETS.items():
        place = entry.place()
        channels, side = entry.shape
        table.add_row(
            f"[bold]{name}[/]",
            entry.title,
            f"{sum(entry.images):,}",
            f"{channels}×{side}×{side}",
            str(len(entry.classes)),
            place or "[dim]no: fetched when it is first used[/]",
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
    console.print(table)
    console.print(
        "Also: --dataset FOLDER (images, with or without class subfolders) or FILE.npz",
        highlight=False,
    )
    return rows
