"""Viewers, a broker that stops, and a PLC that polls without pause, together, on one line."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from pathlib import Path
from time import monotonic

import pytest

pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")
pytest.importorskip("pymodbus", reason="the extra modbus is not installed")

from publisher_peers import MOSQUITTO, Broker, Listener, free_port, wait_until
from test_command import start_line, wait_until_judging
from test_ends import verdicts

from tests.runtime.outlets.modbus.plc import PASS, Plc

VIEWERS = 20
POLL_S = 0.01
STOPPED_S = float(os.environ.get("SSN_EDGE_STOPPED_S", "60"))
DEADLINE_MS = 2000
FAIL = 0xA55A

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]


def view(port: int, is_over: threading.Event, seen: list[int]) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    count = 0
    try:
        while not is_over.wait(0.5):
            for path in ("/api/snapshot", "/api/live/overlay"):
                client.request("GET", path)
                answer = client.getresponse()
                answer.read()
                assert answer.status in (200, 404), answer.status
            count += 1
    finally:
        client.close()
        seen.append(count)


def test_no_verdict_is_late_and_none_lost(
    tmp_path: Path, no_process_is_left: None, package_path: Path
) -> None:
    broker, page, modbus = Broker(tmp_path), free_port(), free_port()
    broker.start()
    first = Listener(broker.port)
    options = ["--trigger", "software", "--deadline-ms", str(DEADLINE_MS), "--keep", "none"]
    options += ["--page", str(page), "--mqtt", f"mqtt://127.0.0.1:{broker.port}/l1"]
    options += ["--modbus", f"127.0.0.1:{modbus}"]
    is_over = threading.Event()
    seen: list[int] = []
    polls = parts = 0
    again: Listener | None = None
    with start_line(package_path, tmp_path / "out", *options) as line:
        try:
            wait_until_judging(line)
            viewers = [threading.Thread(target=view, args=(page, is_over, seen)) for _ in range(20)]
            for viewer in viewers:
                viewer.start()
            with Plc(modbus) as plc:
                plc.begin()
                began_s = monotonic()
                while (now_s := monotonic() - began_s) < STOPPED_S + 10:
                    if 5 < now_s < 5 + STOPPED_S and again is None:
                        broker.kill()
                    elif again is None and now_s >= 5 + STOPPED_S:
                        broker.start()
                        again = Listener(broker.port)
                    parts += 1
                    plc.beat()
                    plc.write("trigger_id", parts)
                    while (result := plc.result)[0] != parts:
                        polls += 1
                        assert monotonic() - began_s < STOPPED_S + 60
                        threading.Event().wait(POLL_S)
                        plc.beat()
                    assert result[1] in (PASS, FAIL), result
                    plc.write("acked_id", parts)
            assert again is not None
            heard = again
            wait_until(lambda: parts in [each["sequence"] for each in heard.on("l1/verdict")])
            is_over.set()
            for viewer in viewers:
                viewer.join(60)
            line.send_signal(signal.SIGTERM)
            _, err = line.communicate(timeout=60)
            assert line.returncode == 0, err
        finally:
            is_over.set()
            line.kill()
            broker.kill()
            first.close()
            if again is not None:
                again.close()
    records = verdicts(tmp_path / "out")
    assert [each["sequence"] for each in records] == list(range(1, parts + 1))
    assert {each["reason"] for each in records} <= {"none", "defect"}
    assert all(each["deadline_met"] for each in records)
    told = [each["sequence"] for each in [*first.on("l1/verdict"), *heard.on("l1/verdict")]]
    assert sorted(set(told)) == list(range(1, parts + 1))  # buffered while it was gone
    assert len(seen) == VIEWERS
    assert min(seen) > STOPPED_S / 4
    assert parts > STOPPED_S
    assert polls > parts
