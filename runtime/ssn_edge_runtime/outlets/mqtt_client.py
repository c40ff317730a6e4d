"""paho's client for one who only publishes: a broker that says more than it has to is left.

paho by itself takes a packet of 256 MiB, keeps messages that nobody subscribed to, and makes ready
an answer to each request of a broker that reads none of them: memory without a bound.
"""

from __future__ import annotations

from paho.mqtt.client import Client

CONNACK, PUBACK, PINGRESP = 0x20, 0x40, 0xD0


class BrokerWords:
    """What a broker may say to one who only publishes: CONNACK once, then PUBACK and PINGRESP.

    Each has one length in MQTT 3.1.1. Pure.
    """

    def __init__(self) -> None:
        self._lengths = {CONNACK: 2}
        self._kind: int | None = None
        self._left = 0

    def hear(self, data: bytes) -> None:
        """Look at what came, in pieces of any size.

        Raises:
            ConnectionError: No sound broker says that.
        """
        for byte in data:
            if self._left:
                self._left -= 1
            elif self._kind is None:
                if byte not in self._lengths:
                    raise ConnectionError("says what no broker says to one who only publishes")
                self._kind = byte
            else:
                if byte != self._lengths[self._kind]:
                    raise ConnectionError("sends a packet of a length that it cannot have")
                self._lengths = {PUBACK: 2, PINGRESP: 0}
                self._kind, self._left = None, byte


class PublishingClient(Client):  # type: ignore[misc]  # paho is not looked at
    """paho's client that hears `BrokerWords` alone, and remembers why a connection was lost."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self._words = BrokerWords()
        self.trouble: OSError | None = None
        """Why the connection was lost, where that is known; paho tells only that it was."""

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            data: bytes = super()._sock_recv(bufsize)
            self._words.hear(data)
        except BlockingIOError:
            raise
        except OSError as error:
            self.trouble = error
            raise
        return data
