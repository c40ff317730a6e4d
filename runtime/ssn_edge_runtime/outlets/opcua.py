"""A line as an OPC UA server, in a process of its own. For information and requests, not signals.

Needs ``asyncua`` (the extra ``opcua``). See runtime/README.md, "Outlets", for nodes and rules.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from asyncua import Server, ua

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.errors import ConfigError, ListenError, SsnEdgeError, StorageError
from ssn_edge_runtime.outlets.line_view import LineWatch
from ssn_edge_runtime.outlets.opcua_access import GuardedFront, GuardedServer, Logins
from ssn_edge_runtime.outlets.opcua_address import OpcUaAddress, parse_opcua
from ssn_edge_runtime.outlets.opcua_certificate import APPLICATION, own_certificate
from ssn_edge_runtime.outlets.opcua_events import LineEvents
from ssn_edge_runtime.outlets.opcua_nodes import LineNodes, node_values
from ssn_edge_runtime.outlets.opcua_users import read_users
from ssn_edge_runtime.outlets.process import begin_beside, tell
from ssn_edge_runtime.server.answers import Refusal
from ssn_edge_runtime.server.line_client import LineClient
from ssn_edge_runtime.settings_store import read_settings
from ssn_edge_runtime.sinks.heads import HEAD_NAME, read_head
from ssn_edge_runtime.verdict_codes import verdict_code

SHOW_S = 0.05
FILES_S = 1.0
_WORD = re.compile(r"[!-?A-~][!-~]{0,199}")
"""One word of the control socket's: printable, no blank, no @ at its beginning."""

logger = logging.getLogger(__name__)


class LineServer:
    """The server of one line.

    Args:
        address: Where it listens.
        line: Whose control socket is asked.
        watch: What may be shown of it.
        folder: Of its journal.
        users: File of users, if there are any.
        is_open: Whether everyone may read, over any network.
        settings: The device's settings, whose recipes are listed.
        takes_triggers: Whether the line does.
    """

    def __init__(
        self,
        address: OpcUaAddress,
        line: LineClient,
        watch: LineWatch,
        *,
        folder: Path,
        users: Path | None,
        is_open: bool,
        settings: Path | None,
        takes_triggers: bool,
    ) -> None:
        self._address = address
        self._line = line
        self._watch = watch
        self._folder = folder
        self._head = folder / HEAD_NAME
        self._users = users
        self._settings = settings
        self._takes_triggers = takes_triggers
        self._lets_anonymous = is_open or address.is_loopback
        self._files: tuple[list[str], str] = ([], "")
        self._looked_s = float("-inf")
        self._nodes: LineNodes | None = None
        self._events: LineEvents | None = None
        self._showing = asyncio.Lock()

    async def run(self, stop: threading.Event) -> None:
        """Serve until told to stop.

        Raises:
            ListenError: It cannot be listened on.
            ConfigError: Users or certificate cannot be used.
        """
        users = {} if self._users is None else read_users(self._users)
        inside = GuardedServer(Logins(users, lets_anonymous=self._lets_anonymous))
        server = GuardedFront(iserver=inside)
        await server.init()
        server.set_server_name("ssn-edge")
        server.set_endpoint(str(self._address))
        await server.set_application_uri(APPLICATION)
        await self._secure(server)
        self._nodes = LineNodes(server)
        line = await self._nodes.build()
        if self._users is not None:
            await self._add_methods(line)
        self._events = LineEvents(server, self._folder)
        await self._events.build(line)
        inside.before_read = self._show
        await self._show()
        try:
            await server.start()
        except OSError as error:
            raise ListenError(
                f"cannot listen on {self._address}: {error.strerror}; end what listens there, or "
                "take another port"
            ) from error
        try:
            tell(listens=str(self._address))
            while not stop.is_set():
                await self._show()
                await self._events.look(self._watch.view())
                await self._events.step()
                await asyncio.sleep(SHOW_S)
        finally:
            self._events.close()
            await server.stop()

    async def _secure(self, server: Server) -> None:
        policies, tokens = [], []
        if self._lets_anonymous:
            policies.append(ua.SecurityPolicyType.NoSecurity)
            tokens.append(ua.AnonymousIdentityToken)
        if self._users is not None:
            certificate, key = own_certificate(self._users)
            await server.load_certificate(str(certificate))
            await server.load_private_key(str(key))
            policies.append(ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt)
            tokens.append(ua.UserNameIdentityToken)
        server.set_security_policy(policies)
        server.set_identity_tokens(tokens)

    async def _add_methods(self, line: Any) -> None:
        assert self._nodes is not None
        text, number, code = (
            ua.VariantType.String, ua.VariantType.Int64, ua.VariantType.UInt16
        )  # fmt: skip
        if self._takes_triggers:
            await line.add_method(
                *self._nodes.name("Trigger"),
                self._trigger,
                [_argument("TriggerId", number), _argument("PartId", text),
                 _argument("Camera", text)],
                [_argument("Verdict", text), _argument("Reason", text), _argument("Code", code)],
            )  # fmt: skip
        if self._settings is not None:
            await line.add_method(
                *self._nodes.name("SelectRecipe"),
                self._select_recipe,
                [_argument("Name", text)],
                [],
            )

    async def _show(self) -> None:
        assert self._nodes is not None
        async with self._showing:
            if monotonic() - self._looked_s > FILES_S:
                self._looked_s = monotonic()
                self._files = (self._recipes(), self._head_text())
            recipes, head = self._files
            await self._nodes.show(node_values(self._watch.view(), recipes, head))

    def _recipes(self) -> list[str]:
        if self._settings is None:
            return []
        try:
            return sorted(read_settings(self._settings).recipes)
        except ConfigError:
            return []

    def _head_text(self) -> str:
        with suppress(StorageError):
            return json.dumps(read_head(self._head).to_dict(), sort_keys=True)
        return ""

    def _trigger(
        self, parent: ua.NodeId, trigger_id: ua.Variant, part: ua.Variant, camera: ua.Variant
    ) -> object:
        """Give a trigger and wait for its verdict; in a thread of the library's."""
        number, words = trigger_id.Value, [part.Value or None, camera.Value or None]
        is_right = type(number) is int and 0 < number < 10**18
        if not is_right or not all(each is None or _is_word(each) for each in words):
            return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
        try:
            answer = self._line.trigger(number, *words)
        except Refusal as refusal:
            return _refused(refusal)
        verdict = Verdict(str(answer["verdict"]))
        return [
            ua.Variant(verdict.value, ua.VariantType.String),
            ua.Variant(str(answer["reason"]), ua.VariantType.String),
            ua.Variant(int(verdict_code(verdict)), ua.VariantType.UInt16),
        ]

    def _select_recipe(self, parent: ua.NodeId, name: ua.Variant) -> object:
        """Have parts judged by a recipe; the empty name stands for the general settings."""
        wanted = name.Value or None
        if wanted is not None and not _is_word(wanted):
            return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
        try:
            self._line.select_recipe(wanted)
        except Refusal as refusal:
            return _refused(refusal)
        return []


def _argument(name: str, kind: ua.VariantType) -> ua.Argument:
    return ua.Argument(Name=name, DataType=ua.NodeId(kind.value), ValueRank=-1, ArrayDimensions=[])


def _is_word(text: object) -> bool:
    return isinstance(text, str) and _WORD.fullmatch(text) is not None


def _refused(refusal: Refusal) -> ua.StatusCode:
    """A call without an answer: nothing in it can be taken for a verdict."""
    code = {
        422: ua.StatusCodes.BadInvalidArgument,
        503: ua.StatusCodes.BadInvalidState,
        504: ua.StatusCodes.BadTimeout,
    }.get(refusal.status, ua.StatusCodes.BadUnexpectedError)
    return ua.StatusCode(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ssn_edge_runtime.outlets.opcua",
        description="Show a line as an OPC UA server.",
    )
    parser.add_argument("address", help="opc.tcp://ADDRESS[:PORT]")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the journal")
    parser.add_argument("--control", type=Path, required=True, help="the line's control socket")
    parser.add_argument("--deadline-ms", type=float, required=True, help="the line's deadline")
    parser.add_argument("--users", type=Path, help="file of users")
    parser.add_argument("--open", action="store_true", help="everyone may read")
    parser.add_argument("--shadow", action="store_true", help="nothing passes")
    parser.add_argument("--settings", type=Path, help="the device's settings")
    parser.add_argument("--takes-triggers", action="store_true", help="the line takes triggers")
    options = parser.parse_args(arguments)
    stop = begin_beside()
    # What clients do wrong is theirs; the library tells each of it with a traceback.
    for name in ("asyncua", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        address = parse_opcua(
            options.address, has_users=options.users is not None, is_open=options.open
        )
        line = LineClient(options.control, deadline_ms=options.deadline_ms, state_age_s=0.0)
        with LineWatch(line, is_shadow=options.shadow) as watch:
            server = LineServer(
                address,
                line,
                watch,
                folder=options.folder,
                users=options.users,
                is_open=options.open,
                settings=options.settings,
                takes_triggers=options.takes_triggers,
            )
            asyncio.run(server.run(stop))
    except SsnEdgeError as error:
        tell(error=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
