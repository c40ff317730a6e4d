"""Where the page is served, and to whom: checked before anything is opened."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.outlets.page.roles import read_tokens
from ssn_edge_runtime.server.address import ListenAddress
from ssn_edge_runtime.sinks.device_key import DeviceKey

LOOPBACK = "127.0.0.1"
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class PageOptions:
    """How the page is served.

    Args:
        listen: A port on loopback, or an address and a port.
        tokens: File of token hashes; without it everybody is a viewer.
        certificate: PEM file of the server's certificate, with its chain.
        key: PEM file of its private key.
        proxy: Name, with its port if that is not 443, that people type for a proxy that speaks TLS
            with them and forwards to here.
        names: More names that this machine is asked by.
        signing_key: Private key that signs the settings that an engineer makes on the page.
    """

    listen: str
    tokens: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    proxy: str | None = None
    names: tuple[str, ...] = ()
    signing_key: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what would let others in.

        Raises:
            ConfigError: Not an address; or one that other machines reach, without tokens and
                without TLS or a proxy; or files that cannot be used.
        """
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("--page-certificate and --page-key go together")
        for name in (*self.names, *([self.proxy] if self.proxy else ())):
            if not _HOST_NAME.fullmatch(name.lower()):
                raise ConfigError(f"--page-name or --page-proxy {name}: is no name of a host")
        if self.proxy is not None and self.certificate is not None:
            raise ConfigError("--page-proxy speaks TLS in place of this page; leave one out")
        if self.is_open:
            missing = [] if self.tokens is not None else ["--page-tokens FILE"]
            if self.certificate is None and self.proxy is None:
                missing.append("TLS (--page-certificate and --page-key) or --page-proxy NAME")
            if missing:
                raise ConfigError(
                    f"--page {self.listen}: other machines reach it; that needs "
                    f"{' and '.join(missing)}"
                )
        if self.tokens is not None:
            read_tokens(self.tokens)
        self.tls()
        if self.signing_key is not None and self.tokens is None:
            raise ConfigError(
                "--page-signing-key signs what an engineer makes on the page; for that there must "
                "be one: --page-tokens FILE"
            )
        self.read_signing_key()

    @property
    def address(self) -> ListenAddress:
        """Where it listens.

        Raises:
            ConfigError: It is no address.
        """
        host, _, port = self.listen.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host or LOOPBACK
        bare = LOOPBACK if bare == "localhost" else bare
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            raise _wrong(self.listen) from None
        if not (port.isascii() and port.isdecimal()) or int(port) > 0xFFFF:
            raise _wrong(self.listen)
        return ListenAddress(host=bare, port=int(port))

    @property
    def is_open(self) -> bool:
        """Whether more than this machine is answered, so that nobody may see without a token."""
        host = ipaddress.ip_address(str(self.address.host))
        return not host.is_loopback or self.proxy is not None

    def tls(self) -> ssl.SSLContext | None:
        """What secures each connection; None where nothing does.

        Raises:
            ConfigError: The certificate or its key cannot be used.
        """
        if self.certificate is None or self.key is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"--page-certificate {self.certificate}, --page-key {self.key}: cannot be used "
                f"({why}); a PEM certificate and its key without a password are wanted"
            ) from error
        return context

    def read_signing_key(self) -> DeviceKey | None:
        """The key that signs settings; None for none.

        Raises:
            ConfigError: Others may read it, it is no Ed25519 key, or ``cryptography`` is missing.
        """
        return None if self.signing_key is None else DeviceKey.read(self.signing_key)

    def to_json(self) -> str:
        """For the page's own process."""
        return json.dumps(
            {name: str(each) if isinstance(each, Path) else each
             for name, each in asdict(self).items()}
        )  # fmt: skip

    @classmethod
    def from_json(cls, text: str) -> PageOptions:
        """Read back what `to_json` gave.

        Raises:
            ConfigError: As the constructor.
        """
        document = json.loads(text)
        paths = {
            name: None if document[name] is None else Path(document[name])
            for name in ("tokens", "certificate", "key", "signing_key")
        }
        return cls(
            document["listen"],
            **paths,
            proxy=document["proxy"],
            names=tuple(document["names"]),
        )


def page_options(
    listen: str | None,
    tokens: Path | None,
    certificate: Path | None,
    key: Path | None,
    proxy: str | None,
    names: Sequence[str],
    *,
    signing_key: Path | None = None,
) -> PageOptions | None:
    """The options of a command line; None where no page is asked for.

    Raises:
        ConfigError: See `PageOptions`; or options of a page, and no page.
    """
    if listen is None:
        given = (tokens, certificate, key, proxy, signing_key)
        if any(each is not None for each in given) or names:
            raise ConfigError("the options --page-... go with --page, such as --page 8080")
        return None
    return PageOptions(
        listen,
        None if tokens is None else tokens.absolute(),
        None if certificate is None else certificate.absolute(),
        None if key is None else key.absolute(),
        proxy,
        tuple(names),
        None if signing_key is None else signing_key.absolute(),
    )


def own_names() -> frozenset[str]:
    """Names by which this machine is asked without a word about it."""
    name = socket.gethostname().lower()
    return frozenset({"localhost", name, f"{name}.local"})


def _no_password() -> str:
    raise ValueError("the key has a password, and nobody is there to type it")


def _wrong(text: str) -> ConfigError:
    return ConfigError(
        f"--page {text}: is no address; a port such as 8080, or 0.0.0.0:8080, is wanted"
    )
