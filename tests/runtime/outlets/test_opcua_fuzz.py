"""The OPC UA server among hostile clients: in bounded room, nothing moved, and sound ones served.

The long form: ``pytest -m soak tests/runtime/outlets/test_opcua_fuzz.py -s``, ten minutes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

pytest.importorskip("asyncua", reason="the extra opcua is not installed")

from asyncua import ua
from opcua_clients import StandInLine, data, opcua_client, opcua_server, until, users_file
from opcua_fuzz import Fuzzers, handles, resident_kib

from ssn_edge_runtime.outlets.opcua_access import MOST_CONNECTIONS
from ssn_edge_runtime.sinks import Journal
from tests.runtime.outlets.test_publishers import write

GROWTH_KIB = 64 * 1024
"""Above the highest of the first third: a message's worth of objects, some of them at once."""
BACKLOG = 100
"""Connections that the library takes in one go."""
CEILING_KIB = 400 * 1024
"""Of all of it, the standard's nodes (about 100 MiB) included."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "seconds"),
    [
        pytest.param(20261128, 30, id="short"),
        pytest.param(7, 600, id="long", marks=pytest.mark.soak),
    ],
)
def test_fuzzed_it_neither_falls_nor_hangs_nor_grows_and_nothing_moves(
    tmp_path: Path, seed: int, seconds: int
) -> None:
    users = users_file(tmp_path)
    (tmp_path / "settings.json").write_text("{}")
    more = (
        "--users",
        str(users),
        "--takes-triggers",
        "--settings",
        str(tmp_path / "settings.json"),
    )
    line = StandInLine(tmp_path / "c")
    try:
        with Journal(tmp_path) as journal, opcua_server(tmp_path, *more) as (address, process):
            asyncio.run(still_reads(address))
            idle_handles = handles(process.pid)
            early_kib = peak_kib = most_handles = 0
            began_s = monotonic()
            with Fuzzers(address, seconds, seed) as fuzzers:
                while fuzzers.is_on:
                    assert process.poll() is None
                    write(journal, 5)
                    peak_kib = max(peak_kib, resident_kib(process.pid))
                    most_handles = max(most_handles, handles(process.pid))
                    if monotonic() - began_s < seconds / 3:
                        early_kib = peak_kib
                    sleep(0.1)
            assert process.poll() is None
            took_s = served_again(address)
            settled(process.pid, idle_handles)
            late_kib = resident_kib(process.pid)
        said = (
            f"{dict(fuzzers.counts)}; KiB: {early_kib} early, {peak_kib} at most, {late_kib} late"
        )
        said += (
            f"; handles: {idle_handles} idle, {most_handles} at most; served after {took_s:.1f} s"
        )
        sys.stdout.write(f"fuzzed for {seconds} s: {said}\n")
    finally:
        line.close()
    assert peak_kib < early_kib + GROWTH_KIB, said
    assert peak_kib < CEILING_KIB, said
    # One too many is hung up on at once, but for a moment as many are open as may wait for it.
    assert most_handles <= idle_handles + MOST_CONNECTIONS + BACKLOG, said
    assert line.heard == []  # no trigger, no recipe
    # It was no walk along the fence: requests were understood, and subscribers came through.
    assert fuzzers.counts["messages"] > 1000, said
    assert fuzzers.counts["answers"] > 10, said
    assert fuzzers.counts["subscribed"] > 0, said


async def still_reads(address: str) -> None:
    async with opcua_client(address) as client:
        await until(client, "LastResult.Code", 0x5AA5)
        assert (await data(client, "State"))[0] == "ContinuousExecution"


def served_again(address: str) -> float:
    """Seconds until a sound client is served; held connections end after ten."""
    began_s = monotonic()
    while True:
        try:
            asyncio.run(still_reads(address))
            return monotonic() - began_s
        except (OSError, TimeoutError, asyncio.TimeoutError, ua.UaError):
            assert monotonic() < began_s + 60
            sleep(0.2)


def settled(pid: int, idle_handles: int) -> None:
    """All connections are let go."""
    until_s = monotonic() + 30
    while (now := handles(pid)) > idle_handles + 2:
        assert monotonic() < until_s, (now, idle_handles)
        sleep(0.2)
