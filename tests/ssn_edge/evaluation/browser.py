"""A real browser without a screen, driven over a pipe: what a page asks for, and how it looks."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from ssn_edge_runtime.arrays import ByteImage

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ANSWER_S, END_S = 120.0, 30.0
_QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


class Browser:
    """Chromium with one tab.

    Args:
        folder: For its profile.
        width: Of the window, CSS pixels.
        dark: Whether the system prefers dark colours.
    """

    def __init__(self, folder: Path, *, width: int = 1280, dark: bool = False) -> None:
        assert CHROMIUM is not None
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        # The browser wants its two ends as 3 and 4; by way of 8 and 9, so neither hits the other.
        command = 'exec 8<&"$1" 9>&"$2"; exec 3<&8 4>&9 8<&- 9>&-; shift 2; exec "$@"'
        self._process = subprocess.Popen(
            [
                *("bash", "-c", command, "browser", str(to_browser), str(from_browser)),
                *(CHROMIUM, *_QUIET, "--remote-debugging-pipe"),
                *(f"--user-data-dir={folder / 'profile'}", "about:blank"),
            ],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._rest = b""
        self._calls = 0
        self._session: str | None = None
        self.requests: list[str] = []
        """Every address that the page asked for, its own included."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Network.enable")
        self.call("Page.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = None
        try:
            self.call("Browser.close")  # so that it ends its own children, too
            self._process.wait(END_S)
        except (subprocess.TimeoutExpired, AssertionError, OSError):
            self._process.kill()
            self._process.wait(END_S)
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command; what happens meanwhile is noted."""
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._calls:
                assert "error" not in answer, answer
                found = answer["result"]
                assert isinstance(found, dict)
                return found

    def open(self, address: str) -> None:
        """Go to a page and wait until all of it is there."""
        self.requests.clear()
        self.call("Page.navigate", url=address)
        while self._next().get("method") != "Page.loadEventFired":
            pass
        time.sleep(0.3)  # for requests that come after all is loaded
        self.evaluate("0")

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; its security policy does not bind this."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get(
            "value"
        )

    def click(self, selector: str) -> None:
        """Click into the middle of the first element that fits."""
        self.evaluate(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        box = self.evaluate(
            f"(() => {{const b = document.querySelector({selector!r}).getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                **{"type": kind, "x": box[0], "y": box[1], "button": "left", "clickCount": 1},
            )

    def picture(self, *, whole: bool = False) -> ByteImage:
        """What it shows, (H, W, 3) uint8 BGR; the whole page or the window."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        encoded = np.frombuffer(base64.b64decode(shot["data"]), np.uint8)
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], ANSWER_S)
            assert ready, f"the browser was silent for {ANSWER_S:.0f} s"
            more = os.read(self._read, 1 << 20)
            assert more, "the browser ended"
            self._rest += more
        line, self._rest = self._rest.split(b"\0", 1)
        message = json.loads(line)
        assert isinstance(message, dict)
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        return message
