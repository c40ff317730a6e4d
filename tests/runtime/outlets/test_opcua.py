"""The OPC UA server against real clients: what may be read, by whom, and when nothing passes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("asyncua", reason="the extra opcua is not installed")

from asyncua import ua
from opcua_clients import (
    PASSWORD,
    StandInLine,
    data,
    node,
    opcua_client,
    opcua_server,
    status_of,
    until,
    users_file,
)

GOOD = ua.StatusCodes.Good


@pytest.fixture
def line(tmp_path: Path) -> Iterator[StandInLine]:
    line = StandInLine(tmp_path / "c")
    yield line
    line.close()


def test_a_pass_is_readable_as_one_only_while_its_signal_counts(
    tmp_path: Path, line: StandInLine
) -> None:
    async def look(address: str) -> None:
        async with opcua_client(address) as client:
            await until(client, "LastResult.Code", 0x5AA5)
            assert await data(client, "LastResult.Valid") == (True, GOOD)
            assert await data(client, "LastResult.Verdict") == ("pass", GOOD)
            assert await data(client, "LastResult.TriggerId") == (7, GOOD)
            assert await data(client, "State") == ("ContinuousExecution", GOOD)
            assert await data(client, "Recipe.Active") == ("brass", GOOD)
            assert await data(client, "Counters.Pass") == (2, GOOD)
            line.status = status_of(for_s=1.0, sequence=4)
            await until(client, "LastResult.Sequence", 4)
            # Nothing new comes: it ends by itself.
            await until(client, "LastResult.Code", 0)
            assert await data(client, "LastResult.Valid") == (False, GOOD)
            verdict, status = await data(client, "LastResult.Verdict")
            assert (verdict, status) == ("pass", ua.StatusCodes.UncertainLastUsableValue)
            line.status = status_of(verdict="fail", reason="defect", code=0xA55A, sequence=5)
            await until(client, "LastResult.Code", 0xA55A)
            assert await data(client, "LastResult.Valid") == (False, GOOD)

    with opcua_server(tmp_path) as (address, _):
        asyncio.run(look(address))


@pytest.mark.parametrize(
    "status",
    [
        status_of(is_accepted=False),
        status_of(code=0),
        status_of(valid_until_ns=None),
        status_of() | {"state": "Error"},
        status_of() | {"state": "nothing known"},
    ],
)
def test_what_is_no_given_pass_of_a_judging_line_is_never_shown_as_one(
    tmp_path: Path, line: StandInLine, status: dict[str, object]
) -> None:
    line.status = status_of(verdict="fail", code=0xA55A, sequence=1)

    async def look(address: str) -> None:
        async with opcua_client(address) as client:
            await until(client, "LastResult.Sequence", 1)
            line.status = status
            for _ in range(20):
                assert (await data(client, "LastResult.Code"))[0] != 0x5AA5
                assert (await data(client, "LastResult.Valid"))[0] is not True
                await asyncio.sleep(0.03)

    with opcua_server(tmp_path) as (address, _):
        asyncio.run(look(address))


def test_in_shadow_nothing_passes(tmp_path: Path, line: StandInLine) -> None:
    async def look(address: str) -> None:
        async with opcua_client(address) as client:
            await until(client, "LastResult.Verdict", "pass")
            assert await data(client, "LastResult.Code") == (0, GOOD)
            assert await data(client, "LastResult.Valid") == (False, GOOD)

    with opcua_server(tmp_path, "--shadow") as (address, _):
        asyncio.run(look(address))


def test_a_line_that_is_lost_leaves_no_good_value_and_comes_back(tmp_path: Path) -> None:
    line = StandInLine(tmp_path / "c")

    async def look(address: str) -> None:
        nonlocal line
        async with opcua_client(address) as client:
            await until(client, "LastResult.Code", 0x5AA5)
            line.close()
            await until(client, "Connected", False)
            for name in ("State", "LastResult.Verdict", "LastResult.Code", "LastResult.Valid"):
                found = await data(client, name)
                assert found == (None, ua.StatusCodes.BadNoCommunication), name
            line = StandInLine(tmp_path / "c")
            await until(client, "Connected", True)
            await until(client, "State", "ContinuousExecution")

    with opcua_server(tmp_path) as (address, _):
        asyncio.run(look(address))
    line.close()


def test_whoever_gives_no_name_reads_and_does_no_more(tmp_path: Path, line: StandInLine) -> None:
    users = users_file(tmp_path)

    async def try_all(address: str, user: str | None, encrypted: Path | None) -> None:
        async with opcua_client(address, user, users=encrypted) as client:
            assert (await data(client, "State"))[1] == GOOD
            state, above = await node(client, "State"), await node(client, "")
            for attempt in (
                state.write_value("Ready"),
                above.call_method(await node(client, "Trigger"), 5, "part", ""),
                above.add_variable(2, "mine", 1),
                client.delete_nodes([state]),
            ):
                with pytest.raises(ua.UaError):
                    await attempt
            assert await data(client, "State") == ("ContinuousExecution", GOOD)

    with opcua_server(tmp_path, "--users", str(users), "--takes-triggers") as (address, _):
        asyncio.run(try_all(address, None, None))
        asyncio.run(try_all(address, "viktor", users))
    assert line.heard == []


def test_an_operator_gives_triggers_and_selects_recipes(tmp_path: Path, line: StandInLine) -> None:
    users = users_file(tmp_path)
    (tmp_path / "settings.json").write_text("{}")

    async def use(address: str) -> None:
        async with opcua_client(address, "olga", users=users) as client:
            above = await node(client, "")
            trigger, recipe = await node(client, "Trigger"), await node(client, "SelectRecipe")
            found = await above.call_method(
                trigger, ua.Variant(5, ua.VariantType.Int64), "part-1", ""
            )
            assert found == ["pass", "none", 0x5AA5]
            await above.call_method(recipe, "steel")
            await above.call_method(recipe, "")
            for part in ("two words", "a\ntrigger 6", "@left", "ü", "x" * 300):
                with pytest.raises(ua.UaError):
                    await above.call_method(trigger, ua.Variant(5, ua.VariantType.Int64), part, "")
            for number in (0, -1, 10**18):
                with pytest.raises(ua.UaError):
                    await above.call_method(
                        trigger, ua.Variant(number, ua.VariantType.Int64), "", ""
                    )

    more = (
        "--users",
        str(users),
        "--takes-triggers",
        "--settings",
        str(tmp_path / "settings.json"),
    )
    with opcua_server(tmp_path, *more) as (address, _):
        asyncio.run(use(address))
    assert line.heard == ["trigger 5 part-1", "recipe steel", "recipe"]


def test_a_wrong_password_or_one_in_the_clear_is_refused(tmp_path: Path, line: StandInLine) -> None:
    users = users_file(tmp_path)

    async def enter(address: str, user: str, password: str, encrypted: Path | None) -> None:
        async with opcua_client(address, user, password, users=encrypted):
            pass

    with opcua_server(tmp_path, "--users", str(users)) as (address, _):
        asyncio.run(enter(address, "viktor", PASSWORD, users))
        for name, password, encrypted in (
            ("viktor", "wrong", users),
            ("nobody", PASSWORD, users),
            ("viktor", PASSWORD, None),
        ):
            with pytest.raises(ua.UaError):
                asyncio.run(enter(address, name, password, encrypted))
        for _ in range(5):
            with pytest.raises(ua.UaError):
                asyncio.run(enter(address, "viktor", "wrong", users))
        with pytest.raises(ua.UaError):  # guessing shuts the door for a while
            asyncio.run(enter(address, "viktor", PASSWORD, users))


def test_another_session_cannot_be_taken_over_by_its_number(
    tmp_path: Path, line: StandInLine
) -> None:
    users = users_file(tmp_path)

    async def take_over(address: str) -> None:
        async with opcua_client(address, "olga", users=users) as operator:
            token = operator.uaclient.protocol.authentication_token
            async with opcua_client(address) as thief:
                thief.uaclient.protocol.authentication_token = token
                above = await node(thief, "")
                with pytest.raises(ua.UaError):
                    await above.call_method(await node(thief, "Trigger"), 5, "", "")

    with opcua_server(tmp_path, "--users", str(users), "--takes-triggers") as (address, _):
        asyncio.run(take_over(address))
    assert line.heard == []


def test_where_others_reach_it_nobody_reads_without_a_name(
    tmp_path: Path, line: StandInLine
) -> None:
    users = users_file(tmp_path)

    async def read(address: str, user: str | None, encrypted: Path | None) -> int:
        async with opcua_client(address, user, users=encrypted) as client:
            return (await data(client, "State"))[1]

    with opcua_server(tmp_path, "--users", str(users), host="0.0.0.0") as (address, _):
        local = address.replace("0.0.0.0", "127.0.0.1")
        assert asyncio.run(read(local, "viktor", users)) == GOOD
        for user, encrypted in ((None, None), (None, users), ("viktor", None)):
            with pytest.raises(ua.UaError):
                asyncio.run(read(local, user, encrypted))
    with opcua_server(tmp_path, "--open", host="0.0.0.0") as (address, _):
        local = address.replace("0.0.0.0", "127.0.0.1")
        assert asyncio.run(read(local, None, None)) == GOOD


@pytest.mark.parametrize(("role", "is_encrypted"), [("User", False), ("Anonymous", True)])
def test_a_call_needs_a_role_and_an_encrypted_channel(role: str, is_encrypted: bool) -> None:
    from asyncua.common.utils import ServiceError
    from asyncua.crypto.permission_rules import UserRole

    from ssn_edge_runtime.outlets.opcua_access import ChannelRules, ChannelUser, GuardedSession

    session = GuardedSession.__new__(GuardedSession)
    session.user = ChannelUser(role=UserRole[role])
    session.is_activated = lambda: True
    rules = ChannelRules(is_encrypted=is_encrypted)
    assert rules.check_validity(session.user, None, None)
    session._require()
    with pytest.raises(ServiceError):
        session._require(call=True)
