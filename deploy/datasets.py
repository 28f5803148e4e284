"""`covey datasets`: which there are, and which of them are on this machine."""

from typing import Any

from rich.console import Console
from rich.table import Table

from common.data import DATASETS, load
from common.errors import UserError


def list_datasets(console: Console) -> list[dict[str, Any]]:
    """Print and return one row per known data set."""
