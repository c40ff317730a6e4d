"""The report in a real browser: it looks as it should, enlarges, and asks nobody for anything."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from ssn_edge.evaluation.certificate_summary import (
    CertificateSummary,
    CertifiedEngine,
    DataPart,
    DataRecord,
)
from ssn_edge.evaluation.report import Report
from ssn_edge.evaluation.report_page import render_report, write_report
from ssn_edge.evaluation.settings_summary import SettingsSummary
from ssn_edge_runtime.decision import ReviewZone, Thresholds
from ssn_edge_runtime.manifest import Caught, Risk
from tests.headless_browser import CHROMIUM, Browser
from tests.ssn_edge.evaluation.by_hand import a_day_s_pictures, report_by_hand

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to look with")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    by_hand = report_by_hand(tmp_path_factory.mktemp("pictures"), a_day_s_pictures())
    engines = [
        CertifiedEngine(f"int8-openvino deploy-1 on {engine}", 1116, 2, 1, 3.5e-06, 0.0625)
        for engine in ("onnxruntime-cpu", "openvino")
    ]
    return replace(
        by_hand,
        settings=SettingsSummary(
            version=12,
            settings_id="3c" * 32,
            written_at="2026-11-28T12:00:00Z",
            note="calibrated: at most 5 % of good parts do not pass",
            recipe="large",
            precision="int8-openvino",
            thresholds=Thresholds(1.0, 1.5, 12.5),
            review=ReviewZone(0.5, 1.25),
            engine="openvino",
            engine_sha256="4b" * 32,
            risk=Risk(0.05, 60, True, 0.95),
            caught=Caught(0.9, 58, 0.95),
            has_region=True,
        ),
        data=DataRecord("0f" * 32, "1e" * 32, (DataPart("calibration", 1234, 567, None),)),
        certificate=CertificateSummary(
            precision="int8-openvino",
            model_sha256="2d" * 32,
            what="the trained net against the exported model",
            where="on a workstation",
            engines=tuple(engines),
            versions={"torch": "2.14.1+cu130", "onnxruntime": "1.32.0"},
            document={},
        ),
    )


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def smuggled(address: str) -> str:
    """All the ways in which a page could reach out, if somebody got them into it."""
    return (
        f'<img src="{address}/picture"><link rel="stylesheet" href="{address}/style">'
        f'<script src="{address}/script"></script><iframe src="{address}/frame"></iframe>'
        f'<p style="background:url({address}/background)">x</p>'
        f"<style>@import '{address}/import';</style>"
        f"<script>fetch('{address}/fetch')</script>"
    )


def test_no_request_leaves_the_page_whatever_is_in_it(report: Report, tmp_path: Path) -> None:
    with listening() as (address, asked), Browser(tmp_path) as browser:
        hostile = replace(report, title=smuggled(address), notes=[smuggled(address)])
        write_report(hostile, tmp_path / "escaped.html")
        page = render_report(report).replace("<main>", f"<main>{smuggled(address)}")
        (tmp_path / "smuggled.html").write_text(page, encoding="utf-8")
        for name in ("escaped.html", "smuggled.html"):
            browser.open((tmp_path / name).as_uri())
            outside = [each for each in browser.requests if not each.startswith("data:")]
            if name == "escaped.html":  # blocked ones would be noted, too
                assert outside == [(tmp_path / name).as_uri()]
            assert asked == []
        # Without the policy all of it is asked for: so the watch sees what there is to see.
        bare = f"<!DOCTYPE html><main>{smuggled(address)}</main>"
        (tmp_path / "bare.html").write_text(bare, encoding="utf-8")
        browser.open((tmp_path / "bare.html").as_uri())
        paths = {"/picture", "/style", "/script", "/frame", "/background", "/import", "/fetch"}
        assert paths <= {path for path in asked if path != "/favicon.ico"}
        assert {f"{address}{path}" for path in paths} <= set(browser.requests)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_screen_and_takes_its_colours(
    report: Report, tmp_path: Path, width: int, dark: bool
) -> None:
    write_report(report, tmp_path / "report.html")
    with Browser(tmp_path, width=width, is_dark=dark) as browser:
        browser.open((tmp_path / "report.html").as_uri())
        assert browser.value("document.documentElement.scrollWidth") == width
        # No figure or picture is cut off, and no table needs a finger to be read.
        assert (
            browser.value(
                "[...document.querySelectorAll('figure, img, svg, table, pre, dl')].filter(e => {"
                "const b = e.getBoundingClientRect();"
                f"return b.width && (b.left < 0 || b.right > {width} + 0.5)}}).length"
            )
            == 0
        )
        scrolled = (
            "[...document.querySelectorAll('.scroll, pre')]"
            ".filter(e => e.scrollWidth > e.clientWidth)"
        )
        assert browser.value(scrolled + ".map(e => e.innerText)") == []
        drawn = browser.screenshot()
    assert drawn.shape == (900, width, 3)
    background = drawn[2, 2]
    assert (background.max() < 40) if dark else (background.min() > 230)
    colours = np.unique(drawn.reshape(-1, 3), axis=0)
    text = colours[np.abs(colours.astype(int) - background).sum(axis=1).argmax()]
    assert abs(int(text.mean()) - int(background.mean())) > 150


@pytest.mark.parametrize("figure", [".charts .zoom", ".panels .zoom"])
def test_a_click_enlarges_a_figure_and_another_puts_it_back(
    report: Report, tmp_path: Path, figure: str
) -> None:
    write_report(report, tmp_path / "report.html")
    size = (
        f"(() => {{const b = document.querySelector({(figure + ' :nth-child(2)')!r})"
        ".getBoundingClientRect(); return [b.width, b.height]})()"
    )
    with Browser(tmp_path) as browser:
        browser.open((tmp_path / "report.html").as_uri())
        before = browser.value(size)
        browser.click(figure)
        assert browser.value(size) == [1280, 900]
        browser.click(figure + " :nth-child(2)")
        assert browser.value(size) == before


def test_the_page_shows_all_that_is_promised(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "report.html")
    with Browser(tmp_path) as browser:
        browser.open((tmp_path / "report.html").as_uri())
        text = browser.value("document.body.innerText")
        drawings = browser.value(
            "[...document.querySelectorAll('svg.chart')].map(e => e.getAttribute('aria-label'))"
        )
    for heading in (
        *("In plain words", "Scores", "Confusion at the threshold", "Defects by class"),
        *("Metrics", "Defect regions", "Reliability", "Missed defects", "Good parts rejected"),
        *("Device settings", "At least 90 % of defects do not pass, at 95 % confidence"),
        *("Version 12 of 2026-11-28T12:00:00Z, recipe large", "openvino, " + "4b" * 32),
        *("Data", "Certificate", "How this was measured"),
    ):
        assert heading in text
    assert drawings == [
        "Histogram of score minus threshold, good and defective parts",
        "ROC curve",
        "Precision-recall curve",
        "Histogram of map maximum minus threshold, good and defective parts",
        "FROC curve",
        "Over brightness",
        "Over time",
    ]
