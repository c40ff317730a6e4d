"""A settings version that is made on the page carries a signature, where the line asks for one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_runtime.settings import DeviceSettings
from ssn_edge_runtime.settings_store import SettingsStore, read_settings
from ssn_edge_runtime.trust import Trust
from tests.headless_browser import CHROMIUM, Browser
from tests.runtime.outlets.page.page_browser import keep, log_in, opened
from tests.runtime.outlets.page.page_line import PageLine, line_with_page
from tests.runtime.outlets.page.signed_device import Device

MORE = ("--page-tokens", "page-tokens.json", "--settings", "settings.json", "--keep", "none")
TRUSTING = (*MORE, "--policy", "every", "--trust", "keys")
SIGNING = ("--page-signing-key", "page.key")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")


def in_force(line: PageLine) -> Any:
    return line.wait_for(lambda seen: seen["last"] and seen["settings"]["is_in_force"])["settings"]


def applied(line: PageLine, token: str, threshold: float = 1.0) -> Any:
    """What the page answers to somebody who applies a threshold."""
    document = {"threshold": threshold, "settings_id": in_force(line)["settings_id"]}
    return line.ask("POST", "/api/threshold", document, line.log_in(token))


def actions(line: PageLine) -> list[dict[str, Any]]:
    return [each["detail"] for each in line.records() if each.get("event") == "user_action"]


@contextmanager
def never_unsigned(path: Path) -> Iterator[None]:
    """Read the settings in force again and again; each time they are signed."""
    is_over = threading.Event()
    unsigned: list[int] = []
    seen = 0

    def look() -> None:
        nonlocal seen
        while not is_over.is_set():
            settings = read_settings(path)
            seen += 1
            if settings.signature is None:
                unsigned.append(settings.version)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    assert seen > 1
    assert unsigned == []


def test_the_line_takes_up_what_the_page_has_signed(device: Device, tokens: dict[str, str]) -> None:
    with line_with_page(device.folder, device.package, *TRUSTING, *SIGNING) as line:
        told = in_force(line)
        assert told["why_not"] is None
        assert told["is_signed"] is told["needs_signature"] is True
        assert told["signing_key_id"] == device.page_key.key_id
        before = device.files()
        for name in ("vera", "otto"):
            assert applied(line, tokens[name]).status == 403
        assert device.files() == before
        with never_unsigned(device.store.path):
            reply = applied(line, tokens["emma"])
        assert reply.status == 200, reply.data
        assert reply.body["is_signed"] is True
        assert reply.body["key_id"] == device.page_key.key_id
        after = device.store.current()
        assert after is not None
        assert (after.version, after.settings_id) == (2, reply.body["settings_id"])
        line.wait_for(
            lambda seen: (
                seen["settings"]["is_in_force"]
                and seen["settings"]["settings_id"] == after.settings_id
            )
        )
        answers = [line.ask("GET", path).data for path in ("/metrics", "/api/snapshot")]
    (action,) = actions(line)
    assert action["user"] == "emma"
    assert action["key_id"] == device.page_key.key_id
    last = [each for each in line.records() if each["kind"] == "verdict"][-1]
    assert last["settings_id"] == after.settings_id
    assert last["threshold"] == after.precisions["fp32"].thresholds.image == 1.0
    assert not any("not signed" in str(each.get("detail")) for each in line.records())
    trust = Trust(device.folder / "keys", line.output / "trust-state.json")
    assert trust.check_settings(after).name == "page"
    assert read_settings(device.store.kept(2)) == after
    secret = (device.folder / "page.key").read_text().splitlines()[1]
    logged = [each.read_bytes() for each in line.output.iterdir() if each.is_file()]
    assert not any(secret.encode() in each for each in (*answers, *logged))
    shown = subprocess.run(
        [sys.executable, "-m", "ssn_edge", "settings", "show"],
        capture_output=True, text=True, check=True, cwd=device.folder,
    ).stdout  # fmt: skip
    assert ", signed" in shown


def test_without_a_key_nothing_is_applied_where_signatures_are_required(
    device: Device, tokens: dict[str, str]
) -> None:
    with line_with_page(device.folder, device.package, *TRUSTING) as line:
        told = in_force(line)
        assert "no key to sign with" in told["why_not"]
        assert told["signing_key_id"] is None
        before = device.files()
        reply = applied(line, tokens["emma"])
        assert reply.status == 409
        assert "--page-signing-key FILE" in reply.body["error"]
        assert "\n" not in reply.body["error"]
        assert device.files() == before
    assert actions(line) == []


@pytest.mark.parametrize("why", ["unknown", "revoked", "damaged list"])
def test_a_key_that_does_not_count_signs_nothing(
    device: Device, tokens: dict[str, str], why: str
) -> None:
    with line_with_page(device.folder, device.package, *TRUSTING, *SIGNING) as line:
        assert in_force(line)["why_not"] is None
        if why == "unknown":
            device.forget_the_page()
        elif why == "revoked":
            device.revoke_the_page()
        else:
            (device.folder / "keys" / "revoked.txt").write_text("not an id\n")
        words = {"damaged list": "is no id"}.get(why, f"signed by the {why} key")
        before = device.files()
        reply = applied(line, tokens["emma"])  # at once: the page need not have noticed
        assert reply.status == 409
        assert words in reply.body["error"]
        told = line.wait_for(lambda seen: seen["settings"]["why_not"])["settings"]
        assert words in told["why_not"]
        assert "\n" not in told["why_not"]
        assert device.files() == before
    assert actions(line) == []


def test_a_version_that_the_device_would_call_older_is_not_written(
    device: Device, tokens: dict[str, str]
) -> None:
    with line_with_page(device.folder, device.package, *TRUSTING, *SIGNING) as line:
        in_force(line)
        # Another device's state was brought here while the line ran.
        package_id = device.store.current().package_id  # type: ignore[union-attr]
        state = line.output / "trust-state.json"
        text = state.read_text()
        assert f'"{package_id}":1' in text
        state.write_text(text.replace(f'"{package_id}":1', f'"{package_id}":9'))
        before = device.store.path.read_bytes()
        reply = applied(line, tokens["emma"])
        assert reply.status == 409
        assert "are older than version 9" in reply.body["error"]
        assert device.store.path.read_bytes() == before
        assert not device.store.kept(2).exists()
    assert actions(line) == []


@pytest.mark.parametrize("has_key", [False, True])
def test_where_no_signature_is_required_it_shows_whether_there_is_one(
    device: Device, tokens: dict[str, str], has_key: bool
) -> None:
    more = (*MORE, *(SIGNING if has_key else ()))
    with line_with_page(device.folder, device.package, *more) as line:
        told = in_force(line)
        assert told["why_not"] is None
        assert told["needs_signature"] is False
        reply = applied(line, tokens["emma"])
        assert reply.status == 200, reply.data
        assert reply.body["is_signed"] is has_key
        assert (reply.body["key_id"] == device.page_key.key_id) is has_key
        told = line.wait_for(lambda seen: seen["settings"]["version"] == 2)["settings"]
        assert told["is_signed"] is has_key
    (action,) = actions(line)
    assert action["key_id"] == (device.page_key.key_id if has_key else "")


@needs_browser
def test_the_slider_says_beforehand_that_nothing_can_be_applied(
    device: Device, tokens: dict[str, str]
) -> None:
    with (
        line_with_page(device.folder, device.package, *TRUSTING) as line,
        Browser(device.folder, width=1280, height=900, is_dark=True) as browser,
    ):
        line.wait_for(lambda seen: len(seen["rejects"]) > 3)
        opened(browser, line)
        assert browser.text("#said") == "", "a viewer could not apply it anyway"
        log_in(browser, tokens["emma"])
        browser.wait_for("document.getElementById('said').textContent.includes('no key')")
        for _ in range(20):
            browser.press("h")
            browser.press("ArrowLeft")
        assert browser.value("document.getElementById('apply').disabled")
        assert "--page-signing-key" in browser.text("#said")
        browser.value("document.getElementById('threshold').scrollIntoView()")
        keep(browser, "signing-refused.png")
        browser.resize(820, 1180)
        browser.value("document.getElementById('threshold').scrollIntoView()")
        keep(browser, "signing-refused-tablet.png")
        assert browser.complaints() == []


@needs_browser
def test_the_page_says_by_which_key_a_version_is_signed(
    device: Device, tokens: dict[str, str]
) -> None:
    key = f"signed by key {device.page_key.key_id[:16]}"
    with (
        line_with_page(device.folder, device.package, *TRUSTING, *SIGNING) as line,
        Browser(device.folder, width=1280, height=900, is_dark=True) as browser,
    ):
        line.wait_for(lambda seen: len(seen["rejects"]) > 3)
        opened(browser, line)
        log_in(browser, tokens["emma"])
        browser.wait_for("document.getElementById('slider').max > 4")
        browser.value("document.getElementById('slider').focus()")
        for _ in range(20):
            browser.press("ArrowLeft")
        browser.click("#apply")
        browser.wait_for("document.getElementById('sure').open")
        assert key in browser.text("#sure-text")
        keep(browser, "signing-sure.png")
        browser.click("#sure-yes")
        browser.wait_for("document.getElementById('said').textContent.includes('version 2')")
        assert key in browser.text("#said")
        browser.wait_for(
            "document.getElementById('in-force').textContent.includes('version 2, signed')"
        )
        browser.value("document.getElementById('threshold').scrollIntoView()")
        keep(browser, "signing-applied.png")
        # The key is revoked while somebody looks: the page says so before anybody tries.
        device.revoke_the_page()
        browser.wait_for("document.getElementById('said').textContent.includes('revoked key')")
        keep(browser, "signing-revoked.png")
        assert browser.complaints() == []
    assert device.store.current().version == 2  # type: ignore[union-attr]


def _run(folder: Path, *more: str, without: str = "") -> subprocess.CompletedProcess[str]:
    call = f"import sys; sys.modules.update(dict.fromkeys({without!r}.split())); " + (
        "from ssn_edge.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", call, "run", "--device", "test:", "--package", "part.ssn",
         "--output", "new", "--page", "0", *more],
        capture_output=True, text=True, check=False, cwd=folder, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("missing.key", "missing.key: cannot be read"),
        ("open.key", "has mode 0640, others may read it"),
        ("page.key.pub", "is no private key"),
        ("page-tokens.json", "is no private key"),
    ],
)
def test_a_key_that_cannot_be_used_ends_the_start_in_one_line(
    device: Device, key: str, words: str
) -> None:
    shutil.copy(device.folder / "page.key", device.folder / "open.key").chmod(0o640)
    (device.folder / "page.key.pub").chmod(0o600)
    before = device.files()
    ended = _run(device.folder, *MORE, "--page-signing-key", key)
    assert ended.returncode == 2, ended.stderr
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert device.files() == before
    assert not (device.folder / "new").exists()


def test_the_project_file_names_the_key_and_an_option_goes_before_it(device: Device) -> None:
    (device.folder / "ssn-edge.toml").write_text('[run]\npage_signing_key = "missing.key"\n')
    ended = _run(device.folder, *MORE)
    assert (ended.returncode, "missing.key: cannot be read" in ended.stderr) == (2, True)
    ended = _run(device.folder, *MORE, "--page-signing-key", "other.key")
    assert (ended.returncode, "other.key: cannot be read" in ended.stderr) == (2, True)


def test_a_key_signs_nothing_without_anybody_who_applies_or_without_cryptography(
    device: Device,
) -> None:
    ended = _run(device.folder, *SIGNING)
    assert ended.returncode == 2
    assert "--page-tokens FILE" in ended.stderr
    ended = _run(device.folder, *MORE, *SIGNING, without="cryptography")
    assert ended.returncode == 2
    assert "pip install 'ssn-edge[sign]'" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (device.folder / "new").exists()


_ASK = """
import os, sys
from pathlib import Path
from ssn_edge_runtime.outlets.page.settings_desk import SettingsDesk
from ssn_edge_runtime.outlets.page.settings_signer import SettingsSigner
if os.geteuid() == 0:
    os.setgroups([])
    os.setuid(65534)
path = Path(sys.argv[1])
desk = SettingsDesk(path, path, SettingsSigner(None, None))
desk.look()
print(desk.document({})["why_not"])
"""


def test_a_folder_that_may_not_be_written_to_is_told_beforehand() -> None:
    """As a systemd unit's are, but for the folder of the decisions."""
    folder = Path(tempfile.mkdtemp())  # pytest's own is for its owner alone
    try:
        SettingsStore(folder / "settings.json").save(lambda _: DeviceSettings("a" * 64))
        for mode, words in ((0o555, f"may not write to {folder}"), (0o777, "None")):
            folder.chmod(mode)
            told = subprocess.run(
                [sys.executable, "-c", _ASK, str(folder / "settings.json")],
                capture_output=True, text=True, check=True, cwd="/",
            ).stdout  # fmt: skip
            assert words in told
            assert len(told.splitlines()) == 1
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
