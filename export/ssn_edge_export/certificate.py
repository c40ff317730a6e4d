"""What the export gate measured, as the JSON that travels in the package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from ssn_edge_export.onnx_model import GRAPH_VERSION
from ssn_edge_export.scoring import LabelledPicture
from ssn_edge_export.verify import Comparison
from ssn_edge_runtime.decision import ScoringRule, Thresholds
from ssn_edge_runtime.manifest import Risk

CERTIFICATE_VERSION = 1
WHERE_MEASURED = (
    "measured on the CPU of a workstation with ONNX Runtime; not run on a GPU or Jetson"
)


def certificate_json(
    comparison: Comparison,
    *,
    compared: Sequence[LabelledPicture],
    model: bytes,
    precision: str,
    engine_name: str,
    thresholds: Thresholds,
    risk: Risk,
    rule: ScoringRule,
    versions: Mapping[str, str],
) -> bytes:
    """Write a certificate, for people to read and programs to check.

    Args:
        comparison: Net against exported graph.
        compared: The pictures it was made on.
        model: The ONNX bytes that it is about; their SHA-256 goes in.
        precision: The model's name in the manifest.
        engine_name: What ran the model.
        thresholds: Fitted on this model's scores.
        risk: What they were fitted for.
        rule: Which logit they cut.
        versions: Of what took part, by name.
    """
    document = {
        "schema": CERTIFICATE_VERSION,
        "precision": precision,
        "graph": GRAPH_VERSION,
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "what": "the trained net in torch against the exported model, on the same pixels",
        "where": WHERE_MEASURED,
        "engine": engine_name,
        "normal_pictures": sum(picture.label == 0 for picture in compared),
        "anomalous_pictures": sum(picture.label == 1 for picture in compared),
        "comparison": comparison.to_dict(),
        "scoring_rule": rule.value,
        "thresholds": asdict(thresholds),
        "risk": asdict(risk),
        "versions": dict(versions),
    }
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"
