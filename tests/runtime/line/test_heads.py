"""Signed heads: who may make them, what they cover, and when they are published."""

from __future__ import annotations

import builtins
import json
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks import (
    HEAD_NAME,
    DeviceKey,
    HeadStatement,
    Journal,
    PublicKey,
    journal_files,
    line_sha256,
    read_head,
)

MakeRecord = Callable[..., DecisionRecord]


@pytest.fixture
def key(tmp_path: Path) -> DeviceKey:
    return DeviceKey.open(tmp_path / "keys" / "device.key")


def test_a_key_is_made_on_first_use_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "device.key"
    made = DeviceKey.open(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert DeviceKey.open(path).key_id == made.key_id
    assert PublicKey.read(path.with_name("device.key.pub")).key_id == made.key_id
    assert b"PRIVATE" not in path.with_name("device.key.pub").read_bytes()
    assert sorted(each.name for each in path.parent.iterdir()) == ["device.key", "device.key.pub"]


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    DeviceKey.open(tmp_path / "device.key")
    (tmp_path / "device.key").chmod(0o640)
    with pytest.raises(ConfigError, match="has mode 0640, others may read it"):
        DeviceKey.open(tmp_path / "device.key")


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PUBLIC KEY-----"])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "device.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="no private key"):
        DeviceKey.open(path)
    with pytest.raises(ConfigError, match="no public key"):
        PublicKey.read(path)


def test_without_cryptography_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("cryptography"):
            raise ModuleNotFoundError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'ssn-edge\[sign\]'"):
        DeviceKey.open(tmp_path / "device.key")


def test_a_head_is_signed_and_any_change_shows(
    output: Path, make_record: MakeRecord, key: Any
) -> None:
    with Journal(output, key=key) as journal:
        journal.write(make_record(journal))
    head = read_head(output / HEAD_NAME)
    assert (head.line, head.sha256, head.sequence) == (journal.line, journal.head, 1)
    assert head.is_signed_by(key.public)
    for change in (
        {"line": 3},
        {"sha256": "0" * 64},
        {"sequence": 2},
        {"at": ""},
        {"boot_id": None},
        {"signature": "AAAA"},
        {"signature": "?"},
        {"signature": None},
        {"key_id": "0" * 64},
    ):
        assert not replace(head, **change).is_signed_by(key.public), change  # type: ignore[arg-type]


def test_another_device_does_not_vouch(output: Path, tmp_path: Path, key: DeviceKey) -> None:
    with Journal(output, key=key) as journal:
        journal._checkpoint({})
    other = DeviceKey.open(tmp_path / "other.key")
    assert not read_head(output / HEAD_NAME).is_signed_by(other.public)


def test_heads_come_every_so_many_lines_and_at_each_new_segment_and_cover_what_is_synced(
    output: Path, make_record: MakeRecord, key: DeviceKey
) -> None:
    heads: list[HeadStatement] = []
    with Journal(
        output,
        key=key,
        head_every=10,
        on_head=heads.append,
        segment_bytes=20_000,
        sync_interval_s=0.001,
    ) as journal:
        for _ in range(100):
            journal.write(make_record(journal))
            while journal.lag_s:
                os.sched_yield()
    assert 10 <= len(heads) <= 20
    assert all(head.is_signed_by(key.public) for head in heads)
    lines = [line for path in journal_files(output) for line in path.read_bytes().splitlines()]
    assert len(journal_files(output)) > 2
    for head in heads:
        assert line_sha256(lines[head.line - 1]) == head.sha256
    assert read_head(output / HEAD_NAME) == heads[-1]
    assert heads[-1].line == len(lines)
    anchors = [
        HeadStatement.from_dict(document["detail"]["anchor"])
        for document in map(json.loads, lines)
        if "anchor" in document.get("detail", {})
    ]
    assert len(anchors) == len(journal_files(output)) - 1
    assert all(anchor.is_signed_by(key.public) for anchor in anchors)


def test_whoever_takes_the_heads_may_fail_and_the_journal_goes_on(
    output: Path, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(head: HeadStatement) -> None:
        raise RuntimeError("the broker is gone")

    with Journal(output, head_every=1, on_head=fails, sync_interval_s=0.001) as journal:
        for _ in range(5):
            journal.write(make_record(journal))
            while journal.lag_s:
                os.sched_yield()
    assert caplog.text.count("the journal's head cannot be handed on") == 1


def test_whoever_takes_the_heads_may_be_slow_and_neither_syncs_nor_records_wait(
    output: Path, make_record: MakeRecord
) -> None:
    let_go = threading.Event()
    taken: list[int] = []

    def slow(head: HeadStatement) -> None:
        assert let_go.wait(20.0)
        taken.append(head.line)

    with Journal(output, head_every=1, on_head=slow, sync_interval_s=0.001) as journal:
        for _ in range(100):
            journal.write(make_record(journal))
            while journal.lag_s:
                os.sched_yield()
        let_go.set()
    assert taken == sorted(taken)
    assert len(taken) < 70
    assert taken[-1] == journal.line  # the newest is not among those left out


def test_a_journal_that_ends_before_its_published_head_says_so_when_it_is_opened(
    output: Path, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    with Journal(output) as journal:
        for _ in range(5):
            journal.write(make_record(journal))
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b"".join(lines[:3]))
    with Journal(output) as journal:
        assert journal.next_sequence == 4
    restart = json.loads(journal.path.read_bytes().splitlines()[3])
    assert restart["detail"]["published_line"] == 6
    assert "ends at line 3, but line 6 was published" in caplog.text


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"line":"1"}', b"\xff"], ids=lambda each: repr(each)
)
def test_a_file_that_is_no_head_is_refused_and_does_not_keep_a_journal_from_opening(
    output: Path, content: bytes
) -> None:
    output.mkdir()
    (output / HEAD_NAME).write_bytes(content)
    with pytest.raises(StorageError, match="is no head"):
        read_head(output / HEAD_NAME)
    with Journal(output):
        pass
