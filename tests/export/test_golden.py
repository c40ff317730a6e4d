import cv2
import numpy as np
import pytest

from ssn_edge_export import golden as golden_file
from ssn_edge_export.golden import Witness, golden_entries
from ssn_edge_export.scoring import LabelledPicture, ScoredPicture, score_pictures
from ssn_edge_runtime.decision import ScoringRule, Thresholds
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from ssn_edge_runtime.errors import DatasetError, PictureError, ScoreError
from ssn_edge_runtime.pictures import decode_picture, encode_png
from ssn_edge_runtime.preprocess import Geometry, preprocess

GEOMETRY = Geometry((64, 64))


def silent(_stage, _done, _total):
    pass


@pytest.fixture
def engine(model):
    with OnnxRuntimeEngine(model(), input_size_hw=(64, 64)) as engine:
        yield engine


@pytest.fixture
def pictures(tmp_path, surface):
    made = []
    for index in range(10):
        path = tmp_path / f"{index}.png"
        path.write_bytes(encode_png(surface((80, 100), spots=index % 3)))
        made.append(LabelledPicture(path, int(index % 3 > 0)))
    return made


def make(scored, engine, pixel=0.0, more=None):
    thresholds = Thresholds(0.0, pixel)
    golden = golden_entries(
        scored,
        witnesses={"fp32": Witness(engine, thresholds), **(more or {})},
        thresholds=thresholds,
        rule=ScoringRule.CLASSIFICATION,
        geometry=GEOMETRY,
        on_progress=silent,
    )
    return golden.entries, golden.pictures


def test_golden_pictures_are_the_camera_s_with_what_the_engine_says(pictures, engine):
    entries, golden = make(score_pictures(engine, pictures, GEOMETRY, silent), engine)
    assert len(golden) == 10
    frames = {picture.path.read_bytes() for picture in pictures}
    originals = [decode_picture(data, "") for data in frames]
    for each in golden:
        frame = decode_picture(entries[each.picture], each.picture)
        assert any(np.array_equal(frame, original) for original in originals)
        expected = each.expected["fp32"]
        judgement = engine.infer(preprocess(frame, GEOMETRY), pixel_threshold=0.0)
        assert expected.classification_logit == judgement.classification_logit
        assert expected.map_max_logit == judgement.map_max_logit
        mask = decode_picture(entries[expected.mask], expected.mask)
        np.testing.assert_array_equal(mask, judgement.defect_mask * 255)
    assert set(entries) == {f"golden/{index:03d}.png" for index in range(10)} | {
        f"golden/{index:03d}.mask.fp32.png" for index in range(10)
    }


def test_a_grey_picture_stays_grey(tmp_path, surface, engine):
    path = tmp_path / "grey.png"
    path.write_bytes(encode_png(cv2.cvtColor(surface(), cv2.COLOR_BGR2GRAY)))
    entries, _ = make([ScoredPicture(LabelledPicture(path, 0), 0.0, 0.0)], engine)
    assert decode_picture(entries["golden/000.png"], "").ndim == 2


def test_golden_pictures_stay_under_the_cap_and_one_is_always_there(pictures, engine, monkeypatch):
    scored = score_pictures(engine, pictures, GEOMETRY, silent)
    whole, _ = make(scored, engine)
    half = sum(map(len, whole.values())) // 2
    monkeypatch.setattr(golden_file, "MAX_GOLDEN_BYTES", half)
    entries, golden = make(scored, engine)
    assert sum(map(len, entries.values())) <= half
    assert 3 <= len(golden) < 10
    assert golden[-1].picture == f"golden/{len(golden) - 1:03d}.png"
    monkeypatch.setattr(golden_file, "MAX_GOLDEN_BYTES", 1)
    assert len(make(scored, engine)[1]) == 1


def test_no_more_golden_pictures_than_wanted(pictures, engine, monkeypatch):
    monkeypatch.setattr(golden_file, "GOLDEN_PICTURES", 4)
    assert len(make(score_pictures(engine, pictures, GEOMETRY, silent), engine)[1]) == 4


def test_a_picture_without_the_region_is_refused_by_name(pictures, engine):
    with pytest.raises(PictureError, match=r"0\.png: the region"):
        score_pictures(engine, pictures, Geometry((64, 64), (50, 0, 80, 40)), silent)


def test_a_score_that_no_picture_can_cause_is_refused_by_name(pictures):
    class Broken:
        def infer(self, pixels, *, pixel_threshold):
            return ScoredPicture(pictures[0], float("nan"), 0.0)

    with pytest.raises(ScoreError, match=r"0\.png.*nan"):
        score_pictures(Broken(), pictures, GEOMETRY, silent)


def test_a_label_is_0_or_1(tmp_path):
    with pytest.raises(DatasetError, match="label 2"):
        LabelledPicture(tmp_path, 2)
