"""`ssn-edge run` with a broken outlet beside it: `python -m broken_line HOW run ...`."""

from __future__ import annotations

import sys

import ssn_edge.guarded_run as guarded_run
from ssn_edge.cli import main
from ssn_edge_runtime.outlets.process import OutletProcess

how = sys.argv.pop(1)
guarded_run.outlets_of = lambda request, on_message: [  # type: ignore[assignment]
    OutletProcess("1.2.3.4:5", "broken_outlet", [how], what="broken", outlet="mqtt",
                  on_message=on_message)
]  # fmt: skip
main()
