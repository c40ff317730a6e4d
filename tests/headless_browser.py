"""A headless Chromium that is driven as a person would: real keys, real mouse, real pixels.

Through two pipes (``--remote-debugging-pipe``): JSON messages that end in a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np

from ssn_edge_runtime.arrays import ByteImage

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TIMEOUT_S = 60.0
_LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3), os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_KEY_CODES = {"ArrowRight": 39, "ArrowLeft": 37, "Enter": 13, "Escape": 27, "Tab": 9}


class Browser:
    """One page of a browser; a context manager.

    Args:
        folder: For its profile.
        width: Of the window, in CSS pixels; below 600 it is a phone's.
        height: Likewise.
        is_dark: Whether the system prefers dark colours.
    """

    def __init__(
        self, folder: Path, *, width: int = 1280, height: int = 900, is_dark: bool = False
    ) -> None:
        assert CHROMIUM is not None
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update"]
        command += ["--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe"]
        command += [f"--user-data-dir={folder / 'profile'}", "about:blank"]
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # High numbers: 3 and 4, which Chromium wants, may be in use here.
        ends = [os.dup(theirs_in), os.dup(theirs_out)]
        launch = [sys.executable, "-c", _LAUNCH, *map(str, ends)]
        self._process = subprocess.Popen(
            [*launch, *command], pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for fd in (theirs_in, theirs_out, *ends):
            os.close(fd)
        self._number = 0
        self._buffer = b""
        self._session: str | None = None
        self.messages: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        feature = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(20)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def call(self, method: str, **params: object) -> dict[str, Any]:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = monotonic() + TIMEOUT_S
        while True:
            answer = self._read(until)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result = answer["result"]
                assert isinstance(result, dict)
                return result
            self.messages.append(answer)

    def _read(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - monotonic()))
            data = os.read(self._in, 2**16) if ready else b""
            if not data:
                raise TimeoutError("the browser does not answer")
            self._buffer += data
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(raw)
        assert isinstance(message, dict)
        return message

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def open(self, url: str) -> None:
        """Go to a page, and wait until all of it is there."""
        self.messages.clear()
        self.call("Page.navigate", url=url)
        until = monotonic() + TIMEOUT_S
        while not any(each["method"] == "Page.loadEventFired" for each in self.messages):
            self.messages.append(self._read(until))
        sleep(0.3)  # for requests that come after all is loaded
        self.value("0")

    @property
    def requests(self) -> list[str]:
        """Every address that the page asked for, its own included."""
        return [
            each["params"]["request"]["url"]
            for each in self.messages
            if each["method"] == "Network.requestWillBeSent"
        ]

    def value(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        until = monotonic() + TIMEOUT_S
        # What it asks about may not be there yet.
        asked = f"(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"
        while not self.value(asked):
            if monotonic() > until:
                raise TimeoutError(f"never came true: {expression}; {self.text('body')}")
            sleep(0.03)

    def text(self, selector: str) -> str:
        return str(self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    def press(self, key: str) -> None:
        code = _KEY_CODES.get(key, ord(key.upper()) if len(key) == 1 else 0)
        about: dict[str, object] = {"key": key, "windowsVirtualKeyCode": code}
        if len(key) == 1:
            about["text"] = key
        elif key == "Enter":
            about["text"] = "\r"
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def click(self, selector: str) -> None:
        """Click into the middle of the first element that fits."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{found}.scrollIntoView({{block: 'center'}})")
        x, y = self.value(
            f"(() => {{const b = {found}.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        for kind, (x, y) in (
            ("mousePressed", start),
            ("mouseMoved", end),
            ("mouseReleased", end),
        ):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button="left",
                buttons=1,
                clickCount=1,
            )

    def screenshot(self) -> ByteImage:
        """What the window shows, (H, W, 3) uint8 BGR."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        drawn = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert drawn is not None
        return np.asarray(drawn, dtype=np.uint8)

    def complaints(self) -> list[str]:
        """What the browser found wrong with the page: errors of scripts, refused resources."""
        found = []
        for each in self.messages:
            if each["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(each["params"]))
            elif each["method"] == "Log.entryAdded" and each["params"]["entry"]["level"] == "error":
                found.append(each["params"]["entry"]["text"])
        return found
