"""What the export gate measured, as the JSON that travels in the package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from ssn_edge_export.gate import Certified, Contender
from ssn_edge_export.gate_columns import ColumnReport
from ssn_edge_export.gate_limits import GateLimits
from ssn_edge_runtime.decision import ScoringRule
from ssn_edge_runtime.manifest import Risk, Tolerance

CERTIFICATE_VERSION = 2
WHERE_MEASURED = "measured on the CPU of a workstation; not run on a GPU or Jetson"


def certificate_json(
    contender: Contender,
    certified: Certified,
    *,
    compared: Sequence[ColumnReport],
    pictures: Mapping[str, int],
    limits: GateLimits,
    risk: Risk,
    rule: ScoringRule,
    tolerance: Tolerance,
    details: Mapping[str, object],
    versions: Mapping[str, str],
) -> bytes:
    """Write a certificate, for people to read and programs to check.

    Args:
        contender: The model that it is about; the SHA-256 of its bytes goes in.
        certified: What the gate found.
        compared: Columns of graphs that are not in the package, for comparison.
        pictures: How many were compared, by part and label.
        limits: That the gate had.
        risk: What the thresholds were fitted for.
        rule: Which logit they cut.
        tolerance: What a device may differ by.
        details: How the model was made: nodes in half precision, layers in INT8, the search.
        versions: Of what took part, by name.
    """
    document = {
        "schema": CERTIFICATE_VERSION,
        "precision": contender.precision,
        "graph": contender.graph,
        "model_sha256": hashlib.sha256(contender.model).hexdigest(),
        "what": "the trained net in torch against the exported model, on the same pixels",
        "where": WHERE_MEASURED,
        "pictures": dict(pictures),
        "columns": [column.to_dict() for column in certified.columns],
        "compared": [column.to_dict() for column in compared],
        "not_measured": [{"column": title, "why": why} for title, why in certified.skipped],
        "limits": limits.to_dict(),
        "scoring_rule": rule.value,
        "thresholds": asdict(contender.thresholds),
        "risk": asdict(risk),
        "tolerance": asdict(tolerance),
        "details": dict(details),
        "versions": dict(versions),
    }
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"
