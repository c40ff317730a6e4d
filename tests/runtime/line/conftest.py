"""A judge, sources and a camera that are small, quick and as faulty as a test wants them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import (
    Decision,
    Judgement,
    Reason,
    ScoringRule,
    Thresholds,
    Verdict,
    decide,
)
from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.preprocess import Geometry, preprocess
from ssn_edge_runtime.record import DecisionRecord, TriggerRecord
from ssn_edge_runtime.sinks import Journal
from ssn_edge_runtime.sources import Frame, Source

GEOMETRY = Geometry((32, 32))


class BrightnessJudge:
    """Fails a frame in which a pixel is brighter than 200, by the real decision rule."""

    package_id = "ab" * 32
    precision = "fp32"
    engine_name = "brightness"
    engine_sha256 = "cd" * 32

    def inspect(self, frame: ByteImage) -> Decision:
        grey = preprocess(frame, GEOMETRY).max(axis=2)
        anomaly_map = (grey.astype(np.float32) - 200.0) / 10.0
        decision = decide(
            Judgement(
                classification_logit=float(anomaly_map.max()),
                map_max_logit=float(anomaly_map.max()),
                anomaly_map=anomaly_map,
                defect_mask=(anomaly_map >= 0).astype(np.uint8),
            ),
            thresholds=Thresholds(image=0.0, pixel=0.0),
            rule=ScoringRule.MAP_MAX,
            geometry=GEOMETRY,
            frame_size_hw=(frame.shape[0], frame.shape[1]),
        )
        return decision


class ScriptedSource(Source):
    """Gives what the script holds: an image is a frame, an error is raised, a number is a pause.

    None waits until one more part is `decided`. After the script a recording ends; a live source
    waits until its timeout and stalls.
    """

    def __init__(
        self,
        script: Sequence[ByteImage | Exception | float | None],
        *,
        is_live: bool,
        opens: int = 99,
    ) -> None:
        self._is_live = is_live
        self.decided = threading.Semaphore(0)
        self.opened = 0
        self.is_open = False
        self._script = list(script)
        self._opens = opens
        self._index = 0

    @property
    def name(self) -> str:
        return "scripted"

    @property
    def is_live(self) -> bool:
        return self._is_live

    @property
    def tells_exposure(self) -> bool:
        return False

    def open(self) -> None:
        if self.opened >= self._opens:
            raise SourceError("scripted: is gone")
        self.opened += 1
        self.is_open = True

    def read(self, timeout_s: float) -> Frame | None:
        while self._script:
            step = self._script.pop(0)
            if isinstance(step, Exception):
                raise step
            if step is None:
                assert self.decided.acquire(timeout=20.0)
                continue
            if isinstance(step, float):
                sleep(step)
                continue
            frame = Frame.taken_now(step, source=self.name, index=self._index)
            self._index += 1
            return frame
        if not self._is_live:
            return None
        sleep(timeout_s)
        raise SourceError("scripted: stalled")

    def close(self) -> None:
        self.is_open = False


def make_surface(
    seed: int, *, defect: bool = False, size_hw: tuple[int, int] = (40, 60)
) -> ByteImage:
    """A noisy picture, with a bright spot if it is to fail."""
    image = np.random.default_rng(seed).integers(60, 140, (*size_hw, 3), dtype=np.uint8)
    if defect:
        image[10:20, 20:30] = 255
    return image


def journal_lines(output: Path) -> list[dict[str, Any]]:
    """All lines of a journal that has one segment."""
    lines = (output / "decisions.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def events() -> Callable[[Path], list[str]]:
    """The events in the journal of an output folder, by name."""

    def read(output: Path) -> list[str]:
        return [each["event"] for each in journal_lines(output) if each["kind"] == "event"]

    return read


@pytest.fixture
def make_trigger() -> Callable[..., TriggerRecord]:
    """The next trigger of an open journal."""

    def make(journal: Journal, trigger_id: int = 7) -> TriggerRecord:
        return TriggerRecord(
            sequence=journal.next_sequence,
            trigger_id=trigger_id,
            source="test",
            part_id=f"part {trigger_id}",
            trigger_at=datetime(2025, 1, 2, 3, 4, 5, 123456, tzinfo=timezone.utc),
            monotonic_ns=5,
            boot_id="boot",
        )

    return make


@pytest.fixture
def judge() -> BrightnessJudge:
    return BrightnessJudge()


@pytest.fixture
def scripted() -> type[ScriptedSource]:
    return ScriptedSource


@pytest.fixture
def surface() -> Callable[..., ByteImage]:
    return make_surface


@pytest.fixture
def surfaces() -> Callable[[int], list[ByteImage]]:
    """So many pictures; the first and each third after it has a defect."""
    return lambda count: [make_surface(seed, defect=seed % 3 == 0) for seed in range(count)]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "decisions"


@pytest.fixture
def records() -> Callable[[Path], list[dict[str, Any]]]:
    """Reads the decisions in the journal of an output folder."""

    def read(output: Path) -> list[dict[str, Any]]:
        return [each for each in journal_lines(output) if each["kind"] == "verdict"]

    return read


@pytest.fixture
def make_record() -> Callable[[Journal], DecisionRecord]:
    """The next record of an open journal, of a part that passed."""

    def make(journal: Journal, detail: str = "", sequence: int | None = None) -> DecisionRecord:
        sequence = journal.next_sequence if sequence is None else sequence
        return DecisionRecord(
            sequence=sequence,
            source="test",
            decided_at=datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc),
            verdict=Verdict.PASS,
            reason=Reason.NONE,
            detail=detail,
            score=0.25,
            timings_ms={"infer": 1.23456},
            monotonic_ns=sequence,
        )

    return make


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert [thread for thread in threading.enumerate() if thread not in before] == []
