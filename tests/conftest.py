"""What every test starts from."""

import signal


def pytest_configure() -> None:
    """Ctrl-C works in the tests and in the processes that they start, even where the shell that
    started the tests (in the background, say) ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
