"""Whether a machine is fit for the line: what was found, what is wanted, and the fix.

Starts without NumPy and OpenCV, which may be what is broken.
"""

from __future__ import annotations

from ssn_edge_runtime.doctor.facts import Facts
from ssn_edge_runtime.doctor.findings import Finding, Level, Report
from ssn_edge_runtime.doctor.gather import Wishes, gather
from ssn_edge_runtime.doctor.host import Host
from ssn_edge_runtime.doctor.judge import judge

__all__ = ["Facts", "Finding", "Host", "Level", "Report", "Wishes", "gather", "judge"]
