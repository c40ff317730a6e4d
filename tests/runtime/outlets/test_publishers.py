"""Broker and webhook, real ones, lost and found again: nothing out of order, nothing in silence."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic_ns

import jsonschema
import pytest
from publisher_peers import MOSQUITTO, Broker, Listener, Receiver, free_port, publisher, wait_until

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.outlets.schema import message_schema
from ssn_edge_runtime.record import DecisionRecord, EventKind, EventRecord
from ssn_edge_runtime.sinks import Journal

needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def record(sequence: int, verdict: Verdict = Verdict.FAIL) -> DecisionRecord:
    return DecisionRecord(
        sequence=sequence,
        source="camera",
        decided_at=datetime.now(timezone.utc),
        verdict=verdict,
        reason=Reason.NONE if verdict is Verdict.PASS else Reason.DEFECT,
        timings_ms={},
        monotonic_ns=monotonic_ns(),
    )


def write(journal: Journal, count: int, verdict: Verdict = Verdict.FAIL) -> list[int]:
    numbers = list(range(journal.next_sequence, journal.next_sequence + count))
    for number in numbers:
        journal.write(record(number, verdict))
    return numbers


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "log") as journal:
        yield journal


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


def mqtt_arguments(broker: Broker, folder: Path, *more: str) -> tuple[str, ...]:
    url = f"mqtt://127.0.0.1:{broker.port}/plant/line1"
    return ("mqtt", url, "--folder", str(folder), "--control", str(folder / "none.sock"), *more)


def sequences(listener: Listener) -> list[int]:
    return [each["sequence"] for each in listener.on("plant/line1/verdict")]


@needs_broker
def test_a_broker_that_is_killed_for_a_while_gets_all_of_it_in_order(
    tmp_path: Path, journal: Journal, broker: Broker
) -> None:
    with publisher(*mqtt_arguments(broker, tmp_path / "log")):
        first = Listener(broker.port)
        wrote = write(journal, 50)
        wait_until(lambda: sequences(first) == wrote)
        first.close()
        broker.kill()
        wrote = write(journal, 300)
        broker.start()
        second = Listener(broker.port)
        wait_until(lambda: wrote[-1] in sequences(second))
        second.close()
    heard = sequences(second)
    # Whoever subscribes may be later than the first of them: those went to nobody.
    assert heard == list(range(heard[0], wrote[-1] + 1))
    assert not any(retained for topic, _, retained in second.heard if topic.endswith("verdict"))


@needs_broker
def test_a_broker_that_hangs_loses_nothing_and_repeats_only_what_it_had_not_acknowledged(
    tmp_path: Path, journal: Journal, broker: Broker
) -> None:
    listener = Listener(broker.port)
    with publisher(*mqtt_arguments(broker, tmp_path / "log")):
        wrote = write(journal, 20)
        wait_until(lambda: sequences(listener) == wrote)
        broker.freeze(is_frozen=True)
        wrote += write(journal, 200)
        broker.freeze(is_frozen=False)
        wait_until(lambda: wrote[-1] in sequences(listener))
    listener.close()
    heard = sequences(listener)
    assert sorted(set(heard)) == wrote
    assert len(heard) - len(wrote) <= 16


@needs_broker
def test_beyond_the_limit_the_oldest_are_dropped_and_the_count_is_told(
    tmp_path: Path, journal: Journal, broker: Broker
) -> None:
    broker.kill()
    arguments = mqtt_arguments(broker, tmp_path / "log", "--most-messages", "30")
    with publisher(*arguments) as process:
        wrote = write(journal, 100)
        with pytest.raises(AssertionError):  # it reads on, and ends not
            wait_until(lambda: process.poll() is not None, within_s=3)
        broker.start()
        listener = Listener(broker.port)
        wait_until(lambda: wrote[-1] in sequences(listener))
        listener.close()
    assert sequences(listener) == wrote[-30:]
    (note,) = listener.on("plant/line1/event")
    assert note["event"] == "outlet_dropped"
    assert note["detail"]["messages"] == 70


@needs_broker
def test_it_goes_on_where_it_was_after_its_own_end_and_never_begins_with_old_records(
    tmp_path: Path, journal: Journal, broker: Broker
) -> None:
    write(journal, 10)  # before anybody asked for messages
    listener = Listener(broker.port)
    with publisher(*mqtt_arguments(broker, tmp_path / "log")):
        wrote = write(journal, 10)
        wait_until(lambda: sequences(listener) == wrote)
    wrote += write(journal, 10)  # while it is gone
    with publisher(*mqtt_arguments(broker, tmp_path / "log")):
        wait_until(lambda: sequences(listener) == wrote)
    listener.close()
    assert [each for each in listener.on("plant/line1/online")] == [True, False, True, False]


@needs_broker
def test_a_publisher_that_is_killed_leaves_its_last_will(
    tmp_path: Path, journal: Journal, broker: Broker
) -> None:
    listener = Listener(broker.port)
    with publisher(*mqtt_arguments(broker, tmp_path / "log")) as process:
        wait_until(lambda: listener.on("plant/line1/online") == [True])
        process.kill()
        wait_until(lambda: listener.on("plant/line1/online") == [True, False])
    late = Listener(broker.port)
    wait_until(lambda: late.on("plant/line1/state"))
    assert late.on("plant/line1/online") == [False]
    assert late.on("plant/line1/state")[0]["state"] is None  # the line is not there
    for each in (listener, late):
        each.close()


@needs_broker
def test_a_broker_with_passwords_takes_that_of_the_file(tmp_path: Path, journal: Journal) -> None:
    pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")
    from shutil import which
    from subprocess import run

    if which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed")
    users = tmp_path / "passwords"
    run(["mosquitto_passwd", "-b", "-c", str(users), "line1", "a secret"], check=True)
    users.chmod(0o644)
    tmp_path.chmod(0o755)
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {users}", "user root")
    broker.start()
    (tmp_path / "login").write_text("line1:a secret\n")
    (tmp_path / "login").chmod(0o600)
    try:
        listener = Listener(broker.port, login=("line1", "a secret"))
        more = ("--login", str(tmp_path / "login"))
        with publisher(*mqtt_arguments(broker, tmp_path / "log", *more)) as process:
            shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            assert b"a secret" not in shown
            wrote = write(journal, 3)
            wait_until(lambda: sequences(listener) == wrote)
        listener.close()
    finally:
        broker.kill()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def webhook_arguments(port: int, folder: Path, *more: str) -> tuple[str, ...]:
    url = f"http://127.0.0.1:{port}/hook?line=1"
    key = str(folder.parent / "key")
    return ("webhook", url, "--folder", str(folder), "--key", key, *more)


def posted(receiver: Receiver) -> list[int]:
    return [json.loads(body).get("sequence", 0) for _, body in list(receiver.posts)]


def test_rejects_and_events_are_posted_signed_and_passes_are_not(
    tmp_path: Path, journal: Journal, receiver: Receiver
) -> None:
    with publisher(*webhook_arguments(receiver.port, tmp_path / "log")):
        write(journal, 3, Verdict.PASS)
        rejects = write(journal, 2)
        journal.note(EventRecord.now(EventKind.ALARM, {"why": "many rejects"}))
        wait_until(lambda: len(receiver.posts) == 3)
    assert posted(receiver)[:2] == rejects
    key = (tmp_path / "key").read_bytes().strip()
    for headers, body in receiver.posts:
        signed = headers["X-SSN-Edge-Timestamp"].encode() + b"." + body
        wanted = "sha256=" + hmac.new(key, signed, hashlib.sha256).hexdigest()
        assert headers["X-SSN-Edge-Signature"] == wanted
        jsonschema.validate(json.loads(body), message_schema())
    assert receiver.posts[-1][0]["X-SSN-Edge-Kind"] == "event"


def test_a_server_that_fails_redirects_or_is_gone_gets_all_of_it_later(
    tmp_path: Path, journal: Journal
) -> None:
    port = free_port()
    with publisher(*webhook_arguments(port, tmp_path / "log")):
        wrote = write(journal, 5)
        answers = iter([500, 302, 429])
        receiver = Receiver(port)
        receiver.status = lambda body: next(answers, 200)
        try:
            wait_until(lambda: posted(receiver) == wrote)
        finally:
            receiver.close()


def test_a_message_that_the_server_will_never_take_does_not_hold_up_the_others(
    tmp_path: Path, journal: Journal, receiver: Receiver
) -> None:
    receiver.status = lambda body: 422 if json.loads(body)["sequence"] == 2 else 200
    with publisher(*webhook_arguments(receiver.port, tmp_path / "log")):
        write(journal, 4)
        wait_until(lambda: posted(receiver) == [1, 3, 4])


def test_what_a_peer_that_was_never_there_is_owed_outlives_the_publisher(
    tmp_path: Path, journal: Journal
) -> None:
    port = free_port()
    with publisher(*webhook_arguments(port, tmp_path / "log")):
        wrote = write(journal, 3)
    wrote += write(journal, 3)
    receiver = Receiver(port)
    try:
        with publisher(*webhook_arguments(port, tmp_path / "log")):
            wait_until(lambda: posted(receiver) == wrote)
    finally:
        receiver.close()


def test_a_server_is_told_the_name_that_it_was_called_by(
    tmp_path: Path, journal: Journal, receiver: Receiver
) -> None:
    # A name for 127.0.0.1 that needs no table of names.
    url, key = f"http://127.1:{receiver.port}/hook", str(tmp_path / "key")
    with publisher("webhook", url, "--folder", str(tmp_path / "log"), "--key", key):
        write(journal, 1)
        wait_until(lambda: receiver.posts)
    assert receiver.posts[0][0]["Host"] == f"127.1:{receiver.port}"
