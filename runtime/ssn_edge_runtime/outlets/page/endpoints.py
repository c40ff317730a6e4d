"""What the page's paths do."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from ssn_edge_runtime.decision import LARGEST_LOGIT, Reason
from ssn_edge_runtime.errors import SsnEdgeError
from ssn_edge_runtime.outlets.page.access import LONGEST_TOKEN, Access, Session
from ssn_edge_runtime.outlets.page.changes import Changes
from ssn_edge_runtime.outlets.page.metrics import MEDIA, page_metrics_text
from ssn_edge_runtime.outlets.page.roles import Role
from ssn_edge_runtime.outlets.page.snapshot import Watch
from ssn_edge_runtime.outlets.page.what_if import histogram, what_if
from ssn_edge_runtime.server.answers import Answer, Content, Refusal
from ssn_edge_runtime.server.connection import NOT_MODIFIED, Connection
from ssn_edge_runtime.server.limits import ServerLimits
from ssn_edge_runtime.server.requests import query_values

BODY_S = 5.0
MOST_PARTS = 2000
_SHELL: Mapping[str, tuple[str, str]] = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/parts.js": ("parts.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/changes.js": ("changes.js", "text/javascript; charset=utf-8"),
}
_REJECT = re.compile(r"/api/rejects/([0-9]{1,18})/(small|whole)")
_HEADERS = (
    ("Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
     "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)  # fmt: skip


class PageEndpoints:
    """Answers the page's requests; called by many connections at once.

    Args:
        watch: What is shown.
        access: Who may see and change it.
        changes: What people do to the line.
        limits: What is bounded.
    """

    def __init__(
        self, watch: Watch, access: Access, changes: Changes, limits: ServerLimits
    ) -> None:
        self.limits = limits
        self.headers: Sequence[tuple[str, str]] = _HEADERS
        self.is_stopping = False
        self._watch = watch
        self._access = access
        self._changes = changes
        self._counts: Counter[str] = Counter()
        folder = resources.files("ssn_edge_runtime.outlets.page").joinpath("static")
        self._shell = {
            path: Content(folder.joinpath(name).read_bytes(), media)
            for path, (name, media) in _SHELL.items()
        }
        self._reads: dict[str, Callable[[Connection, str], Answer]] = {
            "/api/snapshot": self._snapshot,
            "/api/live/frame": self._live,
            "/api/live/overlay": self._live,
            "/api/what-if": self._what_if,
            "/api/scores": self._scores,
            "/metrics": self._metrics,
        }
        self._writes: dict[str, tuple[Role, Callable[[Session, Mapping[str, Any]], Answer]]] = {
            "/api/acknowledge": (Role.OPERATOR, self._acknowledge),
            "/api/recipe": (Role.OPERATOR, self._recipe),
            "/api/threshold": (Role.ENGINEER, self._threshold),
        }

    def answer(self, connection: Connection) -> Answer:
        """Answer a request whose head was read.

        Raises:
            Refusal: There is no other answer.
        """
        self._counts["requests_total"] += 1
        try:
            target = urlsplit(connection.path)
        except ValueError:
            raise _no(400, "the address cannot be read") from None
        if target.path == "/healthz":  # a probe need not know our name, and learns nothing
            self._reading(connection)
            return 200, {"alive": True}, ()
        refused = self._access.refusal(_header(connection))
        if refused is not None:
            raise _no(*refused)
        if connection.body_length > self.limits.max_body_bytes:
            raise _no(413, f"at most {self.limits.max_body_bytes} bytes are taken")
        if connection.command == "POST":
            return self._post(connection, target.path)
        self._reading(connection)
        if target.path in self._shell:
            return 200, self._shell[target.path], ()
        if target.path == "/readyz":
            return self._ready(connection)
        if target.path == "/api/session":
            return self._who(connection)
        if self._access.role(_header(connection)) is None:
            raise _no(401, "log in with a token first")
        reject = _REJECT.fullmatch(target.path)
        if reject is not None:
            return self._reject(int(reject[1]), reject[2])
        read = self._reads.get(target.path)
        if read is None:
            raise _no(404, "there is nothing here")
        return read(connection, target.query)

    def refused(self, refusal: Refusal, *, part_id: str | None) -> Mapping[str, object]:
        """The document of a refusal, which is counted."""
        del part_id
        self._counts["refusals_total"] += 1
        return {"error": refusal.detail}

    def _reading(self, connection: Connection) -> None:
        if connection.command not in ("GET", "HEAD"):
            raise Refusal(405, Reason.NO_FRAME, "this path takes GET, HEAD",
                          (("Allow", "GET, HEAD"),))  # fmt: skip

    def _post(self, connection: Connection, path: str) -> Answer:
        if path == "/api/login":
            return self._log_in(connection)
        if path == "/api/logout":
            self._changer(connection, Role.VIEWER)
            self._access.log_out(_header(connection))
            return 200, {"role": None}, (self._access.cookie_header(None),)
        if path not in self._writes:
            raise _no(404, "there is nothing here to change")
        role, change = self._writes[path]
        session = self._changer(connection, role)
        answer = change(session, self._body(connection))
        self._counts["changes_total"] += 1
        return answer

    def _changer(self, connection: Connection, role: Role) -> Session:
        session = self._access.changer(_header(connection), role)
        if not isinstance(session, Session):
            raise _no(*session)
        return session

    def _log_in(self, connection: Connection) -> Answer:
        if len(_header(connection)("Origin")) != 1:
            raise _no(403, "a browser says which page asks; this request does not")
        text = self._body(connection).get("token")
        if not isinstance(text, str) or not text or len(text) > LONGEST_TOKEN:
            raise _no(422, "a token is wanted")
        session = self._access.log_in(text.strip())
        if session is None:
            raise _no(403, "this token is not known here")
        document = {**_who(session), "csrf": session.csrf}
        return 200, document, (self._access.cookie_header(session),)

    def _who(self, connection: Connection) -> Answer:
        session = self._access.session(_header(connection))
        role = self._access.role(_header(connection))
        document = _who(session) if session is not None else {
            "role": None if role is None else str(role), "name": None
        }  # fmt: skip
        return 200, {**document, "has_tokens": self._access.has_tokens}, ()

    def _body(self, connection: Connection) -> Mapping[str, Any]:
        if connection.headers.get_all("Content-Type", []) != ["application/json"]:
            raise _no(415, "the Content-Type must be application/json")
        data = connection.read_body(round((monotonic() + BODY_S) * 1e9)).tobytes()
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise _no(422, "the body is no JSON object")
        return document

    def _snapshot(self, connection: Connection, query: str) -> Answer:
        query_values(query, ())
        self._refuse_stuck()
        data, etag = self._watch.snapshot()
        if _header(connection)("If-None-Match") == [etag]:
            return NOT_MODIFIED, {}, (("ETag", etag),)
        return 200, Content(data, "application/json"), (("ETag", etag),)

    def _refuse_stuck(self) -> None:
        if self._watch.is_stuck:
            raise _no(503, "the page cannot see the line's log: its disk hangs, or the device does")

    def _live(self, connection: Connection, query: str) -> Answer:
        query_values(query, ("v",))  # changes with the picture, for the browser
        layer = urlsplit(connection.path).path.rpartition("/")[2]
        data = self._watch.live.get(layer)
        if data is None:
            raise _no(404, "no picture yet")
        return 200, Content(data, "image/jpeg"), ()

    def _reject(self, sequence: int, size: str) -> Answer:
        name = self._watch.overlay_of(sequence)
        found: tuple[bytes, str] | None = None
        if name is not None and size == "whole":
            found = self._watch.rejects.whole(name)
        elif name is not None and (small := self._watch.rejects.small(name)) is not None:
            found = small, "image/jpeg"
        if found is None:
            raise _no(404, "that picture was not kept, or is not written yet")
        return 200, Content(*found), ()

    def _what_if(self, _connection: Connection, query: str) -> Answer:
        values = query_values(query, ("threshold", "last"))
        threshold = _number(values.get("threshold", ""))
        last = values.get("last", "500")
        if threshold is None or not re.fullmatch("[0-9]{1,4}", last) or int(last) < 1:
            raise _no(400, "a threshold and a number of parts, such as last=500, are wanted")
        parts = self._watch.scores[-min(int(last), MOST_PARTS) :]
        return 200, what_if(parts, threshold), ()

    def _scores(self, _connection: Connection, query: str) -> Answer:
        query_values(query, ())
        return 200, histogram(self._watch.scores), ()

    def _metrics(self, _connection: Connection, query: str) -> Answer:
        query_values(query, ())
        page = {
            "requests_total": self._counts["requests_total"],
            "refusals_total": self._counts["refusals_total"],
            "changes_total": self._counts["changes_total"],
            "refused_logins_total": self._access.refused_logins,
        }
        self._refuse_stuck()
        text = self._watch.metrics + page_metrics_text(page)
        return 200, Content(text.encode(), MEDIA), ()

    def _ready(self, connection: Connection) -> Answer:
        state, cause, may_pass = self._watch.state
        may_pass = may_pass and not self._watch.is_stuck
        document: dict[str, object] = {"ready": may_pass, "state": state}
        if self._access.role(_header(connection)) is not None:
            document["cause"] = cause
        return 200 if may_pass and not self.is_stopping else 503, document, ()

    def _acknowledge(self, session: Session, document: Mapping[str, Any]) -> Answer:
        line = document.get("line")
        if type(line) is not int or not self._watch.has_alarm(line):
            raise _no(409, "there is no such alarm that waits for somebody")
        return self._changed(self._changes.acknowledge, session, line)

    def _recipe(self, session: Session, document: Mapping[str, Any]) -> Answer:
        recipe = document.get("recipe", 0)
        if recipe is not None and not isinstance(recipe, str):
            raise _no(422, "a recipe's name, or null for the general settings, is wanted")
        return self._changed(self._changes.recipe, session, recipe)

    def _threshold(self, session: Session, document: Mapping[str, Any]) -> Answer:
        threshold, seen_id = _number(document.get("threshold")), document.get("settings_id")
        if threshold is None or abs(threshold) > LARGEST_LOGIT or not isinstance(seen_id, str):
            raise _no(422, "a threshold, and the settings_id that it was chosen for, are wanted")
        return self._changed(self._changes.threshold, session, threshold, seen_id)

    def _changed(self, change: Callable[..., dict[str, object]], *values: object) -> Answer:
        try:
            return 200, change(*values), ()
        except SsnEdgeError as error:
            raise _no(409, " ".join(str(error).split())) from error


def _who(session: Session) -> dict[str, object]:
    return {"role": str(session.token.role), "name": session.token.name}


def _header(connection: Connection) -> Callable[[str], Sequence[str]]:
    return lambda name: [str(each) for each in connection.headers.get_all(name, [])]


def _number(value: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _no(status: int, text: str) -> Refusal:
    """A refusal of a page, which has no verdict to give."""
    return Refusal(status, Reason.NO_FRAME, text)
