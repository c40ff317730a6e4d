"""Who may ask the review's page for anything: whoever has the address that the terminal shows."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

HOST = "127.0.0.1"
TOKEN_HEADER = "X-Review-Token"


@dataclass(frozen=True, slots=True)
class Access:
    """The rules for one server.

    The token is the part of the address behind ``#``: a browser sends it to nobody. The page's
    script puts it into a header, which another site cannot do without being asked about, and
    keeps it where no other port of this machine finds it (a cookie would go to all of them).

    Args:
        port: Of the server.
        token: Drawn anew for each.
    """

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def url(self) -> str:
        """What is typed into a browser."""
        return f"http://{HOST}:{self.port}/#{self.token}"

    def refusal(
        self, header: Callable[[str], Sequence[str]], *, needs_token: bool
    ) -> tuple[int, str] | None:
        """Why a request is refused, as an HTTP status and a sentence; None if it is not.

        Args:
            header: Gives all values of a header.
            needs_token: Whether it is for more than the empty page.
        """
        hosts = [f"{name}:{self.port}" for name in (HOST, "localhost")]
        asked = header("Host")
        if len(asked) != 1 or asked[0].lower() not in hosts:
            # A name that someone has pointed at this machine, so that his page may read ours.
            return 421, "this server has another name"
        if any(origin not in [f"http://{host}" for host in hosts] for origin in header("Origin")):
            return 403, "another site asks"
        if any(site not in ("same-origin", "none") for site in header("Sec-Fetch-Site")):
            return 403, "another site asks"
        if needs_token:
            given = header(TOKEN_HEADER)
            if len(given) != 1 or not hmac.compare_digest(
                given[0].encode("utf-8", "replace"), self.token.encode()
            ):
                return 403, "open the address that ssn-edge review printed, with all behind the #"
        return None
