"""Trained net to model package: the graph, the proof that it decides the same, and the file.

Public names are loaded when they are asked for: training uses `spatial_matrices`, and an
installation that only trains has neither onnx nor an engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssn_edge_export.export_request import (
        ExportRequest,
        ExportResult,
        GateReport,
        PackedPrecision,
        Refusal,
    )
    from ssn_edge_export.gate_limits import GateLimits
    from ssn_edge_export.onnx_model import GraphKind, inspection_graph, onnx_from_graph
    from ssn_edge_export.package_from_net import export_package
    from ssn_edge_export.package_writer import write_package
    from ssn_edge_export.reference_graph import InspectionNet, ReferenceGraph
    from ssn_edge_export.scoring import LabelledPicture

__all__ = [
    "ExportRequest",
    "ExportResult",
    "GateLimits",
    "GateReport",
    "GraphKind",
    "InspectionNet",
    "LabelledPicture",
    "PackedPrecision",
    "ReferenceGraph",
    "Refusal",
    "export_package",
    "inspection_graph",
    "onnx_from_graph",
    "write_package",
]

_HOMES = {
    "ExportRequest": "export_request",
    "ExportResult": "export_request",
    "GateLimits": "gate_limits",
    "GateReport": "export_request",
    "GraphKind": "onnx_model",
    "InspectionNet": "reference_graph",
    "LabelledPicture": "scoring",
    "PackedPrecision": "export_request",
    "ReferenceGraph": "reference_graph",
    "Refusal": "export_request",
    "export_package": "package_from_net",
    "inspection_graph": "onnx_model",
    "onnx_from_graph": "onnx_model",
    "write_package": "package_writer",
}

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Load a public name from the file that it lives in."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
