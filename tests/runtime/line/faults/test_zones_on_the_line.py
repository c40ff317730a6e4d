"""The guarded line with zones: each record names the zone that decided, also after a change."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import simulated_line
from test_settings_changes import ask, while_running

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Thresholds
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.options import CAPTURE_MODULE, FreePolicy, TriggerKind, package_command
from ssn_edge_runtime.line.worker_process import WorkerCommand
from ssn_edge_runtime.region import Region
from ssn_edge_runtime.settings import DeviceSettings, Fitted, Recipe
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.sinks import Journal, audit_log
from ssn_edge_runtime.zones import Zone

FRAME_HW = (96, 128)
SEAT = Region(FRAME_HW, include=(((28, 36), (60, 36), (60, 60), (28, 60)),))
"""Around the defect of the conftest's parts."""


def test_the_line_judges_by_zone_and_holds_each_answer_to_its_zone(
    tmp_path: Path,
    nothing_is_left: None,
    package_path: Path,
    part: Callable[..., ByteImage],
) -> None:
    """Parts with a defect pass where its zone is lenient, by score and by area; good parts fail in
    the strict recipe's zone; both are records of their zone's threshold, as an inspector decides.
    """
    frames = tmp_path / "frames"
    frames.mkdir()
    images = [part(number, defect=number % 2 == 0) for number in range(6)]
    for number, image in enumerate(images):
        np.save(frames / f"{number}.npy", image)
    with Inspector.open(package_path, engine="onnxruntime-cpu") as inspector:
        of = (inspector.engine_name, inspector.engine_sha256)
        general = Thresholds(2.0, 2.0, min_area_px=4.0)
        lenient = {"seat": Zone(SEAT, image=9.0, min_area_px=5000.0)}
        strict = {"seat": Zone(SEAT, image=-9.0)}
        settings = DeviceSettings(
            inspector.package_id,
            {"fp32": Fitted(general, *of, zones=lenient)},
            recipes={
                "strict": Recipe({"fp32": Fitted(general, *of, zones=strict)}),
                "plain": Recipe({"fp32": Fitted(general, *of)}),
            },
        )
        store = SettingsStore(tmp_path / "settings.json")
        store.save(lambda _: settings)
        truth: dict[str | None, list[Decision]] = {}
        for recipe in (None, "strict", "plain"):
            inspector.apply_settings(store.path, recipe)
            truth[recipe] = [inspector.inspect(image) for image in images]
    assert {each.verdict for each in truth[None]} == {"pass"}
    assert any(each.zone == "seat" or each.defects for each in truth[None])
    assert {(each.verdict, each.zone) for each in truth["strict"]} == {("fail", "seat")}
    assert {each.verdict for each in truth["plain"]} == {"pass", "fail"}

    camera = WorkerCommand(
        "looping_camera:make", {"folder": str(frames), "period_ms": 10}, CAPTURE_MODULE
    )
    options = simulated_line.options(trigger=TriggerKind.FREE, policy=FreePolicy.EVERY)
    seen: Future[None] = Future()
    with Journal(tmp_path / "out") as journal:
        command = package_command(
            str(package_path), engine="onnxruntime-cpu", threads=1, settings=str(store.path)
        )
        authority = Authority({"loop": camera}, command, journal, options)

        def work() -> None:
            for recipe in (None, "strict", "plain", None):
                assert ask(authority, None, recipe) is None
                until = authority.status().counters.get("records", 0) + 20
                while authority.status().counters.get("records", 0) < until:
                    time.sleep(0.01)
            seen.set_result(None)

        while_running(authority, work)
    assert seen.done()
    verdicts = [
        each
        for each in simulated_line.read_lines(tmp_path / "out")
        if each["kind"] == "verdict" and each["raw_score"] is not None
    ]
    for each in verdicts:
        expected = truth[each["recipe"]][int(str(each["part_id"]))]
        assert (each["verdict"], each["zone"]) == (expected.verdict.value, expected.zone)
        assert (each["raw_score"], each["threshold"]) == (expected.raw_score, expected.threshold)
    for recipe in truth:
        assert sum(each["recipe"] == recipe for each in verdicts) > 5
    assert audit_log(tmp_path / "out").problems == ()
