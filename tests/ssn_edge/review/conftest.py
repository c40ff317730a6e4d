"""The log of a real run with evidence, and a review of a copy of it."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge.line import run_package
from ssn_edge.line_request import LineRequest
from ssn_edge.review.kept_pictures import LABELS_NAME
from ssn_edge.review.order import Order
from ssn_edge.review.server import ReviewServer
from ssn_edge.review.session import ReviewSession
from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime.sinks.evidence import EvidenceKeeper, EvidencePolicy
from tests.runtime import conftest as runtime

HOSTILE = "<img src=x onerror=document.body.dataset.hacked=1>.png"
GOOD, DEFECTIVE = 14, 6

Session = Callable[..., ReviewSession]


@pytest.fixture(scope="session")
def line_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty parts, six with a defect, and a black picture; every pass was drawn by lot."""
    folder = tmp_path_factory.mktemp("review")
    manifest = runtime._manifest()
    entry = manifest.precisions["fp32"]
    thresholds = replace(entry.thresholds, image=2.0)
    manifest = replace(manifest, precisions={"fp32": replace(entry, thresholds=thresholds)})
    frames = (runtime._part(1), runtime._part(2, defect=True))
    model = runtime._model().SerializeToString()
    write_package(folder / "part.ssn", *runtime._contents(manifest, model, frames))
    parts = folder / "parts"
    parts.mkdir()
    for index in range(GOOD + DEFECTIVE):
        name = HOSTILE if index == 15 else f"serial-{index:03d}.png"
        part = runtime._part(30 + index, defect=index >= GOOD)
        assert cv2.imwrite(str(parts / name), part)
    cv2.imwrite(str(parts / "zz-black.png"), np.zeros((96, 128, 3), np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssn_edge.line.EvidencePolicy", functools.partial(EvidencePolicy, share=1.0))
        patch.setattr("ssn_edge.line.EvidenceKeeper", functools.partial(EvidenceKeeper, depth=64))
        run_package(
            LineRequest(str(parts), folder / "part.ssn", folder / "decisions", evidence_bytes=10**9)
        )
    return folder / "decisions"


@pytest.fixture
def log(line_log: Path, tmp_path: Path) -> Path:
    """A copy to write into."""
    return Path(shutil.copytree(line_log, tmp_path / "decisions"))


@pytest.fixture
def session_of() -> Session:
    """A person's review of a folder."""

    def make(folder: Path, who: str = "anna", order: Order = Order.USEFUL) -> ReviewSession:
        return ReviewSession(folder, folder / LABELS_NAME, who, order)

    return make


@contextmanager
def serving(session: ReviewSession) -> Iterator[ReviewServer]:
    """The session's page, in a thread."""
    with ReviewServer(session) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server(log: Path, session_of: Session) -> Iterator[ReviewServer]:
    """Anna's review of the log."""
    with serving(session_of(log)) as running:
        yield running
