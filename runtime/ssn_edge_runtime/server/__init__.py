"""The local server: a frame in, a verdict out, for controllers in other languages."""

from __future__ import annotations

from ssn_edge_runtime.server.address import ListenAddress, parse_listen
from ssn_edge_runtime.server.answers import Refusal
from ssn_edge_runtime.server.endpoints import Status, Trigger
from ssn_edge_runtime.server.inspection_server import InspectionServer
from ssn_edge_runtime.server.limits import ServerLimits
from ssn_edge_runtime.server.openapi import openapi_document

__all__ = [
    "InspectionServer",
    "ListenAddress",
    "Refusal",
    "ServerLimits",
    "Status",
    "Trigger",
    "openapi_document",
    "parse_listen",
]
