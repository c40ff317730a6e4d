"""`ssn-edge schema`: what others are told, as JSON Schema."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ssn_edge.cli.console import reporting


def schema(
    context: typer.Context,
    of: Annotated[str, typer.Argument(help="mqtt, or webhook: the same messages.")] = "mqtt",
) -> None:
    """Print the JSON Schema of the messages to brokers and webhooks.

    Example: ssn-edge schema mqtt > messages.schema.json
    """
    with reporting(context):
        from ssn_edge_runtime.errors import ConfigError
        from ssn_edge_runtime.outlets.schema import message_schema

        if of not in ("mqtt", "webhook"):
            raise ConfigError(f"ssn-edge schema {of}: mqtt or webhook is wanted")
        typer.echo(json.dumps(message_schema(), indent=1))
