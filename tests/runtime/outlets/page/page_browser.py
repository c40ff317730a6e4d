"""What a person does on the page, whoever it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2

from tests.headless_browser import Browser
from tests.runtime.outlets.page.page_line import PageLine


def keep(browser: Browser, name: str) -> None:
    """For eyes: SSN_EDGE_SCREENSHOTS names a folder."""
    if folder := os.environ.get("SSN_EDGE_SCREENSHOTS"):
        cv2.imwrite(str(Path(folder) / name), browser.screenshot())


def opened(browser: Browser, line: PageLine) -> None:
    browser.open(line.url)
    browser.wait_for("document.body.dataset.ready && !document.getElementById('shown').hidden")


def log_in(browser: Browser, token: str) -> None:
    browser.press("l")
    browser.wait_for("document.getElementById('login').open")
    browser.value(f"document.getElementById('token').value = {json.dumps(token)}")
    browser.click("#login-go")
    browser.wait_for("document.getElementById('account').textContent.includes('log out')")
