"""One look at the line for all viewers: made a few times a second, served as it is."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.live_picture import LiveViewer, live_folder
from ssn_edge_runtime.outlets.page.images import LiveImages, RejectImages
from ssn_edge_runtime.outlets.page.log_watch import LogWatch, Scored
from ssn_edge_runtime.outlets.page.metrics import metrics_text
from ssn_edge_runtime.outlets.page.settings_desk import SettingsDesk
from ssn_edge_runtime.outlets.page.settings_signer import SettingsSigner
from ssn_edge_runtime.record import utc_text
from ssn_edge_runtime.server.answers import Refusal
from ssn_edge_runtime.server.endpoints import EXECUTING
from ssn_edge_runtime.server.line_client import LineClient
from ssn_edge_runtime.settings_store import read_settings
from ssn_edge_runtime.supervision.shifts import ShiftCalendar

LOOK_S = 0.1
STATE_EVERY_S = 0.5
IMAGE_EVERY_S = 0.2
LATENCY_EVERY_S = 1.0
STUCK_S = 5.0
"""Beyond it nothing is served rather than something old: an old PASS must not look like a new."""
VIEWER_S = 10.0
"""So long after its last request, a viewer counts as one that looks."""
GONE: Mapping[str, Any] = {"state": "Unknown", "cause": "the line was not asked yet"}


class Watch:
    """Looks at the line, and holds what all viewers are served; `look` is for one thread.

    Args:
        line: The control socket.
        folder: Of the journal.
        settings: The settings in force, if any.
        package: That is judged with.
        signer: Of the settings that are made on the page.
    """

    def __init__(
        self,
        line: LineClient,
        folder: Path,
        settings: Path | None,
        package: Path,
        signer: SettingsSigner,
    ) -> None:
        self.line = line
        self.log = LogWatch(folder, _calendar(settings))
        self.settings = SettingsDesk(settings, package, signer)
        self._viewer = LiveViewer(live_folder(folder))
        self.live = LiveImages(self._viewer)
        self.rejects = RejectImages(folder)
        self._lock = threading.Lock()
        self._state: Mapping[str, Any] = GONE
        self._answers = False
        self._state_due_s = self._image_due_s = self._latency_due_s = 0.0
        self._latency: Mapping[str, object] = {}
        self._metrics = ""
        self._looked_at_s = -VIEWER_S
        self._seen_s = monotonic()
        self._data, self._etag = b"{}", '"0"'
        self._scores: tuple[Scored, ...] = ()
        self._identity: Mapping[str, Any] = {}
        self._overlays: Mapping[int, str] = {}
        self._alarms: frozenset[int] = frozenset()

    def look(self) -> None:
        """See what is new, and make the snapshot anew if anything is."""
        now_s = monotonic()
        is_new = self.log.look()
        if now_s >= self._state_due_s:
            self._state_due_s = now_s + STATE_EVERY_S
            is_new |= self._ask_state()
            is_new |= self.settings.look()
        if now_s >= self._latency_due_s:  # percentiles of all stages take milliseconds
            self._latency_due_s = now_s + LATENCY_EVERY_S
            self._sum_up()
        if now_s >= self._image_due_s:
            self._image_due_s = now_s + IMAGE_EVERY_S
            if now_s - self._looked_at_s < VIEWER_S:
                self.live.somebody_looks()
                is_new |= self.live.look()
        if is_new:
            self._publish()
        self._seen_s = monotonic()

    @property
    def is_stuck(self) -> bool:
        """Whether nobody has looked for too long, as on a disk that hangs: what is held is old."""
        return monotonic() - self._seen_s > STUCK_S

    def close(self) -> None:
        """Leave nothing behind."""
        self.log.close()
        self._viewer.close()

    def snapshot(self) -> tuple[bytes, str]:
        """The document as JSON, and its ETag; whoever asks is a viewer."""
        with self._lock:
            self._looked_at_s = monotonic()
            return self._data, self._etag

    @property
    def state(self) -> tuple[str, str, bool]:
        """State, cause, and whether a part may pass."""
        with self._lock:
            name, cause = str(self._state.get("state")), str(self._state.get("cause"))
            return name, cause, self._answers and name in EXECUTING

    @property
    def scores(self) -> tuple[Scored, ...]:
        """Of the last parts, oldest first."""
        with self._lock:
            return self._scores

    @property
    def identity(self) -> Mapping[str, Any]:
        """The last record."""
        with self._lock:
            return self._identity

    def overlay_of(self, sequence: int) -> str | None:
        """The kept overlay of one of the rejects that are shown."""
        with self._lock:
            return self._overlays.get(sequence)

    def has_alarm(self, line: int) -> bool:
        """Whether there is such an alarm that nobody acknowledged."""
        with self._lock:
            return line in self._alarms

    @property
    def metrics(self) -> str:
        """For Prometheus, as of a moment ago."""
        with self._lock:
            return self._metrics

    def _sum_up(self) -> None:
        log = self.log
        self._latency = {
            stage: {"p50": each.p50, "p99": each.p99, "max": each.max, "count": each.count}
            for stage, each in log.run.latencies.summaries().items()
        }
        text = metrics_text(self._state, self._answers, log.run, log.identity, log.health)
        with self._lock:
            self._metrics = text

    def _ask_state(self) -> bool:
        try:
            state, answers = dict(self.line.state()), True
        except Refusal as refusal:
            state, answers = {"state": "Unknown", "cause": refusal.detail}, False
        state.pop("at_ns", None)  # by itself it is no news
        with self._lock:
            is_new = (state, answers) != (self._state, self._answers)
            self._state, self._answers = state, answers
        return is_new

    def _publish(self) -> None:
        log = self.log
        identity = dict(log.identity)
        document = self._document(identity)
        data = json.dumps(document, separators=(",", ":")).encode()
        with self._lock:
            self._data = data
            self._etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            self._identity = identity
            self._scores = tuple(log.scores)
            self._overlays = {
                each["sequence"]: each["overlay"] for each in log.rejects if each["overlay"]
            }
            self._alarms = frozenset(
                line for line, each in log.run.alarms.items() if each.acknowledged_by is None
            )

    def _document(self, identity: Mapping[str, Any]) -> dict[str, object]:
        log, state = self.log, dict(self._state)
        since_ns = state.pop("since_ns", None)
        if since_ns is not None:
            state["since_age_s"] = max(0, (monotonic_ns() - since_ns) // 1_000_000_000)
        name = str(state.get("state"))
        return {
            "at": utc_text(datetime.now(timezone.utc)),
            "line": {**state, "answers": self._answers,
                     "may_pass": self._answers and name in EXECUTING},
            "last": log.last or None,
            "recent": list(log.recent),
            "shift": _shift(log),
            "minutes": [[minute, *counts] for minute, counts in log.minutes.items()],
            "latency_ms": self._latency,
            "alarms": [each.to_dict() for each in reversed(log.run.alarms.values())],
            "rejects": [
                {**each, "overlay": self.rejects.is_there(each["overlay"])}
                for each in reversed(log.rejects)
            ],
            "settings": self.settings.document(identity),
            "judge": {key: identity.get(key)
                      for key in ("package_id", "precision", "engine", "engine_sha256")},
            "health": log.health,
            "live": self.live.about,
            "trouble": log.error,
        }  # fmt: skip


def _shift(log: LogWatch) -> dict[str, object]:
    """The running shift, all recipes together."""
    rows = log.shifts.to_list()
    name = rows[-1]["shift"] if rows else None
    verdicts = {"pass": 0, "fail": 0, "unknown": 0}
    reasons: dict[str, int] = {}
    for row in rows:
        if row["shift"] != name:
            continue
        counted, why = row["verdicts"], row["reasons"]
        if isinstance(counted, dict) and isinstance(why, dict):
            for verdict, count in counted.items():
                verdicts[verdict] = verdicts.get(verdict, 0) + count
            for reason, count in why.items():
                reasons[reason] = reasons.get(reason, 0) + count
    return {"name": name, "verdicts": verdicts, "reasons": reasons,
            "is_whole": log.is_shift_whole}  # fmt: skip


def _calendar(settings: Path | None) -> ShiftCalendar:
    """The shifts of the settings, or the usual ones."""
    usual = ("06:00", "14:00", "22:00")
    try:
        line = None if settings is None else read_settings(settings).line
        return ShiftCalendar(usual if line is None else line.shifts,
                             "" if line is None else line.time_zone)  # fmt: skip
    except ConfigError:
        return ShiftCalendar(usual)
