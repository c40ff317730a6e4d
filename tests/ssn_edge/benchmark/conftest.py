"""The runtime's tiny packages, and scripted engines among the real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from ssn_edge_runtime.engines import ENGINES, EngineKind, ModelToRun
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.engines.cache import EngineKey, EngineSlot
from tests.runtime.conftest import (
    SIZE_HW,
    make_package,
    package_contents,
    package_path,
    part,
    tiny_model,
)

__all__ = ["make_package", "package_contents", "package_path", "part", "tiny_model"]


@pytest.fixture
def free_package(
    make_package: Callable[..., Path], tiny_model: Callable[..., onnx.ModelProto]
) -> Path:
    """A tiny package whose model takes any number of frames at once."""
    model = tiny_model(input_size_hw=SIZE_HW, batch="B").SerializeToString()
    return make_package(model=model)


@pytest.fixture
def add_engine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put an engine among the real ones: `add_engine(name, load, needs_certificate=False)`."""

    def add(
        name: str,
        load: Callable[[ModelToRun], Engine],
        *,
        needs_certificate: bool = False,
        missing: str | None = None,
    ) -> None:
        def key(model: ModelToRun) -> EngineKey:
            return EngineKey({"engine": name, "batch_size": model.batch_size})

        def of_slot(model: ModelToRun, slot: EngineSlot) -> Engine:
            return load(model)

        kind = EngineKind(
            ("fp32",), lambda: missing, key, of_slot, needs_certificate=needs_certificate
        )
        monkeypatch.setitem(ENGINES, name, kind)

    return add
