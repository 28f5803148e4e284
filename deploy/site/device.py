"""`python -m deploy.site.device NAME`: which device a site would train on, in a process of its own
that takes torch's memory with it when it ends."""

import subprocess
import sys
from pathlib import Path

from common.utils.errors import UserError
from deploy.processes.supervisor import environment


def describe_device(name: str, home: Path) -> str:
    """One line about the device `name`; `UserError` where it is not there. `home` is what the
    processes of this site have for Flower's home."""
    command = [sys.executable, "-m", "deploy.site.device", name]
    done = subprocess.run(
        command, env=environment(home), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise UserError(last.removeprefix("covey: "))
    return done.stdout.strip()


def main(name: str) -> None:
    """Print the line."""
    import torch  # noqa: PLC0415 (this process alone pays for it)

    from client.workbench import pick_device  # noqa: PLC0415

    try:
        device = pick_device(name)
    except UserError as error:
        sys.exit(f"covey: {error}")
    if device.type != "cuda":
        print(f"{device} ({torch.get_num_threads()} threads)")
        return
    about = torch.cuda.get_device_properties(device)
    print(f"{device} ({about.name}, {about.total_memory / 2**30:.0f} GiB)")


if __name__ == "__main__":
    main(sys.argv[1])
