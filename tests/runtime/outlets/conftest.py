from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The line's own tests have what starts a real line: shared, not copied.
FAULTS = Path(__file__).parents[1] / "line" / "faults"
for folder in (FAULTS, Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from tests.runtime.line.faults.conftest import _children  # noqa: E402


@pytest.fixture
def no_process_is_left() -> Iterator[None]:
    """No process outlives the test; the peers' libraries keep threads of their own."""
    before = _children()
    yield
    assert _children() == before
