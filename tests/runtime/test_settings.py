"""A device's settings: bound to package and engine, whole or not there, and never ignored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Reason, ReviewZone, ScoringRule, Thresholds, Verdict
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.errors import ConfigError, EngineError, StorageError
from ssn_edge_runtime.manifest import Caught, Manifest, Risk
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.region import Region
from ssn_edge_runtime.settings import (
    ALARM_EVERY_PARTS,
    DeviceSettings,
    Fitted,
    LineSettings,
    Recipe,
    Signature,
)
from ssn_edge_runtime.settings_json import settings_from_json, settings_to_json
from ssn_edge_runtime.settings_store import VERSIONS_KEPT, SettingsStore, read_settings
from ssn_edge_runtime.strict_json import canonical_json
from ssn_edge_runtime.zones import Zone

PACKAGE_ID, OTHER_ID = "ab" * 32, "cd" * 32
ENGINE = "0" * 64
FRAME_HW = (96, 128)

thresholds = st.builds(
    Thresholds,
    image=st.floats(-100, 100),
    pixel=st.floats(-100, 100),
    min_area_px=st.none() | st.floats(0.5, 1e6),
)
zones = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True),
    st.builds(
        Zone,
        region=st.deferred(lambda: regions.filter(bool)),
        image=st.floats(-100, 100),
        pixel=st.none() | st.floats(-100, 100),
        min_area_px=st.none() | st.floats(0.5, 1e6),
    ),
    max_size=2,
)
fitted = st.builds(
    Fitted,
    zones=zones,
    thresholds=thresholds,
    engine=st.sampled_from(["fake", "tensorrt"]),
    engine_sha256=st.just(ENGINE),
    risk=st.none()
    | st.builds(
        Risk,
        st.floats(0, 1),
        st.integers(0, 9999),
        st.booleans(),
        st.none() | st.floats(0.5, 0.999),
    ),
    caught=st.none()
    | st.builds(Caught, st.floats(0, 1), st.integers(0, 9999), st.floats(0.5, 0.999)),
)
precisions = st.dictionaries(st.sampled_from(["fp32", "fp16", "int8"]), fitted, max_size=3)
corners = st.tuples(st.integers(0, 127), st.integers(0, 95))
regions = st.none() | st.builds(
    Region,
    frame_size_hw=st.just(FRAME_HW),
    include=st.lists(
        st.lists(corners, min_size=3, max_size=5).map(tuple), min_size=1, max_size=2
    ).map(tuple),
)
settings_of_any_kind = st.builds(
    DeviceSettings,
    package_id=st.just(PACKAGE_ID),
    precisions=precisions,
    version=st.integers(1, 10**6),
    previous_id=st.none() | st.just(OTHER_ID),
    note=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    region=regions,
    recipes=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True),
        st.builds(Recipe, precisions=precisions, region=regions),
        max_size=2,
    ),
    line=st.builds(
        LineSettings,
        alarm_after=st.none() | st.integers(1, 99),
        alarm_drift=st.none() | st.integers(1000, 10**8) | st.just(ALARM_EVERY_PARTS),
        halt_reject_rate=st.none() | st.floats(0.01, 1),
        deadline_ms=st.none() | st.integers(1, 500),
    ),
    signature=st.none() | st.just(Signature("ef" * 32, "12" * 64)),
)


def some_settings(image: float = 1.0, **changes: Any) -> DeviceSettings:
    """Thresholds for the fake engine."""
    own = Fitted(Thresholds(image, 1.0), "fake", ENGINE)
    return replace(DeviceSettings(PACKAGE_ID, {"fp32": own}), **changes)


def inspector_of(manifest: Manifest, *script: float) -> Inspector:
    engine = FakeEngine(script or (0.0,), input_size_hw=manifest.geometry.input_size_hw)
    return Inspector(engine, manifest, precision="fp32", package_id=PACKAGE_ID)


@given(settings=settings_of_any_kind)
def test_settings_read_back_as_they_were_written(settings: DeviceSettings) -> None:
    data = settings_to_json(settings)
    again = settings_from_json(data)
    assert again == settings
    assert settings_to_json(again) == data
    assert again.settings_id == settings.settings_id


@given(settings=settings_of_any_kind)
def test_the_signature_lies_outside_of_the_id_and_all_else_inside(settings: DeviceSettings) -> None:
    signed = replace(settings, signature=Signature("aa" * 32, "bb" * 64))
    assert signed.settings_id == settings.settings_id
    assert signed.signed_bytes == b"ssn-edge settings 1\n" + settings.hashed_bytes
    assert replace(settings, note=settings.note + "!").settings_id != settings.settings_id
    assert replace(settings, version=settings.version + 1).settings_id != settings.settings_id


def test_a_signature_is_one_of_a_common_library() -> None:
    ed25519 = pytest.importorskip(
        "cryptography.hazmat.primitives.asymmetric.ed25519", reason="cryptography not installed"
    )
    settings = some_settings()
    key = ed25519.Ed25519PrivateKey.generate()
    signature = Signature("aa" * 32, key.sign(settings.signed_bytes).hex())
    read = settings_from_json(settings_to_json(replace(settings, signature=signature)))
    assert read.signature is not None
    key.public_key().verify(bytes.fromhex(read.signature.value), read.signed_bytes)


def changed(path: tuple[str, ...], value: object) -> bytes:
    """A file with one field changed by hand."""
    document = json.loads(settings_to_json(some_settings()))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return canonical_json(document) + b"\n"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"{", "is not JSON; bring back"),
        (b"[]", "has schema None, this ssn-edge reads 1"),
        (changed(("schema",), 2), "has schema 2, this ssn-edge reads 1"),
        (changed(("settings", "precisions", "fp32", "image"), 9.0), "was changed by hand"),
        (changed(("settings_id",), "0" * 64), "was changed by hand"),
        (settings_to_json(some_settings())[:-1] + b" \n", "was changed by hand"),
        (changed(("settings", "regoin"), 1), "an unknown 'regoin'; did you mean 'region'?"),
        (
            changed(("settings", "line", "alarm_afer"), 3),
            "line has an unknown 'alarm_afer'; did you mean 'alarm_after'?",
        ),
        (changed(("settings", "line", "halt_after"), 0), "halt_after is 0; 1 or more"),
        (changed(("settings", "line", "shifts"), ["6:00"]), "begins at '6:00'; a time such as"),
        (changed(("settings", "precisions", "fp32", "image"), "2"), "image is not a number"),
        (changed(("settings", "precisions", "fp32", "image"), 1e5), "the image threshold is"),
        (changed(("settings", "precisions", "fp32", "review"), [3, 2]), "the review zone is"),
        (changed(("settings", "precisions", "fp32", "review"), [2, 3]), "leaves out the image"),
        (changed(("settings", "precisions", "fp8"), {}), "lacks 'image'"),
        (changed(("settings", "package_id"), "x"), "the package id is not a SHA-256"),
        (changed(("signature",), {"algorithm": "rsa"}), "algorithm is not one of ed25519"),
    ],
)
def test_a_file_that_is_not_sound_is_refused_and_says_why(
    tmp_path: Path, data: bytes, complaint: str
) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as refusal:
        read_settings(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_settings_in_force_decide_and_are_named_in_the_decision(
    manifest: Manifest, part: Callable[..., ByteImage]
) -> None:
    with inspector_of(manifest, 1.5) as inspector:
        before = inspector.inspect(part(1))
        inspector.apply_settings(some_settings(image=1.0))
        after = inspector.inspect(part(1))
        no_frame = inspector.inspect(None)
    assert (before.verdict, before.settings_id) == (Verdict.PASS, None)
    assert (after.verdict, after.threshold) == (Verdict.FAIL, 1.0)
    assert after.settings_id == no_frame.settings_id == some_settings(image=1.0).settings_id


def test_a_score_in_the_review_zone_is_unknown(
    manifest: Manifest, part: Callable[..., ByteImage]
) -> None:
    own = Fitted(Thresholds(1.0, 5.0), "fake", ENGINE, review=ReviewZone(0.5, 2.0))
    with inspector_of(manifest, 0.4, 0.5, 1.0, 1.9, 2.0) as inspector:
        inspector.apply_settings(some_settings(precisions={"fp32": own}))
        found = [inspector.inspect(part(1)) for _ in range(5)]
    assert [each.verdict for each in found] == ["pass", "unknown", "unknown", "unknown", "fail"]
    assert {each.reason for each in found[1:4]} == {Reason.REVIEW}


@pytest.mark.parametrize(
    ("settings", "error", "complaint"),
    [
        (
            some_settings(package_id=OTHER_ID),
            ConfigError,
            r"are for package cdcd.*, this one is abab.*; calibrate again",
        ),
        (
            some_settings(precisions={"fp32": Fitted(Thresholds(1.0, 1.0), "fake", "1" * 64)}),
            EngineError,
            r"fitted for fp32 on engine fake \(1{12}\), this is fake \(0{12}\); recalibrate, or, "
            r"if ssn-edge verify",
        ),
        (
            some_settings(precisions={"int8": Fitted(Thresholds(1.0, 1.0), "fake", ENGINE)}),
            EngineError,
            "hold thresholds for int8 and none for fp32; recalibrate for it, or run --precision",
        ),
        (
            some_settings(region=Region((50, 60), exclude=(((0, 0), (9, 0), (9, 9)),))),
            ConfigError,
            "drawn on 60 x 50 pixels, the package's frames have 128 x 96",
        ),
        (
            some_settings(region=Region(FRAME_HW, mask_file="m.png", mask_sha256="0" * 64)),
            ConfigError,
            "open them by their path",
        ),
    ],
)
def test_settings_for_something_else_are_refused_and_the_old_ones_stay(
    manifest: Manifest, settings: DeviceSettings, error: type[Exception], complaint: str
) -> None:
    with inspector_of(replace(manifest, frame_size_hw=FRAME_HW)) as inspector:
        inspector.apply_settings(some_settings(image=0.25))
        with pytest.raises(error, match=complaint):
            inspector.apply_settings(settings)
        assert inspector.thresholds.image == 0.25
        assert inspector.settings_id == some_settings(image=0.25).settings_id


def test_a_region_that_would_change_nothing_is_refused(manifest: Manifest) -> None:
    region = Region(FRAME_HW, exclude=(((0, 0), (9, 0), (9, 9)),))
    with (
        inspector_of(replace(manifest, scoring_rule=ScoringRule.CLASSIFICATION)) as inspector,
        pytest.raises(ConfigError, match="it would change nothing"),
    ):
        inspector.apply_settings(some_settings(region=region))


def test_a_recipe_has_its_own_thresholds_and_region_or_the_general_ones(
    manifest: Manifest, part: Callable[..., ByteImage]
) -> None:
    own = Fitted(Thresholds(3.0, 1.0), "fake", ENGINE)
    region = Region(FRAME_HW, include=(((0, 0), (127, 0), (127, 95), (0, 95)),))
    settings = some_settings(
        recipes={"large": Recipe({"fp32": own}), "small": Recipe(region=region)}
    )
    with inspector_of(manifest, 2.0) as inspector:
        found = {}
        for recipe in (None, "large", "small"):
            inspector.apply_settings(settings, recipe)
            found[recipe] = inspector.inspect(part(1)).verdict
            assert inspector.recipe == recipe
        assert found == {None: Verdict.FAIL, "large": Verdict.PASS, "small": Verdict.FAIL}
        with pytest.raises(ConfigError, match="no recipe 'tiny'; they hold large, small"):
            inspector.apply_settings(settings, "tiny")


def test_a_part_may_name_its_own_recipe_and_one_that_is_not_there_never_passes(
    manifest: Manifest, part: Callable[..., ByteImage], caplog: pytest.LogCaptureFixture
) -> None:
    own = Fitted(Thresholds(3.0, 1.0), "fake", ENGINE)
    foreign = Fitted(Thresholds(9.0, 1.0), "fake", "e" * 64)
    recipes = {"large": Recipe({"fp32": own}), "foreign": Recipe({"fp32": foreign})}
    with inspector_of(manifest, 2.0) as inspector:
        inspector.apply_settings(some_settings(recipes=recipes))
        assert "recipe foreign cannot be used here" in caplog.text
        assert list(inspector.recipes) == ["", "large"]
        decision = inspector.inspect(part(1), recipe="large")
        assert (decision.verdict, decision.recipe) == (Verdict.PASS, "large")
        assert decision.settings_id == inspector.settings_id
        general = inspector.inspect(part(1))
        assert (general.verdict, general.recipe) == (Verdict.FAIL, None)
        for name in ("foreign", "tiny"):
            decision = inspector.inspect(part(1), recipe=name)
            assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.ENGINE_ERROR)
            assert f"no recipe {name!r}" in decision.detail
        # Of the same settings only the choice changes; the others are there all the same.
        inspector.apply_settings(some_settings(recipes=recipes), "large")
        assert inspector.inspect(part(1)).verdict is Verdict.PASS
        general = inspector.inspect(part(1), recipe="")
        assert (general.verdict, general.recipe) == (Verdict.FAIL, None)
        assert list(inspector.recipes) == ["", "large"]


def test_what_lies_outside_of_the_region_is_not_judged(
    package_path: Path, part: Callable[..., ByteImage], tmp_path: Path
) -> None:
    """Through a true engine: the defect lies at rows 40 to 55, columns 32 to 55."""
    with Inspector.open(package_path, engine="onnxruntime-cpu") as inspector:
        names = inspector.package_id, inspector.engine_name, inspector.engine_sha256
    own = Fitted(Thresholds(2.0, 2.0), names[1], names[2])
    box = ((28, 36), (60, 36), (60, 60), (28, 60))
    verdicts = {}
    for name, region in {
        "all": None,
        "without": Region(FRAME_HW, exclude=(box,)),
        "within": Region(FRAME_HW, include=(box,)),
    }.items():
        settings = DeviceSettings(names[0], {"fp32": own}, region=region)
        with Inspector.open(package_path, engine="onnxruntime-cpu", settings=settings) as inspector:
            decision = inspector.inspect(part(7, defect=True))
            other_size = inspector.inspect(part(7, size_hw=(90, 128)))
        verdicts[name] = decision.verdict
        assert other_size.verdict != "pass" or region is None
    assert verdicts == {"all": "fail", "without": "pass", "within": "fail"}


def test_a_mask_file_lies_beside_the_settings_and_is_checked(
    manifest: Manifest, tmp_path: Path, part: Callable[..., ByteImage]
) -> None:
    import hashlib

    mask = np.zeros(FRAME_HW, dtype=np.uint8)
    mask[:, :20] = 255
    data = encode_png(mask)
    (tmp_path / "left.png").write_bytes(data)
    region = Region(FRAME_HW, mask_file="left.png", mask_sha256=hashlib.sha256(data).hexdigest())
    store = SettingsStore(tmp_path / "settings.json")
    store.save(lambda _: some_settings(region=region))
    with inspector_of(manifest, 2.0) as inspector:
        inspector.apply_settings(store.path)
        # The fake map's square lies in the middle, out of the region: nothing is found.
        assert inspector.inspect(part(1)).verdict is Verdict.PASS
        (tmp_path / "left.png").write_bytes(encode_png(mask + 1))
        with pytest.raises(ConfigError, match="is not the mask that the settings were made with"):
            inspector.apply_settings(store.path)


def test_settings_change_between_parts_and_never_within_one(
    manifest: Manifest, part: Callable[..., ByteImage]
) -> None:
    """Two settings swapped all the time: each decision is wholly of one of them."""
    image = {each.settings_id: each.precisions["fp32"].thresholds.image for each in (A, B)}
    with inspector_of(manifest, 1.0) as inspector:
        inspector.apply_settings(A)
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                for each in (B, A):
                    inspector.apply_settings(each)

        thread = threading.Thread(target=swap)
        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(interval_s / 50)  # more turns within a part, and in less time
        thread.start()
        try:
            found = [inspector.inspect(part(1)) for _ in range(100)]
        finally:
            sys.setswitchinterval(interval_s)
            stop.set()
            thread.join()
    assert {each.settings_id for each in found} == set(image)
    for each in found:
        assert each.settings_id is not None
        assert each.threshold == image[each.settings_id]
        assert (each.verdict is Verdict.FAIL) == (each.threshold == 0.5)


A, B = some_settings(image=0.5), some_settings(image=1.5)


def test_each_save_is_a_version_and_an_older_one_comes_back_as_it_was(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path / "settings.json")
    assert store.current() is None
    first = store.save(lambda _: some_settings(1.0))
    second = store.save(lambda _: some_settings(2.0, note="new light"))
    assert second == store.save(lambda _: some_settings(2.0))  # nothing changes, no version
    third = store.save(lambda _: some_settings(3.0))
    assert store.history() == (first, second, third)
    assert [each.version for each in store.history()] == [1, 2, 3]
    assert (first.previous_id, third.previous_id) == (None, second.settings_id)

    back = store.roll_back()
    assert back == second == store.current()
    assert store.path.read_bytes() == settings_to_json(second)
    fourth = store.save(lambda _: some_settings(4.0))
    assert fourth.version == 4
    assert fourth.previous_id == second.settings_id
    assert store.roll_back(third.version) == third
    with pytest.raises(ConfigError, match=r"99.json: is not kept; versions 1, 2, 3, 4 are"):
        store.roll_back(99)


def test_rolling_back_mends_a_file_that_was_changed_by_hand(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path / "settings.json")
    saved = store.save(lambda _: some_settings())
    store.path.write_text("{}")
    with pytest.raises(ConfigError):
        store.save(lambda before: before or some_settings())
    assert store.roll_back() == saved == store.current()


def test_there_is_nothing_before_the_first_version(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path / "settings.json")
    store.save(lambda _: some_settings())
    with pytest.raises(ConfigError, match="no older version"):
        store.roll_back()


def test_only_the_newest_versions_are_kept(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path / "settings.json")
    for number in range(VERSIONS_KEPT + 5):
        store.save(lambda _, number=number: some_settings(image=float(number)))  # type: ignore[misc]
    versions = [each.version for each in store.history()]
    assert versions == list(range(6, VERSIONS_KEPT + 6))


def test_a_full_disk_leaves_the_old_settings_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SettingsStore(tmp_path / "settings.json")
    saved = store.save(lambda _: some_settings())
    names = {path.name for path in tmp_path.iterdir()}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            store.save(lambda _: some_settings(9.0))
    assert store.current() == saved
    assert {path.name for path in tmp_path.iterdir()} == names


_WRITER = """
import sys
from pathlib import Path
from dataclasses import replace
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.decision import Thresholds
store = SettingsStore(Path(sys.argv[1]))
def raised(before):
    own = before.precisions["fp32"]
    image = own.thresholds.image + 1
    return replace(before, precisions={"fp32": replace(own, thresholds=Thresholds(image, 1.0))})
for _ in range(int(sys.argv[2])):
    store.save(raised)
"""


def test_writers_in_several_processes_lose_nothing_and_a_reader_sees_whole_files(
    tmp_path: Path,
) -> None:
    store = SettingsStore(tmp_path / "settings.json")
    store.save(lambda _: some_settings(0.0))
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(store.path), "10"]) for _ in range(3)
    ]
    try:
        while any(each.poll() is None for each in writers):
            assert store.current() is not None
            time.sleep(0.002)
    finally:
        for each in writers:
            each.wait(timeout=60)
    assert [each.returncode for each in writers] == [0, 0, 0]
    last = store.current()
    assert last is not None
    assert last.precisions["fp32"].thresholds.image == 30.0
    assert last.version == 31


def test_killing_a_writer_at_any_moment_leaves_whole_settings(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path / "settings.json")
    store.save(lambda _: some_settings(0.0))
    for attempt in range(4):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(store.path), "100000"])
        before = store.current()
        deadline = time.monotonic() + 30
        while store.current() == before and time.monotonic() < deadline:
            time.sleep(0.001)
        assert store.current() != before
        time.sleep(0.003 * attempt)
        writer.kill()
        writer.wait(timeout=30)
        last = store.current()
        assert last is not None
        assert last in store.history()
    saved = store.save(lambda _: some_settings(-5.0))
    assert saved.version == max(each.version for each in store.history())


@pytest.mark.parametrize("name", ["settings.toml", "settings-3.json"])
def test_a_store_is_a_json_file_that_is_no_kept_version(name: str) -> None:
    with pytest.raises(ConfigError):
        SettingsStore(Path(name))


def test_thresholds_and_settings_together_are_refused(package_path: Path) -> None:
    with pytest.raises(ConfigError, match="given twice"):
        Inspector.open(package_path, thresholds=Thresholds(1.0, 1.0), settings=some_settings())
    with pytest.raises(ConfigError, match="recipe 'a' is one of settings"):
        Inspector.open(package_path, engine="onnxruntime-cpu", recipe="a")


def test_the_readme_lists_every_field(manifest: Manifest) -> None:
    readme = (Path(__file__).parents[2] / "runtime" / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Device settings")[1].split("\n## ")[0]
    document: Mapping[str, Any] = json.loads(settings_to_json(some_settings()))["settings"]
    names = {*document, *document["line"], *document["precisions"]["fp32"]}
    assert {name for name in names if f"`{name}`" not in section} == set()


def test_what_came_later_is_not_in_settings_that_do_not_use_it() -> None:
    """Their hash is what it was, and an older runtime reads them."""
    text = settings_to_json(some_settings()).decode()
    assert "alarm_drift" not in text
    assert "caught" not in text
    never = some_settings(line=LineSettings(alarm_drift=None))
    assert '"alarm_drift":null' in settings_to_json(never).decode()
    assert settings_from_json(settings_to_json(never)) == never
    with pytest.raises(ConfigError, match="1000 or more are wanted, or 0 for no alarms"):
        LineSettings(alarm_drift=999)
