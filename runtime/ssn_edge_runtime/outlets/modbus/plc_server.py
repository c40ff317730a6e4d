"""The Modbus server of a guarded line, in a process of its own.

Between both is the control socket alone; see `handshake` for what holds between PLC and line.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic_ns

from ssn_edge_runtime.errors import ConfigError, SsnEdgeError
from ssn_edge_runtime.outlets.modbus.address import PlcAddress, parse_plc_address
from ssn_edge_runtime.outlets.modbus.epochs import Epochs
from ssn_edge_runtime.outlets.modbus.handshake import Handshake
from ssn_edge_runtime.outlets.modbus.line_link import LineLink
from ssn_edge_runtime.outlets.modbus.registers import MOST_RECIPES, recipes_crc
from ssn_edge_runtime.outlets.process import OutletProcess, begin_beside
from ssn_edge_runtime.outlets.seldom import log_seldom
from ssn_edge_runtime.outlets.words import PeerLosses, Reporter, tell

LOOK_EVERY_S = 0.05
EPOCHS_NAME = "modbus.json"
"""In the folder of the log: both are kept, or moved away, together."""

logger = logging.getLogger(__name__)


def plc_server(
    listen: str,
    allow: Sequence[str],
    control: Path,
    *,
    deadline_ms: float,
    folder: Path,
    recipes: Sequence[str] = (),
    on_message: Callable[[str], None] = lambda message: None,
) -> OutletProcess:
    """The server's process beside a line, not yet open.

    Args:
        listen: Address of one interface, with or without a port.
        allow: Addresses and networks of the PLC; may be left out on loopback.
        control: The line's control socket.
        deadline_ms: The line's.
        folder: Of the log.
        recipes: Names; the PLC gives their place in this order, from 1.
        on_message: Told where it listens, and when it is gone for good.

    Raises:
        ConfigError: No address, one that others reach and nobody is named, or too many recipes.
    """
    address = parse_plc_address(listen, allow)
    if len(recipes) > MOST_RECIPES:
        raise ConfigError(f"{len(recipes)} recipes; a PLC can choose from {MOST_RECIPES} at most")
    arguments = [str(address), "--control", str(control), "--deadline-ms", repr(deadline_ms)]
    arguments += ["--epochs", str(folder / EPOCHS_NAME)]
    arguments += [f"--allow={each}" for each in allow]
    arguments += [f"--recipe={each}" for each in recipes]
    numbers = ", ".join(f"{number} {name}" for number, name in enumerate(recipes, 1))
    what = "Modbus for " + ", ".join(str(each) for each in address.allowed)
    if recipes:
        what += f"; recipes {numbers} (recipes_crc {recipes_crc(recipes)})"
    module = "ssn_edge_runtime.outlets.modbus.plc_server"
    return OutletProcess(
        listen, module, arguments, what=what, outlet="modbus", on_message=on_message
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ssn_edge_runtime.outlets.modbus.plc_server",
        description="Be a PLC's Modbus server for a line that takes its control socket's words.",
    )
    parser.add_argument("listen", help="address of one interface, and a port")
    parser.add_argument("--allow", action="append", default=[], help="address or network of a PLC")
    parser.add_argument("--control", type=Path, required=True, help="the line's control socket")
    parser.add_argument("--deadline-ms", type=float, required=True, help="the line's deadline")
    parser.add_argument("--epochs", type=Path, required=True, help="file of the ids that were used")
    parser.add_argument("--recipe", action="append", default=[], help="names, in their order")
    options = parser.parse_args(arguments)
    stop = begin_beside()
    log_seldom("modbus")
    # What clients send that is wrong is theirs; the library tells each of it.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    try:
        address = parse_plc_address(options.listen, options.allow)
        handshake = Handshake(
            deadline_ns=round(options.deadline_ms * 1e6),
            recipes=options.recipe,
            next_epoch=Epochs(options.epochs).next,
            plc_silent_ns=address.heartbeat_ms * 1_000_000,
        )
        asyncio.run(_serve(address, handshake, options.control, stop))
    except SsnEdgeError as error:
        tell(error=str(error))
        return error.exit_code
    return 0


async def _serve(
    address: PlcAddress, handshake: Handshake, control: Path, stop: threading.Event
) -> None:
    try:
        from ssn_edge_runtime.outlets.modbus.requests import Requests
        from ssn_edge_runtime.outlets.modbus.server import ModbusServer, end_tasks
    except ImportError as error:
        raise ConfigError(
            f"--modbus needs pymodbus, which is not installed here ({error}): "
            "pip install 'ssn-edge[modbus]'"
        ) from error
    link = LineLink(control, handshake, monotonic_ns)
    server = ModbusServer(address, Requests(handshake, link.tell), handshake.counts, monotonic_ns)
    where = await server.open()
    linked = asyncio.create_task(link.run())
    try:
        tell(listens=where)
        losses, reporter = PeerLosses(), Reporter()
        while not stop.is_set() and not linked.done():
            await asyncio.sleep(LOOK_EVERY_S)
            handshake.tick(monotonic_ns())
            _look_at_plc(handshake, losses, address, server.last_writer)
            reporter.show(losses.report)
    finally:
        await end_tasks([linked])
        await server.close()
    if not stop.is_set() and not linked.cancelled():
        linked.result()


def _look_at_plc(
    handshake: Handshake, losses: PeerLosses, address: PlcAddress, writer: str
) -> None:
    """Count the losses of the PLC, also one that came and went between two looks."""
    while losses.losses < handshake.counts.plc_losses:
        losses.back()
        losses.lost(f"no heartbeat for {address.heartbeat_ms} ms; it came from {writer}")
        if losses.losses == handshake.counts.plc_losses:
            logger.warning("the PLC's heartbeat is lost (%d times so far)", losses.losses)
    if handshake.hears_plc:
        if losses.is_lost:
            logger.warning("the PLC's heartbeat is back")
        losses.back()


if __name__ == "__main__":
    sys.exit(main())
