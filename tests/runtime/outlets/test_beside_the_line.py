"""A real line with broker, webhook and OPC UA server: whatever they do, no verdict is late."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from time import monotonic

import jsonschema
import pytest

pytest.importorskip("asyncua", reason="the extra opcua is not installed")
pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")

from asyncua import ua
from opcua_clients import data, node, opcua_client, until, users_file
from publisher_peers import MOSQUITTO, Broker, Listener, Receiver, free_port, wait_until
from real_line import line_with, pull
from test_command import start_line
from test_ends import verdicts

from ssn_edge_runtime.outlets.schema import message_schema

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def test_a_broker_that_is_gone_and_a_server_that_fails_make_no_verdict_late_and_lose_none(
    tmp_path: Path, no_process_is_left: None, package_path: Path
) -> None:
    broker, receiver = Broker(tmp_path), Receiver()
    broker.start()
    listeners = [Listener(broker.port)]
    (listener,) = listeners
    more = ("--mqtt", f"mqtt://127.0.0.1:{broker.port}/p/l1", "--key", str(tmp_path / "device.key"))
    more += (
        "--webhook",
        f"http://127.0.0.1:{receiver.port}/",
        "--webhook-key",
        str(tmp_path / "k"),
    )
    try:
        with line_with(tmp_path, package_path, *more):
            told = pull(tmp_path, 1, 10)
            wait_until(lambda: len(listener.on("p/l1/verdict")) == 10)
            broker.kill()
            receiver.status = lambda body: 500
            told += pull(tmp_path, 11, 40)
            receiver.status = lambda body: 200
            broker.start()
            listeners.append(again := Listener(broker.port))
            told += pull(tmp_path, 51, 10)
            records = verdicts(tmp_path / "out")
            rejects = [each["sequence"] for each in records if each["verdict"] != "pass"]
            wait_until(lambda: 60 in [each["sequence"] for each in again.on("p/l1/verdict")])
            wait_until(
                lambda: (
                    [each["sequence"] for each in _bodies(receiver) if each["kind"] == "verdict"]
                    == rejects
                )
            )
            wait_until(lambda: again.on("p/l1/counters"))
        wait_until(lambda: again.on("p/l1/online") == [True, False])
        wait_until(lambda: again.on("p/l1/head"))
        assert again.on("p/l1/state")[-1]["state"] is None
    finally:
        broker.kill()
        receiver.close()
        for each in listeners:
            each.close()
    assert {each.split()[2] for each in told} <= {"none", "defect"}
    assert len(told) == 60
    heard = [each["sequence"] for each in again.on("p/l1/verdict")]
    assert heard == list(range(heard[0], 61))
    schema = message_schema()
    for name, payload, retained in [*listener.heard, *again.heard]:
        topic = name.rpartition("/")[2]
        kinds = {"event": ("event", "dropped")}.get(topic, (topic,))
        references = [{"$ref": f"#/$defs/{kind}"} for kind in kinds]
        jsonschema.validate(json.loads(payload), {"anyOf": references, "$defs": schema["$defs"]})
        assert not (retained and topic in ("verdict", "event"))
    states = [each["state"] for each in again.on("p/l1/state")]
    assert "ContinuousExecution" in states
    for each in _bodies(receiver):
        jsonschema.validate(each, schema)


def _bodies(receiver: Receiver) -> list[dict[str, object]]:
    return [json.loads(body) for _, body in list(receiver.posts)]


def test_an_operator_triggers_over_opc_ua_and_a_line_that_hangs_or_dies_shows_no_pass(
    tmp_path: Path, no_process_is_left: None, package_path: Path
) -> None:
    users, port = users_file(tmp_path), free_port()
    address = f"opc.tcp://127.0.0.1:{port}"

    async def use(line: subprocess.Popen[str]) -> list[object]:
        async with opcua_client(address, "olga", users=users) as client:
            above = await node(client, "")
            trigger = await node(client, "Trigger")
            answer: list[object] = await above.call_method(
                trigger, ua.Variant(5, ua.VariantType.Int64), "part-1", ""
            )
            await until(client, "LastResult.TriggerId", 5)
            assert (await data(client, "State"))[0] == "ContinuousExecution"
            assert (await data(client, "Counters.Records"))[0] == 1
            line.send_signal(signal.SIGSTOP)
            try:
                await until(client, "Connected", False)
                for name in ("LastResult.Verdict", "LastResult.Valid", "State"):
                    found = await data(client, name)
                    assert found == (None, ua.StatusCodes.BadNoCommunication)
                with pytest.raises(ua.UaError):
                    await above.call_method(trigger, ua.Variant(6, ua.VariantType.Int64), "", "")
            finally:
                line.send_signal(signal.SIGCONT)
            await until(client, "Connected", True)
            line.kill()
            until_s = monotonic() + 30
            try:
                while monotonic() < until_s:
                    await data(client, "LastResult.Code")
                    await asyncio.sleep(0.1)
            except (OSError, ua.UaError, asyncio.TimeoutError):
                return answer
            raise AssertionError("the server outlived its line")

    with line_with(tmp_path, package_path, "--opcua", address, "--opcua-users", str(users)) as line:
        answer = asyncio.run(use(line))
    first = verdicts(tmp_path / "out")[0]
    assert answer[:2] == [first["verdict"], first["reason"]]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--mqtt", "mqtt://u:p@127.0.0.1/a"), "do not belong into the address"),
        (("--mqtt", "mqtt://127.0.0.1/a", "--mqtt-ca", "ca.pem"), "use mqtts://"),
        (("--mqtt", "mqtts://127.0.0.1/a", "--mqtt-cert", "none.pem"), "cannot be read"),
        (("--webhook", "http://8.8.8.8/"), "use https://"),
        (("--webhook", "http://127.0.0.1/"), "--webhook-key FILE"),
        (("--opcua", "opc.tcp://0.0.0.0"), "--opcua-users FILE"),
    ],
)
def test_what_cannot_be_told_ends_the_run_before_anything_is_written(
    tmp_path: Path,
    no_process_is_left: None,
    package_path: Path,
    more: tuple[str, ...],
    message: str,
) -> None:
    with start_line(package_path, tmp_path / "out", *more) as line:
        _, err = line.communicate(timeout=60)
    assert line.returncode == 2
    assert message in " ".join(err.split())
    assert not (tmp_path / "out").exists()
