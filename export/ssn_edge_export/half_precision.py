"""A float32 ONNX model to half precision, with what must stay float32 kept so.

TensorRT takes precision from the file alone: each tensor has its type, and casts stand between
them. What half precision cannot hold is found by running the model on real pictures; what it does
to the scores is measured by running it with every rounding emulated.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ssn_edge_export.half_precision_choice import Choice, choose
from ssn_edge_export.half_precision_emulation import half_emulation
from ssn_edge_export.half_precision_graph import PRODUCTS, QUANTISE, TypedGraph
from ssn_edge_export.half_precision_ranges import Ranges, multiplications, observed_ranges
from ssn_edge_export.half_precision_report import HalfReport, KeptNode, ScoreErrors
from ssn_edge_export.half_precision_search import layers_by_harm, score_errors
from ssn_edge_export.half_precision_writer import casts_of, model_with_half_nodes
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import ExportError

__all__ = ["LARGEST_ERROR", "MARGIN", "HalfPrecision", "fp16_from_fp32", "half_emulation"]

MARGIN = 8.0
"""How many times larger than on the pictures an activation may become."""
LARGEST_ERROR = 0.05
"""Of either logit, as a share of its spread over the pictures."""


@dataclass(frozen=True, slots=True)
class HalfPrecision:
    """A model in half precision, and how it came to it.

    Args:
        model: The serialised ONNX model.
        report: What was kept in float32, why, and what the rest does to the scores.
    """

    model: bytes
    report: HalfReport


def fp16_from_fp32(
    model: bytes,
    pixels: Sequence[ByteImage],
    *,
    margin: float = MARGIN,
    largest_error: float = LARGEST_ERROR,
) -> HalfPrecision:
    """Convert an exported model to float16, strongly typed, with its casts in the file.

    Args:
        model: A float32 model with the inputs and outputs of `engines/base.py`, quantised or not.
            They stay as they are.
        pixels: Preprocessed pictures, (h, w, 3) uint8 each; overflow is looked for on them.
        margin: How many times larger a picture of tomorrow may make an activation.
        largest_error: What the largest difference of either logit may be on the pictures, as a
            share of its standard deviation over them. Where it is more, layers are kept in float32
            from the most harmful one on until it is not. With one picture there is no spread, and
            nothing is kept for it; nor for a quantised model, where any small difference turns
            roundings to INT8 and no layer is to blame.

    Returns:
        The model and its report. Equal arguments give equal bytes on equal machines.

    Raises:
        CalibrationError: No picture, or ONNX Runtime cannot run the model.
        ExportError: The model is not one of ours, or no part of it can be held in half precision.
    """
    graph = TypedGraph(model)
    ranges = observed_ranges(graph, pixels)
    choice = choose(graph, ranges, margin=margin)
    errors, worst_first = score_errors(graph, choice, pixels)
    is_quantised = any(node.op_type == QUANTISE for node in graph.nodes)
    if len(pixels) > 1 and not is_quantised and errors.share_of_spread > largest_error:
        choice, errors = _without_harmful_layers(
            graph, ranges, choice, worst_first, errors, margin, largest_error
        )
    if not all(map(math.isfinite, (errors.classification, errors.map_max, errors.anomaly_map))):
        raise ExportError(
            "in half precision the scores are not finite even where every activation fits; export "
            "without --fp16, and report this net"
        )
    if not any(node.name in choice.half for node in graph.nodes if node.op_type in PRODUCTS):
        raise ExportError(
            "no layer of the net can be held in half precision "
            f"({_reasons(choice)}); export without --fp16"
        )
    half_model = model_with_half_nodes(graph, choice.half)
    return HalfPrecision(
        half_model,
        HalfReport(
            pictures=len(pixels),
            margin=margin,
            half_operators=dict(
                sorted(Counter(n.op_type for n in graph.nodes if n.name in choice.half).items())
            ),
            half_share=_half_share(graph, choice, ranges),
            kept=tuple(_kept(graph, choice, ranges)),
            weights=choice.weights,
            casts=casts_of(half_model) - casts_of(model),
            errors=errors,
            largest_error=largest_error,
            float_bytes=len(model),
            half_bytes=len(half_model),
        ),
    )


def _without_harmful_layers(
    graph: TypedGraph,
    ranges: Ranges,
    choice: Choice,
    worst_first: Sequence[ByteImage],
    errors: ScoreErrors,
    margin: float,
    largest_error: float,
) -> tuple[Choice, ScoreErrors]:
    """Keep the fewest layers, the most harmful ones first, that bring the error below its limit."""
    layers = layers_by_harm(graph, choice, worst_first, errors)
    found: dict[int, tuple[Choice, ScoreErrors]] = {}

    def is_enough(count: int) -> bool:
        harmful = frozenset(name for layer in layers[:count] for name in layer)
        lighter = choose(graph, ranges, margin=margin, harmful=harmful)
        found[count] = (lighter, score_errors(graph, lighter, worst_first)[0])
        return found[count][1].share_of_spread <= largest_error

    enough = 1
    while enough < len(layers) and not is_enough(enough):
        enough *= 2
    too_few, enough = enough // 2, min(enough, len(layers))
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if is_enough(middle):
            enough = middle
        else:
            too_few = middle
    if enough not in found:
        is_enough(enough)
    return found[enough]


def _half_share(graph: TypedGraph, choice: Choice, ranges: Ranges) -> float:
    of_node = {node.name: multiplications(graph, node, ranges) for node in graph.nodes}
    return sum(of_node[name] for name in choice.half) / max(sum(of_node.values()), 1)


def _kept(graph: TypedGraph, choice: Choice, ranges: Ranges) -> Iterator[KeptNode]:
    for node in graph.nodes:
        if node.name in choice.kept:
            names = (*graph.activations(node), *node.output)
            seen = [ranges.largest[name] for name in names if name in ranges.largest]
            yield KeptNode(node.name, node.op_type, choice.kept[node.name], max(seen, default=None))


def _reasons(choice: Choice) -> str:
    counts = Counter(each.value for each in choice.kept.values())
    return "; ".join(f"{count} nodes: {reason}" for reason, count in counts.most_common(3))
