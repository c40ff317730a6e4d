"""What the tests of the OPC UA server share: a line's stand-in, a server's process, clients."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any

from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from ssn_edge_runtime.outlets.opcua_certificate import own_certificate
from ssn_edge_runtime.outlets.opcua_users import Role, new_user, write_users

NAMESPACE = "urn:ssn-edge:line"
PASSWORD = "correct horse"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class StandInLine:
    """Answers a control socket as a line would, with the status that it is given."""

    def __init__(self, path: Path) -> None:
        self.status: dict[str, object] = status_of()
        self.heard: list[str] = []
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            # Closing a file flushes it once more: whoever hung up must not end the whole line.
            with suppress(OSError):
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            words = lines.readline().decode().split()
            answer = " ".join(words)
            if words == ["state"]:
                answer = json.dumps(self.status)
            elif words:
                self.heard.append(answer)
                if words[0] == "trigger":
                    answer = f"{words[1]} pass none 0x5AA5"
            client.sendall(answer.encode() + b"\n")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self._path.unlink()


def status_of(*, for_s: float = 3600.0, **last: object) -> dict[str, object]:
    return {
        "state": "ContinuousExecution",
        "cause": "started",
        "counters": {"records": 3, "pass": 2, "fail": 1},
        "settings_id": None,
        "recipe": "brass",
        "last": {
            "trigger_id": 7,
            "sequence": 3,
            "verdict": "pass",
            "reason": "none",
            "code": 0x5AA5,
            "is_accepted": True,
            "valid_until_ns": monotonic_ns() + round(for_s * 1e9),
            **last,
        },
    }


@contextmanager
def opcua_server(
    folder: Path, *more: str, host: str = "127.0.0.1"
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The server's process by itself, and its address."""
    address = f"opc.tcp://{host}:{free_port()}"
    command = [sys.executable, "-m", "ssn_edge_runtime.outlets.opcua", address]
    command += ["--folder", str(folder), "--control", str(folder / "c")]
    process = subprocess.Popen(
        [*command, "--deadline-ms", "1000", *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = json.loads(process.stdout.readline())
        assert said == {"listens": address}
        yield address, process
    finally:
        process.stdin.close()
        try:
            process.wait(15)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def users_file(folder: Path) -> Path:
    path = folder / "users.json"
    write_users(
        path,
        {
            "olga": new_user(PASSWORD, Role.OPERATOR),
            "viktor": new_user(PASSWORD, Role.VIEWER),
        },
    )
    return path


@asynccontextmanager
async def opcua_client(
    address: str, user: str | None = None, password: str = PASSWORD, *, users: Path | None = None
) -> AsyncIterator[Client]:
    """A client; with a file of users, over an encrypted channel."""
    # A call holds its connection until the verdict: the client must not lose patience before.
    client = Client(address, timeout=20, watchdog_intervall=10)
    if user is not None:
        client.set_user(user)
        client.set_password(password)
    if users is not None:
        certificate, _ = own_certificate(users)
        own = users.with_name("client.json")
        theirs, key = own_certificate(own)
        await client.set_security(
            SecurityPolicyBasic256Sha256,
            certificate=str(theirs),
            private_key=str(key),
            server_certificate=str(certificate),
            mode=ua.MessageSecurityMode.SignAndEncrypt,
        )
        client.application_uri = "urn:ssn-edge:opcua"
    await client.connect()
    transport = client.uaclient.protocol.transport
    try:
        yield client
    finally:
        with suppress(OSError, ua.UaError, asyncio.TimeoutError):  # it may be dead
            await client.disconnect()
        transport.abort()
        await asyncio.sleep(0.05)  # the loop closes it in its next turn


async def node(client: Client, path: str) -> Any:
    index = await client.get_namespace_index(NAMESPACE)
    return client.get_node(ua.NodeId(f"Line.{path}".rstrip("."), index))


async def data(client: Client, path: str) -> tuple[Any, int]:
    """Value and status of a node, whatever they are."""
    found = await (await node(client, path)).read_data_value(raise_on_bad_status=False)
    value = None if found.Value is None else found.Value.Value
    return value, found.StatusCode.value


async def until(client: Client, path: str, wanted: object, within_s: float = 20.0) -> None:
    until_s = monotonic() + within_s
    while (found := await data(client, path))[0] != wanted:
        assert monotonic() < until_s, (path, found, wanted)
        await asyncio.sleep(0.02)
