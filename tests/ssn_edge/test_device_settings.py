"""`ssn-edge settings`: a change is a version that fits package and engine, or is not saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssn_edge.device_settings import SettingsChange, change_settings_with
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.manifest import Risk
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.settings_store import SettingsStore
from tests.end_to_end.chain import Outcome, ssn_edge
from tests.runtime.conftest import make_package, part  # noqa: F401

ENGINE = ("--engine", "onnxruntime-cpu")


class Device:
    """A folder with a package, and the command in it."""

    def __init__(self, folder: Path, package: Path) -> None:
        self.folder = folder
        (folder / "part.ssn").write_bytes(package.read_bytes())
        self.store = SettingsStore(folder / "settings.json")

    def command(self, *arguments: str, code: int = 0) -> Outcome:
        done = ssn_edge("settings", *arguments, cwd=self.folder)
        assert done.code == code, done.err
        return done

    def set(self, *arguments: str) -> dict[str, Any]:
        done = self.command("set", *ENGINE, "--json", *arguments)
        settings: dict[str, Any] = json.loads(done.out)["settings"]
        return settings

    def inspector(self) -> Inspector:
        return Inspector.open(
            self.folder / "part.ssn", engine="onnxruntime-cpu", settings=self.store.path
        )


@pytest.fixture
def device(tmp_path: Path, make_package: Callable[..., Path]) -> Device:  # noqa: F811
    folder = tmp_path / "device"
    folder.mkdir()
    return Device(folder, make_package())


@pytest.mark.parametrize("change", [("--region", "region.png"), ("--review", "-9,2.5")])
def test_what_changes_who_passes_takes_the_promise_away(
    device: Device, change: tuple[str, ...]
) -> None:
    """A bound is on the verdicts as they were: another region or review zone has none."""
    risk = Risk(0.01, 300, True, 0.95)
    with Inspector.open(device.folder / "part.ssn", engine="onnxruntime-cpu") as inspector:
        thresholds = SettingsChange(device.folder / "part.ssn", image_threshold=1.5, risk=risk)
        change_settings_with(inspector, device.store, thresholds)
    mask = np.zeros((96, 128), dtype=np.uint8)
    mask[:48] = 255
    (device.folder / "region.png").write_bytes(encode_png(mask))
    kept = device.set("--note", "the same")["precisions"]["fp32"]["risk"]
    assert kept == {
        "max_false_reject": 0.01,
        "normals": 300,
        "supported": True,
        "confidence": 0.95,
    }
    assert device.set(*change)["precisions"]["fp32"]["risk"] is None


def test_a_threshold_is_set_bound_to_the_engine_and_used(
    device: Device,
    part: Callable[..., ByteImage],  # noqa: F811
) -> None:
    settings = device.set("--image-threshold", "-9", "--package", "part.ssn", "--note", "brighter")
    with Inspector.open(device.folder / "part.ssn", engine="onnxruntime-cpu") as inspector:
        identity = inspector.engine_name, inspector.engine_sha256
        assert inspector.inspect(part(1)).verdict == "pass"
    fitted = settings["precisions"]["fp32"]
    assert (fitted["engine"], fitted["engine_sha256"]) == identity
    assert (fitted["image"], fitted["pixel"], fitted["risk"]) == (-9.0, 2.0, None)
    assert (settings["version"], settings["note"]) == (1, "brighter")
    with device.inspector() as inspector:
        assert inspector.inspect(part(1)).verdict == "fail"


def test_what_is_not_named_stays_and_zero_switches_off(device: Device) -> None:
    device.set("--alarm-after", "5", "--halt-after", "20", "--halt-reject-rate", "20%")
    settings = device.set("--alarm-after", "0", "--deadline-ms", "80", "--review", "1,3")
    line = settings["line"]
    assert (line["alarm_after"], line["halt_after"]) == (None, 20)
    assert (line["halt_reject_rate"], line["deadline_ms"]) == (0.2, 80.0)
    assert settings["precisions"]["fp32"]["review"] == [1.0, 3.0]
    settings = device.set("--review", "none", "--halt-reject-rate", "0", "--shifts", "05:30,17:30")
    assert settings["precisions"]["fp32"]["review"] is None
    assert settings["line"]["halt_reject_rate"] is None
    assert settings["line"]["shifts"] == ["05:30", "17:30"]
    assert settings["version"] == 3


def test_the_same_again_saves_no_version(device: Device) -> None:
    device.set("--image-threshold", "3")
    done = device.command("set", *ENGINE, "--image-threshold", "3")
    assert "nothing changed, no version was saved" in done.err
    assert len(device.store.history()) == 1


def test_a_region_is_a_file_of_polygons_or_a_mask_that_is_kept_beside_the_settings(
    device: Device,
    tmp_path: Path,
    part: Callable[..., ByteImage],  # noqa: F811
) -> None:
    hole = [[28, 36], [60, 36], [60, 60], [28, 60]]
    (device.folder / "region.json").write_text(
        json.dumps({"frame_size_hw": [96, 128], "exclude": [hole]})
    )
    mask = np.full((96, 128), 255, dtype=np.uint8)
    mask[36:61, 28:61] = 0
    (tmp_path / "mask.png").write_bytes(encode_png(mask))
    for region, verdict in (
        ("region.json", "pass"),
        ("none", "fail"),
        (str(tmp_path / "mask.png"), "pass"),
    ):
        settings = device.set("--region", region)
        with device.inspector() as inspector:
            assert inspector.inspect(part(7, defect=True)).verdict == verdict
    kept = device.folder / settings["region"]["mask_file"]
    assert kept.read_bytes() == (tmp_path / "mask.png").read_bytes()


def test_a_recipe_changes_alone(device: Device) -> None:
    device.set("--image-threshold", "3")
    settings = device.set("--recipe", "large", "--image-threshold", "4")
    assert settings["precisions"]["fp32"]["image"] == 3.0
    assert settings["recipes"]["large"]["precisions"]["fp32"]["image"] == 4.0


def test_versions_are_listed_shown_and_brought_back(device: Device) -> None:
    device.set("--image-threshold", "3", "--note", "first")
    device.set("--image-threshold", "4")
    listed = json.loads(device.command("history", "--json").out)["versions"]
    assert [each["settings"]["version"] for each in listed] == [1, 2]
    back = json.loads(device.command("rollback", "--json").out)
    assert back == listed[0]
    shown = device.command("show").out
    assert shown.startswith("version 1 of ")
    assert ": first" in shown
    assert "fp32: image 3, pixel 2; set by hand; onnxruntime-cpu" in shown
    assert "image 4" in device.command("rollback", "--to", "2").out


def test_thresholds_of_an_engine_that_changed_are_refused_and_taken_over_by_set(
    device: Device,
) -> None:
    device.set("--image-threshold", "3")
    kept = device.store.current()
    assert kept is not None
    other = replace(kept.precisions["fp32"], engine_sha256="1" * 64)
    device.store.save(lambda _: replace(kept, precisions={"fp32": other}))
    (device.folder / "parts").mkdir()
    (device.folder / "parts" / "1.png").write_bytes(encode_png(np.zeros((96, 128, 3), np.uint8)))
    run = ssn_edge("run", *ENGINE, "--device", "parts", cwd=device.folder)
    assert run.code == 5
    assert "recalibrate, or, if ssn-edge verify finds" in run.err
    assert not (device.folder / "decisions").exists()
    assert device.set()["precisions"]["fp32"]["image"] == 3.0
    with device.inspector() as inspector:
        assert inspector.thresholds.image == 3.0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--image-threshold", "1e9"], "the image threshold is 1000000000.0"),
        (["--review", "5,6"], "leaves out the image threshold 2"),
        (["--review", "5"], "the review zone is two logits"),
        (["--review", "a,b"], "numbers with commas between"),
        (["--region", "none.png"], "none.png: cannot be read"),
        (["--region", "part.ssn"], "cannot be decoded as a picture"),
        (["--halt-after", "-1"], "halt_after is -1"),
        (["--shifts", "6 o'clock"], "a shift begins at"),
        (["--time-zone", "Mars/Olympus"], "time zone 'Mars/Olympus' is not known here"),
        (["--recipe", "a b", "--image-threshold", "1"], "a recipe is named 'a b'"),
        (["--precision", "int8"], "precision 'int8' is not in the package"),
    ],
)
def test_what_does_not_fit_saves_nothing(
    device: Device, arguments: list[str], complaint: str
) -> None:
    done = device.command("set", *ENGINE, *arguments, code=2)
    assert complaint in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert {path.name for path in device.folder.iterdir()} <= {"part.ssn", ".settings.lock"}


def test_a_mask_that_does_not_fit_is_not_left_behind(device: Device) -> None:
    (device.folder / "mask.png").write_bytes(encode_png(np.zeros((96, 128), np.uint8)))
    done = device.command("set", *ENGINE, "--region", "mask.png", code=2)
    assert "every part would pass" in done.err
    assert {path.name for path in device.folder.iterdir()} == {
        "part.ssn", "mask.png", ".settings.lock"
    }  # fmt: skip


def test_settings_for_another_package_need_a_new_beginning(
    device: Device,
    make_package: Callable[..., Path],  # noqa: F811
) -> None:
    device.set("--image-threshold", "3")
    (device.folder / "part.ssn").write_bytes(make_package(name="another").read_bytes())
    done = device.command("set", *ENGINE, "--image-threshold", "4", code=2)
    assert "begin new settings for it: add --new" in done.err
    settings = device.set("--image-threshold", "4", "--new")
    assert settings["version"] == 2


def test_without_settings_show_says_how_to_make_them(device: Device) -> None:
    done = device.command("show", code=2)
    assert "make them: ssn-edge settings set" in done.err


SEAT = ("--zone", "seat", "--zone-polygon", "28,36,60,36,60,60,28,60")


def test_a_zone_is_drawn_changed_shown_and_removed(
    device: Device,
    part: Callable[..., ByteImage],  # noqa: F811
) -> None:
    device.set("--image-threshold", "2.5")
    polygon = device.folder / "seat.json"
    corners = [[28, 36], [60, 36], [60, 60], [28, 60]]
    polygon.write_text(json.dumps({"frame_size_hw": [96, 128], "include": [corners]}))
    general = device.set("--zone", "seat", "--region", "seat.json", "--image-threshold", "9")
    fitted = general["precisions"]["fp32"]
    assert (fitted["image"], fitted["pixel"], general["region"]) == (2.5, 2.0, None)
    assert fitted["zones"]["seat"]["image"] == 9.0
    assert fitted["zones"]["seat"]["region"]["include"] == [corners]
    with device.inspector() as inspector:
        assert inspector.inspect(part(7, defect=True)).verdict == "pass"
    device.set("--zone", "seat", "--min-area", "50")  # what is not named stays
    zone = device.set("--note", "the same")["precisions"]["fp32"]["zones"]["seat"]
    assert (zone["image"], zone["pixel"], zone["min_area_px"]) == (9.0, None, 50.0)
    with device.inspector() as inspector:
        assert inspector.inspect(part(7, defect=True)).verdict == "fail"
    shown = device.command("show").out
    assert "fp32, zone seat: image 9, area 50 px; 1 polygons, 0 holes on 128 x 96 pixels" in shown
    assert "zones" not in device.set("--remove-zone", "seat")["precisions"]["fp32"]


def test_a_zone_of_a_recipe_is_that_recipes_and_takes_the_promise_away(device: Device) -> None:
    risk = Risk(0.01, 300, True, 0.95)
    with Inspector.open(device.folder / "part.ssn", engine="onnxruntime-cpu") as inspector:
        thresholds = SettingsChange(device.folder / "part.ssn", image_threshold=1.5, risk=risk)
        change_settings_with(inspector, device.store, thresholds)
    corners = [[28, 36], [60, 36], [60, 60], [28, 60]]
    (device.folder / "seat.json").write_text(
        json.dumps({"frame_size_hw": [96, 128], "include": [corners]})
    )
    zone = ("--zone", "seat", "--region", "seat.json", "--pixel-threshold", "1")
    settings = device.set("--recipe", "blue", *zone)
    own = settings["recipes"]["blue"]["precisions"]["fp32"]
    assert (own["image"], own["risk"], set(own["zones"])) == (1.5, None, {"seat"})
    assert settings["precisions"]["fp32"]["risk"] is not None
    assert "zones" not in settings["precisions"]["fp32"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--zone", "new", "--image-threshold", "1"), "zone 'new' is new: say where it lies"),
        ((*SEAT, "--image-threshold", "1"), "the package does not state the size of its frames"),
        (("--zone-polygon", "1,1,9,1,9,9"), "name it with --zone NAME"),
        (("--zone", "a", "--zone-polygon", "1,1,9"), "--zone-polygon"),
        (("--remove-zone", "seat"), "there is no zone 'seat' to remove; there are none"),
        (("--remove-zone", "seat", "--zone", "seat"), "give one of them"),
        (("--zone", "a", "--review", "1,2"), "--review is for all of the frame"),
        (("--zone", "a", "--region", "none"), "--remove-zone a"),
        (("--zone", "a", "--region", "seat.json"), "a zone sets nothing"),
        (("--zone", "a b", "--region", "seat.json", "--min-area", "9"), "a zone is named 'a b'"),
    ],
)
def test_a_zone_that_cannot_be_is_one_line_and_saves_nothing(
    device: Device, arguments: tuple[str, ...], complaint: str
) -> None:
    corners = [[28, 36], [60, 36], [60, 60], [28, 60]]
    (device.folder / "seat.json").write_text(
        json.dumps({"frame_size_hw": [96, 128], "include": [corners]})
    )
    done = device.command("set", *ENGINE, *arguments, code=2)
    assert complaint in " ".join(done.err.split())
    assert not device.store.path.exists()


def test_polygons_of_a_zone_are_of_the_packages_frames(
    tmp_path: Path,
    make_package: Callable[..., Path],  # noqa: F811
) -> None:
    folder = tmp_path / "device"
    folder.mkdir()
    device = Device(folder, make_package(frame_size_hw=(96, 128)))
    two = ("--zone-polygon", "0,0,9,0,9,9")
    zone = device.set(*SEAT, *two, "--image-threshold", "1")["precisions"]["fp32"]["zones"]["seat"]
    assert zone["region"]["frame_size_hw"] == [96, 128]
    assert len(zone["region"]["include"]) == 2
