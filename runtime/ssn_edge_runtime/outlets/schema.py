"""The published JSON Schema of what brokers and webhooks are told."""

from __future__ import annotations

import json
from pathlib import Path

SCHEMA_NAME = "messages.schema.json"


def message_schema() -> dict[str, object]:
    """JSON Schema, draft 2020-12: any message, and each kind by itself in ``$defs``."""
    document = json.loads(Path(__file__).with_name(SCHEMA_NAME).read_bytes())
    assert isinstance(document, dict)
    return document
