"""The parse gate: NVIDIA's own parser and graph compiler look at a graph, without a GPU.

TensorRT-RTX parses and compiles on any x86 machine. That a graph passes here says: the parser takes
each node, types and shapes are consistent, and the compiler finds a plan. It says nothing about a
Jetson's TensorRT building it, about INT8 kernels, or about speed; those are seen on the device.

It is native code and looks at a graph that may be odd, so it runs in a process of its own: if it
crashes, the model is refused, and the export that asked goes on to say so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass

from ssn_edge_export.tensorrt_rules import check_rules
from ssn_edge_runtime.engines.tensorrt_build import plan_from_onnx
from ssn_edge_runtime.engines.tensorrt_library import MODULES, TENSORRT_RTX, import_tensorrt
from ssn_edge_runtime.errors import EngineError, ExportError

FINDINGS_TOLD = 3


@dataclass(frozen=True, slots=True)
class ParseResult:
    """What the parser and the compiler said.

    Args:
        passed: Both took the graph.
        library: Name and version.
        message: The refusal in one line; empty if it passed.
        layers: Of the parsed network; 0 if it was refused.
        plan_bytes: Size of the plan; it runs nowhere and is thrown away.
        seconds: Parsing and compiling.
    """

    passed: bool
    library: str
    message: str = ""
    layers: int = 0
    plan_bytes: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """For the certificate."""
        return {
            "passed": self.passed,
            "library": self.library,
            "message": self.message,
            "layers": self.layers,
            "plan_bytes": self.plan_bytes,
        }


def parse_gate(model: bytes, *, batch_size: int = 1) -> ParseResult | None:
    """Let TensorRT-RTX parse and compile a graph, in a process of its own.

    Args:
        model: The ONNX file's bytes.
        batch_size: What its free batch is fixed to.

    Returns:
        What came of it; None where TensorRT-RTX is not installed.
    """
    if importlib.util.find_spec(MODULES[TENSORRT_RTX]) is None:
        return None
    looked = subprocess.run(
        [sys.executable, "-m", __name__, str(batch_size)],
        input=model,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    # The library may print, too; the result is the last line.
    *_, last = looked.stdout.splitlines() or [b""]
    if looked.returncode != 0 or not last.startswith(b"{"):
        return ParseResult(False, TENSORRT_RTX, _ending(looked.returncode))
    return ParseResult(**json.loads(last))


def _ending(code: int) -> str:
    if code < 0:
        return f"{TENSORRT_RTX} crashed with {signal.Signals(-code).name} while it looked at it"
    return f"{TENSORRT_RTX} ended with exit code {code} while it looked at it"


def _look(model: bytes, batch_size: int) -> ParseResult:
    """The look itself, in the process that may crash."""
    library = TENSORRT_RTX
    try:
        tensorrt = import_tensorrt(TENSORRT_RTX)
        library = f"{library} {tensorrt.version}"
        built = plan_from_onnx(tensorrt, model, batch_size=batch_size)
    except EngineError as error:
        return ParseResult(False, library, str(error))
    return ParseResult(
        True,
        library,
        layers=built.network_layers,
        plan_bytes=len(built.plan),
        seconds=built.build_seconds,
    )


def require_tensorrt_form(model: bytes, name: str) -> dict[str, object]:
    """Refuse a model that TensorRT would not take: by our rules, and by its parser where it is.

    Args:
        model: The ONNX file's bytes.
        name: What an error calls it.

    Returns:
        For the certificate: what looked at it.

    Raises:
        ExportError: A rule is broken, or the parser or the compiler refuses it.
    """
    findings = check_rules(model)
    if findings:
        told = "; ".join(str(each) for each in findings[:FINDINGS_TOLD])
        more = f"; and {len(findings) - FINDINGS_TOLD} more" if findings[FINDINGS_TOLD:] else ""
        raise ExportError(f"{name} is not of a form that TensorRT takes: {told}{more}")
    parsed = parse_gate(model)
    if parsed is not None and not parsed.passed:
        raise ExportError(f"{name} does not pass the parse gate: {parsed.message}")
    return {"rules": "kept", "parse_gate": None if parsed is None else parsed.to_dict()}


if __name__ == "__main__":
    found = _look(sys.stdin.buffer.read(), int(sys.argv[1]))
    sys.stdout.write(f"\n{json.dumps(asdict(found))}\n")
