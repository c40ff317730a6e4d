"""A package on a source: what `ssn-edge run` does, callable from Python."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import Decision
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.guarded_line import run_guarded_line
from ssn_edge_runtime.line.options import (
    FreePolicy,
    LineOptions,
    TriggerKind,
    device_command,
    package_command,
)
from ssn_edge_runtime.line.rules import DEADLINE_MS, MILLISECOND_NS, TriggerRules
from ssn_edge_runtime.line.status import LineStatus
from ssn_edge_runtime.loop import run_line
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks.journal import Journal
from ssn_edge_runtime.sinks.pictures import KeepPolicy, PictureFollower, WhenFull
from ssn_edge_runtime.sources import open_source
from ssn_edge_runtime.summary import LineSummary

ChoiceT = TypeVar("ChoiceT", bound=Enum)


@dataclass(frozen=True, slots=True)
class LineRequest:
    """What a run of the line is asked for.

    Args:
        device: Camera, video file, folder of pictures or one picture.
        package: The model package.
        output: Folder of the journal and the pictures.
        keep: Whose pictures are kept: all, rejects or none.
        engine: ``auto``, or a name of `ssn_edge_runtime.engines.ENGINES`.
        precision: ``auto``, ``fp32``, ``fp16`` or ``int8``.
        durable: Sync each record to disk before the next part.
        max_frames: End after so many frames; None for until the end.
        single_process: Everything in this process, without deadline or triggers: recordings are
            always judged so.
        trigger: ``free``, ``software``, ``stdin``, ``camera`` or ``rate:HZ``.
        policy: Free-running: ``latest``, ``every`` or ``block``.
        deadline_ms: From the trigger (free-running: from the exposure) to the verdict.
        min_interval_ms: A trigger sooner than this after the last one is a bounce.
        exposure_delay_ms: From the trigger to the earliest exposure that shows its part.
        exposure_window_ms: From that to the latest such exposure; None for until the deadline.
        control: Unix socket that takes triggers; with ``software``, ``control.sock`` in the output
            folder if none is named.
    """

    device: str
    package: Path
    output: Path
    keep: str = "rejects"
    engine: str = "auto"
    precision: str = "auto"
    durable: bool = False
    max_frames: int | None = None
    single_process: bool = False
    trigger: str = "free"
    policy: str = "latest"
    deadline_ms: float = DEADLINE_MS
    min_interval_ms: float = 0.0
    exposure_delay_ms: float = 0.0
    exposure_window_ms: float | None = None
    control: Path | None = None

    def __post_init__(self) -> None:
        """Refuse a run of no frames, before anything is opened or written."""
        if self.max_frames is not None and self.max_frames < 1:
            raise ConfigError(f"--max-frames {self.max_frames}: 1 or more is wanted")
        self.line_options()

    def line_options(self) -> LineOptions:
        """How the guarded line is to run.

        Raises:
            ConfigError: There is no such trigger or policy, or the times do not go together.
        """
        name, _, rate = self.trigger.partition(":")
        kind = TriggerKind.SOFTWARE if name == "stdin" else _choice("--trigger", name, TriggerKind)
        try:
            rate_hz = float(rate) if rate else None
        except ValueError:
            raise ConfigError(f"--trigger {self.trigger}: rate:HZ is wanted") from None
        window_ms = self.exposure_window_ms or max(self.deadline_ms - self.exposure_delay_ms, 0.001)
        return LineOptions(
            trigger=kind,
            policy=_choice("--policy", self.policy, FreePolicy),
            rate_hz=rate_hz,
            rules=TriggerRules(
                deadline_ns=round(self.deadline_ms * MILLISECOND_NS),
                min_interval_ns=round(self.min_interval_ms * MILLISECOND_NS),
                exposure_delay_ns=round(self.exposure_delay_ms * MILLISECOND_NS),
                exposure_window_ns=round(window_ms * MILLISECOND_NS),
            ),
            max_parts=self.max_frames,
        )

    @property
    def control_path(self) -> Path | None:
        """Where triggers are taken, if anywhere."""
        if self.control is None and self.trigger == "software":
            return self.output / "control.sock"
        return self.control

    @property
    def keep_policy(self) -> KeepPolicy:
        """The policy by its name.

        Raises:
            ConfigError: There is none of that name.
        """
        try:
            return KeepPolicy(self.keep)
        except ValueError:
            names = ", ".join(each.value for each in KeepPolicy)
            raise ConfigError(f"--keep {self.keep}: one of {names} is wanted") from None


def run_package(
    request: LineRequest,
    *,
    stop: threading.Event | None = None,
    on_message: Callable[[str], None] = lambda message: None,
    on_verdict: Callable[[str], None] = lambda verdict: None,
    on_end: Callable[[LineSummary], None] | None = None,
) -> LineSummary:
    """Judge every frame of a source with a package; see `ssn_edge_runtime.loop.run_line`.

    Raises:
        ConfigError: No such policy, engine or precision, or a source of a kind that is not read
            here.
        SourceError: No such source, or it was lost for good.
        PackageError: Not a whole, unchanged package.
        EngineError: The engine cannot run here, or has no device certificate.
        CertificateError: It fails the self-test.
        StorageError: Decisions cannot be written.
    """

    def on_decision(record: DecisionRecord, _decision: Decision) -> None:
        on_verdict(record.verdict.value)

    keep = request.keep_policy
    source = open_source(request.device)
    if source.is_live and not request.single_process:
        return _run_guarded(
            request, stop=stop, on_message=on_message, on_verdict=on_verdict, on_end=on_end
        )
    if request.trigger != "free":
        raise ConfigError(
            f"--trigger {request.trigger}: recordings and --single-process judge frame by frame; "
            "triggers need a camera"
        )
    with ExitStack() as opened:
        inspector = opened.enter_context(
            Inspector.open(request.package, engine=request.engine, precision=request.precision)
        )
        # The camera before the journal: without one, nothing is written.
        opened.enter_context(source)
        journal = opened.enter_context(Journal(request.output, durable=request.durable))
        pictures = PictureFollower(
            request.output, keep=keep, when_full=WhenFull.SHED if source.is_live else WhenFull.WAIT
        )
        opened.enter_context(pictures)
        on_message(
            f"{source.name}: judging with {request.package.name} "
            f"(id {inspector.package_id[:16]}, {inspector.precision} on {inspector.engine_name})"
        )
        return run_line(
            source,
            inspector,
            journal,
            [pictures],
            max_frames=request.max_frames,
            stop=stop,
            on_decision=on_decision,
            on_end=on_end,
        )


def _run_guarded(
    request: LineRequest,
    *,
    stop: threading.Event | None,
    on_message: Callable[[str], None],
    on_verdict: Callable[[str], None],
    on_end: Callable[[LineSummary], None] | None,
) -> LineSummary:
    """A camera: engine and capture as processes of their own, and a deadline."""
    said = False

    def on_status(status: LineStatus) -> None:
        nonlocal said
        if status.state.may_pass and not said:
            said = True
            on_message(f"{request.device}: judging with {request.package.name} ({status.state})")

    def on_record(record: DecisionRecord) -> None:
        on_verdict(record.verdict.value)

    if request.keep_policy is not KeepPolicy.NONE:
        on_message("no pictures are kept of a camera's parts; --single-process keeps them")

    def on_own_end(summary: LineSummary) -> None:
        if on_end is not None and (said or summary.records):
            on_end(summary)  # a line that never came up has nothing to sum up

    journal = Journal(request.output, durable=request.durable)
    with ExitStack() as opened:
        opened.callback(journal.close)
        return run_guarded_line(
            {"camera": device_command(request.device)},
            package_command(
                str(request.package), engine=request.engine, precision=request.precision
            ),
            journal,
            request.line_options(),
            stop=stop,
            control=request.control_path,
            takes_stdin=request.trigger == "stdin",
            on_record=on_record,
            on_status=on_status,
            on_end=on_own_end,
            open_journal=journal.open,
        )


def _choice(option: str, text: str, kind: type[ChoiceT]) -> ChoiceT:
    try:
        return kind(text)
    except ValueError:
        names = ", ".join(str(each.value) for each in kind)
        also = ", stdin" if kind is TriggerKind else ""
        raise ConfigError(f"{option} {text}: one of {names}{also} is wanted") from None
