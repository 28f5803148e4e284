"""A page in headless Chromium, driven as its own developer tools do (Chrome DevTools Protocol)."""

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 120.0  # seconds: the machine may be busy


def chromium() -> str:
    """Its path; skips the test where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium here to look at the page with")
    return found


class Page:
    """One tab. `errors`: what the page has complained of; `requests`: what it wanted to load."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **given: Any) -> dict[str, Any]:
        """A command's answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": given}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        kind, about = message["method"], message["params"]
        if kind == "Runtime.exceptionThrown":
            self.errors.append(about["exceptionDetails"]["text"])
        elif kind == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.errors.append(about["entry"]["text"])
        elif kind == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])

    def open(self, url: str) -> None:
        """Load it, to the end."""
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """What an expression gives."""
        given = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self.send("Runtime.evaluate", **given)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(script):
            assert time.monotonic() < end, script
            time.sleep(0.1)

    def look(self, width: int, height: int, dark: bool = False) -> None:
        """Take a size and a colour scheme."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])


@contextmanager
def browser() -> Iterator[Page]:
    """A new page of a browser that ends with the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            address = _address(Path(profile), process)
            with connect(address, max_size=1 << 27, open_timeout=PATIENCE) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait()


def _address(profile: Path, process: "subprocess.Popen[bytes]") -> str:
    """Of the first tab."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            port = (profile / "DevToolsActivePort").read_text().split()[0]
            tabs = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
            return next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        except (OSError, IndexError, StopIteration, httpx.HTTPError):
            assert process.poll() is None and time.monotonic() < end, "Chromium did not start"
            time.sleep(0.1)


class _Links(HTMLParser):
    """Collects what a page's markup leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        leading = ("src", "srcset", "href", "action", "poster", "data", "formaction")
        self.found |= {value or "" for name, value in attributes if name in leading}


def addresses(html: str) -> set[str]:
    """Every address in a page's markup and style but those of its own pictures."""
    links = _Links()
    links.feed(html)
    styles = re.findall(r"<style>(.*?)</style>", html, re.S)
    links.found |= {"style: " + rule for rule in re.findall(r"url\(|@import", "".join(styles))}
    return {one for one in links.found if not one.startswith("data:image/")}
