"""A benchmark's numbers and conditions as words, for the table and the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ssn_edge.benchmark.result import BenchmarkResult, Conditions, SubjectResult
from ssn_edge.benchmark.stages import HOST, STAGES, VERDICT
from ssn_edge_runtime.device_info import DeviceInfo

_MOST_SIZES = 4
"""Of frames, one by one."""

NOTHING = "-"
"""What was not, or cannot be, measured; never 0."""

ROWS = {
    **{stage: stage.replace("_", " ") for stage in STAGES},
    HOST: "all but engine",
    VERDICT: "frame to verdict",
}
"""Names of the stages for people, in order."""


def ms_text(value: float | None) -> str:
    """Milliseconds to three or four digits."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if value < 10 else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def rate_text(value: float | None) -> str:
    """Frames a second."""
    return NOTHING if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def bytes_text(value: float | None) -> str:
    """Bytes in megabytes, or in kilobytes where that is little."""
    if value is None:
        return NOTHING
    return f"{value / 1e6:.1f} MB" if value >= 1e6 else f"{value / 1e3:.1f} kB"


def device_words(device: DeviceInfo) -> Iterator[tuple[str, str]]:
    """What it was measured on, as pairs of a name and a text."""
    cores = f"{device.usable_cores or NOTHING} of {device.logical_cores or NOTHING} cores"
    kind = ", virtual machine" if device.is_virtual else ""
    yield "device", f"{device.model or device.machine}{kind}"
    yield "processor", f"{device.processor or NOTHING}, {cores}"
    memory = device.memory_bytes
    yield "memory", NOTHING if memory is None else f"{memory / 2**30:.1f} GiB"
    yield "GPU", _gpu_text(device)
    yield "power mode", device.power_mode or NOTHING
    yield "governor", device.governor or NOTHING
    yield "system", f"{device.system}{f', L4T {device.l4t}' if device.l4t else ''}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in device.versions.items())


def _gpu_text(device: DeviceInfo) -> str:
    gpu = device.gpu
    if gpu is None:
        return NOTHING
    more = [gpu.name]
    if gpu.sm_count is not None:
        more.append(f"{gpu.sm_count} multiprocessors")
    if gpu.driver_version is not None:
        more.append(f"driver {gpu.driver_version}")
    if gpu.power_limit_w is not None:
        more.append(f"at most {gpu.power_limit_w:.0f} W")
    return ", ".join(more)


def condition_words(conditions: Conditions) -> Iterator[tuple[str, str]]:
    """The device and how it was measured, as pairs of a name and a text."""
    yield from device_words(conditions.device)
    before, after = conditions.device, conditions.device_after
    yield "clocks", _before_and_after(_clocks(before), _clocks(after))
    yield "temperature", _before_and_after(_temperature(before), _temperature(after))
    load = conditions.load_before
    yield "load before", NOTHING if load is None else f"{load:.2f} processes wanted a core"
    yield (
        "measured",
        f"{conditions.amount}, in {conditions.rounds} rounds in turn, warm-up left out",
    )
    yield "took", f"{conditions.duration_s:.0f} s from {conditions.started_at}"


def _before_and_after(before: str, after: str) -> str:
    return before if before == after else f"{before} before, {after} after"


def _clocks(device: DeviceInfo) -> str:
    clocks = dict(device.clocks_mhz)
    if device.gpu is not None and device.gpu.clock_mhz is not None:
        clocks["gpu"] = device.gpu.clock_mhz
        if device.gpu.max_clock_mhz is not None:
            clocks["gpu_max"] = device.gpu.max_clock_mhz
    parts = []
    for name in ("cpu", "gpu"):
        if name in clocks:
            most = f" of {clocks[f'{name}_max']:.0f}" if f"{name}_max" in clocks else ""
            parts.append(f"{name} {clocks[name]:.0f}{most} MHz")
    return ", ".join(parts) or NOTHING


def _temperature(device: DeviceInfo) -> str:
    temperatures = list(device.temperatures_c.values())
    if device.gpu is not None and device.gpu.temperature_c is not None:
        temperatures.append(device.gpu.temperature_c)
    return f"{max(temperatures):.0f} °C" if temperatures else NOTHING


def subject_words(subject: SubjectResult, threads: int) -> str:
    """What a subject is, in one line: always with precision, engine, threads, batch and size."""
    height, width = subject.input_size_hw
    return (
        f"{subject.precision} on {subject.engine}, {_threads(threads)}, batch 1, {height} x {width}"
    )


def _threads(threads: int) -> str:
    if threads == 0:
        return "threads by its own choice"
    return "1 thread" if threads == 1 else f"{threads} threads"


def more_words(subject: SubjectResult) -> Iterator[tuple[str, str]]:
    """Size, memory and first moments, as pairs of a name and a text."""
    cold = subject.cold
    yield (
        "size",
        f"package {bytes_text(subject.package_bytes)}, model {bytes_text(subject.model_bytes)}",
    )
    yield (
        "memory",
        NOTHING
        if cold is None
        else f"{bytes_text(cold.memory_bytes)}, at most {bytes_text(cold.peak_memory_bytes)}; "
        f"GPU {bytes_text(cold.gpu_memory_bytes)}",
    )
    yield (
        "cold start",
        NOTHING
        if cold is None
        else f"import {cold.import_s:.2f} s, load {cold.load_s:.2f} s, first inference "
        f"{ms_text(cold.first_inference_ms)} ms, next {ms_text(cold.next_inference_ms)} ms",
    )
    yield "frames", _sizes(subject.frame_sizes_hw)


def _sizes(sizes_hw: Sequence[tuple[int, int]]) -> str:
    if len(sizes_hw) <= _MOST_SIZES:
        sizes = ", ".join(f"{height} x {width}" for height, width in sizes_hw)
        return f"{sizes} pixels (height x width)"
    areas = [height * width / 1e6 for height, width in sizes_hw]
    return f"{len(areas)} sizes, {min(areas):.2f} to {max(areas):.2f} million pixels"


def ratio_texts(result: BenchmarkResult) -> list[str]:
    """How many times as fast as the first each other subject is, from frame to verdict."""
    texts = []
    for subject, ratio in zip(result.subjects[1:], result.ratios, strict=True):
        if ratio is None:
            texts.append(f"{subject.label}: {NOTHING}, no round measured both")
            continue
        interval = (
            f"95 % interval {ratio.low:.2f} to {ratio.high:.2f}"
            if ratio.low is not None and ratio.high is not None
            else "too few rounds for an interval"
        )
        texts.append(
            f"{subject.label}: {ratio.median:.2f} times as fast ({interval}; {ratio.rounds} rounds)"
        )
    return texts
