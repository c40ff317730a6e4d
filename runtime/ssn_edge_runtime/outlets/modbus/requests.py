"""One request of a PLC to its answer: which functions, which addresses, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum

from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    ReadInputRegistersRequest,
    ReadInputRegistersResponse,
    ReadWriteMultipleRegistersRequest,
    ReadWriteMultipleRegistersResponse,
    WriteMultipleRegistersRequest,
    WriteMultipleRegistersResponse,
    WriteSingleRegisterRequest,
    WriteSingleRegisterResponse,
)

from ssn_edge_runtime.outlets.modbus.handshake import Handshake, Order
from ssn_edge_runtime.outlets.modbus.registers import READABLE, WRITABLE

LENGTHS = {3: 5, 4: 5, 6: 5}
"""Of a request, its function's code included; the others say their own."""
LISTS = {16: 5, 23: 9}
"""Where those have the number of bytes that follow."""
MOST_READ = 125
WRITES = (5, 6, 15, 16, 22, 23)


class Refusal(IntEnum):
    """Why a request is refused, by Modbus' numbers."""

    ILLEGAL_FUNCTION = 1
    ILLEGAL_ADDRESS = 2
    ILLEGAL_VALUE = 3


class _Refused(Exception):
    """A request that is refused; nothing of it was done."""

    def __init__(self, code: Refusal) -> None:
        super().__init__(code)
        self.code = code


class Requests:
    """Answers requests.

    Args:
        handshake: Whose registers they are.
        on_orders: Told what the line is to be told.
    """

    def __init__(self, handshake: Handshake, on_orders: Callable[[Sequence[Order]], None]) -> None:
        self._handshake = handshake
        self._on_orders = on_orders
        self._decoder = DecodePDU(True)

    def answer(self, request: bytes, now_ns: int) -> bytes:
        """The answer to a request, both without their frame; never empty.

        Args:
            request: The function's code and what follows, 1 to 253 bytes.
            now_ns: Now.
        """
        try:
            return _bytes_of(self._do(request, now_ns))
        except _Refused as refused:
            if request[0] in WRITES:
                self._handshake.counts.refused_writes += 1
            return bytes([request[0] | 0x80, int(refused.code)])

    def _do(self, request: bytes, now_ns: int) -> ModbusPDU:
        asked = self._asked(request)
        if isinstance(asked, ReadWriteMultipleRegistersRequest):
            # All of it is looked at before anything is done; what is read was written before.
            self._check(asked.read_address, asked.read_count)
            self._write(asked.write_address, asked.write_registers, now_ns)
            registers = self._read(asked.read_address, asked.read_count, now_ns)
            return ReadWriteMultipleRegistersResponse(registers=registers)
        if isinstance(asked, ReadInputRegistersRequest):
            return ReadInputRegistersResponse(
                registers=self._read(asked.address, asked.count, now_ns)
            )
        if isinstance(asked, ReadHoldingRegistersRequest):
            return ReadHoldingRegistersResponse(
                registers=self._read(asked.address, asked.count, now_ns)
            )
        if isinstance(asked, WriteSingleRegisterRequest):
            self._write(asked.address, asked.registers, now_ns)
            return WriteSingleRegisterResponse(address=asked.address, registers=asked.registers)
        if isinstance(asked, WriteMultipleRegistersRequest):
            self._write(asked.address, asked.registers, now_ns)
            return WriteMultipleRegistersResponse(address=asked.address, count=asked.count)
        raise _Refused(Refusal.ILLEGAL_FUNCTION)

    def _asked(self, request: bytes) -> ModbusPDU:
        function = request[0]
        if function in LENGTHS:
            is_whole = len(request) == LENGTHS[function]
        elif function in LISTS:
            at = LISTS[function]
            count = int.from_bytes(request[at - 2 : at], "big")
            is_whole = len(request) == at + 1 + 2 * count and request[at] == 2 * count
        else:
            raise _Refused(Refusal.ILLEGAL_FUNCTION)
        asked = self._decoder.decode(request) if is_whole else None
        if asked is None:
            raise _Refused(Refusal.ILLEGAL_VALUE)
        return asked

    def _check(self, address: int, count: int) -> None:
        if not 1 <= count <= MOST_READ:
            raise _Refused(Refusal.ILLEGAL_VALUE)
        if any(each not in READABLE for each in range(address, address + count)):
            raise _Refused(Refusal.ILLEGAL_ADDRESS)

    def _read(self, address: int, count: int, now_ns: int) -> list[int]:
        self._check(address, count)
        values = self._handshake.registers(now_ns)
        return [values[READABLE[each]] for each in range(address, address + count)]

    def _write(self, address: int, registers: Sequence[int], now_ns: int) -> None:
        if not registers:
            raise _Refused(Refusal.ILLEGAL_VALUE)
        if any(each not in WRITABLE for each in range(address, address + len(registers))):
            raise _Refused(Refusal.ILLEGAL_ADDRESS)
        values = {WRITABLE[address + place]: each for place, each in enumerate(registers)}
        recipe = values.get("recipe")
        if recipe is not None and not self._handshake.is_recipe(recipe):
            raise _Refused(Refusal.ILLEGAL_VALUE)
        self._on_orders(self._handshake.write(values, now_ns))


def _bytes_of(answer: ModbusPDU) -> bytes:
    return bytes([answer.function_code]) + answer.encode()
