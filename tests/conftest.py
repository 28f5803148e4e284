"""What every test starts from."""

import signal

import pytest


def pytest_configure() -> None:
    """Ctrl-C works in the tests and in the processes that they start, even where the shell that
    started the tests (in the background, say) ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def one_thread() -> None:
    """PyTorch adds up on one thread, so that sums have one order whatever the machine."""
    import torch  # noqa: PLC0415 - most tests of the command line do without

    torch.set_num_threads(1)
