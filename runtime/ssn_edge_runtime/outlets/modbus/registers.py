"""The registers that a PLC sees: one table, from which the server, its page and its tests are made.

Holding registers; function 4 reads the same ones. Addresses count from 0, as on the wire.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.line.states import LineState

MAP_VERSION = 1
GENERAL_SETTINGS = 0xFFFF
"""As number of a recipe: the general settings, without one."""


@dataclass(frozen=True, slots=True)
class Register:
    """One 16 bit register.

    Args:
        address: On the wire, from 0.
        name: What it is called here and in the PLC's program.
        is_writable: Whether the PLC writes it; it may always be read.
        meaning: For a person.
    """

    address: int
    name: str
    is_writable: bool
    meaning: str


REGISTERS: tuple[Register, ...] = (
    Register(0, "trigger_id", True, "a new id is a trigger; the same id is none; 0 begins anew"),
    Register(1, "acked_id", True, "id of the result that the PLC has taken"),
    Register(
        2, "recipe", True, "0 as it is, 1 to N by the list of recipes, 65535 general settings"
    ),
    Register(3, "plc_heartbeat", True, "any other number than before, at least every 500 ms"),
    Register(16, "map_version", False, f"{MAP_VERSION}: the version of this table"),
    Register(17, "device_heartbeat", False, "counts on every 100 ms while the line answers"),
    Register(18, "line_state", False, "number of the line's state; 0 without a line"),
    Register(19, "handshake", False, "whether triggers are taken, or why not"),
    Register(20, "accepted_id", False, "echo of the last trigger that was taken"),
    Register(21, "recipe_answer", False, "the PLC's recipe once in force; 65534 waiting, 65533 no"),
    Register(22, "result_id", False, "whose result this is; 0 for none"),
    Register(23, "result_code", False, "0 none, 0x5AA5 pass, 0xA55A fail, 0x3CC3 unknown"),
    Register(24, "result_reason", False, "number of the reason"),
    Register(25, "result_id_again", False, "equal to result_id, or the block was read in parts"),
    Register(26, "recipes_crc", False, "over the list of recipes: compare before using a number"),
    Register(27, "plc_losses", False, "how often the PLC's heartbeat was lost"),
    Register(28, "line_losses", False, "how often the line was lost"),
    Register(29, "refused_writes", False, "requests to write that were refused"),
    Register(30, "refused_clients", False, "connections that were refused"),
    Register(31, "untaken_triggers", False, "ids that came while no trigger was taken"),
    Register(32, "dropped_results", False, "results that made room before they were acknowledged"),
)
"""All there are. Reading or writing any other address is refused, as is a range that touches one;
counters wrap at 16 bit."""

WRITABLE = {each.address: each.name for each in REGISTERS if each.is_writable}
READABLE = {each.address: each.name for each in REGISTERS}
ADDRESSES = {each.name: each.address for each in REGISTERS}
RESULT = (ADDRESSES["result_id"], 4)
"""First address and length of the block that is read in one request."""


class HandshakeState(IntEnum):
    """The register `handshake`."""

    NO_LINE = 0
    """The line does not answer, or does not execute."""
    NO_PLC = 1
    """The PLC's heartbeat does not change."""
    WANTS_ZERO = 2
    """The PLC is to write trigger_id 0 before its next id."""
    RECIPE = 3
    """The PLC's recipe is not in force, or was refused."""
    READY = 4
    """Triggers are taken."""


RECIPE_WAITING = 0xFFFE
RECIPE_REFUSED = 0xFFFD
MOST_RECIPES = 1000

STATE_NUMBERS: dict[LineState, int] = {
    LineState.PREOPERATIONAL: 1,
    LineState.HALTED: 2,
    LineState.ERROR: 3,
    LineState.INITIALIZED: 4,
    LineState.READY: 5,
    LineState.SINGLE_EXECUTION: 6,
    LineState.CONTINUOUS_EXECUTION: 7,
}

REASON_NUMBERS: dict[Reason, int] = {
    Reason.NONE: 0,
    Reason.DEFECT: 1,
    Reason.NO_FRAME: 2,
    Reason.BAD_FRAME: 3,
    Reason.FRAME_SIZE: 4,
    Reason.STALE_FRAME: 5,
    Reason.FROZEN_FRAME: 6,
    Reason.BAD_EXPOSURE: 7,
    Reason.BLURRED_FRAME: 8,
    Reason.DEADLINE: 9,
    Reason.OVERRUN: 10,
    Reason.ENGINE_ERROR: 11,
    Reason.INVALID_OUTPUT: 12,
    Reason.STORAGE_ERROR: 13,
    Reason.RESTART: 14,
    Reason.MISSED_TRIGGER: 15,
    Reason.CLOCK: 16,
    Reason.OVERHEATED: 17,
    Reason.REVIEW: 18,
}
OTHER_REASON = 255
"""A reason that this version has no number for."""


def recipes_crc(names: Sequence[str]) -> int:
    """16 bit over the list of recipes, as UTF-8 with a line's end after each name."""
    return zlib.crc32("".join(f"{name}\n" for name in names).encode()) & 0xFFFF


def table_of_registers() -> str:
    """The map as a table of Markdown."""
    rows = ["| address | register | PLC | meaning |", "|---|---|---|---|"]
    for each in REGISTERS:
        access = "writes" if each.is_writable else "reads"
        rows.append(f"| {each.address} | `{each.name}` | {access} | {each.meaning} |")
    return "\n".join(rows)


def table_of_numbers() -> str:
    """The numbers of states, of the handshake and of reasons, as lines of Markdown."""
    states = ", ".join(f"{number} {state.value}" for state, number in STATE_NUMBERS.items())
    handshake = ", ".join(f"{each.value} {each.name.lower()}" for each in HandshakeState)
    reasons = ", ".join(f"{number} {reason.value}" for reason, number in REASON_NUMBERS.items())
    return "\n".join(
        [
            f"- `line_state`: 0 no line, {states}",
            f"- `handshake`: {handshake}",
            f"- `result_reason`: {reasons}, {OTHER_REASON} another",
        ]
    )
