"""The README's code runs, and its tables are what the code says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.manifest_json import manifest_to_dict

README = Path(__file__).parents[2] / "runtime" / "README.md"


def test_the_embedding_example_runs(
    package_path: Path, part: Callable[..., ByteImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(package_path.parent)
    accepted: list[str] = []
    for part_id, frame in (("good", part(11)), ("bad", part(11, defect=True)), ("none", None)):
        names = {"frame": frame, "part_id": part_id, "accept": accepted.append}
        exec(code, names)
        inspector = names["inspector"]
        assert isinstance(inspector, Inspector)
        inspector.close()
    assert accepted == ["good"]


def test_every_reason_and_every_field_of_the_manifest_is_explained(
    package_contents: tuple[Manifest, Mapping[str, bytes]],
) -> None:
    text = README.read_text()
    for reason in set(Reason) - {Reason.NONE, Reason.DEFECT}:
        assert f"`{reason}`" in text
    for field in manifest_to_dict(package_contents[0]):
        assert f"`{field}`" in text
