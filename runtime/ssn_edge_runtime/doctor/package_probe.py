"""A program: what `run` would take for a package here, as a line of JSON, for a process of its own.

Choosing an engine imports TensorRT and asks the driver: whatever hangs takes only that with it.
"""

from __future__ import annotations

import json
import sys

from ssn_edge_runtime.errors import SsnEdgeError


def look_into(path: str) -> dict[str, str]:
    """The package's id, and either the engine with why, or the problem."""
    from ssn_edge_runtime.engines.choice import choose_engine
    from ssn_edge_runtime.package import Package

    answer = {}
    try:
        with Package.open(path) as package:
            answer["package_id"] = package.package_id
            answer["engine"] = choose_engine(package).reason
    except SsnEdgeError as error:
        answer["problem"] = str(error)
    return answer


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(look_into(sys.argv[1])) + "\n")
