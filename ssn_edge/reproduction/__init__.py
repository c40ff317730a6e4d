"""The published experiments: their protocols and numbers, and running them again."""

from ssn_edge.reproduction.comparison import ComparedRow, Comparison, compare
from ssn_edge.reproduction.figures import Figures
from ssn_edge.reproduction.one_run import Observer
from ssn_edge.reproduction.protocols import Part, Protocol, PublishedDataset, protocol_of
from ssn_edge.reproduction.published import METRICS, published_figures
from ssn_edge.reproduction.request import ReproductionRequest, choose_masks, default_output
from ssn_edge.reproduction.result import RunFigures
from ssn_edge.reproduction.runner import Failure, Reproduction, reproduce

__all__ = [
    "METRICS",
    "ComparedRow",
    "Comparison",
    "Failure",
    "Figures",
    "Observer",
    "Part",
    "Protocol",
    "PublishedDataset",
    "Reproduction",
    "ReproductionRequest",
    "RunFigures",
    "choose_masks",
    "compare",
    "default_output",
    "protocol_of",
    "published_figures",
    "reproduce",
]
