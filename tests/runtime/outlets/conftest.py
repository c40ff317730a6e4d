from __future__ import annotations

import sys
from pathlib import Path

# The line's own tests have what starts a real line: shared, not copied.
FAULTS = Path(__file__).parents[1] / "line" / "faults"
for folder in (FAULTS, Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from tests.runtime.line.faults.conftest import nothing_is_left  # noqa: E402, F401
