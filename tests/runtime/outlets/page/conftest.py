from __future__ import annotations

from pathlib import Path

import pytest

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import Thresholds
from ssn_edge_runtime.manifest import Caught, Risk
from ssn_edge_runtime.outlets.page.roles import Role, new_token
from ssn_edge_runtime.settings import DeviceSettings, Fitted, LineSettings, Recipe
from ssn_edge_runtime.settings_store import SettingsStore

PEOPLE = {"vera": Role.VIEWER, "otto": Role.OPERATOR, "emma": Role.ENGINEER}


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """Each person's token; the file is page-tokens.json."""
    path = tmp_path / "page-tokens.json"
    return {name: new_token(path, name, role) for name, role in PEOPLE.items()}


@pytest.fixture
def store(tmp_path: Path, package_path: Path) -> SettingsStore:
    """Settings with a recipe, under which each defect fails; the file is settings.json."""
    with Inspector.open(package_path, engine="onnxruntime-cpu") as inspector:
        fitted = Fitted(
            Thresholds(4.0, 4.0),
            inspector.engine_name,
            inspector.engine_sha256,
            risk=Risk(0.01, 400, True),
            caught=Caught(0.9, 60, 0.95),
        )
        settings = DeviceSettings(
            inspector.package_id,
            {"fp32": fitted},
            recipes={"brass": Recipe()},
            line=LineSettings(alarm_after=1),
        )
    store = SettingsStore(tmp_path / "settings.json")
    store.save(lambda _: settings)
    return store
