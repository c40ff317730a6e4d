"""Which layers half precision harms most, by what they do to the logits on real pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ssn_edge_calibrate.int8_run import logits_of, outputs_of
from ssn_edge_export.half_precision_choice import Choice
from ssn_edge_export.half_precision_emulation import half_emulation
from ssn_edge_export.half_precision_graph import PRODUCTS, TypedGraph
from ssn_edge_export.half_precision_report import ScoreErrors
from ssn_edge_export.half_precision_writer import model_with_half_nodes
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.engines import base

SEARCH_PICTURES = 4
"""A search runs the net once for each layer and picture; the worst pictures tell most."""


def score_errors(
    graph: TypedGraph, choice: Choice, pixels: Sequence[ByteImage]
) -> tuple[ScoreErrors, list[ByteImage]]:
    """What a choice does to scores and maps, and the pictures, the worst one first."""
    names = [base.CLASSIFICATION_LOGIT, base.MAP_MAX_LOGIT, base.ANOMALY_MAP]
    emulated = half_emulation(model_with_half_nodes(graph, choice.half))
    logits: list[_Logits] = []
    differences: list[_Logits] = []
    of_map = 0.0
    for wanted, found in zip(
        outputs_of(_bytes(graph), pixels, names), outputs_of(emulated, pixels, names), strict=True
    ):
        logits.append(np.array(wanted[:2], np.float64)[:, 0])
        differences.append(_difference(logits[-1], np.array(found[:2], np.float64)[:, 0]))
        of_map = max(of_map, float(_difference(wanted[2], found[2]).max()))
    spread = np.std(logits, axis=0)
    largest = np.max(differences, axis=0)
    worst = np.argsort(-_of_spread(np.array(differences), spread), kind="stable")
    errors = ScoreErrors(
        classification=float(largest[0]),
        map_max=float(largest[1]),
        anomaly_map=of_map,
        classification_spread=float(spread[0]),
        map_max_spread=float(spread[1]),
    )
    return errors, [pixels[int(index)] for index in worst]


def layers_by_harm(
    graph: TypedGraph, choice: Choice, pixels: Sequence[ByteImage], errors: ScoreErrors
) -> list[frozenset[str]]:
    """Layers, the most harmful one first: each alone in half precision, all else in float32.

    A layer is a product with all that follows it up to the next one: they round the same numbers.

    Args:
        graph: The float32 model.
        choice: Its nodes in half precision.
        pixels: Pictures, the worst one first; some of them are used.
        errors: Of all pictures; the spreads count.
    """
    spread = np.array([errors.classification_spread, errors.map_max_spread])
    used = pixels[:SEARCH_PICTURES]
    wanted = logits_of(_bytes(graph), used)
    harm: list[tuple[float, int, frozenset[str]]] = []
    for layer in _layers(graph, choice):
        emulated = half_emulation(model_with_half_nodes(graph, layer))
        apart = _of_spread(_difference(wanted, logits_of(emulated, used)), spread)
        harm.append((-float(apart.max()), len(harm), layer))
    return [layer for _, _, layer in sorted(harm, key=lambda each: each[:2])]


def _layers(graph: TypedGraph, choice: Choice) -> list[frozenset[str]]:
    layers: list[set[str]] = []
    layer_of: dict[str, int] = {}
    for node in graph.nodes:
        if node.name not in choice.half:
            continue
        before = [
            layer_of[graph.producers[name].name]
            for name in graph.activations(node)
            if name in graph.producers and graph.producers[name].name in layer_of
        ]
        if node.op_type in PRODUCTS or not before:
            layers.append(set())
            before = [len(layers) - 1]
        layer_of[node.name] = max(before)
        layers[max(before)].add(node.name)
    return [frozenset(each) for each in layers]


_Logits = npt.NDArray[np.float64]


def _difference(wanted: npt.NDArray[np.floating], found: npt.NDArray[np.floating]) -> _Logits:
    """Infinite where one is not a number."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.asarray(found, np.float64) - wanted)
    apart[np.isnan(apart)] = np.inf
    return apart


def _of_spread(differences: _Logits, spread: _Logits) -> _Logits:
    """(n, 2) and (2,): the worse of both logits, (n,), as a share of its spread."""
    worse: _Logits = (differences / np.maximum(spread, 1e-30)).max(axis=1)
    return worse


def _bytes(graph: TypedGraph) -> bytes:
    return bytes(graph.model.SerializeToString())
