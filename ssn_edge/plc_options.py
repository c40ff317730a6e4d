"""Which options of a PLC's outlets go together, and with which of the line's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.options import LineOptions
from ssn_edge_runtime.outlets.gpio.address import parse_gpio
from ssn_edge_runtime.outlets.modbus.address import parse_plc_address

if TYPE_CHECKING:
    from ssn_edge.line_request import LineRequest


def check_plc(request: LineRequest, options: LineOptions) -> None:
    """Refuse what would tell a PLC something else than it takes it for.

    Raises:
        ConfigError: Options that do not go together, or an address that is none.
    """
    if request.modbus is not None:
        _check_modbus(request.modbus, request, options)
    elif request.modbus_allow:
        raise ConfigError("--modbus-allow says who may speak Modbus; add --modbus ADDRESS")
    if request.gpio is not None:
        _check_gpio(request.gpio, request, options)
    elif request.gpio_reject:
        raise ConfigError("--gpio-not-fail-safe-reject-pulse goes with --gpio CHIP:LINE")


def _check_modbus(address: str, request: LineRequest, options: LineOptions) -> None:
    parse_plc_address(address, request.modbus_allow)
    if request.trigger != "software":
        raise ConfigError(f"--modbus {address}: the PLC gives the triggers; add --trigger software")
    if _has_ejector(options) and request.gpio is None:
        # A pass may still be withheld on the part's way; a block that was read stays read.
        raise ConfigError(
            f"--modbus {address}: the PLC reads the verdict at once and knows the way to its "
            "ejector itself; leave out the ejector's delay, or give the pass as a pulse: --gpio"
        )


def _check_gpio(line: str, request: LineRequest, options: LineOptions) -> None:
    parse_gpio(line)
    if request.is_shadow:
        raise ConfigError("--shadow drives nothing; leave out --gpio, or --shadow")
    if options.drops:
        raise ConfigError(
            f"--gpio {line}: a free-running line that drops frames judges frames, not parts; add "
            "--trigger software or camera, or --policy every"
        )
    if request.gpio_reject and _has_ejector(options):
        raise ConfigError(
            "--gpio-not-fail-safe-reject-pulse comes with the verdict, not at the ejector; leave "
            "out the ejector's delay, or use the accept pulse"
        )


def _has_ejector(options: LineOptions) -> bool:
    return options.rules.ejector_delay_ns is not None or options.rules.encoder is not None
