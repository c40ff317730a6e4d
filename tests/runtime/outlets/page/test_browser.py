"""The page in a real browser, beside a real line: clicked, typed at, and looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssn_edge_runtime.settings_store import SettingsStore
from tests.headless_browser import CHROMIUM, Browser
from tests.runtime.outlets.page.page_browser import keep, log_in, opened
from tests.runtime.outlets.page.page_line import PageLine, line_with_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to press keys in")

MORE = ("--page-tokens", "page-tokens.json", "--settings", "settings.json", "--policy", "every")


def last_verdicts(line: PageLine) -> set[str]:
    """Of the parts that the settings in force judged."""
    verdicts = [each for each in line.records() if each["kind"] == "verdict"]
    return {each["verdict"] for each in verdicts
            if each["settings_id"] == verdicts[-1]["settings_id"]}  # fmt: skip


def test_a_viewer_sees_verdict_picture_counters_and_rejects(
    tmp_path: Path, package_path: Path, tokens: dict[str, str], store: SettingsStore
) -> None:
    with (
        line_with_page(tmp_path, package_path, *MORE) as line,
        Browser(tmp_path, width=1440, height=900, is_dark=True) as browser,
    ):
        line.wait_for(lambda seen: len(seen["rejects"]) > 4)
        opened(browser, line)
        browser.wait_for("document.querySelectorAll('#gallery img').length > 4")
        browser.wait_for("['PASS', 'FAIL'].includes(document.getElementById('word').textContent)")
        browser.wait_for("[...document.querySelectorAll('#gallery img')].at(-1).naturalWidth > 0")
        browser.click("#gallery button:has(img)")
        browser.wait_for("document.getElementById('zoomed-picture').naturalWidth === 320")
        assert "defect found" in browser.text("#zoomed-text")
        browser.click("#zoomed-close")
        browser.wait_for("!document.getElementById('zoomed').open")
        browser.value("scrollTo(0, 0)")
        assert browser.text("#state-word") == "Running"
        word_px = browser.value("document.getElementById('word').getBoundingClientRect().height")
        assert word_px > 140, "read from five metres"
        assert "rejected" in browser.text("#effect")
        keep(browser, "desktop.png")
        browser.value("document.getElementById('threshold').scrollIntoView()")
        keep(browser, "desktop-below.png")
        browser.value("scrollTo(0, 0)")
        browser.press("o")
        browser.wait_for("document.getElementById('shown').dataset.address.includes('/frame')")
        browser.press("w")
        keep(browser, "desktop-large.png")
        browser.press("w")
        browser.press("t")
        keep(browser, "desktop-light.png")
        browser.press("t")
        browser.resize(820, 1180)
        browser.press("o")
        browser.wait_for("document.getElementById('shown').dataset.address.includes('/overlay')")
        keep(browser, "tablet.png")
        browser.resize(1180, 820)
        keep(browser, "tablet-wide.png")
        wide = browser.value("document.documentElement.scrollWidth")
        assert wide <= 1180, "nothing is cut off at the side"
        assert all(each.startswith((line.url, "data:")) for each in browser.requests)
        assert browser.complaints() == []


def test_an_operator_acknowledges_an_alarm_and_switches_the_recipe(
    tmp_path: Path, package_path: Path, tokens: dict[str, str], store: SettingsStore
) -> None:
    with (
        line_with_page(tmp_path, package_path, *MORE) as line,
        Browser(tmp_path, width=820, height=1180) as browser,
    ):
        line.wait_for(lambda seen: seen["alarms"])
        opened(browser, line)
        browser.press("a")  # nobody yet: it asks who
        browser.wait_for("document.getElementById('login').open")
        browser.value("document.getElementById('token').value = 'guessed'")
        browser.click("#login-go")
        browser.wait_for("document.getElementById('login-said').textContent.includes('not known')")
        keep(browser, "login.png")
        browser.click("#login-no")
        browser.wait_for("!document.getElementById('login').open")
        log_in(browser, tokens["otto"])
        browser.click("#all-seen")
        line.wait_for(lambda seen: any(each["acknowledged_by"] for each in seen["alarms"]))
        browser.wait_for("document.getElementById('alarms').textContent.includes('seen by otto')")
        browser.value("document.getElementById('recipe').value = 'brass'")
        browser.click("#switch")
        line.wait_for(lambda seen: (seen["last"] or {}).get("recipe") == "brass")
        browser.wait_for("document.getElementById('facts').textContent.includes('recipe brass')")
    actions = [each["detail"] for each in line.records() if each.get("event") == "user_action"]
    assert {each["user"] for each in actions} == {"otto"}
    assert {each["action"] for each in actions} == {"acknowledge", "recipe"}


def test_an_engineer_moves_the_threshold_and_the_line_takes_the_new_version_up(
    tmp_path: Path, package_path: Path, tokens: dict[str, str], store: SettingsStore
) -> None:
    with (
        line_with_page(tmp_path, package_path, *MORE) as line,
        Browser(tmp_path, width=1280, height=900, is_dark=True) as browser,
    ):
        line.wait_for(lambda seen: len(seen["rejects"]) > 3)
        opened(browser, line)
        log_in(browser, tokens["emma"])
        browser.wait_for("document.getElementById('slider').max > 4")
        browser.value("document.getElementById('slider').focus()")
        all_fail = (
            "document.getElementById('effect').textContent.includes(' 100.0 % would be rejected')"
        )
        while not browser.value(all_fail):
            for _ in range(10):
                browser.press("ArrowLeft")
        for _ in range(10):  # the next parts may be a little better than those so far
            browser.press("ArrowLeft")
        browser.wait_for(all_fail)
        assert store.current().version == 1  # type: ignore[union-attr]
        keep(browser, "threshold.png")
        browser.click("#apply")
        browser.wait_for("document.getElementById('sure').open")
        keep(browser, "sure.png")
        browser.click("#sure-yes")
        browser.wait_for("document.getElementById('said').textContent.includes('version 2')")
        after = store.current()
        assert after is not None
        line.wait_for(
            lambda seen: (
                seen["settings"]["is_in_force"]
                and seen["settings"]["settings_id"] == after.settings_id
            )
        )
    fitted = after.precisions["fp32"]
    assert fitted.thresholds.image < 4.0
    # A busy machine is late for some; none passes.
    assert last_verdicts(line) - {"unknown"} == {"fail"}
    assert fitted.risk is fitted.caught is None, "that was promised of the old one"
    assert "emma" in after.note
    last = [each for each in line.records() if each["kind"] == "verdict"][-1]
    assert (last["settings_id"], last["threshold"]) == (after.settings_id, fitted.thresholds.image)
    (action,) = [each["detail"] for each in line.records() if each.get("event") == "user_action"]
    assert (action["user"], action["settings_id"]) == ("emma", after.settings_id)


def test_a_page_whose_line_is_gone_shows_no_verdict(
    tmp_path: Path, package_path: Path, tokens: dict[str, str], store: SettingsStore
) -> None:
    with Browser(tmp_path, width=1280, height=900, is_dark=True) as browser:
        with line_with_page(tmp_path, package_path, *MORE) as line:
            line.wait_for(lambda seen: seen["last"])
            opened(browser, line)
        browser.wait_for("!document.getElementById('lost').hidden")
        browser.wait_for("document.getElementById('verdict').dataset.kind === 'wait'")
        assert browser.text("#word") not in ("PASS", "FAIL", "UNKNOWN")
        assert browser.text("#state-word") == "No answer"
        keep(browser, "lost.png")
