"""Chromium, driven through its DevTools pipe: no driver, no library, nothing downloaded.

Two pipes carry JSON messages that end in NUL. A page is opened from disk in a browser profile of its
own; all that it logs, asks the network for or pops up is written down.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ABSENT = "no Chromium here: apt-get install chromium, or name one in MEDVIP_CHROMIUM"
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
SECONDS = 60.0


def chromium() -> str | None:
    """Where the browser is; None where there is none."""
    named = os.environ.get("MEDVIP_CHROMIUM")
    return (
        named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    )


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A running browser; the test is skipped where there is none."""
    program = chromium()
    if program is None:
        pytest.skip(ABSENT)
    with tempfile.TemporaryDirectory(prefix="medvip-browser-", ignore_cleanup_errors=True) as profile:
        to_browser, ours_out = os.pipe()
        ours_in, from_browser = os.pipe()
        command = [program, *QUIET, f"--user-data-dir={profile}", "about:blank"]
        # it reads from file descriptor 3 and writes to 4
        shell = ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *command]
        process = subprocess.Popen(
            shell,
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        try:
            yield Browser(ours_in, ours_out)
        finally:
            os.close(ours_out)
            os.close(ours_in)
            process.terminate()
            process.wait(timeout=SECONDS)


class Browser:
    """One browser with one page."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._number, self._rest = 0, b""
        self._session: str | None = None
        self.requests: list[str] = []
        """Addresses that the page asked for."""
        self.complaints: list[str] = []
        """What it logged, raised or was refused."""
        self.dialogs: list[str] = []
        """What it popped up."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "Accessibility"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens meanwhile is noted."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._writing, data) :]
        for answer in self._messages():
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
        raise AssertionError(f"no answer to {method}")

    def open(
        self, file: Path, *, width: int = 1400, height: int = 1000, scheme: str = "light", media: str = ""
    ) -> None:
        """Load a file as a window of that size and colour scheme would; earlier notes are forgotten."""
        self.requests, self.complaints, self.dialogs = [], [], []
        narrow = width < 700
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=narrow,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=media, features=features)
        self.ask("Page.navigate", url=file.resolve().as_uri())
        limit = time.monotonic() + SECONDS
        while self.value("document.readyState") != "complete" or self.value("location.protocol") != "file:":
            assert time.monotonic() < limit, "the page never loads"
            time.sleep(0.05)
        self.value("Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode() }))")

    def value(self, expression: str) -> Any:
        """What an expression is, evaluated in the page; promises are waited for."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release one key, named as in ``KeyboardEvent.key``."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
            )

    def screenshot(self, *, whole: bool = True) -> bytes:
        """The page as PNG: all of it, or what the window shows."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        """The page as it prints on A4."""
        printed = self.ask("Page.printToPDF", printBackground=False, paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(printed["data"])

    def _messages(self) -> Iterator[dict[str, Any]]:
        limit = time.monotonic() + SECONDS
        while True:
            while b"\0" not in self._rest:
                ready, _, _ = select.select([self._reading], [], [], max(0.0, limit - time.monotonic()))
                assert ready, "the browser does not answer"
                more = os.read(self._reading, 1 << 20)
                assert more, "the browser is gone"
                self._rest += more
            raw, self._rest = self._rest.split(b"\0", 1)
            message = json.loads(raw)
            self._note(message.get("method"), message.get("params", {}))
            yield message

    def _note(self, method: str | None, said: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{said['type']}: {said['args']}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(f"raised: {said['exceptionDetails']}")
        elif method == "Log.entryAdded":
            self.complaints.append(f"{said['entry']['level']}: {said['entry']['text']}")
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(said["message"])
