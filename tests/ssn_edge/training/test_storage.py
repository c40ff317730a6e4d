from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ssn_edge.training import storage
from ssn_edge.training.storage import LayerStore, free_memory_bytes
from ssn_edge_runtime.errors import DatasetError, StorageError

SHAPES = ((2, 4, 4), (3, 2, 2))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("limit", [None, 10**9])
def test_what_fits_memory_stays_there(scratch: Path, limit: int | None) -> None:
    store = LayerStore(5, SHAPES, limit)
    assert store.folder is None
    assert store.size_bytes == 2 * 5 * (2 * 16 + 3 * 4)
    assert list(scratch.iterdir()) == []


def test_what_does_not_goes_to_files_that_close_removes(scratch: Path) -> None:
    store = LayerStore(5, SHAPES, 0)
    assert store.folder is not None
    assert sum(file.stat().st_size for file in store.folder.iterdir()) == store.size_bytes
    store.close()
    store.close()
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("limit", [0, None])
def test_what_is_put_in_comes_out_in_half_precision(scratch: Path, limit: int | None) -> None:
    rng = np.random.default_rng(0)
    layers = tuple(rng.normal(size=(5, *shape)).astype(np.float32) for shape in SHAPES)
    store = LayerStore(5, SHAPES, limit)
    store.put(0, tuple(layer[:2] for layer in layers))
    store.put(2, tuple(layer[2:] for layer in layers))
    for kept, layer in zip(store.layers, layers, strict=True):
        assert np.array_equal(np.asarray(kept), layer.astype(np.float16))
    store.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, 70000.0])
def test_numbers_beyond_half_precision_are_refused(value: float) -> None:
    layers = tuple(np.zeros((1, *shape), np.float32) for shape in SHAPES)
    layers[1][0, 0, 0, 0] = value
    with pytest.raises(DatasetError, match="half precision"):
        LayerStore(1, SHAPES).put(0, layers)


def test_a_disk_that_is_too_small_is_told_before_it_is_full(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=f"{scratch}.*TMPDIR"):
        LayerStore(100, SHAPES, 0)
    assert list(scratch.iterdir()) == []


def test_the_limit_of_a_container_counts_as_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("1800\n")
    assert storage._free_of_container(tmp_path) == 3200
    (tmp_path / "memory.max").write_text("max\n")
    assert storage._free_of_container(tmp_path) > 2**60
    assert storage._free_of_container(tmp_path / "none") > 2**60
    assert 0 <= free_memory_bytes() < 2**50
