"""The description is right: by its validator, and by requests that are made from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.server import (
    InspectionServer,
    ListenAddress,
    ServerLimits,
    openapi_document,
)
from tests.runtime.server.clients import ask, inspect

Serve = Callable[..., InspectionServer]


@pytest.mark.parametrize("with_inspect", [False, True])
@pytest.mark.parametrize("with_trigger", [False, True])
def test_the_description_is_valid_openapi_3_1(with_inspect: bool, with_trigger: bool) -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="the dev extra brings it")
    document = openapi_document(
        ServerLimits(), with_inspect=with_inspect, with_trigger=with_trigger
    )
    assert document["openapi"] == "3.1.0"
    validator.validate(json.loads(json.dumps(document)))
    paths = document["paths"]
    assert isinstance(paths, dict)
    assert ("/v1/trigger" in paths, "/v1/inspect" in paths) == (with_trigger, with_inspect)


def schema_of(document: Any, name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


def test_answers_are_what_the_served_description_says(
    serve: Serve, inspector: Inspector, unix: ListenAddress, part: Callable[..., ByteImage]
) -> None:
    address = serve(inspector, unix).address
    document = ask(address, "GET", "/openapi.json").body
    for frame in (part(1), part(1, defect=True), np.zeros((96, 128, 3), np.uint8)):
        reply = inspect(address, frame, mask=1, part_id="a")
        jsonschema.validate(reply.body, schema_of(document, "Decision"))
    for reply in (ask(address, "GET", "/nowhere"), ask(address, "POST", "/v1/inspect", b"")):
        jsonschema.validate(reply.body, schema_of(document, "Refusal"))
    for path, name in (("/v1/state", "State"), ("/healthz", "Health"), ("/readyz", "Readiness")):
        jsonschema.validate(ask(address, "GET", path).body, schema_of(document, name))


def test_requests_made_from_the_description_get_answers_that_it_names(
    serve: Serve, inspector: Inspector, tcp: ListenAddress
) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="the dev extra brings it")
    # A body of random bytes is a sound request by the description, and no picture all the same.
    checks = pytest.importorskip("schemathesis.specs.openapi.checks")
    server = serve(inspector, tcp, trigger=lambda trigger_id, *_: {"accepted_id": trigger_id})
    schema = schemathesis.openapi.from_url(f"http://{server.address}/openapi.json")
    checked: set[str] = set()

    def check(operation: Any) -> None:
        @settings(
            max_examples=15,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy())
        def call(case: Any) -> None:
            case.call_and_validate(timeout=20, excluded_checks=[checks.positive_data_acceptance])

        call()
        checked.add(operation.path)

    for result in schema.get_all_operations():
        check(result.ok())
    assert checked == set(schema.raw_schema["paths"]) - {"/openapi.json"}  # where it came from
    assert len(checked) == 5
