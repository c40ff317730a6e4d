"""From a package and a frame to a decision; once open, nothing that goes wrong raises or passes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import (
    Decision,
    Judgement,
    Reason,
    ScoringRule,
    Thresholds,
    Verdict,
)
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.errors import ConfigError, EngineError, PackageError, ScoreError
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.prepared_frame import PreparedFrame
from ssn_edge_runtime.preprocess import Geometry

SIZE_HW = (48, 64)

Part = Callable[..., ByteImage]
Contents = tuple[Manifest, Mapping[str, bytes]]


@pytest.fixture
def inspector(package_path: Path) -> Iterator[Inspector]:
    with Inspector.open(package_path) as opened:
        yield opened


@pytest.fixture
def scripted(manifest: Manifest) -> Callable[..., Inspector]:
    """Make an inspector whose engine plays these scores, judgements and exceptions."""

    def make(*script: float | Judgement | Exception) -> Inspector:
        engine = FakeEngine(script, input_size_hw=SIZE_HW)
        return Inspector(engine, manifest, precision="fp32", package_id="0" * 64)

    return make


def test_a_good_part_passes(inspector: Inspector, part: Part) -> None:
    decision = inspector.inspect(part(11))
    assert decision.verdict == "pass"
    assert decision.verdict is Verdict.PASS
    assert decision.reason is Reason.NONE
    assert decision.detail == ""
    assert decision.score is not None
    assert decision.score < 0.5
    assert decision.defects == ()


def test_a_defect_fails_and_is_located_in_camera_pixels(inspector: Inspector, part: Part) -> None:
    decision = inspector.inspect(part(11, defect=True))
    assert decision.verdict is Verdict.FAIL
    assert decision.reason is Reason.DEFECT
    assert decision.score is not None
    assert decision.score > 0.5
    assert decision.defects[0].box_xyxy == (32, 40, 56, 56)
    mask = decision.camera_mask()
    assert mask is not None
    assert mask.shape == (96, 128)
    assert mask[41:55, 33:55].all()


def test_both_halves_give_what_the_whole_gives(inspector: Inspector, part: Part) -> None:
    frames = [part(11), part(11, defect=True), np.zeros((96, 128, 3), np.uint8), part(3)[:50]]
    whole = [inspector.inspect(frame) for frame in frames]
    prepared = [inspector.prepare(frame) for frame in frames]  # all of them before the engine
    halves = [inspector.judge_prepared(each) for each in prepared]
    assert [each.verdict for each in whole[:3]] == [Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN]
    for one, other in zip(whole, halves, strict=True):
        for name in ("verdict", "reason", "detail", "raw_score", "defects", "brightness"):
            assert getattr(one, name) == getattr(other, name)
        assert set(one.timings_ms) == set(other.timings_ms)
        assert other.timings_ms["total"] >= other.timings_ms.get("infer", 0.0)


def test_a_frame_that_was_not_prepared_never_passes(inspector: Inspector) -> None:
    decision = inspector.judge_prepared(PreparedFrame(None, {}))
    assert decision.verdict is Verdict.UNKNOWN
    assert decision.reason is Reason.BAD_FRAME


def test_a_decision_carries_its_timings(inspector: Inspector, part: Part) -> None:
    timings = inspector.inspect(part(11)).timings_ms
    assert list(timings) == ["preprocess", "infer", "postprocess", "total"]
    stages = sum(value for stage, value in timings.items() if stage != "total")
    assert 0 < stages <= timings["total"]


def test_an_inspector_says_what_decides(inspector: Inspector, package_path: Path) -> None:
    with Package.open(package_path) as package:
        assert inspector.package_id == package.package_id
        assert inspector.engine_sha256 == package.manifest.entries["models/fp32.onnx"].sha256
    assert inspector.precision == "fp32"
    assert inspector.engine_name == "onnxruntime-cpu"
    assert inspector.thresholds == Thresholds(image=2.0, pixel=2.0)
    assert inspector.scoring_rule is ScoringRule.MAP_MAX
    assert inspector.geometry == Geometry(SIZE_HW)


def test_thresholds_of_ones_own_take_the_place_of_the_packages(
    package_path: Path, part: Part
) -> None:
    strict = Thresholds(image=-1.5, pixel=-1.5)
    with Inspector.open(package_path, thresholds=strict) as inspector:
        decision = inspector.inspect(part(11))
    assert decision.verdict is Verdict.FAIL
    assert decision.threshold == -1.5


def test_a_mono_frame_is_judged_as_its_three_equal_channels(
    inspector: Inspector, part: Part
) -> None:
    mono = np.ascontiguousarray(part(11, defect=True)[:, :, 1])
    one = inspector.inspect(mono)
    three = inspector.inspect(np.repeat(mono[:, :, None], 3, axis=2))
    assert one.raw_score == three.raw_score
    assert one.verdict is Verdict.FAIL


def test_the_frame_is_left_as_it_was(inspector: Inspector, part: Part) -> None:
    frame = part(11)
    frame.flags.writeable = False
    assert inspector.inspect(frame).verdict is Verdict.PASS


def test_a_decision_owns_its_arrays(scripted: Callable[..., Inspector], part: Part) -> None:
    shared = Judgement(
        classification_logit=3.0,
        map_max_logit=3.0,
        anomaly_map=np.full(SIZE_HW, 3, dtype=np.float32),
        defect_mask=np.ones(SIZE_HW, dtype=np.uint8),
    )
    decision = scripted(shared).inspect(part(11))
    shared.anomaly_map[:] = 0
    shared.defect_mask[:] = 0
    assert decision.mask is not None
    assert decision.anomaly_map is not None
    assert decision.mask.all()
    assert (decision.anomaly_map == 3).all()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (None, Reason.NO_FRAME),
        (np.zeros((96, 128, 3), dtype=np.float32), Reason.BAD_FRAME),
        (np.zeros((96, 128, 3), dtype=np.uint16), Reason.BAD_FRAME),
        (np.zeros((96, 128, 4), dtype=np.uint8), Reason.BAD_FRAME),
        (np.zeros((96, 128, 1), dtype=np.uint8), Reason.BAD_FRAME),
        (np.zeros(96, dtype=np.uint8), Reason.BAD_FRAME),
        (np.zeros((0, 128, 3), dtype=np.uint8), Reason.BAD_FRAME),
        (np.array(None), Reason.BAD_FRAME),
        (np.zeros((96, 128, 3), dtype=np.uint8), Reason.BAD_EXPOSURE),
        (np.full((96, 128), 128, dtype=np.uint8), Reason.BAD_EXPOSURE),
        (np.full((96, 128, 3), 255, dtype=np.uint8), Reason.BAD_EXPOSURE),
    ],
)
def test_a_bad_frame_is_unknown_with_its_reason(
    frame: ByteImage | None, reason: Reason, inspector: Inspector
) -> None:
    decision = inspector.inspect(frame)
    assert decision.verdict is Verdict.UNKNOWN
    assert decision.reason is reason
    assert decision.detail
    assert decision.score is None
    assert decision.camera_mask() is None
    assert decision.timings_ms["total"] > 0


def test_a_frame_smaller_than_the_region_of_interest_is_unknown(
    make_package: Callable[..., Path], part: Part
) -> None:
    geometry = Geometry(SIZE_HW, roi_xywh=(10, 0, 100, 96))
    with Inspector.open(make_package(geometry)) as inspector:
        assert inspector.inspect(part(11)).verdict is Verdict.PASS
        decision = inspector.inspect(part(11, size_hw=(96, 100)))
    assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.FRAME_SIZE)
    assert "reaches beyond a frame of 100 x 96 pixels" in decision.detail


def test_a_frame_of_another_size_than_the_training_pictures_is_unknown(
    make_package: Callable[..., Path], part: Part
) -> None:
    with Inspector.open(make_package(frame_size_hw=(96, 128))) as inspector:
        assert inspector.inspect(part(11)).verdict is Verdict.PASS
        for size_hw in ((96, 64), (192, 256), (128, 96)):
            decision = inspector.inspect(part(11, size_hw=size_hw))
            assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.FRAME_SIZE)
            assert "the training pictures had 128 x 96" in decision.detail
        assert inspector.inspect(part(11)).verdict is Verdict.PASS


def test_an_engine_that_fails_for_good_gives_unknown_for_every_part(
    scripted: Callable[..., Inspector], part: Part
) -> None:
    inspector = scripted(-1.0, *[EngineError("the GPU has fallen off the bus")] * 50)
    assert inspector.inspect(part(11)).verdict is Verdict.PASS
    decisions = [inspector.inspect(part(11)) for _ in range(50)]
    assert {each.verdict for each in decisions} == {Verdict.UNKNOWN}
    assert {each.reason for each in decisions} == {Reason.ENGINE_ERROR}


def test_several_inspectors_in_several_threads_decide_as_one_does(
    package_path: Path, part: Part
) -> None:
    frames = [part(40 + index, defect=index % 3 == 0) for index in range(9)]
    with Inspector.open(package_path) as single:
        wanted = [single.inspect(each).raw_score for each in frames]
    inspectors = [Inspector.open(package_path, threads=1) for _ in range(2)]
    found: list[list[float | None]] = []

    def judge(inspector: Inspector) -> None:
        found.append([inspector.inspect(each).raw_score for each in frames])

    # Two threads to each inspector, neither of them its maker's.
    threads = [threading.Thread(target=judge, args=(each,)) for each in inspectors * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for inspector in inspectors:
        inspector.close()
    assert found == [wanted] * 4


def test_nothing_outside_the_region_of_interest_is_looked_at(
    make_package: Callable[..., Path], part: Part
) -> None:
    geometry = Geometry(SIZE_HW, roi_xywh=(64, 0, 64, 96))
    with Inspector.open(make_package(geometry)) as inspector:
        decision = inspector.inspect(part(11, defect=True))
    assert decision.verdict is Verdict.PASS


def test_a_blurred_frame_is_unknown(inspector: Inspector, part: Part) -> None:
    frame = part(11)
    frame[:, :, :] = np.linspace(70, 130, 128).astype(np.uint8)[None, :, None]
    decision = inspector.inspect(frame)
    assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.BLURRED_FRAME)


@pytest.mark.parametrize("frame", ["a frame", [[1, 2], [3, 4]], 3, b"bytes"])
def test_what_is_no_array_is_an_error_of_use(frame: object, inspector: Inspector) -> None:
    with pytest.raises(TypeError, match="must be a NumPy array"):
        inspector.inspect(frame)  # type: ignore[arg-type]


def test_a_closed_inspector_is_an_error_of_use(package_path: Path, part: Part) -> None:
    inspector = Inspector.open(package_path)
    inspector.close()
    inspector.close()
    with pytest.raises(RuntimeError, match="closed"):
        inspector.inspect(part(11))
    with pytest.raises(RuntimeError, match="open inspector"):
        inspector.self_test()


@pytest.mark.parametrize(
    "error",
    [
        EngineError("CUDA is gone"),
        RuntimeError("driver\nwith a long story"),
        MemoryError(),
        ZeroDivisionError("x"),
    ],
)
def test_an_engine_that_fails_gives_unknown_and_may_recover(
    error: Exception, scripted: Callable[..., Inspector], part: Part
) -> None:
    inspector = scripted(error, -1.0)
    decision = inspector.inspect(part(11))
    assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.ENGINE_ERROR)
    assert str(error).partition("\n")[0] in decision.detail
    assert "\n" not in decision.detail
    assert inspector.inspect(part(11)).verdict is Verdict.PASS


def test_a_score_that_is_none_is_invalid_output(
    scripted: Callable[..., Inspector], part: Part
) -> None:
    decision = scripted(float("nan")).inspect(part(11))
    assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.INVALID_OUTPUT)


def test_an_output_of_no_array_at_all_is_unknown(
    scripted: Callable[..., Inspector], part: Part
) -> None:
    broken = Judgement(0.0, 0.0, None, None)  # type: ignore[arg-type]
    decision = scripted(broken).inspect(part(11))
    assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.INVALID_OUTPUT)


@settings(max_examples=100, deadline=None)
@given(
    classification=st.floats(width=32),
    map_max=st.floats(width=32),
    value=st.floats(width=32),
    mark=st.integers(0, 255),
    shape=st.sampled_from([SIZE_HW, (48, 63), (1, 48, 64), (0, 0)]),
)
def test_whatever_an_engine_gives_the_answer_is_a_decision(
    classification: float,
    map_max: float,
    value: float,
    mark: int,
    shape: tuple[int, ...],
    manifest: Manifest,
    part: Part,
) -> None:
    judgement = Judgement(
        classification,
        map_max,
        np.full(shape, value, dtype=np.float32),
        np.full(shape, mark, dtype=np.uint8),
    )
    engine = FakeEngine((judgement,), input_size_hw=SIZE_HW)
    decision = Inspector(engine, manifest, precision="fp32", package_id="").inspect(part(11))
    assert isinstance(decision, Decision)
    if decision.verdict is Verdict.PASS:
        assert map_max < 2.0
        assert mark == 0
        assert np.isfinite([classification, map_max, value]).all()


def test_threads_get_the_same_decisions_as_one_thread(inspector: Inspector, part: Part) -> None:
    frames = [part(seed, defect=seed % 2 == 0) for seed in range(8)]
    alone = [inspector.inspect(frame) for frame in frames]
    together: dict[tuple[int, int], Decision] = {}

    def judge(worker: int) -> None:
        for step in range(len(frames)):
            index = (step + worker) % len(frames)
            together[worker, index] = inspector.inspect(frames[index])

    threads = [threading.Thread(target=judge, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(together) == 4 * len(frames)
    for (_, index), decision in together.items():
        assert decision.verdict is alone[index].verdict
        assert decision.raw_score == alone[index].raw_score
        assert decision.defects == alone[index].defects
        np.testing.assert_array_equal(decision.mask, alone[index].mask)
        np.testing.assert_array_equal(decision.anomaly_map, alone[index].anomaly_map)


def test_opening_runs_golden_pictures(package_path: Path) -> None:
    with Inspector.open(package_path) as inspector:
        assert inspector.self_test() == 3
        assert inspector.self_test(limit=1) == 1
        assert inspector.self_test(limit=99) == 3


def falsified(
    contents: Contents, path: Path, picture: int, **expected: float | str
) -> tuple[Path, str]:
    """A package that expects something else of one golden picture, and the picture's name."""
    manifest, entries = contents
    golden = list(manifest.golden)
    scores = replace(golden[picture].expected["fp32"], **expected)  # type: ignore[arg-type]
    golden[picture] = replace(golden[picture], expected={"fp32": scores})
    write_package(path, replace(manifest, golden=tuple(golden)), entries)
    return path, golden[picture].picture


@pytest.mark.parametrize(
    ("picture", "expected", "message"),
    [
        (0, {"classification_logit": 0.0}, "has classification logit -1.7"),
        (2, {"map_max_logit": 9.0}, "has map maximum"),
        (0, {"mask": "golden/001.mask.png"}, "has a mask of which"),
        (1, {"mask": "golden/000.mask.png"}, "has a mask of which"),
    ],
)
def test_a_model_that_gives_something_else_than_certified_does_not_open(
    picture: int,
    expected: dict[str, float | str],
    message: str,
    package_contents: Contents,
    tmp_path: Path,
) -> None:
    path, name = falsified(package_contents, tmp_path / "part.ssn", picture, **expected)
    with Inspector.open(path, self_test=False) as inspector:
        with pytest.raises(EngineError, match="does not give what tiny") as caught:
            inspector.self_test()
        assert f"{name} {message}" in str(caught.value)


def test_a_falsified_package_is_noticed_at_opening(
    package_contents: Contents, tmp_path: Path
) -> None:
    path, _ = falsified(package_contents, tmp_path / "p.ssn", 0, classification_logit=0.0)
    with pytest.raises(EngineError, match="was certified for"):
        Inspector.open(path)


def test_a_mask_of_other_pixels_does_not_open(
    package_contents: Contents, part: Part, make_package: Callable[..., Path], tmp_path: Path
) -> None:
    manifest, entries = package_contents
    shifted = {**entries, "golden/001.mask.png": entries["golden/001.mask.png"]}
    frame_package = make_package(golden_frames=(np.roll(part(2, defect=True), 6, axis=1),))
    with Package.open(frame_package) as package:
        shifted["golden/001.mask.png"] = package.read("golden/000.mask.png")
    path = tmp_path / "part.ssn"
    write_package(path, manifest, shifted)
    different = pytest.raises(EngineError, match=r"has a mask of which [0-9.]+ % differ")
    with Inspector.open(path, self_test=False) as inspector, different:
        inspector.self_test()


def test_scores_a_rounding_away_are_as_certified_even_at_the_threshold(
    package_contents: Contents, tmp_path: Path
) -> None:
    manifest, entries = package_contents
    scores = manifest.golden[1].expected["fp32"]
    found = scores.map_max_logit
    entry = manifest.precisions["fp32"]
    between = Thresholds(image=found + 1e-4, pixel=entry.thresholds.pixel)
    path, _ = falsified(
        (replace(manifest, precisions={"fp32": replace(entry, thresholds=between)}), entries),
        tmp_path / "part.ssn",
        1,
        map_max_logit=found + 2e-4,
        classification_logit=scores.classification_logit + 5e-4,
    )
    with Inspector.open(path) as inspector:
        assert inspector.self_test() == 3


def test_a_package_without_golden_pictures_does_not_open(make_package: Callable[..., Path]) -> None:
    path = make_package(golden_frames=())
    with pytest.raises(PackageError, match="holds no golden pictures"):
        Inspector.open(path)
    with Inspector.open(path, self_test=False) as inspector, pytest.raises(PackageError):
        inspector.self_test()


def test_an_inspector_of_parts_has_no_self_test(scripted: Callable[..., Inspector]) -> None:
    with pytest.raises(RuntimeError, match="made from a package"):
        scripted(0.0).self_test()


def test_opening_with_unknown_choices_is_a_configuration_error(package_path: Path) -> None:
    with pytest.raises(ConfigError, match="engine 'tpu' is not known"):
        Inspector.open(package_path, engine="tpu")
    with pytest.raises(ConfigError, match="precision 'int8' is not in the package"):
        Inspector.open(package_path, precision="int8")


def test_a_model_of_another_size_does_not_open(
    package_contents: Contents, tiny_model: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    manifest, entries = package_contents
    other = tiny_model(input_size_hw=(64, 64)).SerializeToString()
    path = tmp_path / "part.ssn"
    write_package(path, manifest, {**entries, "models/fp32.onnx": other})
    with pytest.raises(EngineError, match=r"input pixels is uint8 \(1, 64, 64, 3\)"):
        Inspector.open(path)


def test_closing_closes_engine_and_package(package_path: Path, manifest: Manifest) -> None:
    engine = FakeEngine(input_size_hw=SIZE_HW)
    package = Package.open(package_path)
    with Inspector(engine, manifest, precision="fp32", package_id="", package=package):
        pass
    assert engine.is_closed
    with pytest.raises(RuntimeError, match="closed"):
        package.read("manifest.json")


def test_a_score_error_of_the_engine_itself_is_invalid_output(
    scripted: Callable[..., Inspector], part: Part
) -> None:
    decision = scripted(ScoreError("the plan gave NaN")).inspect(part(11))
    assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.INVALID_OUTPUT)


def test_a_warm_up_runs_the_engine_once_and_a_closed_inspector_has_none(manifest: Manifest) -> None:
    engine = FakeEngine(input_size_hw=SIZE_HW)
    inspector = Inspector(engine, manifest, precision="fp32", package_id="0" * 64)
    inspector.warm_up()
    assert engine.calls == 1
    inspector.close()
    with pytest.raises(RuntimeError, match="closed"):
        inspector.warm_up()
