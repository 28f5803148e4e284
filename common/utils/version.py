"""Which Covey this is."""

import importlib.metadata


def covey_version() -> str:
    """The installed version, or "unknown" in a bare checkout."""
    try:
        return importlib.metadata.version("covey")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
