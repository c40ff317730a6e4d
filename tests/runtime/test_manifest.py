"""A manifest says everything, in one form, each field of its type; whatever else is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_runtime.errors import ConfigError, PackageError
from ssn_edge_runtime.manifest import (
    EntryDigest,
    Manifest,
    Range,
    Risk,
    Tolerance,
)
from ssn_edge_runtime.manifest_json import manifest_from_json, manifest_to_dict
from ssn_edge_runtime.preprocess import Geometry, Interpolation
from ssn_edge_runtime.strict_json import canonical_json

DIGEST = EntryDigest(5, "a" * 64)


@pytest.fixture(scope="session")
def whole(package_contents: tuple[Manifest, Mapping[str, bytes]]) -> Manifest:
    """With golden pictures, and a made-up digest for each entry."""
    manifest, entries = package_contents
    return replace(manifest, entries=dict.fromkeys(entries, DIGEST))


@pytest.fixture
def changed(whole: Manifest) -> Callable[..., bytes]:
    """Make the JSON with one value changed: `changed(3, "geometry", "roi_xywh")`."""

    def make(value: object, *keys: str | int) -> bytes:
        document: Any = json.loads(canonical_json(manifest_to_dict(whole)))
        inner = document
        for key in keys[:-1]:
            inner = inner[key]
        if value is ...:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        return canonical_json(document)

    return make


def paths(document: object, *above: str | int) -> list[tuple[str | int, ...]]:
    """The way to every value of a document."""
    if isinstance(document, dict):
        items: list[tuple[str | int, object]] = list(document.items())
    elif isinstance(document, list):
        items = list(enumerate(document))
    else:
        return []
    found: list[tuple[str | int, ...]] = []
    for key, value in items:
        found += [(*above, key), *paths(value, *above, key)]
    return found


def test_a_manifest_comes_back_as_it_was(whole: Manifest) -> None:
    assert manifest_from_json(canonical_json(manifest_to_dict(whole))) == whole
    cut = replace(
        whole,
        geometry=Geometry((48, 64), (1, 2, 30, 40), Interpolation.LINEAR),
        frame_size_hw=(480, 640),
        precisions={"fp32": replace(whole.precisions["fp32"], tolerance=Tolerance(0.02, 0.01))},
    )
    assert manifest_from_json(canonical_json(manifest_to_dict(cut))) == cut


def test_the_confidence_of_a_risk_comes_back_and_may_be_absent(whole: Manifest) -> None:
    fp32 = whole.precisions["fp32"]
    sure = replace(fp32, risk=replace(fp32.risk, confidence=0.95))
    manifest = replace(whole, precisions={"fp32": sure})
    assert manifest_from_json(canonical_json(manifest_to_dict(manifest))) == manifest
    assert b"confidence" not in canonical_json(manifest_to_dict(whole))


def test_every_field_is_needed(whole: Manifest, changed: Callable[..., bytes]) -> None:
    for path in paths(manifest_to_dict(whole)):
        if "tools" in path[:-1] or (path[0] == "golden" and len(path) == 2):
            continue  # there may be fewer of these
        with pytest.raises(PackageError, match=r"^manifest\.json"):
            manifest_from_json(changed(..., *path))


def test_an_unknown_field_is_refused_wherever_it_is(
    whole: Manifest, changed: Callable[..., bytes]
) -> None:
    for path in [(), *paths(manifest_to_dict(whole))]:
        inner: Any = manifest_to_dict(whole)
        for key in path:
            inner = inner[key]
        if isinstance(inner, dict) and path != ("tools",):
            with pytest.raises(PackageError, match=r"^manifest\.json"):
                manifest_from_json(changed(1, *path, "surprise"))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_value_of_another_type_is_refused_or_read_but_never_another_error(
    data: st.DataObject, whole: Manifest
) -> None:
    document: Any = json.loads(canonical_json(manifest_to_dict(whole)))
    path = data.draw(st.sampled_from(paths(document)))
    values = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
        st.lists(st.integers(), max_size=4),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    )
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(values)
    try:
        read = manifest_from_json(canonical_json(document))
    except PackageError:
        return
    assert manifest_from_json(canonical_json(manifest_to_dict(read))) == read


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("schema",), 2, "has schema 2, this ssn-edge reads 3; update ssn-edge"),
        (("schema",), True, "has schema True"),
        (("schema",), 3.0, "schema is not a whole number"),
        (("name",), 3, "manifest.name is not a text"),
        (("colour_order",), "rgb", "colour_order is not one of bgr"),
        (("scoring_rule",), "mean", "not one of classification, map_max, combined"),
        (("scoring_rule",), "combined", "lacks 'score_weights'"),
        (("score_weights",), {}, "unknown 'score_weights'"),
        (("geometry", "input_size_hw"), [48], "not a list of 2 numbers"),
        (("geometry", "input_size_hw"), [48, 64.5], "not of whole numbers"),
        (("geometry", "input_size_hw"), [8, 64], "is out of range"),
        (("geometry", "roi_xywh"), [0, 0, -1, 3], "region of interest"),
        (("precisions",), {}, "holds no model"),
        (("precisions", "fp32", "model"), "golden/000.png", r"models/fp32\.onnx and cert"),
        (("precisions", "fp32", "thresholds", "image"), "high", "image is not a number"),
        (("precisions", "fp32", "thresholds", "image"), True, "image is not a number"),
        (("precisions", "fp32", "thresholds", "image"), 10**400, "out of range"),
        (("precisions", "fp32", "thresholds", "image"), 1e300, "the image threshold is 1e"),
        (("precisions", "fp32", "thresholds", "min_area_px"), 0, "positive area"),
        (("precisions", "fp32", "risk", "max_false_reject"), 1.5, "is a share"),
        (("precisions", "fp32", "risk", "normals"), -1, "not a whole number"),
        (("precisions", "fp32", "risk", "supported"), 1, "not true or false"),
        (("precisions", "fp32", "graph"), None, "graph is not a text"),
        (("precisions", "fp32", "tolerance", "score"), 0, "tolerance of scores is 0"),
        (("precisions", "fp32", "tolerance", "score"), 1.5, "tolerance of scores is 1.5"),
        (("precisions", "fp32", "tolerance", "mask_share"), 0.5, "tolerance of masks is 0.5"),
        (("frame_size_hw",), [480], "not a list of 2 numbers"),
        (("frame_size_hw",), [480, 640.5], "frame_size_hw is not of whole numbers"),
        (("frame_size_hw",), [0, 640], "frame_size_hw is 0 x 640"),
        (("input_statistics", "contrast"), [5, 4], "holds nothing"),
        (("input_statistics", "clipped"), [0.0], "not a list of 2 numbers"),
        (("input_statistics", "channel_means"), [[1, 2]], "not of 3 channels"),
        (("golden", 0, "expected"), {}, "does not expect something of each precision"),
        (("golden", 0, "picture"), "golden/9.png", "names golden/9.png, which is not among"),
        (("tools", "ssn-edge"), 1, "tools.ssn-edge is not a text"),
        (("entries", "golden/000.png", "sha256"), "A" * 64, "SHA-256 of golden/000.png is not"),
        (("entries", "golden/000.png", "bytes"), 1.5, "bytes is not a whole number"),
        (("entries", "manifest.json"), {"bytes": 1, "sha256": "a" * 64}, "not a name that"),
        (("entries", "models/int8.onnx"), {"bytes": 1, "sha256": "a" * 64}, "not certified"),
    ],
)
def test_a_wrong_value_is_named(
    keys: tuple[str | int, ...], value: object, message: str, changed: Callable[..., bytes]
) -> None:
    with pytest.raises(PackageError, match=message) as caught:
        manifest_from_json(changed(value, *keys))
    assert "\n" not in str(caught.value)


def test_a_precision_that_is_none_is_refused(whole: Manifest) -> None:
    entry = whole.precisions["fp32"]
    document = manifest_to_dict(replace(whole, precisions={"fp8": entry}))
    with pytest.raises(PackageError, match="'fp8' is not one of fp32, fp16, int8"):
        manifest_from_json(canonical_json(document))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"schema":3,"schema":1}',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"schema":3,"x":NaN}',
        b'{"schema":3,"x":1e999}',
        b'{"schema":3,"x":"\\ud800"}',
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(PackageError, match=r"^manifest\.json"):
        manifest_from_json(data)


def test_another_form_of_the_same_manifest_is_refused(whole: Manifest) -> None:
    data = canonical_json(manifest_to_dict(whole))
    document = json.loads(data)
    for other in (
        data + b"\n",
        b" " + data,
        json.dumps(document).encode(),
        json.dumps(dict(reversed(document.items())), separators=(",", ":")).encode(),
        data.decode().encode("utf-16"),
    ):
        with pytest.raises(PackageError, match=r"not in its canonical form|is not JSON"):
            manifest_from_json(other)


def test_ranges_and_shares_are_checked_where_they_are_made() -> None:
    with pytest.raises(ConfigError, match="holds nothing"):
        Range(2, 1)
    with pytest.raises(ConfigError, match="holds nothing"):
        Range(float("nan"), 1)
    with pytest.raises(ConfigError, match="is a share"):
        Risk(max_false_reject=-0.1, normals=3, supported=True)
    with pytest.raises(ConfigError, match="a confidence of 1"):
        Risk(max_false_reject=0.1, normals=3, supported=True, confidence=1.0)
