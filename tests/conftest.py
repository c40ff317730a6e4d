"""Where the shared pictures, weights and vectors are; tests skip, saying so, without them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Speed is measured in benchmarks: what else the machine does must not fail a property.
settings.register_profile("untimed", parent=settings.default, deadline=None)
settings.load_profile("untimed")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers run side by side: more threads in each, and in what they start, would only contend.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOMS = ("ssn_edge_runtime", "ssn_edge_calibrate", "ssn_edge_export")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real pictures, weights and vectors that a checkout may have beside it."""
    folder = Path(os.environ.get("SSN_EDGE_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder} (set SSN_EDGE_SHARED)")
    return folder.resolve()


@pytest.fixture(scope="session", autouse=True)
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An engine cache of the tests' own: what this machine was certified for does not count."""
    folder = tmp_path_factory.mktemp("engine_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSN_EDGE_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    """A command that runs within the tests sets them; the next test must not find them so."""
    loggers = [logging.getLogger(name) for name in ("ssn_edge", *ROOMS)]
    before = [each.level for each in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
