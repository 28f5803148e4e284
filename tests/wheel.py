"""Build the source archive and the wheel, and look through them: `make wheel`.

    python -m tests.wheel [DIST]

Both are built by `python -m build`; `twine check --strict` reads their metadata and README. The
wheel must hold every file of the packages that Python or Covey reads, and nothing else. Unpacked
somewhere else, its `covey --help` must answer.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
KINDS = (".py", ".pyi", ".toml", ".proto", ".typed", ".html", ".css", ".js")
"""Files that are read when Covey runs, or that tell a type checker of it."""


class SpoiltError(Exception):
    """What is wrong with the wheel, in a line."""


def packages() -> list[str]:
    """The top-level packages that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [
        name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]
    ]


def wanted() -> set[str]:
    """What must be in the wheel, as paths from its root."""
    tracked = subprocess.run(
        ["git", "ls-files", "--", *packages()], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {path for path in tracked.stdout.splitlines() if path.endswith(KINDS)}


def look_through(wheel: Path) -> int:
    """The number of files; `SpoiltError` where some are missing, or are there and should not be."""
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        readme = archive.read(metadata).decode().partition("\n\n")[2]
    if missing := sorted(wanted() - found):
        raise SpoiltError(f"not in the wheel: {', '.join(missing)}")
    if more := sorted(found - wanted()):
        raise SpoiltError(f"in the wheel for no reason: {', '.join(more)}")
    if "# Covey" not in readme or "](docs/" in readme:
        raise SpoiltError(
            "the README in the metadata is none, or has links to files of the project"
        )
    return len(found)


def answers(wheel: Path) -> str:
    """What `covey --help` of the unpacked wheel says, with this environment's other packages."""
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        done = subprocess.run(
            [sys.executable, "-c", HELP, str(unpacked)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(unpacked)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SpoiltError(f"covey --help: {done.stderr[-2000:]}")
    return done.stdout


HELP = """
import sys, deploy.cli.main
assert deploy.cli.main.__file__.startswith(sys.argv.pop()), deploy.cli.main.__file__
sys.argv += ["--help"]
deploy.cli.main.main()
"""


def run(command: Sequence[str]) -> None:
    """A command of this environment; its output where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SpoiltError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}")


def main() -> None:
    """Build both, and say what they are."""
    dist = Path(sys.argv[1] if sys.argv[1:] else ROOT / "dist").absolute()
    try:
        with tempfile.TemporaryDirectory() as folder:
            run(["build", "--outdir", folder, "."])
            made = sorted(Path(folder).iterdir())
            run(["twine", "check", "--strict", *map(str, made)])
            (wheel,) = (path for path in made if path.suffix == ".whl")
            count = look_through(wheel)
            answers(wheel)
            dist.mkdir(parents=True, exist_ok=True)
            for path in made:
                shutil.copy(path, dist)
    except SpoiltError as spoilt:
        sys.exit(str(spoilt))
    print(
        f"{', '.join(path.name for path in made)}: {count} files in the wheel; covey --help answers"
    )


if __name__ == "__main__":
    main()
