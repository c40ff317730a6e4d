"""What is compared: one package in one precision on one engine, with all that it needs open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ssn_edge.benchmark.cold_start import ColdStart, cold_start
from ssn_edge.benchmark.pictures import (
    BenchmarkPicture,
    check_pictures,
    folder_pictures,
    golden_pictures,
    other_sizes,
)
from ssn_edge.benchmark.request import ALL, BenchmarkRequest
from ssn_edge.benchmark.stages import Judging
from ssn_edge.benchmark.tasks import BatchTask, StagesTask, StreamsTask, Task
from ssn_edge_runtime.engines import ENGINES, EngineChoice, choose_engine
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.errors import EngineError
from ssn_edge_runtime.package import Package

Progress = Callable[[str, int, int], None]
"""Told stage, done and count."""


@dataclass(slots=True)
class Candidate:
    """One package in one precision on one engine, not loaded yet.

    Args:
        package: Open while it is read from.
        choice: Engine and precision.
        remarks: What a reader of its numbers must know.
        cold: Its first moments; None if they were not, or could not be, taken.
    """

    package: Package
    choice: EngineChoice
    remarks: list[str] = field(default_factory=list)
    cold: ColdStart | None = None

    def choice_for(self, batch_size: int, threads: int) -> EngineChoice:
        """The same engine for so many frames at once, certified or not.

        Raises:
            EngineError: It cannot take them, or was not built for them.
        """
        return choose_engine(
            self.package,
            engine=self.choice.engine,
            precision=self.choice.precision,
            batch_size=batch_size,
            threads=threads,
            certified=False,
        )


@dataclass(frozen=True, slots=True)
class Subject:
    """A candidate with its engines open, and what is measured of it.

    Args:
        candidate: What it is.
        engine: For one frame at a time.
        pictures: What it judges.
        stages: One frame after the other, by stage.
        batches: By batch size; None where no engine could be loaded.
        streams: By number of streams.
    """

    candidate: Candidate
    engine: Engine
    pictures: Sequence[BenchmarkPicture]
    stages: StagesTask
    batches: Mapping[int, BatchTask | None]
    streams: Mapping[int, StreamsTask]

    def tasks(self) -> Iterator[Task]:
        """All of its measurements."""
        yield self.stages
        yield from (task for task in self.batches.values() if task is not None)
        yield from self.streams.values()


def choose_candidates(request: BenchmarkRequest, opened: ExitStack) -> tuple[Candidate, ...]:
    """Every package with every engine and precision that was asked for.

    Args:
        request: What was asked for.
        opened: Closes the packages.

    Raises:
        PackageError: Not a whole, unchanged package, or one that nobody who is trusted signed.
        ConfigError: An engine that is not known, or a precision that is not in the package.
        EngineError: An engine that cannot run here.
    """
    found: dict[tuple[Path, str, str], Candidate] = {}
    for path in request.packages:
        package = opened.enter_context(Package.open(path, trust=request.trust))
        precisions = (
            tuple(package.manifest.precisions) if ALL in request.precisions else request.precisions
        )
        for engine in request.engines:
            for precision in precisions:
                made_for = ENGINES[engine].precisions if engine in ENGINES else precisions
                if ALL in request.precisions and precision not in made_for:
                    continue  # it is made for another engine
                choice, remarks = _choose(package, engine, precision, request.threads)
                # `auto` may come to what was named as well.
                key = (path, choice.engine, choice.precision)
                found.setdefault(key, Candidate(package, choice, remarks))
    return tuple(found.values())


def _choose(
    package: Package, engine: str, precision: str, threads: int
) -> tuple[EngineChoice, list[str]]:
    """What `run` would take; or what was named, with the reason why `run` would not."""
    try:
        return choose_engine(package, engine=engine, precision=precision, threads=threads), []
    except EngineError as error:
        choice = choose_engine(
            package, engine=engine, precision=precision, threads=threads, certified=False
        )
        return choice, [f"`run` would refuse it: {error}"]


def take_cold_starts(candidates: Sequence[Candidate], threads: int, on_progress: Progress) -> None:
    """Take the first moments of each in a process of its own, before any engine is open here."""
    for number, candidate in enumerate(candidates):
        on_progress("cold start", number, len(candidates))
        candidate.cold, problem = cold_start(
            candidate.package.path,
            engine=candidate.choice.engine,
            precision=candidate.choice.precision,
            threads=threads,
        )
        if problem:
            candidate.remarks.append(problem)


def load_subjects(
    candidates: Sequence[Candidate],
    request: BenchmarkRequest,
    opened: ExitStack,
    on_progress: Progress,
) -> tuple[Subject, ...]:
    """Load all engines, all at once, and prepare the measurements.

    A batch size that an engine cannot be loaded for is left out, with a remark.

    Raises:
        EngineError: An engine cannot be loaded for one frame at a time.
        SourceError: The folder of pictures cannot be read.
        ConfigError: A package without golden pictures, and no folder.
        PictureError: A picture that cannot be used.
    """
    given = None if request.data is None else folder_pictures(request.data)
    subjects = []
    for number, candidate in enumerate(candidates):
        on_progress("load", number, len(candidates))
        manifest = candidate.package.manifest
        pictures = golden_pictures(candidate.package) if given is None else given
        check_pictures(pictures, manifest.geometry)
        if other := other_sizes(pictures, manifest.frame_size_hw):
            candidate.remarks.append(other)
        judging = Judging.of(manifest, candidate.choice.precision)
        engines = [opened.enter_context(candidate.choice.open())]
        while len(engines) < max(request.streams):
            engines.append(opened.enter_context(candidate.choice.open()))
        batches: dict[int, BatchTask | None] = {}
        for size in request.batch_sizes:
            engine = engines[0] if size == 1 else _engine_for(candidate, size, request, opened)
            batches[size] = None if engine is None else BatchTask(engine, judging, pictures)
        subjects.append(
            Subject(
                candidate=candidate,
                engine=engines[0],
                pictures=pictures,
                stages=StagesTask(engines[0], judging, pictures),
                batches=batches,
                streams={
                    count: StreamsTask(engines[:count], judging, pictures)
                    for count in request.streams
                },
            )
        )
    return tuple(subjects)


def _engine_for(
    candidate: Candidate, batch_size: int, request: BenchmarkRequest, opened: ExitStack
) -> Engine | None:
    try:
        choice = candidate.choice_for(batch_size, request.threads)
        return opened.enter_context(choice.open())
    except EngineError as error:
        candidate.remarks.append(f"batch {batch_size} was not measured: {error}")
        return None
