"""Which requests are answered at all, and as whom: hosts, origins, sessions.

The rules are those of a page that changes what a factory line does. Another site in the same
browser, a name that someone pointed at this machine, another server on this machine that sees
this one's cookie: none of them may change anything.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from time import monotonic

from ssn_edge_runtime.outlets.page.options import PageOptions, own_names
from ssn_edge_runtime.outlets.page.roles import Role, Token, TokenBook

CSRF_HEADER = "X-CSRF-Token"
SESSION_S = 12 * 3600.0
"""A shift and its handover; then the token is typed again."""
MOST_SESSIONS = 256
LONGEST_TOKEN = 256
Header = Callable[[str], Sequence[str]]
"""Gives all values of a header."""


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is logged in.

    Args:
        token: With what.
        key: In the cookie.
        csrf: Told once, at the login, to the page's script: whoever has the cookie alone, such as
            another server of this machine, changes nothing with it.
        until_s: When it ends, on the monotonic clock.
    """

    token: Token
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    until_s: float = field(default_factory=lambda: monotonic() + SESSION_S)


class Access:
    """Decides about requests; called by many connections at once.

    Args:
        options: Of the page.
        port: That it listens on.

    Raises:
        ConfigError: The file of tokens cannot be used.
    """

    def __init__(self, options: PageOptions, port: int) -> None:
        self._is_open = options.is_open
        self._is_secure = options.certificate is not None or options.proxy is not None
        self._proxy = None if options.proxy is None else options.proxy.lower()
        self._port = port
        self._names = own_names() | {each.lower().rpartition(":")[0] or each.lower()
                                     for each in options.names}  # fmt: skip
        self._takes_any_address = not ipaddress.ip_address(str(options.address.host)).is_loopback
        self._book = TokenBook(options.tokens)
        self._has_tokens = options.tokens is not None
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()
        self.refused_logins = 0
        # The browser gives a cookie to every port of a name: each page has one of its own.
        self.cookie = f"__Host-ssn-edge-{port}" if self._is_secure else f"ssn-edge-{port}"

    @property
    def has_tokens(self) -> bool:
        """Whether anybody can be more than a viewer."""
        return self._has_tokens

    def refusal(self, header: Header) -> tuple[int, str] | None:
        """Why a request is refused whoever sends it: HTTP status and a sentence; None if not."""
        hosts = [each.strip().lower() for each in header("Host")]
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return 421, "this page has another name; see --page-name"
        if self._proxy is not None and header("X-Forwarded-Proto") != ["https"]:
            return 403, "ask by the proxy: it is to say X-Forwarded-Proto: https"
        scheme = "https" if self._is_secure else "http"
        if any(each.lower() != f"{scheme}://{hosts[0]}" for each in header("Origin")):
            return 403, "another site asks"
        if any(each not in ("same-origin", "none") for each in header("Sec-Fetch-Site")):
            return 403, "another site asks"
        return None

    def session(self, header: Header) -> Session | None:
        """Who sends a request, by its cookie."""
        key = self._cookie_of(header)
        with self._lock:
            session = self._sessions.get(key) if key else None
            if session is None:
                return None
            if session.until_s < monotonic() or not self._book.holds(session.token):
                del self._sessions[session.key]
                return None
            return session

    def role(self, header: Header) -> Role | None:
        """What a reader may be: by cookie, by ``Authorization: Bearer``, or for being here.

        None may see nothing.
        """
        session = self.session(header)
        if session is not None:
            return session.token.role
        for value in header("Authorization"):
            scheme, _, text = value.partition(" ")
            if scheme.lower() == "bearer" and len(text) <= LONGEST_TOKEN:
                with self._lock:
                    token = self._book.find(text.strip())
                if token is not None:
                    return Role.VIEWER  # it can read, whatever else its owner may do
        return None if self._is_open else Role.VIEWER

    def changer(self, header: Header, role: Role) -> Session | tuple[int, str]:
        """Who may change something that a role is needed for; else the refusal."""
        session = self.session(header)
        if session is None:
            return 401, (
                "log in with a token first"
                if self._has_tokens
                else "nobody may change anything here: the line was started without --page-tokens"
            )
        if len(header("Origin")) != 1:
            return 403, "a browser says which page asks; this request does not"
        given = header(CSRF_HEADER)
        if len(given) != 1 or not hmac.compare_digest(
            given[0].encode("utf-8", "replace"), session.csrf.encode()
        ):
            return 403, "log in again in this tab"
        if session.token.role < role:
            return 403, f"that is for the role {role}; yours is {session.token.role}"
        return session

    def log_in(self, text: str) -> Session | None:
        """A new session for whoever has a token."""
        with self._lock:
            token = self._book.find(text) if len(text) <= LONGEST_TOKEN else None
            if token is None:
                self.refused_logins += 1
                return None
            session = Session(token)
            self._sessions[session.key] = session
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
            return session

    def log_out(self, header: Header) -> None:
        """End the session of a request."""
        key = self._cookie_of(header)
        with self._lock:
            if key:
                self._sessions.pop(key, None)

    def cookie_header(self, session: Session | None) -> tuple[str, str]:
        """The header that sets a session's cookie, or takes it away."""
        value = "" if session is None else session.key
        age = 0 if session is None else round(SESSION_S)
        secure = "; Secure" if self._is_secure else ""
        return (
            "Set-Cookie",
            f"{self.cookie}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}",
        )

    def _is_own(self, host: str) -> bool:
        if self._proxy is not None:
            return host == self._proxy or host == f"{self._proxy}:443"
        bare, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not bare:
            bare, port = host, ""
        default = "443" if self._is_secure else "80"
        if (port or default) != str(self._port):
            return False
        if bare in self._names:
            return True
        try:  # no name, so nobody can have pointed it here
            address = ipaddress.ip_address(bare.strip("[]"))
        except ValueError:
            return False
        return address.is_loopback or self._takes_any_address

    def _cookie_of(self, header: Header) -> str | None:
        for value in header("Cookie"):
            try:
                morsel = SimpleCookie(value).get(self.cookie)
            except CookieError:
                continue
            if morsel is not None:
                return morsel.value
        return None
