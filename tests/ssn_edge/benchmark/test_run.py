"""Whole benchmarks of tiny packages: what is measured, said, refused and written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from ssn_edge.benchmark.request import BenchmarkRequest
from ssn_edge.benchmark.result import BenchmarkResult
from ssn_edge.benchmark.run import run_benchmark
from ssn_edge.benchmark.stages import HOST, STAGES, VERDICT
from ssn_edge.benchmark.table import table_lines
from ssn_edge.cli.benchmark import benchmark
from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.decision import Judgement
from ssn_edge_runtime.engines import ModelToRun
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.errors import (
    ConfigError,
    EngineError,
    PackageError,
    PictureError,
    SourceError,
    SsnEdgeError,
)
from ssn_edge_runtime.preprocess import Geometry

CPU = "onnxruntime-cpu"


def quick(*packages: Path, **changes: Any) -> BenchmarkResult:
    settings: dict[str, Any] = {"engines": (CPU,), "batch_sizes": (1,), "streams": (1,)}
    settings |= {"frames": 12, **changes}
    return run_benchmark(BenchmarkRequest(packages, **settings), with_cold_starts=False)


def called(*arguments: str | Path) -> Result:
    """The verb alone, as the command line would call it."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(benchmark)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fake(**script: Any) -> Callable[[ModelToRun], FakeEngine]:
    return lambda model: FakeEngine(
        input_size_hw=model.input_size_hw, batch_size=model.batch_size, **script
    )


def stopped_after(calls: int) -> Callable[[ModelToRun], FakeEngine]:
    """Engines in whose call somebody presses Ctrl-C."""

    class Stopped(FakeEngine):
        def infer_batch(
            self,
            pixels: ByteImage,
            *,
            pixel_threshold: float,
            region_mask: BoolMask | None = None,
        ) -> tuple[Judgement, ...]:
            if self.calls == calls:
                raise KeyboardInterrupt
            return super().infer_batch(
                pixels, pixel_threshold=pixel_threshold, region_mask=region_mask
            )

    return lambda model: Stopped(input_size_hw=model.input_size_hw, batch_size=model.batch_size)


def test_a_package_is_measured_by_stage_batch_and_stream(free_package: Path) -> None:
    result = quick(free_package, batch_sizes=(1, 3), streams=(1, 2), frames=24)
    (subject,) = result.subjects
    measured = {*STAGES, HOST, VERDICT} - {"copy_in", "copy_out"}
    assert set(subject.stages) == measured
    assert {each.count for each in subject.stages.values()} == {24}
    assert {size: each and each.call_ms.count for size, each in subject.batches.items()} == {
        1: 24,
        3: 8,
    }
    assert {n: each and each.call_ms.count for n, each in subject.streams.items()} == {1: 24, 2: 24}
    assert subject.package_bytes == free_package.stat().st_size
    assert not result.interrupted
    assert result.ratios == ()
    assert subject.remarks == ()


def test_the_json_holds_what_it_was_measured_on_and_null_for_what_was_not(
    free_package: Path,
) -> None:
    document = json.loads(json.dumps(quick(free_package).to_dict(), allow_nan=False))
    assert document["schema"] == 1
    conditions = document["conditions"]
    assert conditions["device"]["versions"]["onnxruntime"]
    assert {"power_mode", "processor", "clocks_mhz"} <= set(conditions["device"])
    assert (conditions["threads"], conditions["rounds"]) == (0, 12)
    (subject,) = document["subjects"]
    assert (subject["precision"], subject["engine"]) == ("fp32", CPU)
    assert subject["input_size_hw"] == [48, 64]
    assert subject["frame_sizes_hw"] == [[96, 128]]
    assert re.fullmatch("[0-9a-f]{64}", subject["engine_identity"])
    assert subject["stages_ms"]["copy_in"] is None
    assert subject["cold_start"] is None
    assert set(subject["stages_ms"]["infer"]) == {"count", "p50", "p95", "p99", "max"}
    assert subject["stages_ms"]["infer"]["p99"] is None  # of twelve frames
    assert subject["batches"][0]["batch_size"] == 1
    assert subject["streams"][0]["frames_per_second"] > 0


def test_packages_and_engines_take_turns(
    free_package: Path, tmp_path: Path, add_engine: Callable[..., None]
) -> None:
    calls: list[str] = []

    def load(name: str) -> Callable[[ModelToRun], FakeEngine]:
        class Logged(FakeEngine):
            def infer(
                self,
                pixels: ByteImage,
                *,
                pixel_threshold: float,
                region_mask: BoolMask | None = None,
            ) -> Judgement:
                calls.append(name)
                return super().infer(
                    pixels, pixel_threshold=pixel_threshold, region_mask=region_mask
                )

            def infer_batch(
                self,
                pixels: ByteImage,
                *,
                pixel_threshold: float,
                region_mask: BoolMask | None = None,
            ) -> tuple[Judgement, ...]:
                return FakeEngine([0.0], input_size_hw=(48, 64)).infer_batch(
                    pixels, pixel_threshold=pixel_threshold, region_mask=region_mask
                )

        return lambda model: Logged([0.0], input_size_hw=model.input_size_hw)

    add_engine("one", load("one"))
    add_engine("two", load("two"))
    result = quick(free_package, engines=("one", "two"), frames=120)
    assert [subject.engine for subject in result.subjects] == ["one", "two"]
    assert [subject.label for subject in result.subjects] == ["made.ssn one", "made.ssn two"]
    (ratio,) = result.ratios
    assert ratio is not None
    assert ratio.rounds == 12
    assert ratio.low is not None
    assert calls.count("one") == calls.count("two") > 240
    # Ten frames by stages and ten of a stream in each round, and rounds that meet.
    assert max(len(list(run)) for _, run in groupby(calls)) <= 40


def test_what_run_would_refuse_is_measured_and_said(
    free_package: Path, add_engine: Callable[..., None]
) -> None:
    add_engine("uncertified", fake(), needs_certificate=True)
    (subject,) = quick(free_package, engines=("uncertified",)).subjects
    (remark,) = subject.remarks
    assert "`run` would refuse it" in remark
    assert "certificate" in remark


def test_a_batch_that_the_model_cannot_take_is_left_out_and_said(package_path: Path) -> None:
    result = quick(package_path, batch_sizes=(1, 4))
    (subject,) = result.subjects
    assert subject.batches[1] is not None
    assert subject.batches[4] is None
    assert "batch 4 was not measured" in subject.remarks[0]
    row = next(line for line in table_lines(result) if line.startswith("4 "))
    assert row.split() == ["4", "-", "-", "-", "-", "-"]


def test_a_cold_start_is_a_process_of_its_own(package_path: Path) -> None:
    request = BenchmarkRequest(
        (package_path,), engines=(CPU,), batch_sizes=(1,), streams=(1,), frames=2
    )
    (subject,) = run_benchmark(request).subjects
    assert subject.remarks == ()
    cold = subject.cold
    assert cold is not None
    assert cold.load_s > 0
    assert cold.first_inference_ms > 0
    assert cold.memory_bytes is not None
    assert cold.peak_memory_bytes is not None
    assert 1e7 < cold.memory_bytes <= cold.peak_memory_bytes
    assert cold.gpu_memory_bytes is None or cold.gpu_memory_bytes > 0


def test_pictures_of_a_folder_take_the_place_of_the_golden_ones(
    free_package: Path, tmp_path: Path, part: Callable[..., ByteImage]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), part(1, size_hw=(120, 160)))
    cv2.imwrite(str(folder / "b.png"), np.zeros((120, 160, 3), np.uint8))
    (subject,) = quick(free_package, data=folder).subjects
    assert subject.frame_sizes_hw == ((120, 160),)
    (remark,) = subject.remarks
    assert "1 of 2 pictures would be unknown" in remark
    assert "b.png: bad_exposure" in remark


def test_pictures_of_another_size_than_the_cameras_are_measured_and_said(
    make_package: Callable[..., Path], tmp_path: Path, part: Callable[..., ByteImage]
) -> None:
    package = make_package(frame_size_hw=(96, 128))
    assert quick(package).subjects[0].remarks == ()
    cv2.imwrite(str(tmp_path / "large.png"), part(1, size_hw=(192, 256)))
    (subject,) = quick(package, data=tmp_path / "large.png").subjects
    (remark,) = subject.remarks
    assert remark.startswith("1 of 1 pictures have another size")
    assert "128 x 96" in remark


def test_ctrl_c_gives_what_there_is(free_package: Path, add_engine: Callable[..., None]) -> None:
    add_engine("stopped", stopped_after(100))
    result = quick(free_package, engines=("stopped",), frames=300)
    assert result.interrupted
    (subject,) = result.subjects
    assert 0 < subject.stages[VERDICT].count < 300
    assert table_lines(result)[0].startswith("INTERRUPTED")
    assert result.to_dict()["interrupted"] is True


def test_ctrl_c_before_anything_was_measured_is_just_that(
    free_package: Path, add_engine: Callable[..., None]
) -> None:
    add_engine("stopped", stopped_after(0))
    with pytest.raises(KeyboardInterrupt):
        quick(free_package, engines=("stopped",))


def test_an_engine_that_fails_midway_ends_it_and_every_engine_is_closed(
    free_package: Path, add_engine: Callable[..., None]
) -> None:
    opened: list[FakeEngine] = []

    def load(model: ModelToRun) -> FakeEngine:
        opened.append(
            FakeEngine([0.0, 0.0, EngineError("it broke")], input_size_hw=model.input_size_hw)
        )
        return opened[-1]

    add_engine("failing", load)
    with pytest.raises(EngineError, match="it broke"):
        quick(free_package, engines=("failing",), streams=(2,))
    assert len(opened) == 2
    assert all(engine.is_closed for engine in opened)


WRONG: dict[str, tuple[dict[str, Any], type[SsnEdgeError], str]] = {
    "zero frames": ({"frames": 0}, ConfigError, "--frames 0: 1 or more"),
    "frames and seconds": ({"seconds": 1.0}, ConfigError, "give one of them"),
    "no time": ({"frames": None, "seconds": 0.0}, ConfigError, "--seconds 0: more than 0"),
    "endless": ({"frames": None, "seconds": float("nan")}, ConfigError, "--seconds nan"),
    "a batch of nothing": ({"batch_sizes": (0,)}, ConfigError, "--batch-sizes 0: numbers from 1"),
    "a batch twice": ({"batch_sizes": (4, 4)}, ConfigError, "named twice"),
    "no streams": ({"streams": ()}, ConfigError, "--streams"),
    "too many streams": ({"streams": (65,)}, ConfigError, "--streams 65: numbers from 1 to 64"),
    "negative threads": ({"threads": -1}, ConfigError, "--threads -1"),
    "an unknown engine": ({"engines": ("abacus",)}, ConfigError, "engine 'abacus' is not known"),
    "a precision it has not": (
        {"precisions": ("int8",)},
        ConfigError,
        "'int8' is not in the package tiny, which holds fp32",
    ),
    "no such folder": ({"data": Path("nowhere")}, SourceError, "nowhere"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_measured_is_refused_with_its_reason(name: str, package_path: Path) -> None:
    changes, kind, message = WRONG[name]
    with pytest.raises(kind, match=re.escape(message)):
        quick(package_path, **changes)


def test_an_engine_that_is_missing_is_refused(
    package_path: Path, add_engine: Callable[..., None]
) -> None:
    add_engine("absent", fake(), missing="it is not installed; install it")
    with pytest.raises(EngineError, match="absent cannot run here: it is not installed"):
        quick(package_path, engines=("absent",))


def test_a_file_that_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.ssn").write_text("no package")
    with pytest.raises(PackageError, match=r"text\.ssn"):
        quick(tmp_path / "text.ssn")


def test_a_damaged_picture_is_refused_by_name(package_path: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(SourceError, match=r"broken\.png"):
        quick(package_path, data=tmp_path / "broken.png")


def test_a_picture_smaller_than_the_region_of_interest_is_refused_by_name(
    make_package: Callable[..., Path], tmp_path: Path
) -> None:
    package = make_package(Geometry((48, 64), roi_xywh=(0, 0, 128, 96)))
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(PictureError, match=r"tiny\.png.*region of interest.*--data"):
        quick(package, data=tmp_path / "tiny.png")


def test_a_package_without_golden_pictures_asks_for_a_folder(
    make_package: Callable[..., Path],
) -> None:
    with pytest.raises(ConfigError, match=r"holds no golden pictures.*--data FOLDER"):
        quick(make_package(golden_frames=()))


def test_the_table_fits_80_columns_and_shows_what_was_not_measured_as_a_dash(
    free_package: Path, tmp_path: Path
) -> None:
    other = shutil.copy(free_package, tmp_path / "other[1].ssn")
    lines = table_lines(quick(free_package, Path(other)))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for word in ("processor", "power mode", "clocks", "versions", "measured"):
        assert re.search(rf"^{word} ", text, re.MULTILINE), word
    assert "onnxruntime 1" in text
    assert "fp32 on onnxruntime-cpu, threads by its own choice, batch 1, 48 x 64" in lines
    assert re.search(r"^copy in( +-){5}$", text, re.MULTILINE)
    assert re.search(r"^memory +-$", text, re.MULTILINE)
    assert "other[1].ssn: " in text
    assert "times as fast" in text


class _Page(HTMLParser):
    """Tags that are open, and everything that could load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        if tag not in ("meta", "rect", "line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "rect":
            return
        assert self.open.pop() == tag


def test_the_page_is_one_file_without_script_and_with_everything_escaped(
    free_package: Path, tmp_path: Path
) -> None:
    odd = shutil.copy(free_package, tmp_path / "<b>&.ssn")
    page = tmp_path / "out" / "benchmark.html"
    answer = called(
        odd, free_package, "--engine", CPU, "--frames", "6", "--batch-sizes", "1",
        "--streams", "1", "--plot", page,
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    text = page.read_text(encoding="utf-8")
    parsed = _Page()
    parsed.feed(text)
    assert parsed.open == []
    assert not parsed.tags & {"script", "img", "link", "iframe", "b", "a"}
    assert not parsed.attributes & {"src", "href", "style", "onload"}
    assert "&lt;b&gt;&amp;.ssn" in text
    assert "http" not in text.replace("http-equiv", "")
    assert "made.ssn" in text
    assert parsed.tags >= {"svg", "table"}


def test_the_verb_prints_a_table_or_json(package_path: Path) -> None:
    options = ("--engine", CPU, "--frames", "3", "--batch-sizes", "1", "--streams", "1")
    table = called(package_path, *options)
    assert table.exit_code == 0, table.output
    assert "frame to verdict" in table.stdout
    document = json.loads(called(package_path, *options, "--json").stdout)
    assert document["subjects"][0]["cold_start"]["load_s"] > 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--frames", "0"), 2, "--frames 0"),
        (("--precision", "fp16"), 2, "'fp16' is not in the package"),
        (("--engine", "abacus"), 2, "'abacus' is not known"),
        (("--batch-sizes", "1,x"), 2, "--batch-sizes 1,x: whole numbers"),
        (("--streams", ""), 2, "--streams"),
        (("--precision", "fp32,"), 2, "--precision fp32,: words"),
        (("--data", "nowhere"), 5, "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    options: tuple[str, ...], code: int, message: str, package_path: Path
) -> None:
    answer = called(package_path, "--engine", CPU, *options)
    assert answer.exit_code == code
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert answer.stdout == ""


def test_a_package_that_is_not_there_is_refused(tmp_path: Path) -> None:
    answer = called(tmp_path / "lost.ssn")
    assert answer.exit_code == 3
    assert "lost.ssn" in answer.stderr


def test_an_engine_that_is_missing_is_exit_5(
    package_path: Path, add_engine: Callable[..., None]
) -> None:
    add_engine("absent", fake(), missing="it is not installed; install it")
    answer = called(package_path, "--engine", "absent")
    assert answer.exit_code == 5
    assert "not installed" in answer.stderr


def test_ctrl_c_prints_what_there_is_and_ends_as_shells_expect(
    free_package: Path, add_engine: Callable[..., None]
) -> None:
    add_engine("stopped", stopped_after(100))
    answer = called(free_package, "--engine", "stopped", "--frames", "200")
    assert answer.exit_code == 130
    assert answer.stdout.startswith("INTERRUPTED")
    assert "interrupted" in answer.stderr
