"""The local server's description, OpenAPI 3.1: what other languages make their clients from."""

from __future__ import annotations

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.server.answers import STAGES
from ssn_edge_runtime.server.limits import MAX_DEADLINE_MS, ServerLimits
from ssn_edge_runtime.verdict_codes import VerdictCode

API_VERSION = "1.0"
_STATES = (
    "Preoperational",
    "Halted",
    "Error",
    "Initialized",
    "Ready",
    "SingleExecution",
    "ContinuousExecution",
)
"""Of OPC 40100-1. Without a line behind it the server knows Ready, Halted and Error."""
_PART_ID: dict[str, object] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 128,
    "pattern": "^[A-Za-z0-9._:/+-]+$",
}

_CAMERA: dict[str, object] = {
    "type": "string",
    "pattern": "^[a-z][a-z0-9_-]{0,63}$",
    "description": "Which camera sees the part; the line's first without it.",
}


def openapi_document(
    limits: ServerLimits, *, with_inspect: bool = True, with_trigger: bool = False
) -> dict[str, object]:
    """The description of a server with these limits.

    Args:
        limits: Named in the texts.
        with_inspect: Whether frames are taken.
        with_trigger: Whether there is a line that takes triggers.
    """
    paths: dict[str, object] = {
        "/v1/state": {
            "get": _reading(
                "state",
                "Package, engine, counts and latencies; the line.",
                "State",
                refusals=("503", "504"),
            )
        },
        "/healthz": {"get": _reading("health", "Whether the process answers.", "Health")},
        "/readyz": {
            "get": _reading(
                "ready", "Whether parts can be judged.", "Readiness", refusals=("503", "504")
            )
        },
        "/openapi.json": {"get": _reading("description", "This description.", "Description")},
    }
    if with_inspect:
        paths["/v1/inspect"] = {"post": _inspect(limits)}
    if with_trigger:
        paths["/v1/trigger"] = {"post": _trigger()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ssn-edge",
            "version": API_VERSION,
            "description": (
                "A frame in, a verdict out. Let a part through only on HTTP status 200 with "
                f"verdict_code {int(VerdictCode.PASS)}. Every error answers `unknown`, and silence "
                "means reject: give each call a time limit of your own. "
                "Not a safety-rated function (ISO 13849, IEC 61508)."
            ),
        },
        "paths": paths,
        "components": {"schemas": _schemas()},
    }


def _inspect(limits: ServerLimits) -> dict[str, object]:
    side = {"type": "integer", "minimum": 1, "maximum": 1 << 20}
    raw_only = " Of raw pixels; a picture tells its size."
    return {
        "operationId": "inspect",
        "summary": "Judge one frame.",
        "parameters": [
            _query("height", "Rows." + raw_only, side),
            _query("width", "Columns." + raw_only, side),
            _query(
                "channels",
                "1 is mono, 3 is blue, green, red." + raw_only,
                {"type": "integer", "enum": [1, 3]},
            ),
            _query(
                "mask", "1 adds the defect mask.", {"type": "integer", "enum": [0, 1], "default": 0}
            ),
            _query(
                "deadline_ms",
                "Counts from the request's head; what is later is unknown(deadline).",
                {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": MAX_DEADLINE_MS,
                    "default": limits.deadline_ms,
                },
            ),
            _query("part_id", "Repeated in the answer.", _PART_ID),
        ],
        "requestBody": {
            "required": True,
            "description": (
                f"At most {limits.max_body_bytes} bytes and {limits.max_pixels} pixels. Raw: "
                "uint8, height x width x channels, row by row, without padding."
            ),
            "content": {
                media_type: {}
                for media_type in (
                    "application/octet-stream",
                    "image/png",
                    "image/jpeg",
                    "image/bmp",
                )
            },
        },
        "responses": {
            "200": _answer("The frame was judged: pass, fail or unknown.", "Decision"),
            "500": _answer("The engine failed: unknown.", "Decision"),
            **_refused("400", "403", "408", "411", "413", "415", "422", "503", "504"),
        },
    }


def _trigger() -> dict[str, object]:
    return {
        "operationId": "trigger",
        "summary": "Tell the line that a part is in front of its camera.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["trigger_id"],
                        "additionalProperties": False,
                        "properties": {
                            "trigger_id": {"type": "integer", "minimum": 1, "maximum": 0xFFFF},
                            "part_id": {"anyOf": [_PART_ID, {"type": "null"}]},
                            "camera": {"anyOf": [_CAMERA, {"type": "null"}]},
                        },
                    }
                }
            },
        },
        "responses": {
            "200": _answer("The part's verdict.", "TriggerReply"),
            "202": _answer(
                "Accepted; there is no verdict yet: reject until there is.", "TriggerReply"
            ),
            **_refused("400", "403", "408", "411", "413", "415", "422", "500", "503", "504"),
        },
    }


def _reading(
    name: str, summary: str, schema: str, *, refusals: tuple[str, ...] = ()
) -> dict[str, object]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": _answer(summary, schema), **_refused("400", "403", *refusals)},
    }


def _query(name: str, description: str, schema: dict[str, object]) -> dict[str, object]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _answer(description: str, schema: str) -> dict[str, object]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _refused(*statuses: str) -> dict[str, object]:
    return {status: _answer(f"{_STATUSES[status]}: unknown.", "Refusal") for status in statuses}


_STATUSES = {
    "400": "A value of the query or the head is wrong",
    "403": "A browser's request, or another host's name",
    "408": "The body did not come within the deadline",
    "411": "The body has no Content-Length",
    "413": "Body or picture are too large",
    "415": "Neither a PNG, JPEG or BMP nor raw pixels",
    "422": "The picture cannot be decoded, or the body has another length than it should",
    "500": "Something failed",
    "503": "No room, or not ready",
    "504": "The deadline passed",
}


def _schemas() -> dict[str, object]:
    number = {"type": ["number", "null"]}
    text = {"type": ["string", "null"]}
    count = {"type": "integer", "minimum": 0}
    decision: dict[str, object] = {
        "verdict": {"type": "string", "enum": [verdict.value for verdict in Verdict]},
        "verdict_code": {
            "type": "integer",
            "enum": [int(code) for code in VerdictCode if code is not VerdictCode.NONE],
            "description": "pass 23205 (0x5AA5), fail 42330 (0xA55A), unknown 15555 (0x3CC3).",
        },
        "reason": {"type": "string", "enum": [reason.value for reason in Reason]},
        "detail": {"type": "string", "description": "One line for a person."},
        "part_id": text,
        "score": number,
        "raw_score": number,
        "threshold": number,
        "zone": text,
        "defects": {"type": "array", "items": {"$ref": "#/components/schemas/Defect"}},
        "defect_count": count,
        "timings_ms": {
            "type": "object",
            "required": list(STAGES),
            "properties": dict.fromkeys(STAGES, number),
        },
        **dict.fromkeys(("package_id", "precision", "engine", "engine_sha256"), text),
    }
    no_verdict = {
        "verdict": {"const": Verdict.UNKNOWN.value},
        "verdict_code": {"const": int(VerdictCode.UNKNOWN)},
    }
    return {
        "Decision": {
            "type": "object",
            "required": list(decision),
            "properties": {
                **decision,
                "mask_png": {
                    "type": ["string", "null"],
                    "contentEncoding": "base64",
                    "contentMediaType": "image/png",
                    "description": "In camera pixels, 255 where there is a defect; with mask=1.",
                },
            },
        },
        "Refusal": {
            "type": "object",
            "required": list(decision),
            "properties": {**decision, **no_verdict},
        },
        "Defect": {
            "type": "object",
            "required": ["box_xyxy", "area_px", "peak", "mean"],
            "properties": {
                "box_xyxy": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "minItems": 4,
                    "maxItems": 4,
                    "description": "Left, top, first column and row beyond, in camera pixels.",
                },
                "area_px": {"type": "number"},
                "peak": {"type": "number"},
                "mean": {"type": "number"},
            },
        },
        "TriggerReply": {
            "type": "object",
            "required": ["trigger_id", "part_id", "verdict", "verdict_code"],
            "properties": {
                "trigger_id": {"type": "integer"},
                "part_id": text,
                "verdict": {"enum": [*(verdict.value for verdict in Verdict), None]},
                "verdict_code": {
                    "type": "integer",
                    "enum": [int(code) for code in VerdictCode],
                    "description": "0 where there is no verdict yet.",
                },
                "reason": {"type": "string", "enum": [reason.value for reason in Reason]},
            },
        },
        "State": {
            "type": "object",
            "required": ["state", "verdicts", "refusals", "latency_ms", "line"],
            "properties": {
                "state": {"enum": list(_STATES)},
                **dict.fromkeys(("package_id", "precision", "engine", "engine_sha256"), text),
                "uptime_s": {"type": "number"},
                "verdicts": {"type": "object", "additionalProperties": count},
                "refusals": {"type": "object", "additionalProperties": count},
                "latency_ms": {"type": "object", "additionalProperties": {"type": "object"}},
                "line": {
                    "type": ["object", "null"],
                    "description": (
                        "The line behind the server, if there is one: state and cause, counters, "
                        "parts in flight, last verdict, worker processes."
                    ),
                },
            },
        },
        "Health": {"type": "object", "properties": {"alive": {"const": True}}},
        "Readiness": {"type": "object", "properties": {"ready": {"const": True}}},
        "Description": {"type": "object"},
    }
