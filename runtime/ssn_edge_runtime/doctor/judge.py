"""All findings about a machine, from facts alone: the same facts give the same findings."""

from __future__ import annotations

from collections.abc import Callable

from ssn_edge_runtime.doctor.facts import Facts
from ssn_edge_runtime.doctor.findings import Finding, Report
from ssn_edge_runtime.doctor.judge_engines import judge_engines, judge_gpu, judge_tensorrt
from ssn_edge_runtime.doctor.judge_jetson import judge_clocks, judge_jetpack, judge_power_mode
from ssn_edge_runtime.doctor.judge_line import (
    judge_addresses,
    judge_cameras,
    judge_package,
    judge_service,
)
from ssn_edge_runtime.doctor.judge_machine import (
    judge_access,
    judge_heat,
    judge_memory,
    judge_time,
)
from ssn_edge_runtime.doctor.judge_python import (
    judge_numpy,
    judge_onnxruntime,
    judge_opencv,
    judge_python,
)
from ssn_edge_runtime.doctor.judge_storage import judge_storage

JUDGES: tuple[Callable[[Facts], list[Finding]], ...] = (
    *(judge_jetpack, judge_python, judge_numpy, judge_opencv, judge_onnxruntime),
    *(judge_gpu, judge_tensorrt, judge_engines, judge_access),
    *(judge_power_mode, judge_clocks, judge_heat, judge_memory, judge_storage, judge_time),
    *(judge_cameras, judge_addresses, judge_service, judge_package),
)
"""In the order that they are printed in: what others stand on first."""


def judge(facts: Facts) -> Report:
    """Judge a machine."""
    return Report(tuple(finding for each in JUDGES for finding in each(facts)), facts)
