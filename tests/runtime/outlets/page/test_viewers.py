"""Many viewers, measuring programs and probes: none of them costs the line a verdict."""

from __future__ import annotations

import http.client
import re
import select
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from prometheus_client.parser import text_string_to_metric_families

from ssn_edge_runtime.line.live_picture import live_folder
from ssn_edge_runtime.settings_store import SettingsStore
from tests.runtime.outlets.page.page_line import PageLine, line_with_page

VIEWERS = 20


def _view(line: PageLine, is_over: threading.Event, seen: list[int]) -> None:
    """As the page's script does: a snapshot twice a second, and each new picture."""
    client = http.client.HTTPConnection("127.0.0.1", line.port, timeout=20)
    etag, count = "", 0
    try:
        while not is_over.is_set():
            for path in ("/api/snapshot", "/api/live/overlay", "/api/what-if?threshold=3"):
                client.request("GET", path, headers={"If-None-Match": etag})
                answer = client.getresponse()
                data = answer.read()
                assert answer.status in (200, 304) or (answer.status, path) == (
                    404, "/api/live/overlay",
                ), (answer.status, data)  # fmt: skip
                etag = answer.headers.get("ETag") or etag
            count += 1
            is_over.wait(0.2)
    finally:
        client.close()
        seen.append(count)


def test_twenty_viewers_make_no_verdict_late_and_lose_none(
    tmp_path: Path, package_path: Path
) -> None:
    more = ("--policy", "every", "--deadline-ms", "2000")
    seen: list[int] = []
    is_over = threading.Event()
    with line_with_page(tmp_path, package_path, *more) as line:
        line.wait_for(lambda seen: seen["last"])
        viewers = [
            threading.Thread(target=_view, args=(line, is_over, seen)) for _ in range(VIEWERS)
        ]
        for viewer in viewers:
            viewer.start()
        sleep(6)
        is_over.set()
        for viewer in viewers:
            viewer.join(30)
        assert line.ask("GET", "/api/live/overlay").data.startswith(b"\xff\xd8")
    assert len(seen) == VIEWERS
    assert min(seen) > 3
    records = [each for each in line.records() if each["kind"] == "verdict"]
    assert len(records) > 60
    assert {each["reason"] for each in records} <= {"none", "defect"}
    sequences = [each["sequence"] for each in records]
    assert sequences == list(range(sequences[0], sequences[0] + len(records)))
    drops = [each for each in line.records() if each.get("event") == "drop_range"]
    assert drops == []
    assert not live_folder(line.output).exists(), "nothing of the page is left"


def test_a_line_that_nobody_looks_at_lays_no_picture_out(
    tmp_path: Path, package_path: Path
) -> None:
    with line_with_page(tmp_path, package_path) as line:
        until_s = monotonic() + 20
        while len(line.records()) < 20:
            assert monotonic() < until_s
            sleep(0.1)
        assert list(live_folder(line.output).iterdir()) == []
        line.wait_for(lambda seen: seen["live"])


def test_one_connection_too_many_is_told_so_and_the_others_go_on(
    tmp_path: Path, package_path: Path
) -> None:
    with line_with_page(tmp_path, package_path) as line:
        held = [socket.create_connection(("127.0.0.1", line.port), 10) for _ in range(140)]
        try:
            readable, _, _ = select.select(held, [], [], 20)
            told = readable[0].recv(4096)
            assert told.startswith(b"HTTP/1.1 503 ")
            assert line.process.poll() is None
        finally:
            for each in held:
                each.close()
        until_s = monotonic() + 20
        while True:
            with suppress(OSError):
                if line.ask("GET", "/healthz").status == 200:
                    break
            assert monotonic() < until_s


def test_prometheus_reads_the_metrics_and_they_agree_with_the_log(
    tmp_path: Path, package_path: Path, store: SettingsStore
) -> None:
    with line_with_page(tmp_path, package_path, "--settings", "settings.json") as line:
        line.wait_for(lambda seen: seen["alarms"] and seen["line"]["counters"].get("fail", 0) > 2)
        until_s = monotonic() + 20
        while b'parts_total{verdict="fail"} 0' in (reply := line.ask("GET", "/metrics")).data or (
            b'ssn_edge_state{state="ContinuousExecution"} 0' in reply.data
        ):
            assert monotonic() < until_s
            sleep(0.1)
        records = [each for each in line.records() if each["kind"] == "verdict"]
        ready, health = line.ask("GET", "/readyz"), line.ask("GET", "/healthz")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = reply.data.decode()
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert {each.type for each in families.values()} <= {"counter", "gauge", "summary"}
    assert all(each.documentation for each in families.values())
    helps = re.findall(r"^# HELP (\S+)", text, re.MULTILINE)
    assert helps == re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(set(helps)) == len(helps)
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values() for sample in family.samples
    }  # fmt: skip
    assert values["ssn_edge_up",] == 1
    assert values["ssn_edge_state", "ContinuousExecution"] == 1
    assert values["ssn_edge_state", "Error"] == 0
    assert 1 <= values["ssn_edge_parts_total", "fail"] <= len(records)
    assert values["ssn_edge_rejects_total", "defect"] == values["ssn_edge_parts_total", "fail"]
    assert values["ssn_edge_latency_seconds_count", "total"] <= len(records)
    total = values["ssn_edge_latency_seconds_sum", "total"]
    assert total > 0
    assert values["ssn_edge_latency_seconds", "0.5", "total"] > 0
    assert values["ssn_edge_alarms_unacknowledged",] >= 1
    assert values["ssn_edge_worker_up", "engine"] == 1
    assert (ready.status, ready.body["state"]) == (200, "ContinuousExecution")
    assert health.body == {"alive": True}


def test_of_a_line_that_does_not_answer_the_page_is_alive_and_not_ready(
    tmp_path: Path, package_path: Path, store: SettingsStore
) -> None:
    with line_with_page(tmp_path, package_path) as line:
        line.wait_for(lambda seen: seen["line"]["may_pass"])
        assert line.ask("GET", "/readyz").status == 200
        line.process.send_signal(signal.SIGSTOP)
        try:
            line.wait_for(lambda seen: not seen["line"]["may_pass"])
            ready, health = line.ask("GET", "/readyz"), line.ask("GET", "/healthz")
        finally:
            line.process.send_signal(signal.SIGCONT)
    assert ready.status == 503
    assert ready.body["ready"] is False
    assert ready.body["cause"]
    assert health.status == 200
