from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge.evaluation.report import (
    Baseline,
    DefectClass,
    Example,
    Report,
    VerdictCounts,
    render_report,
    report_numbers,
    write_report,
)
from ssn_edge_calibrate import ImageMetrics, Metrics, PixelMetrics
from ssn_edge_runtime.decision import ScoringRule, Thresholds, Verdict
from ssn_edge_runtime.errors import ScoreError, StorageError
from ssn_edge_runtime.manifest import Risk

HOSTILE = '"><script>alert(1)</script><img src="http://example.com/x.png" onerror=alert(1)>'
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def example(name: str, label: int, verdict: Verdict, score: float | None) -> Example:
    rng = np.random.default_rng(len(name))
    picture = rng.integers(90, 160, (48, 64, 3), dtype=np.uint8)
    anomaly_map = rng.normal(-3, 0.5, (32, 32)).astype(np.float32)
    mask = np.zeros((32, 32), dtype=bool)
    if label:
        mask[8:14, 10:25] = True
        anomaly_map[mask] += 6
    return Example(name, label, verdict, score, picture, anomaly_map, anomaly_map >= 0, mask)


@pytest.fixture
def report() -> Report:
    return Report(
        title="Housing",
        facts={"Regime": "unsupervised", "Engine": "ONNX Runtime, CPU"},
        scoring_rule=ScoringRule.MAP_MAX,
        thresholds=Thresholds(image=0.25, pixel=0.0),
        risk=Risk(max_false_reject=0.01, normals=60, supported=False),
        normal=VerdictCounts(passed=37, failed=2, unknown=1),
        anomalous=VerdictCounts(passed=3, failed=17),
        metrics=Metrics(
            ImageMetrics(0.9123, 0.8234, 39, 20),
            ImageMetrics(0.97531, 0.9642, 39, 20),
            ImageMetrics(0.97531, 0.9642, 39, 20),
            PixelMetrics(0.98765, None, 0.90909, 40, 23),
        ),
        normal_scores=[-3.5 + 0.1 * index for index in range(39)],
        anomalous_scores=[-1.25 + 0.5 * index for index in range(20)],
        defect_classes=[DefectClass("scratch", 13, 11), DefectClass("pit", 7, 6)],
        examples=[
            example("passed-far", 0, Verdict.PASS, -3.0),
            example("passed-close", 0, Verdict.PASS, -0.5),
            example("found", 1, Verdict.FAIL, 4.0),
            example("rejected-little", 0, Verdict.FAIL, 0.3),
            example("rejected-much", 0, Verdict.FAIL, 2.0),
            example("missed-little", 1, Verdict.PASS, 0.2),
            example("missed-much", 1, Verdict.PASS, -1.25),
            example("unjudged", 0, Verdict.UNKNOWN, None),
        ],
        baseline=Baseline("High-pass maximum", 0.8125),
        notes=["On the test part."],
        commands=["ssn-edge evaluate --data housing"],
    )


def test_the_summary_says_what_was_found_and_what_was_rejected(report: Report) -> None:
    text = Page(render_report(report)).text
    assert "17 of 20 defective parts found 85 %; 3 missed" in text
    assert "3 of 40 good parts rejected 7.5 %; 1 of them without a judgement" in text
    assert "+0.25 logits threshold on the map maximum" in text


def test_a_promise_that_the_data_cannot_carry_is_called_so(report: Report) -> None:
    unsupported = Page(render_report(report)).text
    assert "Fitted for at most 1 % good parts rejected, on 60 normal pictures." in unsupported
    assert "Too few: they can promise 1.7 %." in unsupported
    sure = Page(render_report(dataclasses.replace(report, risk=Risk(0.01, 60, False, 0.95)))).text
    assert "1 % good parts rejected, at 95 % confidence, on 60 normal pictures." in sure
    assert "Too few: they can promise 4.9 %." in sure
    supported = dataclasses.replace(report, risk=Risk(0.05, 60, True))
    assert "Too few" not in render_report(supported)
    assert "without a promise" in render_report(dataclasses.replace(report, risk=None))


def test_nearly_all_is_not_shown_as_all(report: Report) -> None:
    almost = VerdictCounts(passed=1, failed=9999)
    text = Page(render_report(dataclasses.replace(report, anomalous=almost))).text
    assert "9999 of 10000 defective parts found > 99.9 %; 1 missed" in text
    metrics = dataclasses.replace(report.metrics, map_max=ImageMetrics(0.99999, 1.0, 39, 20))
    text = Page(render_report(dataclasses.replace(report, metrics=metrics))).text
    assert "0.9999 1.0000" in text


def test_mistakes_come_first_and_the_worst_of_them_before_the_others(report: Report) -> None:
    html = render_report(report)
    names = re.findall(r'<span class="name">([\w-]+)</span>', html)
    assert names == [
        "missed-much",
        "missed-little",
        "rejected-much",
        "rejected-little",
        "unjudged",
        "found",
        "passed-close",
        "passed-far",
    ]


def test_each_example_shows_four_panels_no_larger_than_stated(report: Report) -> None:
    uris = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', render_report(report))
    assert len(uris) == 4 * len(report.examples)
    for uri in uris:
        panel = cv2.imdecode(np.frombuffer(base64.b64decode(uri), np.uint8), cv2.IMREAD_COLOR)
        assert panel.shape == (240, 320, 3)


def test_an_example_without_map_or_masks_is_shown_as_such(report: Report) -> None:
    grey = np.full((40, 40), 128, dtype=np.uint8)
    bare = Example("bare", 1, Verdict.UNKNOWN, None, grey)
    text = Page(render_report(dataclasses.replace(report, examples=[bare]))).text
    assert "no score" in text
    for missing in ("no map", "no mask", "no mask drawn"):
        assert missing in text


def test_a_map_with_nan_is_drawn_all_the_same(report: Report) -> None:
    broken = dataclasses.replace(
        report.examples[0], anomaly_map=np.full((32, 32), np.nan, dtype=np.float32)
    )
    assert "passed-far" in render_report(dataclasses.replace(report, examples=[broken]))


def test_a_report_without_examples_scores_or_metrics_still_renders(report: Report) -> None:
    undefined = ImageMetrics(None, None, 0, 0)
    empty = dataclasses.replace(
        report,
        normal=VerdictCounts(0, 0),
        anomalous=VerdictCounts(0, 0),
        metrics=Metrics(undefined, undefined, undefined, PixelMetrics(None, None, None, 0, 0)),
        normal_scores=[],
        anomalous_scores=[],
        defect_classes=[],
        examples=[],
        baseline=None,
        notes=[],
        commands=[],
    )
    text = Page(render_report(empty)).text
    assert "0 of 0 defective parts found no pictures" in text
    assert text.count("not defined") == 8  # seven metrics and the sentence about them


def hostile(report: Report) -> Report:
    names = [
        dataclasses.replace(each, name=HOSTILE, defect_class=HOSTILE) for each in report.examples
    ]
    return dataclasses.replace(
        report,
        title=HOSTILE,
        facts={HOSTILE: HOSTILE},
        defect_classes=[DefectClass(HOSTILE, 2, 1)],
        examples=names,
        baseline=Baseline(HOSTILE, 0.5),
        notes=[HOSTILE],
        commands=[HOSTILE],
    )


def test_hostile_names_stay_text(report: Report) -> None:
    page = Page(render_report(hostile(report)))
    assert "script" not in page.tags
    assert page.text.count("<script>alert(1)</script>") > len(report.examples)
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_the_page_loads_nothing_from_outside(report: Report) -> None:
    page = Page(render_report(hostile(report)))
    loaded = [value for name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert loaded
    assert all(value.startswith("data:image/jpeg;base64,") for value in loaded)
    assert not {"link", "script", "iframe", "object", "embed", "base"} & set(page.tags)
    style = re.search("<style>(.*?)</style>", render_report(report), re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_the_security_policy_allows_its_own_style_and_pictures_alone(report: Report) -> None:
    html = render_report(report)
    page = Page(html)
    policy = next(value for _, value in page.attributes if value.startswith("default-src"))
    style = re.search("<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not [name for name, _ in page.attributes if name == "style"]  # it would be blocked


def test_every_number_is_in_the_json(report: Report) -> None:
    numbers = json.loads(json.dumps(report_numbers(report), allow_nan=False))
    assert numbers["thresholds"] == {"image": 0.25, "pixel": 0.0, "min_area_px": None}
    assert numbers["risk"] == {
        "max_false_reject": 0.01,
        "normals": 60,
        "supported": False,
        "confidence": None,
    }
    assert numbers["verdicts"] == {
        "normal": {"passed": 37, "failed": 2, "unknown": 1},
        "anomalous": {"passed": 3, "failed": 17, "unknown": 0},
    }
    assert numbers["metrics"] == report.metrics.to_dict()
    assert numbers["defect_classes"][0] == {"name": "scratch", "pictures": 13, "found": 11}
    assert numbers["baseline"] == {"name": "High-pass maximum", "i_auroc": 0.8125}
    assert numbers["scores"]["normal"] == report.normal_scores
    assert numbers["scores"]["anomalous"] == report.anomalous_scores
    assert numbers["roc"][0] == [0, 0]
    assert numbers["roc"][-1] == numbers["precision_recall"][-1][:1] * 2 == [1, 1]
    assert [each["score"] for each in numbers["examples"]] == [
        each.score for each in report.examples
    ]
    assert numbers["facts"] == report.facts
    assert numbers["scoring_rule"] == "map_max"


def test_the_page_and_its_numbers_are_written_side_by_side(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "new" / "report.html")
    assert sorted(each.name for each in (tmp_path / "new").iterdir()) == [
        "report.html",
        "report.json",
    ]
    page = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert page == render_report(report)
    assert page.startswith("<!DOCTYPE html>")
    numbers = json.loads((tmp_path / "new" / "report.json").read_text(encoding="utf-8"))
    assert numbers == report_numbers(report)


def test_a_report_that_cannot_be_written_leaves_nothing_behind(
    report: Report, tmp_path: Path
) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        write_report(report, tmp_path / "report.html")
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


def test_a_page_cannot_take_the_place_of_its_numbers(report: Report, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another suffix"):
        write_report(report, tmp_path / "report.json")


def test_the_page_is_as_large_as_its_pictures_and_little_more(report: Report) -> None:
    bare = render_report(dataclasses.replace(report, examples=[]))
    assert len(bare) < 40_000
    assert len(render_report(report)) < len(bare) + 4 * 100_000 * len(report.examples)


def test_a_score_that_is_not_finite_is_refused(report: Report) -> None:
    with pytest.raises(ScoreError, match="normal part is NaN or infinite"):
        dataclasses.replace(report, normal_scores=[0.0, float("nan")])


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to look at the page with")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_draws_the_page(report: Report, tmp_path: Path, width: int) -> None:
    write_report(report, tmp_path / "report.html")
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars"]
    command += [f"--screenshot={tmp_path / 'page.png'}", f"--window-size={width},1200"]
    command += [(tmp_path / "report.html").as_uri()]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    drawn = cv2.imread(str(tmp_path / "page.png"), cv2.IMREAD_COLOR)
    assert drawn.shape[:2] == (1200, width)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 50
    blue, orange = np.array([176, 111, 47]), np.array([12, 89, 209])  # the two bars, so styles work
    for colour in (blue, orange):
        assert np.any(np.all(np.abs(drawn.astype(int) - colour) < 8, axis=2))
