"""Two packages that judge differently, pictures of parts, and the log of a real run over them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge.line import run_package
from ssn_edge.line_request import LineRequest
from ssn_edge_export.package_writer import write_package
from tests.runtime import conftest as runtime

LENIENT_THRESHOLD = 9.0
"""Above the score of every part here."""


def _package(path: Path, *, image_threshold: float) -> Path:
    manifest = runtime._manifest()
    entry = manifest.precisions["fp32"]
    thresholds = replace(entry.thresholds, image=image_threshold)
    manifest = replace(manifest, precisions={"fp32": replace(entry, thresholds=thresholds)})
    frames = (runtime._part(1), runtime._part(2, defect=True))
    write_package(path, *runtime._contents(manifest, runtime._model().SerializeToString(), frames))
    return path


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fails the parts that have a defect."""
    return _package(tmp_path_factory.mktemp("strict") / "strict.ssn", image_threshold=2.0)


@pytest.fixture(scope="session")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Passes all of them."""
    path = tmp_path_factory.mktemp("lenient") / "lenient.ssn"
    return _package(path, image_threshold=LENIENT_THRESHOLD)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good parts, two with a defect, a black picture and a torn one."""
    folder = tmp_path_factory.mktemp("parts")
    for index in range(4):
        cv2.imwrite(str(folder / f"{index}.png"), runtime._part(30 + index, defect=index % 2 == 1))
    cv2.imwrite(str(folder / "4.png"), np.zeros((96, 128, 3), np.uint8))
    (folder / "5.png").write_bytes((folder / "0.png").read_bytes()[:-40])
    return folder


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory, strict: Path, parts: Path) -> Path:
    """What the strict package decided on the line; nobody writes into it."""
    folder = tmp_path_factory.mktemp("log") / "decisions"
    run_package(LineRequest(str(parts), strict, folder, keep="none"))
    return folder
