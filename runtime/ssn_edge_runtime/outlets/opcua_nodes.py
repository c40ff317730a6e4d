"""The line as OPC UA nodes, in the spirit of OPC 40100-1, and their values of this moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asyncua import Node, Server, ua

from ssn_edge_runtime.outlets.line_view import LineView
from ssn_edge_runtime.verdict_codes import VerdictCode

NAMESPACE = "urn:ssn-edge:line"
COUNTERS = {
    "Records": "records",
    "Pass": "pass",
    "Fail": "fail",
    "Unknown": "unknown",
    "Withheld": "withheld",
    "LateResults": "late_results",
    "Bounces": "trigger:bounce",
}
"""The line's own names of what it counts, by that of the node."""

_V = ua.VariantType
NODES: Mapping[str, tuple[ua.VariantType, object]] = {
    "Connected": (_V.Boolean, False),
    "State": (_V.String, "Unknown"),
    "Cause": (_V.String, ""),
    "LastResult.Sequence": (_V.UInt64, 0),
    "LastResult.TriggerId": (_V.Int64, 0),
    "LastResult.Verdict": (_V.String, ""),
    "LastResult.Reason": (_V.String, ""),
    "LastResult.Code": (_V.UInt16, 0),
    "LastResult.Valid": (_V.Boolean, False),
    **{f"Counters.{name}": (_V.UInt64, 0) for name in COUNTERS},
    "Counters.All": (_V.String, "{}"),
    "Recipe.Active": (_V.String, ""),
    "Recipe.SettingsId": (_V.String, ""),
    "Recipe.Available": (_V.String, []),
    "Head": (_V.String, ""),
}
"""Type and empty value of each node, by its path below the line's object."""


@dataclass(frozen=True, slots=True)
class NodeValue:
    """What a node says now.

    Args:
        value: As its type wants it.
        status: Good, or why not.
    """

    value: object
    status: int = ua.StatusCodes.Good


def node_values(view: LineView, recipes: list[str], head: str) -> dict[str, NodeValue]:
    """What all nodes say of a view.

    A result that is over stays readable as the last one, with a status that is not good; its code
    is none then. Of a line that does not tell, nothing is good but that.
    """
    if not view.is_connected:
        dead = ua.StatusCodes.BadNoCommunication
        values = {name: NodeValue(empty, dead) for name, (_, empty) in NODES.items()}
        values["Connected"] = NodeValue(False)
        values["Cause"] = NodeValue(view.cause, dead)
        values["Recipe.Available"] = NodeValue(recipes)
        values["Head"] = NodeValue(head)
        return values
    values = {
        "Connected": NodeValue(True),
        "State": NodeValue(view.state),
        "Cause": NodeValue(view.cause),
        "Recipe.Active": NodeValue(view.recipe or ""),
        "Recipe.SettingsId": NodeValue(view.settings_id or ""),
        "Recipe.Available": NodeValue(recipes),
        "Counters.All": NodeValue(json.dumps(dict(sorted(view.counters.items())))),
        "Head": NodeValue(head),
    }
    for name, counted in COUNTERS.items():
        values[f"Counters.{name}"] = NodeValue(view.counters.get(counted, 0))
    return values | _result_values(view)


def _result_values(view: LineView) -> dict[str, NodeValue]:
    result = view.result
    if result is None:
        none_yet = ua.StatusCodes.BadWaitingForInitialData
        values = {
            name: NodeValue(empty, none_yet)
            for name, (_, empty) in NODES.items()
            if name.startswith("LastResult.")
        }
        values["LastResult.Code"] = NodeValue(int(VerdictCode.NONE))
        values["LastResult.Valid"] = NodeValue(False)
        return values
    is_over = result.verdict == "pass" and not result.is_valid
    status = ua.StatusCodes.UncertainLastUsableValue if is_over else ua.StatusCodes.Good
    return {
        "LastResult.Sequence": NodeValue(result.sequence),
        "LastResult.TriggerId": NodeValue(result.trigger_id or 0),
        "LastResult.Verdict": NodeValue(result.verdict, status),
        "LastResult.Reason": NodeValue(result.reason, status),
        "LastResult.Code": NodeValue(int(result.code)),
        "LastResult.Valid": NodeValue(result.is_valid),
    }


class LineNodes:
    """The line's object in a server's address space.

    Args:
        server: Whose; initialised.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._nodes: dict[str, Node] = {}
        self._shown: dict[str, NodeValue] = {}
        self._index = 0

    async def build(self) -> Node:
        """Make all nodes; returns the line's object, to hang methods on."""
        self._index = await self._server.register_namespace(NAMESPACE)
        line = await self._server.nodes.objects.add_object(
            self._id("Line"), ua.QualifiedName("Line", self._index)
        )
        parents: dict[str, Node] = {}
        for path, (kind, empty) in NODES.items():
            above, _, name = path.rpartition(".")
            if above and above not in parents:
                parents[above] = await line.add_object(
                    self._id(f"Line.{above}"), ua.QualifiedName(above, self._index)
                )
            node = await parents.get(above, line).add_variable(
                self._id(f"Line.{path}"),
                ua.QualifiedName(name, self._index),
                ua.Variant(empty, kind, is_array=isinstance(empty, list)),
            )
            self._nodes[path] = node
        return line

    def name(self, text: str) -> tuple[ua.NodeId, ua.QualifiedName]:
        """Id and name of something more below the line."""
        return self._id(f"Line.{text}"), ua.QualifiedName(text, self._index)

    async def show(self, values: Mapping[str, NodeValue]) -> None:
        """Say what changed, to readers and to those who subscribed.

        In this order: what takes a pass back comes first.
        """
        order = sorted(values, key=lambda name: name not in ("LastResult.Valid", "LastResult.Code"))
        for name in order:
            said = values[name]
            if self._shown.get(name) == said:
                continue
            kind, empty = NODES[name]
            value: Any = ua.DataValue(
                ua.Variant(said.value, kind, is_array=isinstance(empty, list)),
                ua.StatusCode(said.status),
            )
            await self._server.write_attribute_value(self._nodes[name].nodeid, value)
            self._shown[name] = said

    def _id(self, path: str) -> ua.NodeId:
        return ua.NodeId(path, self._index)
