"""The records of a line, one journal line each: triggers, decisions and what else happened.

A record does not know its place: the journal stamps `line` and `previous` when it writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from functools import cache
from pathlib import Path
from time import monotonic_ns
from typing import Protocol

import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.defects import Defect

RECORD_SCHEMA = 2
FIRST_LINE = 1
FIRST_SEQUENCE = 1
FIRST_PREVIOUS = "0" * 64
"""`previous` of the first line of a chain."""
MAX_DEFECTS = 256
"""Largest regions that a record lists; `defect_count` tells how many there were."""
TIMING_STAGES = ("capture", "preprocess", "infer", "postprocess", "deliver", "total")

Scalar = str | int | float | bool | None
"""What an event's detail may hold."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNC = Path("/run/systemd/timesync")
_UTC_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


class LineKind(str, Enum):
    """What a line of the journal is; each equal to its text."""

    VERDICT = "verdict"
    TRIGGER = "trigger"
    EVENT = "event"

    def __str__(self) -> str:
        """The text, on every Python version."""
        return self.value


class EventKind(str, Enum):
    """What can happen on a line besides triggers and decisions; each equal to its text."""

    START = "start"
    STOP = "stop"
    """The last line of a run that ended in order."""
    RESTART = "restart"
    """The run before did not: killed, powered off, or its disk gave up."""
    DROP_RANGE = "drop_range"
    CLOCK_STEP = "clock_step"
    SETTINGS = "settings"
    PACKAGE = "package"
    STATE = "state"
    USER_ACTION = "user_action"
    SOURCE_LOST = "source_lost"
    SOURCE_BACK = "source_back"
    WORKER_RESTART = "worker_restart"
    ALARM = "alarm"
    CHECKPOINT = "checkpoint"
    """What the chain came to so far; the journal's own."""
    EVIDENCE = "evidence"
    """What became of frames that were to be kept: how many, and which were left out."""
    KEPT = "kept"
    """A frame was kept behind its record: its hash, and its file."""
    RETIREMENT = "retirement"
    """Old segments are about to be deleted."""
    HEALTH = "health"
    """Temperature, clocks and throttling, where the device tells them."""
    WITHHELD = "withheld"
    """A recorded pass whose signal was not given: deadline or state had changed meanwhile."""
    OUTLET_LOST = "outlet_lost"
    """An outlet's peer went, or its own process ended."""
    OUTLET_BACK = "outlet_back"
    UNDELIVERED = "undelivered"
    """Messages that a peer is never given: no room for them, or it does not want them."""
    OUTLET_FLOOD = "outlet_flood"
    """An outlet's process said what is none of its words, or too many of them."""

    def __str__(self) -> str:
        """The text, on every Python version."""
        return self.value


class LineRecord(Protocol):
    """What a journal writes."""

    def to_dict(self) -> dict[str, object]:
        """The record as the JSON object of its line, without its place in the chain."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """What was decided about one part, on what grounds, and when.

    A value that is not known is None, and null in the line. Fields that this version never fills
    (the trigger's, `exposed_at`, `deadline_met`) stand here so that a line has all
    fields of its schema.

    Args:
        sequence: Running number of the parts in the journal, from 1, without gaps.
        source: Name of the camera or recording.
        part_id: The part's id where the source knows one.
        frame_index: Running number of the frame in its source, from 0; gaps are dropped frames.
        captured_at: When the frame was handed over, UTC.
        decided_at: When the verdict stood, UTC.
        verdict: `pass` is the only active signal.
        reason: From the closed list.
        detail: One line for a person.
        score: Normalised anomaly score; 0.5 is the threshold.
        raw_score: The logit behind it.
        threshold: The logit it was compared with.
        zone: Which zone's raw score and threshold these are; None for the rest of the frame, and
            without zones.
        brightness: Mean level of the network input over its channels, 0 to 255.
        defects: Connected regions, largest first, in camera pixels; the first `MAX_DEFECTS`.
        defect_count: How many regions there were.
        mask: File name of the defect mask, relative to the journal's folder.
        overlay: File name of the overlay, relative to the journal's folder.
        timings_ms: Milliseconds for each of `TIMING_STAGES`.
        package_id: SHA-256 of the package's manifest.
        settings_id: The device settings that were in force.
        recipe: Which of their recipes.
        precision: `fp32`, `fp16` or `int8`.
        engine: Name of the engine.
        engine_sha256: Hash of the model or engine file that ran.
        trigger_id: The trigger's id.
        trigger_at: When it came, UTC.
        exposed_at: When the frame was exposed, UTC.
        monotonic_ns: The monotonic clock at `decided_at`; orders the records of one boot.
        boot_id: Which boot of the machine that clock belongs to.
        clock_synchronised: Whether the wall clock was.
        deadline_met: Whether the verdict was in time.
        frame_sha256: See `frame_sha256`.
    """

    sequence: int
    source: str
    part_id: str | None = None
    frame_index: int | None = None
    captured_at: datetime | None = None
    decided_at: datetime
    verdict: Verdict
    reason: Reason
    detail: str = ""
    score: float | None = None
    raw_score: float | None = None
    threshold: float | None = None
    zone: str | None = None
    brightness: float | None = None
    defects: tuple[Defect, ...] = ()
    defect_count: int = 0
    mask: str | None = None
    overlay: str | None = None
    timings_ms: Mapping[str, float | None]
    package_id: str | None = None
    settings_id: str | None = None
    recipe: str | None = None
    precision: str | None = None
    engine: str | None = None
    engine_sha256: str | None = None
    trigger_id: int | None = None
    trigger_at: datetime | None = None
    exposed_at: datetime | None = None
    monotonic_ns: int
    boot_id: str | None = None
    clock_synchronised: bool | None = None
    deadline_met: bool | None = None
    frame_sha256: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The record as the JSON object of its line, without its place in the chain."""
        return {
            "schema": RECORD_SCHEMA,
            "kind": LineKind.VERDICT.value,
            "sequence": self.sequence,
            "source": self.source,
            "part_id": self.part_id,
            "frame_index": self.frame_index,
            "captured_at": utc_text(self.captured_at),
            "decided_at": utc_text(self.decided_at),
            "verdict": self.verdict.value,
            "reason": self.reason.value,
            "detail": self.detail,
            "score": self.score,
            "raw_score": self.raw_score,
            "threshold": self.threshold,
            "zone": self.zone,
            "brightness": self.brightness,
            "defects": [
                {
                    "box_xyxy": list(defect.box_xyxy),
                    "area_px": defect.area_px,
                    "peak": defect.peak,
                    "mean": defect.mean,
                }
                for defect in self.defects[:MAX_DEFECTS]
            ],
            "defect_count": self.defect_count,
            "mask": self.mask,
            "overlay": self.overlay,
            "timings_ms": {
                stage: None if (ms := self.timings_ms.get(stage)) is None else round(ms, 3)
                for stage in TIMING_STAGES
            },
            "package_id": self.package_id,
            "settings_id": self.settings_id,
            "recipe": self.recipe,
            "precision": self.precision,
            "engine": self.engine,
            "engine_sha256": self.engine_sha256,
            "trigger_id": self.trigger_id,
            "trigger_at": utc_text(self.trigger_at),
            "exposed_at": utc_text(self.exposed_at),
            "monotonic_ns": self.monotonic_ns,
            "boot_id": self.boot_id,
            "clock_synchronised": self.clock_synchronised,
            "deadline_met": self.deadline_met,
            "frame_sha256": self.frame_sha256,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerRecord:
    """A trigger that was accepted: from here on its part is owed one decision.

    Args:
        sequence: The number that its decision will have.
        trigger_id: As the controller gave it.
        source: Name of the camera that is to see the part.
        part_id: The part's id, if the trigger brought one.
        trigger_at: When it came, UTC.
        monotonic_ns: The monotonic clock at that moment.
        boot_id: Which boot of the machine that clock belongs to.
    """

    sequence: int
    trigger_id: int
    source: str
    part_id: str | None = None
    trigger_at: datetime
    monotonic_ns: int
    boot_id: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The record as the JSON object of its line, without its place in the chain."""
        return {
            "schema": RECORD_SCHEMA,
            "kind": LineKind.TRIGGER.value,
            "sequence": self.sequence,
            "trigger_id": self.trigger_id,
            "source": self.source,
            "part_id": self.part_id,
            "trigger_at": utc_text(self.trigger_at),
            "monotonic_ns": self.monotonic_ns,
            "boot_id": self.boot_id,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> TriggerRecord:
        """Read a trigger's line.

        Raises:
            ValueError: It is none.
        """
        sequence, trigger_id = document.get("sequence"), document.get("trigger_id")
        source, part_id = document.get("source"), document.get("part_id")
        trigger_at, at_ns = document.get("trigger_at"), document.get("monotonic_ns")
        boot = document.get("boot_id")
        if (
            type(sequence) is not int
            or type(trigger_id) is not int
            or type(source) is not str
            or not (part_id is None or isinstance(part_id, str))
            or type(trigger_at) is not str
            or type(at_ns) is not int
            or not (boot is None or isinstance(boot, str))
        ):
            raise ValueError("is no trigger")
        return cls(
            sequence=sequence,
            trigger_id=trigger_id,
            source=source,
            part_id=part_id,
            trigger_at=parse_utc(trigger_at),
            monotonic_ns=at_ns,
            boot_id=boot,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """Something that happened on the line and is neither a trigger nor a decision.

    Args:
        event: What it is.
        detail: Whatever a reader needs to know of it, by name.
        at: When, UTC.
        monotonic_ns: The monotonic clock at that moment.
        boot_id: Which boot of the machine that clock belongs to.
    """

    event: EventKind
    detail: Mapping[str, Scalar]
    at: datetime
    monotonic_ns: int
    boot_id: str | None = None

    @classmethod
    def now(cls, event: EventKind, detail: Mapping[str, Scalar] | None = None) -> EventRecord:
        """An event of this moment."""
        return cls(
            event=event,
            detail={} if detail is None else detail,
            at=datetime.now(timezone.utc),
            monotonic_ns=monotonic_ns(),
            boot_id=boot_id(),
        )

    def to_dict(self) -> dict[str, object]:
        """The record as the JSON object of its line, without its place in the chain."""
        return {
            "schema": RECORD_SCHEMA,
            "kind": LineKind.EVENT.value,
            "event": self.event.value,
            "detail": dict(self.detail),
            "at": utc_text(self.at),
            "monotonic_ns": self.monotonic_ns,
            "boot_id": self.boot_id,
        }


def canonical_json(document: object) -> bytes:
    """One spelling for each document: sorted keys, no spaces, ASCII, finite numbers.

    ASCII, because a file name that is not UTF-8 can be written in no other way.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def frame_sha256(image: ByteImage) -> str:
    """SHA-256 over a frame's shape and dtype, as in ``480x640x3 uint8``, a line end, its bytes."""
    shape = "x".join(str(side) for side in image.shape)
    digest = hashlib.sha256(f"{shape} {image.dtype.name}\n".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


@cache
def boot_id() -> str | None:
    """Which boot of this machine it is; None where the kernel does not tell."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return None


def clock_synchronised() -> bool | None:
    """Whether systemd's time service has set the wall clock; None where that cannot be seen."""
    try:
        if not _TIMESYNC.is_dir():
            return None
        return (_TIMESYNC / "synchronized").exists()
    except OSError:  # such as a folder that this user may not look into
        return None


def utc_text(moment: datetime | None) -> str | None:
    """A moment as journal lines spell it."""
    return None if moment is None else moment.strftime(_UTC_FORMAT)


def parse_utc(text: str) -> datetime:
    """The moment that a journal line spells.

    Raises:
        ValueError: It spells none.
    """
    return datetime.strptime(text, _UTC_FORMAT).replace(tzinfo=timezone.utc)
