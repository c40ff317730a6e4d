"""Whatever a package file holds, its reader takes it or refuses it: in bounded room, in time.

The long form: ``pytest -m soak tests/runtime/test_fuzz_package.py -s``, ten minutes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ssn_edge_export.signing import sign_package_file
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.settings import DeviceSettings
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.sinks import DeviceKey


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "seconds"),
    [
        pytest.param(20261128, 30, id="short"),
        pytest.param(7, 600, id="long", marks=pytest.mark.soak),
    ],
)
def test_no_mutant_of_a_package_crashes_hangs_or_fills_the_memory(
    package_path: Path, tmp_path: Path, seed: int, seconds: int
) -> None:
    key = DeviceKey.make(tmp_path / "release.key")
    package = Path(shutil.copy(package_path, tmp_path / "part.ssn"))
    sign_package_file(package, key, serial=1)
    with Package.open(package) as opened:
        package_id = opened.package_id
    SettingsStore(tmp_path / "settings.json").save(lambda _: DeviceSettings(package_id))
    (tmp_path / "mutants").mkdir()
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("fuzz_package.py"), package,
         tmp_path / "release.key.pub", tmp_path / "mutants", str(seed), str(seconds)],
        capture_output=True, text=True, check=False, timeout=seconds + 300,
    )  # fmt: skip
    # A crash, or an error that is none of a reader's, leaves its mutant in the folder.
    assert done.returncode == 0, f"{tmp_path}/mutants: {done.stderr[-3000:]}"
    found = json.loads(done.stdout)
    sys.stdout.write(json.dumps(found, indent=1))
    # It was no walk along the fence: mutants came through, and were refused in many places.
    assert found["opened"] > found["mutants"] // 200
    assert found["opened_and_signed"] < found["opened"]
    assert len(found["refusals"]) > 40
