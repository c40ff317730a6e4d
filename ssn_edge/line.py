"""A package on a source: what `ssn-edge run` does, callable from Python."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import Decision
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.loop import run_line
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks.base import Follower
from ssn_edge_runtime.sinks.device_key import DeviceKey
from ssn_edge_runtime.sinks.evidence import EvidenceKeeper, EvidencePolicy
from ssn_edge_runtime.sinks.follow import FollowerProcess
from ssn_edge_runtime.sinks.housekeeping import Housekeeping
from ssn_edge_runtime.sinks.journal import Journal
from ssn_edge_runtime.sinks.pictures import KeepPolicy, PictureFollower, WhenFull
from ssn_edge_runtime.sources import open_source
from ssn_edge_runtime.summary import LineSummary


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
        key: Device key that signs the journal's heads and checkpoints; made if it is not there.
        sqlite: Database that follows the journal, in a process of its own.
        csv: CSV file that follows the journal, likewise.
        evidence_bytes: Quota of the disk for frames that are kept as evidence; None keeps none.
    """

    device: str
    package: Path
    output: Path
    keep: str = "rejects"
    engine: str = "auto"
    precision: str = "auto"
    durable: bool = False
    max_frames: int | None = None
    key: Path | None = None
    sqlite: Path | None = None
    csv: Path | None = None
    evidence_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse a run of no frames, before anything is opened or written."""
        if self.max_frames is not None and self.max_frames < 1:
            raise ConfigError(f"--max-frames {self.max_frames}: 1 or more is wanted")

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
    keep = request.keep_policy
    source = open_source(request.device)
    with ExitStack() as opened:
        inspector = opened.enter_context(
            Inspector.open(request.package, engine=request.engine, precision=request.precision)
        )
        # The camera before the journal: without one, nothing is written.
        opened.enter_context(source)
        key = None if request.key is None else DeviceKey.open(request.key)
        if request.sqlite is not None or request.csv is not None:
            # Entered before the journal, and so left after it: they read to its end.
            opened.enter_context(
                FollowerProcess(request.output, sqlite=request.sqlite, csv=request.csv)
            )
        journal = opened.enter_context(Journal(request.output, durable=request.durable, key=key))
        followers: list[Follower] = []
        evidence = None
        if request.evidence_bytes is not None:
            evidence = EvidenceKeeper(request.output, EvidencePolicy(request.evidence_bytes))
            followers.append(evidence)
        housekeeping = opened.enter_context(Housekeeping(journal, evidence=evidence))
        pictures = PictureFollower(
            request.output, keep=keep, when_full=WhenFull.SHED if source.is_live else WhenFull.WAIT
        )
        followers.append(pictures)
        for follower in followers:
            opened.enter_context(follower)

        def on_decision(record: DecisionRecord, _decision: Decision) -> None:
            on_verdict(record.verdict.value)
            housekeeping.tend()

        on_message(
            f"{source.name}: judging with {request.package.name} "
            f"(id {inspector.package_id[:16]}, {inspector.precision} on {inspector.engine_name})"
        )
        return run_line(
            source,
            inspector,
            journal,
            followers,
            max_frames=request.max_frames,
            stop=stop,
            on_decision=on_decision,
            on_end=on_end,
        )
