"""The processes beside a line that were asked for: each an outlet of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ssn_edge.line_request import LineRequest
from ssn_edge_runtime.line.options import TriggerKind
from ssn_edge_runtime.outlets.gpio.outlet import GpioOutlet
from ssn_edge_runtime.outlets.modbus.plc_server import plc_server
from ssn_edge_runtime.outlets.mqtt import mqtt_outlet
from ssn_edge_runtime.outlets.opcua_outlet import opcua_outlet
from ssn_edge_runtime.outlets.page.process import page_outlet
from ssn_edge_runtime.outlets.process import OutletProcess
from ssn_edge_runtime.outlets.webhook import webhook_outlet
from ssn_edge_runtime.server.line_server import line_server
from ssn_edge_runtime.settings_store import read_settings


def outlets_of(request: LineRequest, on_message: Callable[[str], None]) -> list[OutletProcess]:
    """What is to run beside the line, not yet open.

    Raises:
        ConfigError: An address that is none, or settings that cannot be used.
    """
    control = request.control_path
    outlets: list[OutletProcess] = []
    if request.listen is not None and control is not None:
        outlets.append(
            line_server(
                request.listen,
                control.absolute(),
                deadline_ms=request.deadline_ms,
                takes_triggers=request.line_options().trigger is TriggerKind.SOFTWARE,
                on_message=on_message,
            )
        )
    if request.modbus is not None and control is not None:
        settings = None if request.settings is None else read_settings(request.settings)
        outlets.append(
            plc_server(
                request.modbus,
                request.modbus_allow,
                control.absolute(),
                deadline_ms=request.deadline_ms,
                folder=request.output.absolute(),
                # By name and not as they stand in the file, whose order nobody sees.
                recipes=() if settings is None else sorted(settings.recipes),
                on_message=on_message,
            )
        )
    if request.gpio is not None:
        outlets.append(
            GpioOutlet(request.gpio, is_reject_pulse=request.gpio_reject, on_message=on_message)
        )
    outlets += _bus_outlets(request, control, on_message)
    if request.page is not None and control is not None:
        outlets.append(
            page_outlet(
                request.page,
                control.absolute(),
                request.output.absolute(),
                request.package.absolute(),
                None if request.settings is None else request.settings.absolute(),
                deadline_ms=request.deadline_ms,
                trust=request.trust,
                on_message=on_message,
            )
        )
    return outlets


def _bus_outlets(
    request: LineRequest, control: Path | None, on_message: Callable[[str], None]
) -> Iterator[OutletProcess]:
    bus, folder = request.bus, request.output.absolute()
    if bus.mqtt is not None and control is not None:
        yield mqtt_outlet(
            bus.mqtt,
            folder,
            control.absolute(),
            login=bus.mqtt_login,
            authority=bus.mqtt_ca,
            on_message=on_message,
        )
    if bus.webhook is not None:
        yield webhook_outlet(
            bus.webhook,
            folder,
            key=bus.webhook_key,
            authority=bus.webhook_ca,
            on_message=on_message,
        )
    if bus.opcua is not None and control is not None:
        yield opcua_outlet(
            bus.opcua,
            folder,
            control.absolute(),
            users=bus.opcua_users,
            is_open=bus.opcua_open,
            is_shadow=request.is_shadow,
            settings=request.settings,
            deadline_ms=request.deadline_ms,
            takes_triggers=request.line_options().trigger is TriggerKind.SOFTWARE,
            on_message=on_message,
        )
