"""Who may read and write through the page's server, and what survives when it dies."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest

from ssn_edge.review.access import TOKEN_HEADER
from ssn_edge.review.browser import open_page
from ssn_edge.review.labels import read_labels
from ssn_edge.review.server import MAX_CONNECTIONS, ReviewServer
from ssn_edge_runtime.errors import ListenError
from ssn_edge_runtime.pictures import decode_picture
from tests.ssn_edge.review.conftest import Session, serving


def ask(
    server: ReviewServer, path: str, *, body: object = None, **headers: str | None
) -> tuple[int, bytes, dict[str, str]]:
    """One request as our own page sends it, but for the headers that are given (`_` for `-`)."""
    sent = {
        "Host": f"127.0.0.1:{server.access.port}",
        TOKEN_HEADER: server.access.token,
        "Sec-Fetch-Site": "same-origin",
    }
    if body is not None:
        sent |= {"Content-Type": "application/json", "Origin": f"http://{sent['Host']}"}
    for name, value in headers.items():
        sent = {each: text for each, text in sent.items() if each != name.replace("_", "-")}
        if value is not None:
            sent[name.replace("_", "-")] = value
    connection = http.client.HTTPConnection("127.0.0.1", server.access.port, timeout=30)
    data = None if body is None else json.dumps(body).encode()
    connection.putrequest("GET" if body is None else "POST", path, skip_host=True)
    for name, value in sent.items():
        connection.putheader(name, value)
    if data is not None:
        connection.putheader("Content-Length", str(len(data)))
    connection.endheaders(data)
    answer = connection.getresponse()
    found = answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
    connection.close()
    return found


def first(server: ReviewServer) -> dict[str, Any]:
    listed = json.loads(ask(server, "/api/pictures")[1])["pictures"]
    assert isinstance(listed[0], dict)
    return listed[0]


def good(server: ReviewServer) -> dict[str, object]:
    return {"key": first(server)["key"], "label": "good"}


def test_our_own_page_may_label(server: ReviewServer, log: Path) -> None:
    status, _, _ = ask(server, "/api/label", body=good(server))
    assert status == 200
    assert read_labels(log / "review.jsonl").lines == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Review_Token": None},
        {"X_Review_Token": "a guess"},
        {"X_Review_Token": "\xe9"},
        {"Host": None},
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
    ],
    ids=str,
)
def test_a_request_from_elsewhere_changes_nothing(
    server: ReviewServer, log: Path, headers: dict[str, str | None]
) -> None:
    body = good(server)
    sent = {k: v and v.format(port=server.access.port) for k, v in headers.items()}
    for path in ("/api/label", "/api/undo"):
        status, answer, _ = ask(server, path, body=body, **sent)
        assert status in (400, 403, 421)
        assert list(json.loads(answer)) == ["error"]
    assert not (log / "review.jsonl").exists()


@pytest.mark.parametrize(
    "headers", [{"X_Review_Token": None}, {"Host": "evil.example"}, {"Origin": "http://evil"}]
)
def test_a_request_from_elsewhere_sees_no_picture_and_no_record(
    server: ReviewServer, headers: dict[str, str | None]
) -> None:
    key = first(server)["key"]
    for path in ("/api/pictures", f"/api/pictures/{key}/frame"):
        status, answer, _ = ask(server, path, **headers)
        assert status in (403, 421)
        assert len(answer) < 200


def test_the_shell_needs_no_token_and_says_nothing_of_the_log(
    server: ReviewServer, log: Path
) -> None:
    for path in ("/", "/review.css", "/review.js"):
        status, body, headers = ask(server, path, X_Review_Token=None)
        assert status == 200
        assert str(log).encode() not in body
        assert server.access.token.encode() not in body
        assert b"http://" not in body.replace(b"http://www.w3.org", b"")
        assert b"https://" not in body
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "set-cookie" not in headers, "a cookie would go to every port of this machine"


@pytest.mark.parametrize(
    "path",
    [
        "/../review.jsonl", "/etc/passwd", "/api/pictures/../../etc/passwd/frame",
        "/api/pictures/..%2f..%2fetc%2fpasswd/frame", "//etc/passwd", "/review.js/../labels.py",
        "/api/pictures/%s/frame" % ("0" * 24), "/api/pictures/" + "0" * 24 + "/mask",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(server: ReviewServer, path: str) -> None:
    status, body, _ = ask(server, path)
    assert status == 404
    assert b"root:" not in body


def test_a_record_that_names_files_elsewhere_and_links_lead_nowhere(
    log: Path, tmp_path: Path, session_of: Session
) -> None:
    secret = tmp_path / "secret.png"
    kept = sorted((log / "evidence").iterdir())
    secret.write_bytes(kept[0].read_bytes())
    (log / "evidence" / "000000099_fail.png").symlink_to(secret)
    mask = next((log / "pictures").glob("*_mask.png"))
    mask.unlink()
    mask.symlink_to(secret)  # what a record names, and where it leads is outside
    with serving(session_of(log)) as server:
        listed = json.loads(ask(server, "/api/pictures")[1])["pictures"]
        assert len(listed) == len(kept)
        number = int(mask.name.split("_")[0])
        (entry,) = [each for each in listed if each["part"]["sequence"] == number]
        assert not entry["has_mask"]
        assert ask(server, f"/api/pictures/{entry['key']}/mask")[0] == 404


def test_pictures_are_sent_as_they_are(server: ReviewServer, log: Path) -> None:
    entry = first(server)
    status, body, headers = ask(server, f"/api/pictures/{entry['key']}/frame")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert headers["x-content-type-options"] == "nosniff"
    assert body == (log / "evidence" / entry["name"]).read_bytes()


def test_a_format_that_browsers_do_not_show_is_sent_as_png(
    tmp_path: Path, log: Path, session_of: Session
) -> None:
    import cv2
    import numpy as np

    levels = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
    (tmp_path / "parts" / "inner").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "parts" / "inner" / "a.tiff"), levels)
    with serving(session_of(tmp_path / "parts")) as server:
        entry = first(server)
        assert (entry["name"], entry["part"]) == ("inner/a.tiff", None)
        _, body, headers = ask(server, f"/api/pictures/{entry['key']}/frame")
        assert headers["content-type"] == "image/png"
        assert np.array_equal(decode_picture(body, "a"), levels)


def test_a_picture_with_other_pixels_than_the_log_states_takes_no_label(
    server: ReviewServer, log: Path
) -> None:
    one, other = sorted((log / "evidence").iterdir())[:2]
    listed = json.loads(ask(server, "/api/pictures")[1])["pictures"]
    (entry,) = [each for each in listed if each["name"] == one.name]
    one.write_bytes(other.read_bytes())
    status, answer, _ = ask(server, "/api/label", body={"key": entry["key"], "label": "good"})
    assert status == 409
    assert b"is not the picture that the line judged" in answer
    assert not (log / "review.jsonl").exists()


@pytest.mark.parametrize(
    "body",
    [
        {}, {"key": "x", "label": "good"}, {"key": 1, "label": "good"}, [],
        {"key": "{key}", "label": "fine"}, {"key": "{key}", "label": ["good"]},
        {"key": "{key}", "label": "defective", "regions": [[0, 0, 1]]},
        {"key": "{key}", "label": "defective", "regions": [[5, 0, 1, 9]]},
        {"key": "{key}", "label": "defective", "regions": [[0, 0, 1, True]]},
    ],
)  # fmt: skip
def test_nonsense_is_refused_and_changes_nothing(
    server: ReviewServer, log: Path, body: object
) -> None:
    if isinstance(body, dict) and body.get("key") == "{key}":
        body = {**body, "key": first(server)["key"]}
    status, _, _ = ask(server, "/api/label", body=body)
    assert status in (400, 404)
    assert not (log / "review.jsonl").exists()


def test_more_connections_than_it_serves_are_cut_and_then_it_goes_on(server: ReviewServer) -> None:
    held = [
        socket.create_connection(("127.0.0.1", server.access.port))
        for _ in range(MAX_CONNECTIONS + 4)
    ]
    cut = 0
    for each in held[MAX_CONNECTIONS:]:
        each.settimeout(20)
        cut += each.recv(1) == b""
    assert cut == 4
    for each in held:
        each.close()
    for _ in range(50):
        try:
            assert ask(server, "/api/pictures")[0] == 200
            break
        except (ConnectionError, http.client.HTTPException):
            continue
    else:
        pytest.fail("it serves nobody any more")


def test_a_port_that_is_taken_is_one_clear_line(
    server: ReviewServer, log: Path, session_of: Session
) -> None:
    with pytest.raises(ListenError, match="the port is taken; choose another"):
        ReviewServer(session_of(log), server.access.port)


class Command:
    """`ssn-edge review` in a process of its own, asked as its page asks."""

    def __init__(self, log: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "ssn_edge", "review", str(log), "--json", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        told = ""
        while not told.rstrip().endswith("}"):
            line = self.process.stdout.readline()
            assert line, "it ended"
            told += line
        self.url = json.loads(told)["url"]
        port, _, self._token = self.url.removeprefix("http://127.0.0.1:").partition("/#")
        self._port = int(port)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        headers = {TOKEN_HEADER: self._token, "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body), headers)
        answer = connection.getresponse()
        assert answer.status == 200
        document = json.loads(answer.read())
        connection.close()
        return document

    def end(self, how: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(how)
        _, told = self.process.communicate(timeout=60)
        return self.process.returncode, told


def test_a_kill_after_a_label_keeps_it(log: Path) -> None:
    command = Command(log, "--who", "anna")
    try:
        entry = command.ask("GET", "/api/pictures")["pictures"][0]
        command.ask("POST", "/api/label", {"key": entry["key"], "label": "defective"})
    finally:
        command.end(signal.SIGKILL)
    book = read_labels(log / "review.jsonl")
    ((line,),) = [tuple(each.values()) for each in book.said.values()]
    found = line.picture, line.who, line.sequence
    assert found == (entry["name"], "anna", entry["part"]["sequence"])


def test_ctrl_c_ends_it_in_order(log: Path) -> None:
    command = Command(log)
    try:
        entry = command.ask("GET", "/api/pictures")["pictures"][0]
        command.ask("POST", "/api/label", {"key": entry["key"], "label": "good"})
    finally:
        code, told = command.end(signal.SIGINT)
    assert code == 0
    assert f"1 of 21 pictures have a label, in {log / 'review.jsonl'}" in told


def test_a_browser_is_started_without_the_token_in_its_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    url = "http://127.0.0.1:8090/#token"
    with open_page(url):
        (address,) = opened
        page = Path(address.removeprefix("file://"))
        assert url not in address
        assert url in page.read_text()
        assert page.parent.stat().st_mode & 0o077 == 0, "for its owner alone"
    assert not page.exists()
