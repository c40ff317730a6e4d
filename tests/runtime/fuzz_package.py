"""`python fuzz_package.py PACKAGE TRUST FOLDER SEED SECONDS`: mutants through the package reader.

Ends with 0 and a summary, or with 1 and what went wrong; the mutant at hand lies in FOLDER.
"""

from __future__ import annotations

import faulthandler
import json
import re
import resource
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random

from package_mutations import contents_of, mutant

from ssn_edge.package_info import read_info
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.errors import ConfigError, PackageError
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.preprocess import Geometry
from ssn_edge_runtime.self_test import golden_outcomes
from ssn_edge_runtime.settings_store import read_settings
from ssn_edge_runtime.trust import Trust

ROOM_BYTES = 192 * 2**20
"""Address space beyond what is loaded: some thousand times the package."""
HANG_S = 60
SIZE_HW = (48, 64)


def main() -> int:
    package, trusted, folder = (Path(each) for each in sys.argv[1:4])
    seed, seconds = int(sys.argv[4]), float(sys.argv[5])
    data, settings = package.read_bytes(), package.with_name("settings.json").read_bytes()
    contents, trust = contents_of(data), Trust(trusted)
    with Package.open(package) as sound:
        signed_id = sound.package_id
    path, settings_path = folder / "mutant.ssn", folder / "mutant.json"
    _look_at(package, trust, signed_id, Counter())  # loads what is loaded late
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM_BYTES, size + ROOM_BYTES))
    counts: Counter[str] = Counter()
    slowest_s, number, until_s = 0.0, 0, time.monotonic() + seconds
    while time.monotonic() < until_s or number < 300:
        random = Random(f"{seed}/{number}")
        path.write_bytes(mutant(random, data, contents))
        settings_path.write_bytes(_settings_mutant(random, settings))
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        began_s = time.monotonic()
        try:
            _look_at(path, trust, signed_id, counts)
            _look_at_settings(settings_path, counts)
        except Exception:  # noqa: BLE001 - it is what this is for
            sys.stderr.write(f"mutant {number} of seed {seed}:\n")
            traceback.print_exc()
            return 1
        slowest_s = max(slowest_s, time.monotonic() - began_s)
        number += 1
    faulthandler.cancel_dump_traceback_later()
    kinds = {kind: count for kind, count in counts.items() if kind.startswith("refused ")}
    json.dump(
        {
            "mutants": number,
            "opened": counts["opened"],
            "opened_and_signed": counts["opened and signed"],
            "settings_taken": counts["settings taken"],
            "slowest_s": slowest_s,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "refusals": kinds,
        },
        sys.stdout,
    )
    return 0


def _look_at(path: Path, trust: Trust, signed_id: str, counts: Counter[str]) -> None:
    for each in (None, trust):
        try:
            with Package.open(path, trust=each) as package:
                for name in package.manifest.entries:
                    package.read(name)
                if each is None:
                    counts["opened"] += 1
                    _look_at_golden(package)
                else:
                    # Whatever else differs, it is what was signed: the id hashes all of it.
                    assert package.package_id == signed_id, package.package_id
                    counts["opened and signed"] += 1
        except PackageError as error:
            text = str(error)
            assert text.isprintable(), text[:500]
            assert len(text) < 2000, len(text)
            counts["refused " + _kind(text.removeprefix(f"{path}: "))] += 1
            continue
        if each is None and counts["opened"] % 20 == 1:  # it asks every engine, and takes long
            try:
                read_info(path, trust=trust).lines()
            except PackageError:
                counts["no info"] += 1


def _look_at_golden(package: Package) -> None:
    """Decode what the self-test decodes; an engine of another size would have refused to load."""
    if package.manifest.geometry == Geometry(SIZE_HW):
        engine = FakeEngine(input_size_hw=SIZE_HW)
        for precision in package.manifest.precisions:
            for _ in golden_outcomes(package, engine, precision):
                pass


def _look_at_settings(path: Path, counts: Counter[str]) -> None:
    try:
        read_settings(path)
        counts["settings taken"] += 1
    except ConfigError:
        counts["settings refused"] += 1


def _settings_mutant(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randrange(4)):
        at = random.randrange(len(changed))
        changed[at : at + random.randrange(3)] = random.choice(
            (b"", b"1", b'"', b"{", b"null", b"9" * 5000, b"[" * 2000, random.randbytes(2))
        )
    return bytes(changed)


def _kind(text: str) -> str:
    """A refusal without the numbers and names of this mutant."""
    return " ".join(re.sub(r"'[^']*'|[0-9a-f]{6,}|\d+", "_", text).split()[:7])


if __name__ == "__main__":
    sys.exit(main())
