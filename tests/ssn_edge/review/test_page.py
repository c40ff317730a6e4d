"""The page in a real browser: keys pressed, labels on the disk."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssn_edge.review.server import ReviewServer
from tests.headless_browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to press keys in")


def lines(log: Path) -> list[dict[str, Any]]:
    path = log / "review.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def opened(browser: Browser, server: ReviewServer) -> None:
    browser.open(server.access.url)
    browser.wait_for("document.body.dataset.ready && document.getElementById('picture').alt")


def shown_name(browser: Browser) -> str:
    return str(browser.value("document.querySelector('#facts dd').textContent"))


def wait_until_drawn(browser: Browser) -> None:
    """The picture on the screen is the one that the texts speak of."""
    name = json.dumps(shown_name(browser))
    browser.wait_for(f"document.querySelector('#facts dd').textContent === {name}")
    browser.wait_for("document.body.dataset.drawn")


def press_and_wait(browser: Browser, key: str, status: str) -> None:
    wait_until_drawn(browser)
    browser.press(key)
    browser.wait_for(f"document.getElementById('status').textContent.startsWith('{status}')")


def keep(browser: Browser, name: str) -> None:
    """For eyes: SSN_EDGE_SCREENSHOTS names a folder."""
    if folder := os.environ.get("SSN_EDGE_SCREENSHOTS"):
        cv2.imwrite(str(Path(folder) / name), browser.screenshot())


def test_keys_give_labels_and_take_them_back(
    server: ReviewServer, log: Path, tmp_path: Path
) -> None:
    with Browser(tmp_path, width=1280, height=860) as browser:
        opened(browser, server)
        assert browser.text("#counted") == "0 of 21 labelled"
        first = shown_name(browser)
        press_and_wait(browser, "g", "Saved: good")
        second = shown_name(browser)
        assert second != first, "the next picture follows by itself"
        assert [(each["picture"], each["label"]) for each in lines(log)] == [(first, "good")]
        press_and_wait(browser, "d", "Saved: defective")
        press_and_wait(browser, "u", "Saved: unsure")
        browser.wait_for("document.getElementById('counted').textContent.startsWith('3 of')")
        press_and_wait(browser, "z", "Taken back")
        browser.press("ArrowLeft")
        assert shown_name(browser) == second
        browser.press("ArrowRight")
        assert shown_name(browser) != second
        labels = [(each["who"], each["label"]) for each in lines(log)]
        assert labels == [
            ("anna", "good"), ("anna", "defective"), ("anna", "unsure"), ("anna", None),
        ]  # fmt: skip
        assert browser.complaints() == []


def test_filters_and_jumps_find_pictures(server: ReviewServer, tmp_path: Path) -> None:
    with Browser(tmp_path, width=1280, height=860) as browser:
        opened(browser, server)
        browser.press("2")
        assert browser.text("#place") == "1 of 6"
        assert browser.text("#verdict").lower() == "fail"
        browser.press("3")
        assert browser.text("#place") == "1 of 1"
        assert browser.text("#reason") == "bad_exposure"
        browser.press("0")
        browser.press("j")
        for key in "17":
            browser.press(key)
        browser.press("Enter")
        assert shown_name(browser).startswith("000000017_")
        assert browser.value("document.activeElement.id") == "stage", "keys work again at once"
        browser.press("6")
        assert browser.text("#empty").startswith("No picture here")
        assert browser.complaints() == []


def test_findings_lie_over_the_picture_until_a_key_hides_them(
    server: ReviewServer, tmp_path: Path
) -> None:
    with Browser(tmp_path, width=1280, height=860) as browser:
        opened(browser, server)
        browser.press("2")
        browser.wait_for("!document.getElementById('overlay').hidden")
        with_findings = browser.screenshot()
        browser.press("o")
        browser.wait_for("document.getElementById('overlay').hidden")
        assert (
            browser.value("document.getElementById('findings').getAttribute('aria-pressed')")
            == "false"
        )
        without = browser.screenshot()
        assert np.abs(with_findings.astype(int) - without).max() > 60


def test_a_rectangle_is_saved_with_the_label_and_where_it_was_drawn(
    server: ReviewServer, log: Path, tmp_path: Path
) -> None:
    with Browser(tmp_path, width=1280, height=860) as browser:
        opened(browser, server)
        browser.press("2")
        browser.wait_for("!document.getElementById('overlay').hidden")
        wait_until_drawn(browser)
        browser.press("m")
        left, top, width, height = browser.value(
            "(() => { const r = document.getElementById('marks').getBoundingClientRect();"
            " return [r.left, r.top, r.width, r.height] })()"
        )
        scale = width / 128
        assert abs(height / 96 - scale) < 0.05, "the picture keeps its shape"
        browser.drag((left + 32 * scale, top + 40 * scale), (left + 56 * scale, top + 56 * scale))
        browser.wait_for("document.getElementById('status').textContent.startsWith('Saved')")
        (line,) = lines(log)
        assert (line["label"], line["regions_xyxy"]) == ("defective", [[32, 40, 56, 56]])
        assert shown_name(browser) == line["picture"], "it stays, for the next rectangle"
        keep(browser, "region.png")
        press_and_wait(browser, "x", "Saved")
        browser.wait_for("document.getElementById('clear').disabled")
        assert lines(log)[-1]["regions_xyxy"] == []
        assert browser.complaints() == []


def test_a_picture_that_is_not_on_the_screen_yet_takes_no_label(
    server: ReviewServer, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, may_send = server.session.frame, threading.Event()
    may_send.set()

    def slow(key: str) -> tuple[bytes, str]:
        may_send.wait(60)
        return sent(key)

    monkeypatch.setattr(server.session, "frame", slow)
    with Browser(tmp_path, width=1280, height=860) as browser:
        opened(browser, server)
        wait_until_drawn(browser)
        may_send.clear()
        for _ in range(4):  # beyond those that were fetched ahead
            browser.press("ArrowRight")
        browser.wait_for("document.body.dataset.drawn === ''")
        browser.press("g")
        assert browser.text("#status").startswith("The picture is not on the screen yet")
        assert lines(log) == []
        may_send.set()
        press_and_wait(browser, "g", "Saved: good")


def test_a_mask_is_drawn_where_no_overlay_was_kept(
    server: ReviewServer, log: Path, tmp_path: Path
) -> None:
    for overlay in (log / "pictures").glob("*_overlay.jpg"):
        overlay.unlink()
    with Browser(tmp_path, width=1280, height=860) as browser:
        opened(browser, server)
        browser.press("2")
        inside = (
            "(() => { const c = document.getElementById('marks'); const at = "
            "c.getContext('2d').getImageData(c.width * 44 / 128, c.height * 48 / 96, 1, 1);"
            " return at.data[3] })()"
        )
        wait_until_drawn(browser)
        browser.wait_for(f"{inside} > 60")
        keep(browser, "mask.png")
        browser.press("o")
        browser.wait_for(f"{inside} === 0")
        assert browser.complaints() == []


def test_a_hostile_part_id_stays_a_text(server: ReviewServer, tmp_path: Path) -> None:
    with Browser(tmp_path, width=1280, height=860) as browser:
        opened(browser, server)
        browser.press("2")
        for _ in range(6):
            if "onerror" in browser.text("#facts"):
                break
            browser.press("ArrowRight")
        assert "<img src=x onerror=" in browser.text("#facts")
        assert browser.value("document.querySelectorAll('#facts img').length") == 0
        assert browser.value("document.body.dataset.hacked === undefined")


def test_a_label_that_cannot_be_saved_is_said_and_does_not_look_saved(
    server: ReviewServer, log: Path, tmp_path: Path
) -> None:
    with Browser(tmp_path, width=1280, height=860) as browser:
        opened(browser, server)
        before = shown_name(browser)
        wait_until_drawn(browser)
        (log / "review.jsonl").mkdir()  # stands for a disk that takes nothing
        browser.press("g")
        browser.wait_for("document.getElementById('alert').textContent")
        assert browser.text("#alert").startswith("Not saved.")
        assert shown_name(browser) == before
        assert browser.text("#counted") == "0 of 21 labelled"
        browser.press("ArrowRight")
        browser.wait_for("document.getElementById('picture').alt !== 'Part 21'")
        assert browser.text("#alert").startswith("Not saved."), "the next picture hides it not"


def test_the_page_without_its_token_shows_nothing(server: ReviewServer, tmp_path: Path) -> None:
    with Browser(tmp_path, width=1280, height=860) as browser:
        browser.open(server.access.url.partition("#")[0])
        browser.wait_for("!document.getElementById('alert').hidden")
        assert "behind the #" in browser.text("#alert")
        assert browser.text("#source") == ""


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("width", "height"), [(1280, 860), (820, 1180), (1180, 820)], ids=lambda side: str(side)
)
def test_desktop_and_tablet_show_picture_and_buttons_without_scrolling(
    server: ReviewServer, tmp_path: Path, width: int, height: int, is_dark: bool
) -> None:
    with Browser(tmp_path, width=width, height=height, is_dark=is_dark) as browser:
        opened(browser, server)
        browser.press("2")
        browser.wait_for("!document.getElementById('overlay').hidden")
        keep(browser, f"{width}-{'dark' if is_dark else 'light'}.png")
        box = "(id) => { const r = document.getElementById(id).getBoundingClientRect();"
        inside = f"{box} return r.left >= 0 && r.top >= 0 && r.right <= {width} && r.bottom <= "
        for name in ("picture", "good", "defective", "unsure", "undo", "next", "status"):
            assert browser.value(f"({inside}{height} }})('{name}')"), name
        heights = browser.value("[...document.querySelectorAll('button')].map(b => b.offsetHeight)")
        assert min(heights) >= 48, "for a finger"
        share = browser.value(f"({box} return r.width * r.height }})('picture')") / width / height
        assert share > 0.2, "one picture, large"
        ground = browser.screenshot()[height - 3, width // 2].astype(int)
        assert (ground.mean() < 80) == is_dark


def test_every_control_has_a_name_and_shows_its_focus(server: ReviewServer, tmp_path: Path) -> None:
    with Browser(tmp_path, width=1280, height=860) as browser:
        opened(browser, server)
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        roles = ("button", "textbox", "image", "progressbar", "group")
        controls = [each for each in nodes if each.get("role", {}).get("value") in roles]
        assert len(controls) > 15
        for each in controls:
            if not each.get("ignored"):
                assert each.get("name", {}).get("value"), each
        browser.press("Tab")
        browser.wait_for("document.activeElement.matches('button:focus-visible')")
        width = browser.value("getComputedStyle(document.activeElement).outlineWidth")
        assert width == "3px"
