"""Who must not change anything on the page, and cannot: against a real line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ssn_edge_runtime.outlets.page.roles import revoke_token
from ssn_edge_runtime.settings_store import SettingsStore
from tests.runtime.outlets.page.page_line import PageLine, line_with_page

MORE = ("--page-tokens", "page-tokens.json", "--settings", "settings.json", "--keep", "none")


@pytest.fixture
def line(
    tmp_path: Path, package_path: Path, tokens: dict[str, str], store: SettingsStore
) -> Iterator[PageLine]:
    with line_with_page(tmp_path, package_path, *MORE) as line:
        line.wait_for(lambda seen: seen["last"] and seen["alarms"])
        yield line


def changes(line: PageLine) -> dict[str, object]:
    seen = line.wait_for(lambda seen: seen["settings"]["is_in_force"] and seen["alarms"])
    return {
        "/api/threshold": {"threshold": 1.0, "settings_id": seen["settings"]["settings_id"]},
        "/api/recipe": {"recipe": "brass"},
        "/api/acknowledge": {"line": seen["alarms"][0]["line"]},
    }


def nothing_changed(line: PageLine, store: SettingsStore) -> bool:
    current = store.current()
    assert current is not None
    is_untold = not any(each.get("event") == "user_action" for each in line.records())
    return current.version == 1 and line.snapshot()["settings"]["recipe"] is None and is_untold


def test_whoever_lacks_the_role_the_origin_or_the_csrf_token_changes_nothing(
    line: PageLine, store: SettingsStore, tokens: dict[str, str]
) -> None:
    emma, otto, vera = (line.log_in(tokens[name]) for name in ("emma", "otto", "vera"))
    elsewhere = "http://elsewhere.example"
    no_origin = {name: value for name, value in emma.items() if name != "Origin"}
    no_csrf = {name: value for name, value in emma.items() if name != "X-CSRF-Token"}
    for path, document in changes(line).items():
        for status, headers in (
            (401, {"Origin": line.url}),
            (401, emma | {"Cookie": ""}),
            (401, {"Origin": line.url, "Authorization": f"Bearer {tokens['emma']}"}),
            (403, emma | {"Origin": elsewhere}),
            (403, no_origin),
            (403, no_csrf),
            (403, emma | {"X-CSRF-Token": otto["X-CSRF-Token"]}),
            (403, emma | {"Sec-Fetch-Site": "cross-site"}),
            (421, emma | {"Host": "elsewhere.example"}),
            (421, emma | {"Host": f"elsewhere.example:{line.port}"}),
            (415, emma | {"Content-Type": "text/plain"}),
            (415, emma | {"Content-Type": "application/x-www-form-urlencoded"}),
            (403, vera),
        ):
            assert line.ask("POST", path, document, headers).status == status, (path, headers)
        assert line.ask("GET", path, None, emma).status == 404
        assert line.ask("PUT", path, document, emma).status == 405
    assert line.ask("POST", "/api/threshold", changes(line)["/api/threshold"], otto).status == 403
    assert nothing_changed(line, store)


NONSENSE: list[tuple[str, object]] = [
    ("/api/threshold", {"threshold": "nan", "settings_id": "x"}),
    ("/api/threshold", {"threshold": True, "settings_id": "x"}),
    ("/api/threshold", {"threshold": 1e9, "settings_id": "x"}),
    ("/api/threshold", {"threshold": 1.0}),
    ("/api/threshold", {"threshold": 1.0, "settings_id": "another version"}),
    ("/api/recipe", {}),
    ("/api/recipe", {"recipe": "unheard"}),
    ("/api/recipe", {"recipe": "brass\ntrigger 1"}),
    ("/api/recipe", {"recipe": ["brass"]}),
    ("/api/acknowledge", {"line": 10**9}),
    ("/api/acknowledge", {"line": "1"}),
    ("/api/acknowledge", {"line": None}),
    ("/api/acknowledge", [1]),
]


def test_what_makes_no_sense_changes_nothing_whoever_says_it(
    line: PageLine, store: SettingsStore, tokens: dict[str, str]
) -> None:
    emma = line.log_in(tokens["emma"])
    for path, document in NONSENSE:
        reply = line.ask("POST", path, document, emma)
        assert reply.status in (409, 422), (path, document)
        assert "error" in reply.body
    assert nothing_changed(line, store)


def test_a_name_that_someone_pointed_here_reads_nothing(line: PageLine) -> None:
    for path in ("/", "/api/snapshot", "/metrics", "/readyz", "/api/session"):
        for host in ("elsewhere.example", f"elsewhere.example:{line.port}", "127.0.0.1:1", ""):
            assert line.ask("GET", path, None, {"Host": host}).status == 421
        assert line.ask("GET", path, None, {"Origin": "null"}).status == 403


def test_a_token_that_is_revoked_ends_its_sessions(
    line: PageLine, tokens: dict[str, str], tmp_path: Path, store: SettingsStore
) -> None:
    emma = line.log_in(tokens["emma"])
    assert line.ask("GET", "/api/session", None, emma).body["role"] == "engineer"
    document = changes(line)["/api/threshold"]
    revoke_token(tmp_path / "page-tokens.json", "emma")
    assert line.ask("POST", "/api/threshold", document, emma).status == 401
    assert line.ask("GET", "/api/session", None, emma).body["role"] == "viewer"
    assert nothing_changed(line, store)


def test_every_answer_carries_the_headers_that_guard_a_browser(
    line: PageLine, tokens: dict[str, str]
) -> None:
    paths = ("/", "/page.js", "/api/snapshot", "/metrics", "/nowhere", "/api/rejects/1/whole")
    for path in paths:
        headers = line.ask("GET", path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == "no-store"
    reply = line.ask("POST", "/api/login", {"token": tokens["vera"]}, {"Origin": line.url})
    cookie = reply.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


def test_nothing_else_is_served(line: PageLine) -> None:
    for path in (
        "/../../etc/passwd", "/%2e%2e/page.html", "/static/page.html", "/api/rejects/../whole",
        "/api/rejects/1/../../x", "/page.js/", "/report.html", "/api/live/mask",
    ):  # fmt: skip
        assert line.ask("GET", path).status == 404, path
