"""A look at the data before training: leaks, contradictions, odd pictures, each by name."""

from ssn_edge.data_check.check import check_data, check_data_at
from ssn_edge.data_check.findings import DataReport, Finding, Kind, Severity
from ssn_edge.data_check.page import write_page

__all__ = [
    "DataReport",
    "Finding",
    "Kind",
    "Severity",
    "check_data",
    "check_data_at",
    "write_page",
]
