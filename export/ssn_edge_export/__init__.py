"""Trained net to model package: the graph, the proof that it decides the same, and the file."""

from ssn_edge_export.onnx_model import onnx_from_graph
from ssn_edge_export.package_from_net import ExportResult, export_package
from ssn_edge_export.package_writer import write_package
from ssn_edge_export.reference_graph import InspectionNet, ReferenceGraph
from ssn_edge_export.scoring import LabelledPicture
from ssn_edge_export.verify import Comparison, compare, require_equal

__all__ = [
    "Comparison",
    "ExportResult",
    "InspectionNet",
    "LabelledPicture",
    "ReferenceGraph",
    "compare",
    "export_package",
    "onnx_from_graph",
    "require_equal",
    "write_package",
]
