"""What a benchmark found, and on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssn_edge.benchmark.cold_start import ColdStart
from ssn_edge.benchmark.percentiles import Percentiles, Ratio
from ssn_edge.benchmark.stages import HOST, STAGES, VERDICT
from ssn_edge_runtime.device_info import DeviceInfo

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Throughput:
    """How much gets through at a batch size or with a number of streams.

    Args:
        width: Frames in a batch, or streams.
        call_ms: Of a batch, in the engine; or of a frame of a stream, from frame to verdict.
        frames_per_second: Of all together.
    """

    width: int
    call_ms: Percentiles
    frames_per_second: float

    def to_dict(self, width_name: str) -> dict[str, object]:
        """For JSON; `width_name` is what the width is called there."""
        return {
            width_name: self.width,
            "ms": self.call_ms.to_dict(),
            "frames_per_second": self.frames_per_second,
        }


@dataclass(frozen=True, slots=True)
class SubjectResult:
    """One package in one precision on one engine.

    Args:
        label: What tells it from the others.
        package: The file.
        package_id: SHA-256 of its manifest.
        name: What the manifest calls it.
        backbone: Of its net.
        graph: Which form of the graph its model has.
        precision: Of its model.
        engine: What ran it.
        identity: SHA-256 of the file that ran: a plan, or the package's ONNX entry.
        input_size_hw: Of the network, in pixels.
        frame_sizes_hw: Of the pictures that were judged.
        package_bytes: Of the file.
        model_bytes: Of the ONNX entry.
        cold: Its first moments in a process of its own.
        stages: By stage; those that nobody timed are not there.
        batches: By batch size; None where it could not be measured.
        streams: By number of streams.
        remarks: What a reader must know.
    """

    label: str
    package: str
    package_id: str
    name: str
    backbone: str
    graph: str
    precision: str
    engine: str
    identity: str
    input_size_hw: tuple[int, int]
    frame_sizes_hw: tuple[tuple[int, int], ...]
    package_bytes: int
    model_bytes: int
    cold: ColdStart | None
    stages: Mapping[str, Percentiles]
    batches: Mapping[int, Throughput | None]
    streams: Mapping[int, Throughput | None]
    remarks: Sequence[str]

    def to_dict(self) -> dict[str, object]:
        """For JSON; what was not measured is null."""
        return {
            "label": self.label,
            "package": self.package,
            "package_id": self.package_id,
            "name": self.name,
            "backbone": self.backbone,
            "graph": self.graph,
            "precision": self.precision,
            "engine": self.engine,
            "engine_identity": self.identity,
            "input_size_hw": list(self.input_size_hw),
            "frame_sizes_hw": [list(size) for size in self.frame_sizes_hw],
            "package_bytes": self.package_bytes,
            "model_bytes": self.model_bytes,
            "cold_start": None if self.cold is None else self.cold.to_dict(),
            "stages_ms": {
                stage: None if (found := self.stages.get(stage)) is None else found.to_dict()
                for stage in (*STAGES, HOST, VERDICT)
            },
            "batches": _widths(self.batches, "batch_size"),
            "streams": _widths(self.streams, "streams"),
            "remarks": list(self.remarks),
        }


def _widths(found: Mapping[int, Throughput | None], name: str) -> list[dict[str, object]]:
    return [
        {name: width, "ms": None, "frames_per_second": None} if each is None else each.to_dict(name)
        for width, each in found.items()
    ]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the numbers were taken on, beside the device.

    Args:
        device: Before the first measurement.
        device_after: After the last one: clocks and temperatures may have changed.
        threads: Of a CPU engine; 0 stands for the engine's own choice.
        amount: How much was measured, in words.
        rounds: Turns that each measurement took.
        load_before: Processes that wanted a core, on average, in the minute before; None where the
            system does not tell.
        started_at: UTC.
        duration_s: Of the whole benchmark.
    """

    device: DeviceInfo
    device_after: DeviceInfo
    threads: int
    amount: str
    rounds: int
    load_before: float | None
    started_at: str
    duration_s: float

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "device": self.device.to_dict(),
            "device_after": {
                "clocks_mhz": dict(self.device_after.clocks_mhz),
                "temperatures_c": dict(self.device_after.temperatures_c),
                "gpu_clock_mhz": None if (gpu := self.device_after.gpu) is None else gpu.clock_mhz,
                "gpu_temperature_c": None if gpu is None else gpu.temperature_c,
            },
            "threads": self.threads,
            "amount": self.amount,
            "rounds": self.rounds,
            "load_before": self.load_before,
            "started_at": self.started_at,
            "duration_s": self.duration_s,
        }


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """A whole benchmark.

    Args:
        conditions: What it was taken on.
        subjects: In the order in which they were named.
        ratios: How many times as fast as the first subject each other one is, from frame to
            verdict; None where no round measured both.
        interrupted: Whether it ended before its time; what there is counts.
    """

    conditions: Conditions
    subjects: tuple[SubjectResult, ...]
    ratios: tuple[Ratio | None, ...]
    interrupted: bool

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "interrupted": self.interrupted,
            "conditions": self.conditions.to_dict(),
            "subjects": [subject.to_dict() for subject in self.subjects],
            "times_as_fast_as_the_first": [
                None if ratio is None else ratio.to_dict() for ratio in self.ratios
            ],
        }
