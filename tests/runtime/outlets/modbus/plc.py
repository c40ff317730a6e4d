"""A PLC as a real Modbus client sees the device: reads blocks, beats, triggers, acknowledges."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from types import TracebackType

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from ssn_edge_runtime.outlets.modbus.registers import (
    ADDRESSES,
    REGISTERS,
    RESULT,
    HandshakeState,
)

FIRST = 16
COUNT = max(each.address for each in REGISTERS) - FIRST + 1
PASS = 0x5AA5


class Plc:
    """One connection; each call beats first, as a PLC does in each of its cycles."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._client = ModbusTcpClient(host, port=port, timeout=3, retries=0)
        self._lock = threading.Lock()
        self._beat = 0
        assert self._client.connect()

    def __enter__(self) -> Plc:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def write(self, name: str, value: int) -> None:
        with self._lock:
            answer = self._client.write_register(ADDRESSES[name], value)
        assert not answer.isError(), answer

    def beat(self) -> None:
        self._beat = self._beat % 0xFFFF + 1
        self.write("plc_heartbeat", self._beat)

    def read(self, address: int, count: int) -> list[int]:
        with self._lock:
            answer = self._client.read_holding_registers(address, count=count)
        assert not answer.isError(), answer
        return list(answer.registers)

    @property
    def status(self) -> dict[str, int]:
        numbers = self.read(FIRST, COUNT)
        return {
            each.name: numbers[each.address - FIRST] for each in REGISTERS if each.address >= FIRST
        }

    @property
    def result(self) -> tuple[int, int, int]:
        """Id, code and reason, read in one request."""
        plc_id, code, reason, again = self.read(*RESULT)
        assert plc_id == again
        return plc_id, code, reason

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beat, every 100 ms, in a thread of its own."""
        is_over = threading.Event()

        def go_on() -> None:
            while not is_over.wait(0.1):
                try:
                    self.beat()
                except (ModbusException, AssertionError, OSError):
                    return

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def wait_for(self, name: str, value: int, timeout_s: float = 30.0) -> None:
        until_s = monotonic() + timeout_s
        while (now := self.status)[name] != value:
            assert monotonic() < until_s, now
            sleep(0.02)

    def begin(self) -> None:
        """As the program does at its start: 0, and then nothing until triggers are taken."""
        self.beat()
        self.write("trigger_id", 0)
        until_s = monotonic() + 30
        while self.status["handshake"] != HandshakeState.READY:
            assert monotonic() < until_s, self.status
            self.beat()
            sleep(0.05)

    def trigger(self, plc_id: int) -> tuple[int, int, int]:
        """Trigger, and wait for the result."""
        self.beat()
        self.write("trigger_id", plc_id)
        assert self.status["accepted_id"] == plc_id
        until_s = monotonic() + 30
        while (result := self.result)[0] != plc_id:
            assert monotonic() < until_s, self.status
            self.beat()
            sleep(0.01)
        return result
