"""Packages on this device, measured in turn."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timezone

import cv2

from ssn_edge.benchmark.percentiles import Ratio, ratio_of
from ssn_edge.benchmark.request import DEFAULT_SECONDS, BenchmarkRequest
from ssn_edge.benchmark.result import BenchmarkResult, Conditions, SubjectResult, Throughput
from ssn_edge.benchmark.subjects import (
    Candidate,
    Progress,
    Subject,
    choose_candidates,
    load_subjects,
    take_cold_starts,
)
from ssn_edge.benchmark.tasks import BatchTask, StreamsTask
from ssn_edge.benchmark.turns import ROUNDS, Amount, take_turns
from ssn_edge_runtime.device_info import describe_device


def run_benchmark(
    request: BenchmarkRequest,
    *,
    on_progress: Progress = lambda stage, done, count: None,
    with_cold_starts: bool = True,
) -> BenchmarkResult:
    """Measure packages in turn on this device.

    All engines are open at once; OpenCV has one thread, as on the line. Ctrl-C ends it early, with
    what there is.

    Args:
        request: Which, how, and for how long.
        on_progress: Called with stage, done and count.
        with_cold_starts: Whether each package is loaded in a process of its own first.

    Raises:
        ConfigError: An engine that is not known, a precision that is not in the package, or a
            package without golden pictures and no folder.
        PackageError: Not a whole, unchanged package.
        EngineError: An engine that cannot run here, or fails.
        SourceError: The folder of pictures cannot be read.
        PictureError: A picture that cannot be used.
        ScoreError: An engine gave what is no judgement.
        KeyboardInterrupt: Ctrl-C, before anything was measured.
    """
    started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    started = time.perf_counter()
    load_before = _load()
    device = describe_device()
    amount = Amount(request.frames, request.seconds or DEFAULT_SECONDS)
    interrupted = False
    threads_before = cv2.getNumThreads()
    with ExitStack() as opened:
        opened.callback(cv2.setNumThreads, threads_before)
        cv2.setNumThreads(1)
        candidates = choose_candidates(request, opened)
        if with_cold_starts:
            take_cold_starts(candidates, request.threads, on_progress)
        subjects = load_subjects(candidates, request, opened, on_progress)
        try:
            take_turns(
                [task for subject in subjects for task in subject.tasks()],
                amount,
                on_progress=on_progress,
            )
        except KeyboardInterrupt:
            if not any(subject.stages.result() for subject in subjects):
                raise
            interrupted = True
        return BenchmarkResult(
            conditions=Conditions(
                device=device,
                device_after=describe_device(),
                threads=request.threads,
                amount=_amount_text(request),
                rounds=ROUNDS,
                load_before=load_before,
                started_at=started_at,
                duration_s=time.perf_counter() - started,
            ),
            subjects=tuple(
                _subject_result(subject, label)
                for subject, label in zip(subjects, _labels(candidates), strict=True)
            ),
            ratios=tuple(_ratio(subjects[0], subject) for subject in subjects[1:]),
            interrupted=interrupted,
        )


def _amount_text(request: BenchmarkRequest) -> str:
    if request.frames is not None:
        return f"{request.frames} frames of each measurement"
    return f"about {request.seconds or DEFAULT_SECONDS:g} s of each measurement"


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _labels(candidates: Sequence[Candidate]) -> list[str]:
    """The package, and precision and engine where they tell some apart."""
    paths = {candidate.package.path for candidate in candidates}
    names_differ = len({path.name for path in paths}) == len(paths)
    precisions = {candidate.choice.precision for candidate in candidates}
    engines = {candidate.choice.engine for candidate in candidates}
    labels = []
    for candidate in candidates:
        path = candidate.package.path
        words = [path.name if names_differ else str(path)]
        if len(precisions) > 1:
            words.append(candidate.choice.precision)
        if len(engines) > 1:
            words.append(candidate.choice.engine)
        labels.append(" ".join(words))
    return labels


def _subject_result(subject: Subject, label: str) -> SubjectResult:
    candidate = subject.candidate
    manifest = candidate.package.manifest
    precision = manifest.precisions[candidate.choice.precision]
    remarks = list(candidate.remarks)
    if faults := subject.stages.faults:
        name, (reason, detail) = next(iter(faults.items()))
        remarks.append(
            f"{len(faults)} of {len(subject.pictures)} pictures would be unknown on the line; "
            f"{name}: {reason}, {detail}"
        )
    return SubjectResult(
        label=label,
        package=str(candidate.package.path),
        package_id=candidate.package.package_id,
        name=manifest.name,
        backbone=manifest.backbone,
        graph=precision.graph,
        precision=candidate.choice.precision,
        engine=candidate.choice.engine,
        identity=subject.engine.identity,
        input_size_hw=manifest.geometry.input_size_hw,
        frame_sizes_hw=tuple(
            sorted({(each.frame.shape[0], each.frame.shape[1]) for each in subject.pictures})
        ),
        package_bytes=candidate.package.path.stat().st_size,
        model_bytes=manifest.entries[precision.model].size_bytes,
        cold=candidate.cold,
        stages=subject.stages.result(),
        batches={size: _throughput(size, task) for size, task in subject.batches.items()},
        streams={count: _throughput(count, task) for count, task in subject.streams.items()},
        remarks=tuple(remarks),
    )


def _throughput(width: int, task: BatchTask | StreamsTask | None) -> Throughput | None:
    found = None if task is None else task.result()
    return None if found is None else Throughput(width, *found)


def _ratio(first: Subject, other: Subject) -> Ratio | None:
    """Round by round, where a round measured both."""
    of_first, of_other = first.stages.medians_ms, other.stages.medians_ms
    pairs = [(of_first[turn], of_other[turn]) for turn in of_first if turn in of_other]
    return ratio_of(pairs) if pairs else None
