"""Packages of the runtime's tiny model, and pictures of parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.manifest import Tolerance
from tests.runtime import conftest as runtime

FRAMES = (runtime._part(1), runtime._part(2, defect=True), runtime._part(3))


@pytest.fixture
def make_package(tmp_path: Path) -> Callable[..., Path]:
    """Make a package of `fp32` and, if a gain is given, an `int8` whose map has that gain."""

    def make(int8_gain: float | None = None, *, certificate: bytes = b"{}") -> Path:
        model = runtime._model(batch="B").SerializeToString()
        manifest, entries = runtime._contents(runtime._manifest(), model, FRAMES)
        if int8_gain is not None:
            other = runtime._model(batch="B", gain=int8_gain).SerializeToString()
            golden, more = runtime._contents(runtime._manifest(), other, FRAMES)
            entries["models/int8.onnx"] = other
            entries["certificates/int8.json"] = certificate
            expected = []
            for mine, theirs in zip(manifest.golden, golden.golden, strict=True):
                scores = theirs.expected["fp32"]
                mask = scores.mask.replace(".mask", ".int8.mask")
                entries[mask] = more[scores.mask]
                expected.append(
                    replace(mine, expected={**mine.expected, "int8": replace(scores, mask=mask)})
                )
            fp32 = manifest.precisions["fp32"]
            int8 = replace(
                fp32,
                model="models/int8.onnx",
                certificate="certificates/int8.json",
                tolerance=Tolerance(score=1e-2, mask_share=1e-2),
            )
            manifest = replace(
                manifest, precisions={"fp32": fp32, "int8": int8}, golden=tuple(expected)
            )
        path = tmp_path / "part.ssn"
        write_package(path, manifest, entries)
        return path

    return make


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder of four parts, one of them with a defect, in two folders."""
    folder = tmp_path / "parts"
    (folder / "more").mkdir(parents=True)
    for index in range(4):
        frame: ByteImage = runtime._part(30 + index, defect=index == 2)
        target = folder / "more" if index == 3 else folder
        assert cv2.imwrite(str(target / f"{index}.png"), frame)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees another one's certificates."""
    monkeypatch.setenv("SSN_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
