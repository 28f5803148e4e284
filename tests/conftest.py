"""What every test starts from."""

import signal

import pytest


def pytest_configure() -> None:
    """Ctrl-C works in the tests and in the processes that they start, even where the shell that
    started the tests (in the background, say) ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_pages_behind_a_run() -> None:
    """Sites that end a run inside a test draw no page of clusters, which takes seconds of a
    processor for each; a test of these pages says `behind.PAUSE = 0`."""
    from client.gallery import behind  # noqa: PLC0415

    behind.PAUSE = 3600.0


@pytest.fixture
def one_thread() -> None:
    """PyTorch adds up on one thread, so that sums have one order whatever the machine."""
    import torch  # noqa: PLC0415 - most tests of the command line do without

    torch.set_num_threads(1)
