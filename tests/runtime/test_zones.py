"""Zones of a device's settings: in force through an inspector, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, ScoringRule, Thresholds, Verdict
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.errors import ConfigError, EngineError
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.region import Polygon, Region
from ssn_edge_runtime.settings import DeviceSettings, Fitted, Recipe
from ssn_edge_runtime.settings_json import settings_from_json, settings_to_json
from ssn_edge_runtime.sinks.overlay import draw_overlay
from ssn_edge_runtime.zones import Zone, judged_zones
from tests.runtime.conftest import GEOMETRY

PACKAGE_ID, ENGINE = "ab" * 32, "0" * 64
FRAME_HW = (96, 128)
GENERAL = Thresholds(2.0, 2.0)


def box(left: int, top: int, right: int, bottom: int) -> Polygon:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


DEFECT = Region(FRAME_HW, include=(box(28, 36, 60, 60),))
"""Around the defect of the conftest's parts: rows 40 to 55, columns 32 to 55."""
CORNER = Region(FRAME_HW, include=(box(96, 0, 127, 20),))


@pytest.fixture
def judged(package_path: Path, part: Callable[..., ByteImage]) -> Callable[..., Decision]:
    """Judges a part on the true engine with some zones."""

    def judge(
        zones: Mapping[str, Zone],
        *,
        defect: bool = True,
        general: Thresholds = GENERAL,
        region: Region | None = None,
    ) -> Decision:
        with Inspector.open(package_path, engine="onnxruntime-cpu") as inspector:
            own = Fitted(general, inspector.engine_name, inspector.engine_sha256, zones=zones)
            settings = DeviceSettings(inspector.package_id, {"fp32": own}, region=region)
            inspector.apply_settings(settings_from_json(settings_to_json(settings)))
            assert set(inspector.zones) == set(zones)
            return inspector.inspect(part(7, defect=defect))

    return judge


def test_a_defect_is_judged_by_its_zone_through_a_true_engine(
    judged: Callable[..., Decision], part: Callable[..., ByteImage]
) -> None:
    plain = judged({})
    assert (plain.verdict, plain.zone) == (Verdict.FAIL, None)
    lenient = judged({"seat": Zone(DEFECT, image=6.0, pixel=6.0)})
    assert lenient.verdict is Verdict.PASS
    assert lenient.defects == ()
    marked = judged({"seat": Zone(DEFECT, image=6.0)})
    assert marked.verdict is Verdict.PASS
    assert marked.mask is not None
    assert plain.mask is not None
    assert np.array_equal(marked.mask, plain.mask)
    elsewhere = judged({"corner": Zone(CORNER, image=6.0, pixel=6.0)})
    assert (elsewhere.verdict, elsewhere.zone) == (Verdict.FAIL, None)
    strict = judged({"corner": Zone(CORNER, image=-9.0)}, defect=False)
    assert (strict.verdict, strict.zone, strict.threshold) == (Verdict.FAIL, "corner", -9.0)
    assert judged({}, defect=False).verdict is Verdict.PASS
    by_area = judged({"seat": Zone(DEFECT, image=6.0, min_area_px=50.0)})
    assert by_area.verdict is Verdict.FAIL
    assert by_area.defects[0].min_area_px == 50.0
    assert draw_overlay(part(7, defect=True), lenient).shape == (*FRAME_HW, 3)


def test_a_pixel_threshold_of_a_zone_marks_there_alone(judged: Callable[..., Decision]) -> None:
    decision = judged({"corner": Zone(CORNER, pixel=-9.0)}, defect=False)
    assert decision.verdict is Verdict.PASS
    mask = decision.camera_mask()
    assert mask is not None
    assert mask[:20, 97:].all()
    # A network pixel of which only a part lies in the zone is in it, too.
    assert not mask[24:].any()
    assert not mask[:, :94].any()


def test_zones_lie_within_the_region(judged: Callable[..., Decision]) -> None:
    hole = Region(FRAME_HW, exclude=(box(28, 36, 60, 60),))
    left = Region(FRAME_HW, include=(box(0, 0, 63, 95),))
    assert judged({"left": Zone(left, image=3.0)}, region=hole).verdict is Verdict.PASS
    everything = Region(FRAME_HW, include=(box(0, 0, 127, 95),))
    decision = judged({"all": Zone(everything, image=3.0)}, region=hole)
    assert (decision.verdict, decision.zone) == (Verdict.PASS, "all")
    with pytest.raises(ConfigError, match="zone seat holds nothing of what is judged"):
        judged(
            {"seat": Zone(DEFECT, image=3.0)}, region=replace(hole, exclude=(box(9, 9, 99, 90),))
        )


def test_a_pixel_on_a_border_is_on_both_sides() -> None:
    """Frames are twice the network's size: columns 0 to 8 are four and a half of its pixels."""
    odd = Zone(Region(FRAME_HW, include=(box(0, 0, 8, 95),)), image=9.0, pixel=9.0)
    found = judged_zones({"odd": odd}, GENERAL, region=None, geometry=GEOMETRY, folder=None)
    zone, rest = found.zones
    assert (zone.name, rest.name) == ("odd", None)
    assert np.flatnonzero(zone.mask[0]).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(rest.mask[0]).tolist() == list(range(4, 64))
    assert found.lowest_pixel == 2.0


def inspector_of(manifest: Manifest, score: float = 0.0) -> Inspector:
    engine = FakeEngine((score,), input_size_hw=manifest.geometry.input_size_hw)
    return Inspector(engine, manifest, precision="fp32", package_id=PACKAGE_ID)


def settings_with(zones: Mapping[str, Zone], **changes: object) -> DeviceSettings:
    own = Fitted(GENERAL, "fake", ENGINE, zones=zones)
    return replace(DeviceSettings(PACKAGE_ID, {"fp32": own}), **changes)  # type: ignore[arg-type]


def test_zones_that_cannot_be_used_are_refused_and_the_old_ones_stay(manifest: Manifest) -> None:
    other_size = Region((50, 60), include=(box(0, 0, 9, 9),))
    int8 = Fitted(GENERAL, "fake", ENGINE, zones={"weld": Zone(DEFECT, image=1.0)})
    plain = Fitted(GENERAL, "fake", ENGINE)
    held = replace(manifest, frame_size_hw=FRAME_HW)
    with inspector_of(held) as inspector:
        inspector.apply_settings(settings_with({"seat": Zone(DEFECT, image=1.0)}))
        for wrong, error, complaint in (
            (settings_with({"weld": Zone(other_size, image=1.0)}), ConfigError, "draw it again"),
            (
                settings_with({}, precisions={"fp32": plain, "int8": int8}),
                EngineError,
                "hold zone weld for another precision and not for fp32",
            ),
        ):
            with pytest.raises(error, match=complaint):
                inspector.apply_settings(wrong)
            assert set(inspector.zones) == {"seat"}
        blue = Recipe({"int8": int8})
        with pytest.raises(EngineError, match="hold zone weld for another precision"):
            inspector.apply_settings(settings_with({}, recipes={"blue": blue}), "blue")
    both = settings_with({"a": Zone(DEFECT, image=1.0), "b": Zone(other_size, image=1.0)})
    complaint = "on 60 x 50 pixels, the region or another zone on 128 x"
    with inspector_of(manifest) as inspector, pytest.raises(ConfigError, match=complaint):
        inspector.apply_settings(both)
    by_picture = replace(manifest, scoring_rule=ScoringRule.CLASSIFICATION)
    with inspector_of(by_picture) as inspector:
        with pytest.raises(ConfigError, match="scores by classification"):
            inspector.apply_settings(settings_with({"weld": Zone(DEFECT, image=1.0)}))
        inspector.apply_settings(settings_with({"weld": Zone(DEFECT, min_area_px=5.0)}))


def test_a_frame_of_another_size_than_the_zones_were_drawn_on_is_unknown(
    manifest: Manifest, part: Callable[..., ByteImage]
) -> None:
    with inspector_of(manifest) as inspector:
        inspector.apply_settings(settings_with({"seat": Zone(DEFECT, image=1.0)}))
        assert inspector.inspect(part(1)).verdict is Verdict.PASS
        decision = inspector.inspect(part(1, size_hw=(90, 128)))
        assert (decision.verdict, decision.reason) == ("unknown", "frame_size")


def test_a_recipes_zones_replace_the_general_ones(
    manifest: Manifest, part: Callable[..., ByteImage]
) -> None:
    """The fake engine's map has its score in the middle."""
    middle = Region(FRAME_HW, include=(box(40, 30, 90, 70),))
    strict = Fitted(GENERAL, "fake", ENGINE, zones={"own": Zone(middle, image=0.5)})
    settings = settings_with(
        {"general": Zone(middle, image=5.0)},
        recipes={
            "strict": Recipe({"fp32": strict}),
            "plain": Recipe({"fp32": Fitted(GENERAL, "fake", ENGINE)}),
            "same": Recipe(region=Region(FRAME_HW, include=(box(0, 0, 127, 95),))),
        },
    )
    found = {}
    with inspector_of(manifest, 3.0) as inspector:
        for recipe in (None, "strict", "plain", "same"):
            inspector.apply_settings(settings, recipe)
            decision = inspector.inspect(part(1))
            found[recipe] = (decision.verdict.value, set(inspector.zones))
    assert found == {
        None: ("pass", {"general"}),
        "strict": ("fail", {"own"}),
        "plain": ("fail", set()),
        "same": ("pass", {"general"}),
    }


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="sets nothing"):
        Zone(DEFECT)
    with pytest.raises(ConfigError, match="the image threshold is nan"):
        Zone(DEFECT, image=float("nan"))
    with pytest.raises(ConfigError, match="a zone is named 'a b'"):
        Fitted(GENERAL, "fake", ENGINE, zones={"a b": Zone(DEFECT, image=1.0)})
    many = {f"z{number}": Zone(DEFECT, image=1.0) for number in range(65)}
    with pytest.raises(ConfigError, match="64 can be kept"):
        Fitted(GENERAL, "fake", ENGINE, zones=many)


def test_settings_without_zones_keep_their_form_and_their_id() -> None:
    data = settings_to_json(settings_with({}))
    assert b"zone" not in data.replace(b"time_zone", b"")
    assert settings_from_json(data) == settings_with({})
