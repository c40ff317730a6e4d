"""Engines by name: what runs a package's model on this device."""

from ssn_edge_runtime.engines.base import Engine, ModelToRun
from ssn_edge_runtime.engines.cache import EngineCache
from ssn_edge_runtime.engines.choice import (
    EngineChoice,
    choose_engine,
    choose_precision,
    model_to_run,
    open_engine,
)
from ssn_edge_runtime.engines.kinds import ENGINES, EngineKind

__all__ = [
    "ENGINES",
    "Engine",
    "EngineCache",
    "EngineChoice",
    "EngineKind",
    "ModelToRun",
    "choose_engine",
    "choose_precision",
    "model_to_run",
    "open_engine",
]
