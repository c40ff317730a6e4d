"""A real line whose real peers go and come: the chain says so, seldom, and no verdict waits."""

from __future__ import annotations

import csv
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import jsonschema
import pytest

pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")
pytest.importorskip("pymodbus", reason="the extra modbus is not installed")

from broken_outlet import HOWS
from publisher_peers import MOSQUITTO, Broker, Listener, Receiver, free_port, wait_until
from real_line import TRIGGERED, line_with, pull
from simulated_line import read_lines
from test_command import CAMERA, wait_until_judging
from test_ends import events, verdicts

from ssn_edge_runtime.outlets.schema import message_schema
from ssn_edge_runtime.sinks import audit_log
from tests.runtime.outlets.modbus.plc import PASS, Plc

KINDS = ("outlet_lost", "outlet_back", "undelivered", "outlet_flood")


def told(folder: Path, **whose: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of outlets in the journal, in its order."""
    found: list[tuple[int, str, dict[str, Any]]] = []
    for kind in KINDS:
        for event in events(folder / "out", kind, is_running=True):
            detail: Any = event["detail"]
            assert isinstance(event["line"], int)
            if whose.items() <= detail.items():
                found.append((event["line"], kind, detail))
    return [(kind, detail) for _, kind, detail in sorted(found, key=lambda each: each[0])]


def child_of(line: subprocess.Popen[str], module: str) -> int:
    """The process of an outlet among the line's."""
    for pid in Path(f"/proc/{line.pid}/task/{line.pid}/children").read_text().split():
        with suppress(OSError):
            if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    return 0


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_a_broker_that_is_killed_and_comes_back_stands_in_the_chain_and_its_followers(
    tmp_path: Path, no_process_is_left: None, package_path: Path
) -> None:
    broker, receiver = Broker(tmp_path), Receiver()
    broker.start()
    more = ["--mqtt", f"mqtt://127.0.0.1:{broker.port}/p/l1", "--sqlite", str(tmp_path / "d.db")]
    more += ["--webhook", f"http://127.0.0.1:{receiver.port}/T0P/SECRET"]
    more += ["--webhook-key", str(tmp_path / "k"), "--csv", str(tmp_path / "d.csv")]
    heard: list[Listener] = []
    try:
        with line_with(tmp_path, package_path, *more):
            pull(tmp_path, 1, 3)
            broker.kill()
            receiver.status = lambda body: 503
            wait_until(lambda: told(tmp_path, outlet="mqtt"))
            pull(tmp_path, 4, 20)
            wait_until(lambda: told(tmp_path, outlet="webhook"))
            broker.start()
            heard.append(Listener(broker.port))
            receiver.status = lambda body: 200
            for outlet in ("mqtt", "webhook"):
                wait_until(lambda o=outlet: len(told(tmp_path, outlet=o)) == 2)  # type: ignore[misc]
            wait_until(
                lambda: [e for e in heard[0].on("p/l1/event") if e["event"] == "outlet_back"]
            )
    finally:
        broker.kill()
        receiver.close()
        for each in heard:
            each.close()
    (lost, gone), (back, again) = told(tmp_path, outlet="mqtt")
    assert (lost, back) == ("outlet_lost", "outlet_back")
    assert gone["peer"] == again["peer"] == f"mqtt://127.0.0.1:{broker.port}/p/l1"
    assert gone["what"] == "peer"
    assert "lost" in gone["cause"] or "reached" in gone["cause"]
    assert again["away_s"] > 0
    assert again["waiting"] >= 20
    assert (again["losses"], again["dropped"]) == (0, 0)
    (_, refused), (_, taken) = told(tmp_path, outlet="webhook")
    assert "status 503" in refused["cause"]
    assert "SECRET" not in json.dumps([refused, taken])
    assert audit_log(tmp_path / "out").is_whole
    with sqlite3.connect(tmp_path / "d.db") as database:
        rows = database.execute("SELECT event, detail FROM events").fetchall()
    stored = [json.loads(detail) for event, detail in rows if event == "outlet_lost"]
    assert gone in stored
    with (tmp_path / "d.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 23
    for event in heard[0].on("p/l1/event"):
        jsonschema.validate(event, message_schema())
    assert all(each["deadline_met"] for each in verdicts(tmp_path / "out"))


def test_what_a_server_will_never_take_is_counted_in_the_chain(
    tmp_path: Path, no_process_is_left: None, package_path: Path
) -> None:
    receiver = Receiver()
    receiver.status = lambda body: 422
    more = ["--webhook", f"http://127.0.0.1:{receiver.port}/", "--webhook-key"]
    try:
        with line_with(tmp_path, package_path, *more, str(tmp_path / "k")):
            wait_until(lambda: told(tmp_path))
            pull(tmp_path, 1, 3)
    finally:
        receiver.close()
    undelivered = [detail for kind, detail in told(tmp_path) if kind == "undelivered"]
    assert [kind for kind, _ in told(tmp_path)] == ["undelivered"] * len(undelivered)
    assert 1 <= len(undelivered) <= 2  # the second one at the end
    lines = read_lines(tmp_path / "out")
    assert 0 < sum(each["refused"] for each in undelivered) < len(lines)


def test_a_plc_that_flaps_makes_two_events_a_minute_and_as_few_lines(
    tmp_path: Path, no_process_is_left: None, package_path: Path
) -> None:
    port = free_port()
    with line_with(
        tmp_path, package_path, "--modbus", f"127.0.0.1:{port}?heartbeat_ms=100"
    ) as line:
        with Plc(port) as plc:
            plc.begin()
            assert plc.trigger(1)[1] == PASS
            began_s = monotonic()
            while plc.status["plc_losses"] < 15:
                assert monotonic() - began_s < 60
                plc.beat()
                sleep(0.15)
            losses = plc.status["plc_losses"]
            wait_until(lambda: len(told(tmp_path)) >= 2)
            assert len(told(tmp_path)) <= 2 * (1 + (monotonic() - began_s) // 60)
        sleep(0.3)
        line.send_signal(signal.SIGTERM)
        _, err = line.communicate(timeout=60)
    found = told(tmp_path, outlet="modbus", what="peer")
    assert [kind for kind, _ in found][:2] == ["outlet_lost", "outlet_back"]
    assert found[0][1]["cause"] == "no heartbeat for 100 ms; it came from 127.0.0.1"
    assert sum(detail["losses"] for _, detail in found) >= losses
    assert found[-1][0] == "outlet_lost"  # at the end, with all that was left out
    said = [each for each in err.splitlines() if "heartbeat" in each]
    assert 1 <= len(said) <= 4
    assert audit_log(tmp_path / "out").is_whole


def metrics(port: int) -> str:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        client.request("GET", "/metrics")
        return client.getresponse().read().decode()
    except OSError:
        return ""
    finally:
        client.close()


def test_an_outlet_s_process_that_is_killed_stands_in_the_chain(
    tmp_path: Path, no_process_is_left: None, package_path: Path
) -> None:
    page = free_port()
    with line_with(tmp_path, package_path, "--page", str(page)) as line:
        os.kill(child_of(line, "outlets.page.process"), signal.SIGKILL)
        wait_until(lambda: len(told(tmp_path)) == 2)
        pull(tmp_path, 1, 3)
        wait_until(
            lambda: (
                'ssn_edge_outlet_losses_total{outlet="page",what="process"} 1\n' in metrics(page)
            )
        )
        assert 'ssn_edge_outlet_lost{outlet="page",what="process"} 0\n' in metrics(page)
        # As a service manager does it: all processes are told to end, and none is lost by it.
        children = Path(f"/proc/{line.pid}/task/{line.pid}/children").read_text().split()
        for pid in (line.pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        line.communicate(timeout=60)
    (lost, gone), (back, again) = told(tmp_path, outlet="page", what="process")
    assert (lost, back) == ("outlet_lost", "outlet_back")
    assert gone["cause"] == "its process was ended by SIGKILL"
    assert again["away_s"] > 0
    assert audit_log(tmp_path / "out").is_whole


@pytest.mark.parametrize("how", HOWS)
def test_an_outlet_that_floods_makes_no_verdict_late_and_few_records(
    tmp_path: Path, no_process_is_left: None, package_path: Path, how: str
) -> None:
    arguments = ["run", "--device", CAMERA, "--package", str(package_path)]
    arguments += ["--output", str(tmp_path / "out"), *TRIGGERED]
    path = [str(Path(__file__).parent), *filter(None, sys.path)]
    with subprocess.Popen(
        [sys.executable, "-m", "broken_line", how, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        text=True,
    ) as line:
        try:
            wait_until_judging(line)
            began_s, count = monotonic(), 0
            while monotonic() - began_s < 5:
                pull(tmp_path, count + 1, 10)
                count += 10
            line.send_signal(signal.SIGTERM)
            _, err = line.communicate(timeout=60)
            assert line.returncode == 0, err
        finally:
            line.kill()
    kinds = Counter(kind for kind, _ in told(tmp_path))
    assert kinds["outlet_flood"] in (1, 2)
    assert kinds.total() <= 5
    assert len(err.splitlines()) < 50
    parts = verdicts(tmp_path / "out")
    assert [each["trigger_id"] for each in parts] == list(range(1, count + 1))
    assert all(each["deadline_met"] for each in parts)
    assert {each["reason"] for each in parts} <= {"none", "defect"}
    assert audit_log(tmp_path / "out").is_whole
