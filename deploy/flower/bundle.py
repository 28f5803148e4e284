"""The Flower app that Covey submits: two stubs and the run's options.

Flower sends an app's code from the server to the sites. Covey's app has none: each of its two
modules names the app that is installed where it runs, so a site executes the Covey that its own
operator has installed. Flower itself would run any app that a coordinator submits; a site that has
joined with `covey client join` runs this one alone (`deploy/flower/pin.py`).
"""

import importlib.metadata
import tempfile
from collections.abc import Mapping
from pathlib import Path

import tomli_w

PACKAGE = "covey_bundle"
PUBLISHER, PROJECT = "covey", "covey-run"
ID = f"{PUBLISHER}/{PROJECT}"  # by which Flower knows the app
VERSIONS = "covey-versions"  # the header of a health answer: "covey=0.1.0 flwr=1.41.0"
ANY = "--any-bundle"  # the option of a site that takes bundles other than our own
REFUSED = "refused the bundle of run"  # what a pinned SuperNode logs, with the reason
UNINSTALLED = "0.1.0"  # the version of a bare checkout

# Flower reads this file without running it, and finds only a plain assignment to `app`.
STUB = '''"""The {kind} of the Covey that is installed here; no code travels with a run."""

from {module} import app as installed

app = installed
'''


def write_bundle(
    folder: Path,
    config: Mapping[str, str | int | float | bool],
    server: str = "deploy.flower.serverapp",
    client: str = "client.app",
) -> Path:
    """Write the app into `folder` and return `folder`; `config` becomes its run configuration.

    `server` and `client` are the modules whose `app` the stubs name.
    """
    targets = {"server_app": ("ServerApp", server), "client_app": ("ClientApp", client)}
    package = folder / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text('"""What a Covey run hands to Flower."""\n')
    for name, (kind, module) in targets.items():
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(f"{module!r} is not the name of a module")
        (package / f"{name}.py").write_text(STUB.format(kind=kind, module=module))
    (folder / "pyproject.toml").write_bytes(tomli_w.dumps(_project(config)).encode())
    return folder


def build(config: Mapping[str, str | int | float | bool]) -> bytes:
    """The app with `config`, packed as Flower sends it to the sites."""
    from flwr.cli.build import build_fab_from_disk  # noqa: PLC0415 (imports Flower's CLI)

    with tempfile.TemporaryDirectory(prefix="covey-") as scratch:
        return build_fab_from_disk(write_bundle(Path(scratch), config))


def _project(config: Mapping[str, str | int | float | bool]) -> dict[str, object]:
    app = {
        "publisher": PUBLISHER,
        "fab-include": [f"{PACKAGE}/*.py"],
        "components": {
            "serverapp": f"{PACKAGE}.server_app:app",
            "clientapp": f"{PACKAGE}.client_app:app",
        },
        "config": dict(config),
    }
    project = {
        "name": PROJECT,
        "version": version(),
        "description": "A run of Covey",
        "license": "Apache-2.0",
    }
    return {"project": project, "tool": {"flwr": {"app": app}}}


def version() -> str:
    """The version of the Covey that is installed here."""
    try:
        return importlib.metadata.version("covey")
    except importlib.metadata.PackageNotFoundError:
        return UNINSTALLED
