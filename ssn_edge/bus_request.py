"""What tells others of a line over a network: broker, OPC UA, webhook; as it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.outlets.mqtt import parse_mqtt
from ssn_edge_runtime.outlets.opcua_address import parse_opcua
from ssn_edge_runtime.outlets.webhook import parse_webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class BusRequest:
    """What runs beside the line for peers on a network.

    Args:
        mqtt: The broker's URL, whose path is the prefix of the topics.
        mqtt_login: File of ``user:password``; without it the environment is asked.
        mqtt_ca: Certificates that a TLS broker is checked against; None for the system's.
        mqtt_cert: Certificate and private key that the broker is shown, in one file.
        webhook: Where rejects and events are posted.
        webhook_key: File of the key that signs them; made if it is not there.
        webhook_ca: Certificates that an HTTPS server is checked against; None for the system's.
        webhook_cert: Certificate and private key that the server is shown, in one file.
        opcua: Where the OPC UA server listens.
        opcua_users: Its users, with their roles.
        opcua_open: Whether everyone on the network may read it.
    """

    mqtt: str | None = None
    mqtt_login: Path | None = None
    mqtt_ca: Path | None = None
    mqtt_cert: Path | None = None
    webhook: str | None = None
    webhook_key: Path | None = None
    webhook_ca: Path | None = None
    webhook_cert: Path | None = None
    opcua: str | None = None
    opcua_users: Path | None = None
    opcua_open: bool = False

    def __post_init__(self) -> None:
        """Refuse addresses that are none, and what goes with no address."""
        for name, is_given in (
            ("mqtt", self.mqtt_login or self.mqtt_ca or self.mqtt_cert),
            ("webhook", self.webhook_key or self.webhook_ca or self.webhook_cert),
            ("opcua", self.opcua_users or self.opcua_open),
        ):
            if is_given and getattr(self, name) is None:
                raise ConfigError(f"an option of --{name} is given, and --{name} is not; add it")
        if self.mqtt is not None:
            parse_mqtt(self.mqtt)
        if self.webhook is not None:
            parse_webhook(self.webhook)
        if self.opcua is not None:
            parse_opcua(self.opcua, has_users=self.opcua_users is not None, is_open=self.opcua_open)

    @property
    def given(self) -> list[str]:
        """The options that were."""
        return [
            f"--{name}" for name in ("mqtt", "webhook", "opcua") if getattr(self, name) is not None
        ]

    @property
    def needs_control(self) -> bool:
        """Whether the line is asked over its control socket."""
        return self.mqtt is not None or self.opcua is not None
