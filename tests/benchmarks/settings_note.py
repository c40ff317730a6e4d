"""How long settings with signatures hold up the parts of a line, and how long their note takes.

    python tests/benchmarks/settings_note.py [--changes 200] [--folder /somewhere/on/that/disk]

- `note`: `TrustState.take_settings`, a small file that is written, synced and renamed, with its
  folder: what the disk takes, done behind the parts
- `apply`: `Inspector.apply_settings`, what the next part waits for: reading, signature, thresholds

The model is a stand-in: nothing here depends on it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from line_overhead import make_package

from ssn_edge_export.signing import sign_package_file
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.device_info import describe_device
from ssn_edge_runtime.latency import LatencyHistogram
from ssn_edge_runtime.settings import DeviceSettings, LineSettings
from ssn_edge_runtime.settings_json import settings_to_json
from ssn_edge_runtime.sinks import DeviceKey
from ssn_edge_runtime.trust import Trust, TrustState, sign_settings

PAUSE_S = 0.05
"""Between two changes: each note is on disk before the next."""


def summary(histogram: LatencyHistogram) -> dict[str, float]:
    return {
        str(percent): round(histogram.percentile_ns(percent) / 1e6, 3) for percent in (50, 99, 100)
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    note, apply = LatencyHistogram(), LatencyHistogram()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        package = make_package(folder, 64, 4)
        key = DeviceKey.make(folder / "release.key")
        (folder / "release.pub").write_bytes(key.public.to_pem())
        sign_package_file(package, key)
        trust = Trust(folder / "release.pub", folder / "state.json")
        with Inspector.open(
            package, engine="onnxruntime-cpu", self_test=False, trust=trust
        ) as inspector:
            for version in range(1, arguments.changes + 1):
                settings = DeviceSettings(
                    inspector.package_id, version=version, line=LineSettings(halt_after=version)
                )
                settings = replace(settings, signature=sign_settings(key, settings))
                path = folder / f"settings-{version}.json"
                path.write_bytes(settings_to_json(settings))
                begun = time.perf_counter_ns()
                inspector.apply_settings(path)
                apply.record(time.perf_counter_ns() - begun)
                time.sleep(PAUSE_S)
        state = TrustState(folder / "other-state.json")
        for version in range(1, arguments.changes + 1):
            begun = time.perf_counter_ns()
            state.take_settings("0" * 64, version)
            note.record(time.perf_counter_ns() - begun)
            time.sleep(PAUSE_S)
    document = {
        "device": describe_device().to_dict(),
        "changes": arguments.changes,
        "ms": {"note": summary(note), "apply": summary(apply)},
    }
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
