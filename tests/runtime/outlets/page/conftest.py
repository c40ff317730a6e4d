from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ssn_edge_export.signing import sign_package_file
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import Thresholds
from ssn_edge_runtime.manifest import Caught, Risk
from ssn_edge_runtime.outlets.page.roles import Role, new_token
from ssn_edge_runtime.settings import DeviceSettings, Fitted, LineSettings, Recipe
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.sinks import DeviceKey
from ssn_edge_runtime.trust import sign_settings
from tests.runtime.outlets.page.signed_device import Device

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


@pytest.fixture
def device(
    tmp_path: Path, package_path: Path, tokens: dict[str, str], store: SettingsStore
) -> Device:
    package = Path(shutil.copy(package_path, tmp_path / "part.ssn"))
    release, page = (DeviceKey.make(tmp_path / f"{name}.key") for name in ("release", "page"))
    sign_package_file(package, release)
    store.sign(lambda unsigned: sign_settings(release, unsigned))
    (tmp_path / "keys").mkdir()
    for name, key in (("release", release), ("page", page)):
        (tmp_path / "keys" / f"{name}.pub").write_bytes(key.public.to_pem())
    return Device(tmp_path, package, store, page)
