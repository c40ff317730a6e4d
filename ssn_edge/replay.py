"""Pictures once more, through another package: what would have been decided, and what changed?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from ssn_edge.logged_verdicts import (
    EVIDENCE,
    LogMatch,
    PictureKeys,
    is_log,
    match_log,
)
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, Verdict, unknown
from ssn_edge_runtime.errors import ConfigError, DatasetError, SourceError
from ssn_edge_runtime.pictures import PICTURE_SUFFIXES
from ssn_edge_runtime.record import frame_sha256
from ssn_edge_runtime.sources.base import DamagedFrame, Source
from ssn_edge_runtime.sources.folder import FolderSource
from ssn_edge_runtime.sources.video_file import VideoFileSource
from ssn_edge_runtime.trust import Trust

VERDICTS = tuple(verdict.value for verdict in Verdict)


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What is judged again.

    Args:
        source: Folder of pictures (those below it, too), a picture, a video, or the folder of a log
            with evidence.
        package: Judges now.
        against: What it is compared with: the folder of a log, or another package; None for the
            source's own log where it has one, and else for nothing.
        engine: ``auto``, or a name of `ssn_edge_runtime.engines.ENGINES`; of both packages.
        precision: ``auto``, ``fp32``, ``fp16`` or ``int8``; of both packages.
        settings: This device's, for `package`; None for its own thresholds. Another package that it
            is compared with has its own.
        recipe: Which of their recipes.
        trust: Who must have signed both packages; None takes them signed or not.
    """

    source: Path
    package: Path
    against: Path | None = None
    engine: str = "auto"
    precision: str = "auto"
    settings: Path | None = None
    recipe: str | None = None
    trust: Trust | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One verdict on one picture.

    Args:
        verdict: `pass`, `fail` or `unknown`.
        reason: Why.
        raw_score: The logit; None where there is none.
        threshold: What it was compared with.
    """

    verdict: str
    reason: str
    raw_score: float | None
    threshold: float | None

    @classmethod
    def of(cls, decision: Decision) -> Outcome:
        """The part of a decision that is compared."""
        return cls(
            decision.verdict.value, decision.reason.value, decision.raw_score, decision.threshold
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """A picture that was judged again.

    Args:
        picture: Its name relative to the source, or the frame's number in a video.
        now: What the package decides.
        before: What it is compared with; None where that does not know the picture.
        sequence: The record's number, with a log.
        matched_by: How it was found in the log.
    """

    picture: str
    now: Outcome
    before: Outcome | None = None
    sequence: int | None = None
    matched_by: str | None = None

    @property
    def is_changed(self) -> bool:
        """Whether the two verdicts differ."""
        return self.before is not None and self.before.verdict != self.now.verdict


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of a replay.

    Args:
        source: What was judged.
        package: File, id, precision and engine of the package that judged.
        against: The same of what it was compared with; None where there was nothing.
        pictures: Each picture, in order.
    """

    source: str
    package: Mapping[str, object]
    against: Mapping[str, object] | None
    pictures: tuple[Judged, ...]

    @property
    def compared(self) -> tuple[Judged, ...]:
        """Those that have two verdicts."""
        return tuple(each for each in self.pictures if each.before is not None)

    @property
    def changed(self) -> tuple[Judged, ...]:
        """Those whose verdicts differ."""
        return tuple(each for each in self.pictures if each.is_changed)

    def verdicts(self) -> dict[str, int]:
        """Pictures by verdict now; all three are listed."""
        found = Counter(each.now.verdict for each in self.pictures)
        return {verdict: found[verdict] for verdict in VERDICTS}

    def reasons(self) -> dict[str, int]:
        """Pictures by reason now; those that occur."""
        return dict(Counter(each.now.reason for each in self.pictures))

    def transitions(self) -> dict[str, dict[str, int]]:
        """How many had one verdict and have another now: by the first, then by the second."""
        found = Counter(
            (each.before.verdict, each.now.verdict)
            for each in self.pictures
            if each.before is not None
        )
        return {before: {now: found[before, now] for now in VERDICTS} for before in VERDICTS}

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "source": self.source,
            "package": dict(self.package),
            "against": None if self.against is None else dict(self.against),
            "pictures": len(self.pictures),
            "verdicts": self.verdicts(),
            "reasons": self.reasons(),
            "compared": len(self.compared),
            "changed": len(self.changed),
            "transitions": self.transitions(),
            "changes": [asdict(each) for each in self.changed],
        }


def replay(
    request: ReplayRequest, *, on_progress: Callable[[int], None] = lambda done: None
) -> Replay:
    """Judge pictures again and compare; nothing is driven, and no log is written.

    Args:
        request: What is judged, and what it is compared with.
        on_progress: Told how many pictures are done.

    Raises:
        ConfigError: A source that is a camera, a comparison with something that is neither log nor
            package, or settings that are for another package or cannot be used.
        DatasetError: No pictures, or no log.
        PackageError: Not a whole, unchanged package, or one that nobody who is trusted signed.
        EngineError: The engine cannot run here, or has no device certificate.
        CertificateError: It fails the self-test.
    """
    pictures, log = _places(request)
    other = request.against if log is None else None
    source = _source_of(pictures)
    is_evidence = pictures.name == EVIDENCE
    trust = None if request.trust is None else request.trust.for_a_trial()
    judged: list[Judged] = []
    keys: list[PictureKeys] = []
    with ExitStack() as opened:
        inspector = opened.enter_context(
            Inspector.open(
                request.package,
                engine=request.engine,
                precision=request.precision,
                settings=request.settings,
                recipe=request.recipe,
                trust=trust,
            )
        )
        second = None
        if other is not None:
            second = opened.enter_context(
                Inspector.open(
                    other, engine=request.engine, precision=request.precision, trust=trust
                )
            )
        for name, part_id, image in _frames(source):
            judged.append(
                Judged(
                    name,
                    Outcome.of(_decision(inspector, image)),
                    None if second is None else Outcome.of(_decision(second, image)),
                )
            )
            sha256 = None if image is None or log is None else frame_sha256(image)
            keys.append(PictureKeys(sha256, part_id, is_evidence))
            on_progress(len(judged))
        package = _description(request.package, inspector)
        against = None if other is None or second is None else _description(other, second)
    if not judged:
        raise DatasetError(f"{pictures}: holds no picture")
    if log is not None:
        match = match_log(log, keys)
        judged = [_with_log(each, match, index) for index, each in enumerate(judged)]
        against = _log_description(log, match)
    return Replay(str(request.source), package, against, tuple(judged))


def _places(request: ReplayRequest) -> tuple[Path, Path | None]:
    """Where the pictures are, and the log they are compared with, if it is one."""
    source, log = request.source, None
    if is_log(source):
        log, source = source, source / EVIDENCE
        if not source.is_dir():
            raise DatasetError(
                f"{log}: this log kept no pictures (there is no {source}); replay a folder of "
                f"pictures with --against {log}"
            )
    if request.against is None:
        return source, log
    if request.against.is_dir():
        return source, request.against
    if not request.against.is_file():
        raise DatasetError(
            f"--against {request.against}: there is nothing of that name; the folder of a log or a "
            "package is wanted"
        )
    if request.against.suffix != ".ssn":
        raise ConfigError(
            f"--against {request.against}: the folder of a log or a package (.ssn) is wanted"
        )
    return source, None


def _source_of(path: Path) -> Source:
    if path.is_dir() or path.suffix.lower() in PICTURE_SUFFIXES:
        return FolderSource(path, recursive=True)
    if path.is_file():
        return VideoFileSource(path)
    if path.exists():
        raise ConfigError(
            f"{path}: is neither a folder, a picture nor a video; replay judges what was recorded"
        )
    raise DatasetError(f"{path}: there is nothing of that name; name a folder of pictures or a log")


def _frames(source: Source) -> Iterator[tuple[str, str | None, ByteImage | None]]:
    """Name, part id and pixels; no pixels for a picture that cannot be read."""
    try:
        with source:
            while True:
                try:
                    frame = source.read(timeout_s=0.0)
                except DamagedFrame as error:
                    yield error.part_id or str(error.index), error.part_id, None
                    continue
                if frame is None:
                    return
                yield frame.part_id or str(frame.index), frame.part_id, frame.image
    except SourceError as error:
        raise DatasetError(str(error)) from error


def _decision(inspector: Inspector, image: ByteImage | None) -> Decision:
    """As the line decides: a picture that cannot be read is a bad frame."""
    if image is None:
        return unknown(Reason.BAD_FRAME, "the picture cannot be read")
    return inspector.inspect(image)


def _with_log(judged: Judged, match: LogMatch, index: int) -> Judged:
    logged = match.verdicts[index]
    if logged is None:
        return judged
    before = Outcome(logged.verdict, logged.reason, logged.raw_score, logged.threshold)
    return Judged(judged.picture, judged.now, before, logged.sequence, logged.matched_by.value)


def _description(path: Path, inspector: Inspector) -> dict[str, object]:
    return {
        "kind": "package",
        "path": str(path),
        "package_id": inspector.package_id,
        "precision": inspector.precision,
        "engine": inspector.engine_name,
        "settings_id": inspector.settings_id,
        "recipe": inspector.recipe,
    }


def _log_description(folder: Path, match: LogMatch) -> dict[str, object]:
    found = [logged for logged in match.verdicts if logged is not None]
    return {
        "kind": "log",
        "path": str(folder),
        "records": match.records,
        "unreadable_lines": match.unreadable_lines,
        "package_ids": dict(Counter(str(logged.package_id) for logged in found)),
        "matched_by": dict(Counter(logged.matched_by.value for logged in found)),
    }
