"""What is measured, in blocks that take turns: stages, batches, streams."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Protocol

import numpy as np

from ssn_edge.benchmark.percentiles import Percentiles, percentiles
from ssn_edge.benchmark.pictures import BenchmarkPicture
from ssn_edge.benchmark.stages import READ, VERDICT, Judging, timed_decision
from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.preprocess import preprocess

Clock = Callable[[], int]


class Task(Protocol):
    """One measurement. Its blocks may be hours apart; each begins where the last one ended."""

    @property
    def frames_per_call(self) -> int:
        """How many frames one call judges."""
        ...

    def block(self, calls: int, *, turn: int | None) -> None:
        """Make so many calls.

        Args:
            calls: 1 or more.
            turn: Number of the round; None for the warm-up, whose times do not count.

        Raises:
            EngineError: The engine failed.
            ScoreError: It gave what is no judgement.
        """
        ...


class StagesTask:
    """Frame after frame from picture to verdict, each stage timed.

    Args:
        engine: Of batch size 1.
        judging: Of its package and precision.
        pictures: Taken in turn.
    """

    frames_per_call = 1

    def __init__(
        self, engine: Engine, judging: Judging, pictures: Sequence[BenchmarkPicture]
    ) -> None:
        self._engine = engine
        self._judging = judging
        self._pictures = cycle(pictures)
        self._times_ms: dict[str, list[float]] = {}
        self.faults: dict[str, tuple[Reason, str]] = {}
        """By name, pictures that the inspector would answer with `unknown`."""
        self.medians_ms: dict[int, float] = {}
        """By round, the median from frame to verdict."""

    def block(self, calls: int, *, turn: int | None) -> None:
        """See `Task.block`."""
        verdicts_ms = []
        for picture in islice(self._pictures, calls):
            start = time.perf_counter_ns()
            frame = picture.read()
            read_ms = (time.perf_counter_ns() - start) / 1e6
            timed = timed_decision(frame, self._engine, self._judging)
            if timed.fault is not None:
                self.faults[picture.name] = timed.fault
            verdicts_ms.append(timed.stages_ms[VERDICT])
            if turn is not None:
                for stage, ms in {READ: read_ms, **timed.stages_ms}.items():
                    self._times_ms.setdefault(stage, []).append(ms)
        if turn is not None:
            self.medians_ms[turn] = statistics.median(verdicts_ms)

    def result(self) -> dict[str, Percentiles]:
        """Percentiles by stage; empty before the first block."""
        return {stage: percentiles(times) for stage, times in self._times_ms.items()}


class BatchTask:
    """The engine alone, with as many frames at once as it was loaded for.

    Args:
        engine: Of any batch size.
        judging: Of its package and precision.
        pictures: Repeated until the batch is full.
    """

    def __init__(
        self, engine: Engine, judging: Judging, pictures: Sequence[BenchmarkPicture]
    ) -> None:
        self._engine = engine
        self._pixel_threshold = judging.thresholds.pixel
        taken = islice(cycle(pictures), engine.batch_size)
        self._pixels = np.stack([preprocess(each.frame, judging.geometry) for each in taken])
        self._times_ms: list[float] = []

    @property
    def frames_per_call(self) -> int:
        """The batch size."""
        return self._engine.batch_size

    def block(self, calls: int, *, turn: int | None) -> None:
        """See `Task.block`."""
        for _ in range(calls):
            start = time.perf_counter_ns()
            judgements = self._engine.infer_batch(
                self._pixels, pixel_threshold=self._pixel_threshold
            )
            elapsed_ms = (time.perf_counter_ns() - start) / 1e6
            assert len(judgements) == self.frames_per_call
            if turn is not None:
                self._times_ms.append(elapsed_ms)

    def result(self) -> tuple[Percentiles, float] | None:
        """Milliseconds a call, and frames a second over all calls; None before the first."""
        if not self._times_ms:
            return None
        frames = self.frames_per_call * len(self._times_ms)
        return percentiles(self._times_ms), 1e3 * frames / sum(self._times_ms)


class StreamsTask:
    """Several chains from frame to verdict at once, each in a thread and with an engine of its own.

    Frames are in memory; reading them is not part of it.

    Args:
        engines: One for each stream, of batch size 1.
        judging: Of their package and precision.
        pictures: Each stream takes them in turn, and begins with another one.
    """

    def __init__(
        self, engines: Sequence[Engine], judging: Judging, pictures: Sequence[BenchmarkPicture]
    ) -> None:
        self._engines = engines
        self._judging = judging
        self._pictures = [
            cycle([*pictures[index % len(pictures) :], *pictures[: index % len(pictures)]])
            for index in range(len(engines))
        ]
        self._verdicts_ms: list[float] = []
        self._seconds = 0.0
        self._frames = 0

    @property
    def frames_per_call(self) -> int:
        """The number of streams: a call is a frame of each."""
        return len(self._engines)

    def block(self, calls: int, *, turn: int | None) -> None:
        """See `Task.block`; each stream judges `calls` frames."""
        stop = threading.Event()
        start = threading.Barrier(len(self._engines) + 1)
        verdicts_ms: list[float] = []  # appending is safe from several threads
        errors: list[BaseException] = []

        def stream(index: int) -> None:
            try:
                start.wait()
                for picture in islice(self._pictures[index], calls):
                    if stop.is_set():
                        return
                    timed = timed_decision(picture.frame, self._engines[index], self._judging)
                    verdicts_ms.append(timed.stages_ms[VERDICT])
            except BaseException as error:  # noqa: BLE001 - it is raised again where it is read
                errors.append(error)
                stop.set()

        threads = [
            threading.Thread(target=stream, args=(index,), name=f"stream-{index}", daemon=True)
            for index in range(len(self._engines))
        ]
        for thread in threads:
            thread.start()
        try:
            start.wait()
            began = time.perf_counter()
            for thread in threads:
                thread.join()
            elapsed_s = time.perf_counter() - began
        finally:  # Ctrl-C comes here: the engines must not be closed under their threads
            stop.set()
            start.abort()
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]
        if turn is not None:
            self._verdicts_ms += verdicts_ms
            self._seconds += elapsed_s
            self._frames += len(verdicts_ms)

    def result(self) -> tuple[Percentiles, float] | None:
        """Milliseconds from frame to verdict, and frames a second of all streams together."""
        if not self._frames:
            return None
        return percentiles(self._verdicts_ms), self._frames / self._seconds
