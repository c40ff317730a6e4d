"""One frame by stages, batches of the engine alone, and several streams at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest

from ssn_edge.benchmark.pictures import BenchmarkPicture
from ssn_edge.benchmark.stages import HOST, VERDICT, Judging, timed_decision
from ssn_edge.benchmark.tasks import BatchTask, StagesTask, StreamsTask
from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.decision import Judgement, Reason, ScoringRule, Thresholds, Verdict
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.errors import EngineError
from ssn_edge_runtime.frame_checks import collect_statistics, measure_input
from ssn_edge_runtime.preprocess import Geometry, preprocess

SIZE_HW = (32, 40)
GEOMETRY = Geometry(SIZE_HW)
Part = Callable[..., ByteImage]


@pytest.fixture
def judging(part: Part) -> Judging:
    return Judging(
        GEOMETRY,
        collect_statistics(measure_input(preprocess(part(seed), GEOMETRY)) for seed in range(4)),
        Thresholds(image=0.5, pixel=0.5),
        ScoringRule.MAP_MAX,
    )


@pytest.fixture
def pictures(part: Part) -> list[BenchmarkPicture]:
    return [
        BenchmarkPicture(f"{seed}.png", part(seed), lambda seed=seed: part(seed))  # type: ignore[misc]
        for seed in range(3)
    ]


class TimedFake(FakeEngine):
    """An engine that tells where its time went."""

    @property
    def last_stage_ms(self) -> Mapping[str, float]:
        return {"copy_in": 0.25, "infer": 7.0, "copy_out": 0.5}


class Observed(FakeEngine):
    """An engine that keeps what it was given, and in which thread."""

    def __init__(self, **changes: int) -> None:
        super().__init__([1.0, 0.0], input_size_hw=SIZE_HW, **changes)
        self.given: list[ByteImage] = []
        self.threads: set[str] = set()

    def infer(
        self, pixels: ByteImage, *, pixel_threshold: float, region_mask: BoolMask | None = None
    ) -> Judgement:
        self.given.append(pixels)
        self.threads.add(threading.current_thread().name)
        return super().infer(pixels, pixel_threshold=pixel_threshold, region_mask=region_mask)


def ticks(step_ns: int) -> Iterator[int]:
    now = 0
    while True:
        yield now
        now += step_ns


def test_each_stage_has_its_own_time_and_the_engine_is_no_host_work(
    judging: Judging, part: Part
) -> None:
    clock = ticks(1_000_000)
    with FakeEngine([1.0], input_size_hw=SIZE_HW) as engine:
        timed = timed_decision(part(1), engine, judging, clock_ns=lambda: next(clock))
    assert timed.stages_ms == {
        "resize": 1.0,
        "check": 1.0,
        "infer": 1.0,
        "threshold": 1.0,
        "defects": 1.0,
        HOST: 5.0,  # with what follows the last stage
        VERDICT: 6.0,
    }
    assert timed.decision.verdict is Verdict.FAIL
    assert len(timed.decision.defects) == 1


def test_an_engine_that_tells_its_own_times_is_believed_but_not_for_the_whole(
    judging: Judging, part: Part
) -> None:
    clock = ticks(1_000_000)
    with TimedFake([0.0], input_size_hw=SIZE_HW) as engine:
        timed = timed_decision(part(1), engine, judging, clock_ns=lambda: next(clock))
    stages = timed.stages_ms
    assert (stages["copy_in"], stages["infer"], stages["copy_out"]) == (0.25, 7.0, 0.5)
    assert (stages[HOST], stages[VERDICT]) == (5.0, 6.0)


def test_a_frame_that_the_line_would_refuse_is_judged_all_the_same(judging: Judging) -> None:
    black = np.zeros((96, 128, 3), np.uint8)
    with FakeEngine([0.0], input_size_hw=SIZE_HW) as engine:
        timed = timed_decision(black, engine, judging)
        assert engine.calls == 1
    assert timed.fault is not None
    assert timed.fault[0] is Reason.BAD_EXPOSURE


def test_the_warm_up_is_in_no_percentile(
    judging: Judging, pictures: list[BenchmarkPicture]
) -> None:
    with FakeEngine([1.0], input_size_hw=SIZE_HW) as engine:
        task = StagesTask(engine, judging, pictures)
        task.block(5, turn=None)
        assert task.result() == {}
        task.block(2, turn=0)
        task.block(3, turn=4)
        assert engine.calls == 10
    found = task.result()
    assert {stage.count for stage in found.values()} == {5}
    assert set(found) == {
        *("read", "resize", "check", "infer", "threshold", "defects"),
        *(HOST, VERDICT),
    }
    assert set(task.medians_ms) == {0, 4}
    assert task.faults == {}


def test_what_was_not_timed_is_missing_and_not_zero(
    judging: Judging, pictures: list[BenchmarkPicture]
) -> None:
    with FakeEngine([1.0], input_size_hw=SIZE_HW) as engine:
        task = StagesTask(engine, judging, pictures)
        task.block(1, turn=0)
    assert "copy_in" not in task.result()


def test_pictures_that_the_line_would_refuse_are_named(
    judging: Judging, pictures: list[BenchmarkPicture]
) -> None:
    black = np.zeros((96, 128, 3), np.uint8)
    pictures.append(BenchmarkPicture("dark.png", black, lambda: black))
    with FakeEngine([0.0], input_size_hw=SIZE_HW) as engine:
        task = StagesTask(engine, judging, pictures)
        task.block(8, turn=0)
    assert set(task.faults) == {"dark.png"}


def test_a_batch_is_filled_with_the_pictures_in_turn(
    judging: Judging, pictures: list[BenchmarkPicture]
) -> None:
    seen: list[ByteImage] = []

    class Keeping(FakeEngine):
        def infer_batch(
            self,
            pixels: ByteImage,
            *,
            pixel_threshold: float,
            region_mask: BoolMask | None = None,
        ) -> tuple[Judgement, ...]:
            seen.append(pixels)
            return super().infer_batch(
                pixels, pixel_threshold=pixel_threshold, region_mask=region_mask
            )

    with Keeping([0.0], input_size_hw=SIZE_HW, batch_size=4) as engine:
        task = BatchTask(engine, judging, pictures)
        task.block(2, turn=None)
        assert task.result() is None
        task.block(3, turn=0)
    found = task.result()
    assert found is not None
    ms, rate = found
    assert ms.count == 3
    assert rate * ms.max >= 4e3 * 0.999  # four frames a call, none slower than the slowest
    for frame, picture in zip(seen[0], [*pictures, pictures[0]], strict=True):
        np.testing.assert_array_equal(frame, preprocess(picture.frame, GEOMETRY))


def test_each_stream_has_its_engine_and_thread_and_begins_with_another_picture(
    judging: Judging, pictures: list[BenchmarkPicture]
) -> None:
    engines = [Observed(), Observed()]
    task = StreamsTask(engines, judging, pictures)
    task.block(1, turn=None)
    assert task.result() is None
    task.block(4, turn=0)
    found = task.result()
    assert found is not None
    ms, rate = found
    assert ms.count == 8
    assert rate > 0
    assert [engine.calls for engine in engines] == [5, 5]
    assert [engine.threads for engine in engines] == [{"stream-0"}, {"stream-1"}]
    assert not np.array_equal(engines[0].given[0], engines[1].given[0])
    assert threading.active_count() < 10  # none is left behind


def test_streams_really_run_at_once(judging: Judging, pictures: list[BenchmarkPicture]) -> None:
    meeting = threading.Barrier(2, timeout=30)

    class Meeting(FakeEngine):
        def infer(
            self,
            pixels: ByteImage,
            *,
            pixel_threshold: float,
            region_mask: BoolMask | None = None,
        ) -> Judgement:
            meeting.wait()  # nobody comes through alone
            return super().infer(pixels, pixel_threshold=pixel_threshold, region_mask=region_mask)

    engines = [Meeting([0.0], input_size_hw=SIZE_HW) for _ in range(2)]
    task = StreamsTask(engines, judging, pictures)
    task.block(3, turn=0)
    assert not meeting.broken


def test_an_engine_that_fails_in_a_stream_ends_all_of_them_with_its_error(
    judging: Judging, pictures: list[BenchmarkPicture]
) -> None:
    class Slow(FakeEngine):
        def infer(
            self,
            pixels: ByteImage,
            *,
            pixel_threshold: float,
            region_mask: BoolMask | None = None,
        ) -> Judgement:
            time.sleep(0.001)
            return super().infer(pixels, pixel_threshold=pixel_threshold, region_mask=region_mask)

    slow = Slow([0.0], input_size_hw=SIZE_HW)
    failing = FakeEngine([0.0, EngineError("gone")], input_size_hw=SIZE_HW)
    task = StreamsTask([slow, failing], judging, pictures)
    with pytest.raises(EngineError, match="gone"):
        task.block(100_000, turn=0)
    assert slow.calls < 100_000
    assert task.result() is None
