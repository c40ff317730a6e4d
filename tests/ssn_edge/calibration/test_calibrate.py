"""`ssn-edge calibrate`: what it promises is what the package then does, or it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssn_edge.calibration.calibrate import CalibrationRequest, _confirm, calibrate
from ssn_edge.calibration.choice import Choice, Chosen
from ssn_edge.calibration.held_out import Wanted
from ssn_edge.device_settings import SettingsChange, change_settings
from ssn_edge_calibrate.best_threshold import BoundFrom, point_at
from ssn_edge_calibrate.operating_point import Sample, Wish
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import ScoringRule, Thresholds
from ssn_edge_runtime.errors import CalibrationError, ConfigError
from ssn_edge_runtime.pictures import encode_png, read_picture
from ssn_edge_runtime.region import Region
from ssn_edge_runtime.settings import DeviceSettings, Fitted, Recipe
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.zones import Zone
from tests.end_to_end.chain import Outcome, ssn_edge
from tests.runtime.conftest import make_package, part  # noqa: F401

GOOD, DEFECTS = 80, 40
FIXED = ("--engine", "onnxruntime-cpu", "--data", "held_out")


def make_pictures(folder: Path, part: Callable[..., ByteImage]) -> None:  # noqa: F811
    """Good parts, and defects that are brighter than any of them."""
    for kind, count in (("good", GOOD), ("spot", DEFECTS)):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            frame = part(1000 + number, defect=False)
            if kind == "spot":
                frame = frame.copy()
                frame[40:56, 32:56] = cv2.add(frame[40:56, 32:56], 60)
            (folder / kind / f"{number:03d}.png").write_bytes(encode_png(frame))
    # Good parts repeat no defect's picture.
    for number in range(GOOD):
        frame = part(5000 + number)
        (folder / "good" / f"{number:03d}.png").write_bytes(encode_png(frame))


class Device:
    """A folder with a package and held-out pictures, and the command in it."""

    def __init__(self, folder: Path, package: Path, pictures: Path) -> None:
        self.folder = folder
        (folder / "part.ssn").write_bytes(package.read_bytes())
        (folder / "held_out").symlink_to(pictures)
        self.store = SettingsStore(folder / "settings.json")

    def command(self, *arguments: str, code: int = 0) -> Outcome:
        done = ssn_edge("calibrate", *FIXED, *arguments, cwd=self.folder)
        assert done.code == code, done.err
        return done

    def calibrate(self, *arguments: str) -> dict[str, Any]:
        return self.command("--json", *arguments).json()

    def verdicts(self, kind: str) -> list[str]:
        """As the line would judge with the settings that are in force."""
        with Inspector.open(
            self.folder / "part.ssn", engine="onnxruntime-cpu", settings=self.store.path
        ) as inspector:
            paths = sorted((self.folder / "held_out" / kind).iterdir())
            return [str(inspector.inspect(read_picture(path)).verdict) for path in paths]


@pytest.fixture(scope="module")
def pictures(
    tmp_path_factory: pytest.TempPathFactory,
    part: Callable[..., ByteImage],  # noqa: F811
) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    make_pictures(folder, part)
    return folder


@pytest.fixture
def device(tmp_path: Path, make_package: Callable[..., Path], pictures: Path) -> Device:  # noqa: F811
    folder = tmp_path / "device"
    folder.mkdir()
    return Device(folder, make_package(), pictures)


def test_a_promise_is_found_saved_with_its_risk_and_kept_by_the_package(device: Device) -> None:
    found = device.calibrate("--max-false-reject", "5%", "--confidence", "90%")
    rejected = device.verdicts("good").count("pass") - GOOD
    (bound,) = [each for each in found["bounds"] if "good" in each["of"]]
    assert (bound["at_most"], bound["count"], bound["seen"]) == (0.05, GOOD, -rejected)
    assert bound["seen"] == 1  # 77 carry it with one above
    settings = device.store.current()
    assert settings is not None
    fitted = settings.precisions["fp32"]
    assert fitted.thresholds.image == found["thresholds"]["image"]
    assert fitted.risk is not None
    assert (fitted.risk.max_false_reject, fitted.risk.normals) == (0.05, GOOD)
    assert (fitted.risk.supported, fitted.risk.confidence) == (True, 0.9)
    assert (fitted.engine, fitted.engine_sha256) == ("onnxruntime-cpu", found["engine_sha256"])
    assert settings.note.startswith("calibrated: at most 5 % of good parts do not pass; 90 %")
    assert found["settings"] == {
        "path": "settings.json",
        "version": 1,
        "settings_id": settings.settings_id,
    }
    shown = ssn_edge("settings", "show", cwd=device.folder).out
    assert "for 5.00% false rejects on 80 normals at 0.9 confidence" in shown


def test_the_result_is_short_and_says_what_holds_and_what_more_would_need(device: Device) -> None:
    out = device.command("--max-false-reject", "5%", "--min-caught", "90%").out
    assert "at 95 % confidence, all together" in out
    assert "at most 5 % of good parts do not pass (here 0 of 80 pictures)" in out
    assert "at least 90 % of defects are caught (here 40 of 40 pictures)" in out
    assert "tighter: at most 2.5 % of good parts do not pass, from 146 good parts" in out
    assert "independently of one another" in out
    assert "nobody can tell whether it saw these pictures" in out
    assert "written: settings.json, version 1" in out
    assert len(out.splitlines()) <= 12


def test_what_so_few_pictures_cannot_carry_is_refused_with_the_number(device: Device) -> None:
    done = device.command("--max-false-reject", "0.5%", code=4)
    assert "80 pictures of good parts cannot carry" in done.err
    assert "598 are wanted" in done.err
    assert "so many carry 3.68 %" in done.err
    assert not device.store.path.exists()


def test_defects_without_a_promise_are_counted_and_said_to_promise_nothing(
    device: Device,
) -> None:
    out = device.command("--max-false-reject", "5%", "--dry-run").out
    assert "  40 of 40 defects here are caught; that promises nothing\n" in out


def test_a_dry_run_writes_nothing(device: Device) -> None:
    found = device.calibrate("--max-false-reject", "5%", "--dry-run")
    assert found["settings"] is None
    assert not device.store.path.exists()


def test_both_sides_hold_together(device: Device) -> None:
    device.calibrate("--max-false-reject", "5%", "--min-caught", "90%")
    assert device.verdicts("good") == ["pass"] * GOOD
    assert device.verdicts("spot") == ["fail"] * DEFECTS


def test_a_review_zone_lies_between_both_sides(device: Device) -> None:
    both = ("--max-false-reject", "5%", "--min-caught", "90%")
    found = device.calibrate(*both, "--review", "caught")
    low, high = found["thresholds"]["review"]
    assert found["thresholds"]["image"] == low < high
    fitted = device.store.current().precisions["fp32"]  # type: ignore[union-attr]
    assert (fitted.review.low, fitted.review.high) == (low, high)  # type: ignore[union-attr]
    assert device.verdicts("good").count("pass") == GOOD
    assert device.verdicts("spot").count("fail") == DEFECTS
    text = device.command(*both).out
    assert "The review zone that was in force is gone" in text
    assert device.store.current().precisions["fp32"].review is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "how",
    [
        ("--best-f1",),
        ("--best-f1", "--bound", "half"),
        ("--cost-miss", "50", "--cost-false-reject", "1", "--defect-rate", "2%"),
    ],
)
def test_a_best_threshold_parts_good_from_bad_and_gets_a_bound(
    device: Device, how: tuple[str, ...]
) -> None:
    found = device.calibrate(*how)
    assert device.verdicts("good") == ["pass"] * GOOD
    assert device.verdicts("spot") == ["fail"] * DEFECTS
    assert all(not bound["promised"] and 0 < bound["at_most"] < 0.4 for bound in found["bounds"])
    assert len(found["bounds"]) == 2


def test_without_a_bound_none_is_printed_and_no_risk_is_saved(device: Device) -> None:
    out = device.command("--best-f1", "--bound", "none").out
    assert "no bound: best F1 on these pictures; nothing is promised" in out
    assert device.store.current().precisions["fp32"].risk is None  # type: ignore[union-attr]


def test_a_threshold_by_hand_gets_the_bound_of_these_pictures(device: Device) -> None:
    found = device.calibrate("--image-threshold", "0.5")
    assert found["thresholds"]["image"] == 0.5
    good = found["bounds"][0]
    rejected = GOOD - device.verdicts("good").count("pass")
    assert good["seen"] == rejected
    assert rejected / GOOD < good["at_most"]


def test_a_minimum_area_counts_as_a_reject_and_can_be_fitted(device: Device) -> None:
    """At a low pixel threshold every good part has regions; the area must let them pass."""
    low = ("--pixel-threshold", "-1.4", "--max-false-reject", "8%", "--confidence", "90%")
    refused = device.command(*low, "--min-area", "1", code=4)
    assert "80 of 80 pictures of good parts are rejected whatever" in refused.err
    assert "minimum area 80" in refused.err
    found = device.calibrate(*low, "--min-area", "fit")
    assert found["thresholds"]["min_area_px"] > 1
    rejected = GOOD - device.verdicts("good").count("pass")
    assert rejected == found["bounds"][0]["seen"] <= 2
    assert device.verdicts("spot") == ["fail"] * DEFECTS


def test_a_pixel_threshold_is_fitted_for_an_area_and_confirmed_by_the_engine(
    device: Device,
) -> None:
    found = device.calibrate(
        *("--pixel-threshold", "fit", "--min-area", "20", "--max-false-reject", "8%"),
        *("--confidence", "90%"),
    )
    assert found["thresholds"]["min_area_px"] == 20
    assert found["thresholds"]["pixel"] < found["thresholds"]["image"]
    rejected = GOOD - device.verdicts("good").count("pass")
    assert rejected == found["bounds"][0]["seen"] <= 2


def test_masks_that_are_not_what_the_maps_say_are_refused() -> None:
    """No engine at hand does that; its mask at a new threshold is seen to be right all the same."""
    sample = Sample(np.array([0.0, 1.0, 2.0]))
    point = point_at(1.5, sample, 0.95, BoundFrom.FIXED)
    chosen = Chosen(Thresholds(1.5, 0.0, 4.0), point, "", sample)
    _confirm(chosen, sample)
    with pytest.raises(CalibrationError, match=r"2 good parts that do not pass, its maps 1"):
        _confirm(chosen, Sample(np.array([0.0, np.inf, 2.0])))


def test_where_the_score_is_the_map_s_maximum_a_fitted_pixel_threshold_is_the_image_s(
    device: Device,
) -> None:
    found = device.calibrate("--pixel-threshold", "fit", "--max-false-reject", "5%")
    assert found["thresholds"]["pixel"] == found["thresholds"]["image"]
    assert len(found["bounds"]) == 1


def test_beside_another_score_marked_pixels_are_a_promise_of_their_own(
    device: Device,
    make_package: Callable[..., Path],  # noqa: F811
) -> None:
    package = make_package(scoring_rule=ScoringRule.CLASSIFICATION)
    (device.folder / "part.ssn").write_bytes(package.read_bytes())
    found = device.calibrate("--pixel-threshold", "fit", "--max-false-reject", "5%")
    rejects, marked = found["bounds"]
    assert (marked["of"], marked["at_most"]) == ("good parts with a marked pixel", 0.05)
    assert rejects["confidence"] == marked["confidence"] == 0.975  # 95 % together
    assert found["thresholds"]["pixel"] != found["thresholds"]["image"]
    with Inspector.open(
        device.folder / "part.ssn", engine="onnxruntime-cpu", settings=device.store.path
    ) as inspector:
        paths = sorted((device.folder / "held_out" / "good").iterdir())
        found_regions = [inspector.inspect(read_picture(path)).defects for path in paths]
    assert sum(bool(each) for each in found_regions) == marked["seen"] == 0


def test_a_share_of_the_false_rejects_goes_to_review_and_is_unknown_on_the_line(
    device: Device,
) -> None:
    promise = ("--max-false-reject", "20%", "--review", "14%", "--confidence", "80%")
    found = device.calibrate(*promise)
    verdicts = device.verdicts("good")
    assert verdicts.count("unknown") > 0
    whole, outright = found["bounds"]
    assert whole["seen"] == GOOD - verdicts.count("pass")
    assert outright["seen"] == verdicts.count("fail") < whole["seen"]


def test_pictures_of_one_part_count_once_and_a_copy_not_at_all(
    device: Device, pictures: Path
) -> None:
    found = device.calibrate("--max-false-reject", "40%", "--group", r"good/(\d\d)|spot")
    assert (found["counted"], found["good"], found["pictures"]) == ("groups", 8, GOOD + DEFECTS)
    assert device.verdicts("good") == ["pass"] * GOOD  # a group passes in all of its pictures
    (device.folder / "held_out").unlink()
    copies = device.folder / "held_out" / "good"
    copies.mkdir(parents=True)
    for number in range(40):
        source = pictures / "good" / f"{number // 2:03d}.png"
        (copies / f"{number:03d}.png").write_bytes(source.read_bytes())
    out = device.command("--max-false-reject", "20%").out
    assert "from 20 pictures of good parts" in out
    assert "20 copies of other pictures count once" in out


def test_groups_come_from_a_column_or_from_folders(device: Device, pictures: Path) -> None:
    rows = [f"good/{n:03d}.png,good,lot{n // 8}" for n in range(GOOD)]
    (pictures / "list.csv").write_text("\n".join(["image,label,lot", *rows]), encoding="utf-8")
    by_column = device.calibrate(
        "--data", "held_out/list.csv", "--max-false-reject", "30%", "--group", "lot"
    )
    assert (by_column["counted"], by_column["good"], by_column["defects"]) == ("groups", 10, 0)
    (pictures / "list.csv").unlink()
    done = device.command("--max-false-reject", "30%", "--group", "parent", code=4)
    assert "1 groups of good parts cannot carry" in done.err


def test_good_parts_that_are_unknown_are_false_rejects(device: Device, pictures: Path) -> None:
    """One black picture: its frame check makes it unknown on the line, too."""
    (device.folder / "held_out").unlink()
    good = device.folder / "held_out" / "good"
    good.mkdir(parents=True)
    for number in range(GOOD):
        name = f"{number:03d}.png"
        (good / name).write_bytes((pictures / "good" / name).read_bytes())
    (good / "000.png").write_bytes(encode_png(np.zeros((96, 128, 3), dtype=np.uint8)))
    refused = device.command("--max-false-reject", "5%", code=4)
    assert "1 of 80 pictures of good parts are rejected whatever" in refused.err
    assert "bad_exposure 1" in refused.err
    out = device.command("--max-false-reject", "10%").out
    assert "Good pictures rejected whatever the score: bad_exposure 1." in out


def test_a_recipe_gets_its_own_thresholds_and_the_region_of_the_settings_is_judged(
    device: Device,
) -> None:
    region = np.zeros((96, 128), dtype=np.uint8)
    region[:32] = 255  # the defects lie below
    (device.folder / "region.png").write_bytes(encode_png(region))
    done = ssn_edge(
        "settings", "set", *FIXED[:2], "--region", "region.png", "--recipe", "top",
        cwd=device.folder,
    )  # fmt: skip
    assert done.code == 0, done.err
    top = ("--recipe", "top", "--max-false-reject", "5%")
    refused = device.command(*top, "--min-caught", "90%", code=4)
    assert "no threshold keeps both" in refused.err
    found = device.calibrate(*top)
    settings = device.store.current()
    assert settings is not None
    assert settings.precisions == {}
    assert settings.recipes["top"].precisions["fp32"].thresholds.image == pytest.approx(
        found["thresholds"]["image"]
    )
    assert settings.recipes["top"].region is not None


def test_settings_that_change_meanwhile_are_not_overwritten(device: Device) -> None:
    """A region drawn while pictures are judged would be another judge than the one calibrated."""

    def change(stage: str, done: int, count: int) -> None:
        if done == count:
            package = device.folder / "part.ssn"
            change_settings(device.store, SettingsChange(package, "onnxruntime-cpu", note="mine"))

    request = CalibrationRequest(
        package=device.folder / "part.ssn",
        choice=Choice(wish=Wish(max_false_reject=0.05)),
        pictures=Wanted(data=device.folder / "held_out"),
        engine="onnxruntime-cpu",
    )
    with pytest.raises(ConfigError, match="was changed while pictures were judged"):
        calibrate(device.store, request, on_progress=change)
    current = device.store.current()
    assert current is not None
    assert current.note == "mine"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--best-f1", "--max-false-reject", "1%"), "in one way"),
        (("--max-false-reject", "0"), "between 0 and 1"),
        (("--max-false-reject", "1%", "--review", "2%"), "allow more false rejects"),
        (("--max-false-reject", "1%", "--review", "caught"), "needs both"),
        (("--min-caught", "90%", "--min-area", "fit"), "fitted for false rejects"),
        (
            ("--max-false-reject", "1%", "--min-area", "fit", "--pixel-threshold", "fit"),
            "cannot be fitted at once",
        ),
        (
            ("--max-false-reject", "9%", "--min-area", "fit", "--review", "2%"),
            "given, not fitted",
        ),
        (("--cost-miss", "3"), "needs all of"),
        (("--best-f1", "--bound", "wide"), "band, half or none"),
        (("--max-false-reject", "9%", "--group", "(lot"), "no regular expression"),
        (("--max-false-reject", "9%", "--group", "lot"), "matches the names of 0 of 120"),
        (("--max-false-reject", "9%", "--confidence", "30%"), "at least 50%"),
        (("--max-false-reject", "9%", "--min-area", "few"), "a number, or fit"),
        (("--max-false-reject", "9%", "--review", "9x"), "a share such as"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_code_2(
    device: Device, arguments: tuple[str, ...], text: str
) -> None:
    done = device.command(*arguments, code=2)
    assert text in done.err
    assert len(done.err.strip().splitlines()) <= 2


@pytest.mark.parametrize("recipe", [None, "blue"])
def test_settings_with_zones_are_refused_for_no_bound_is_of_them(
    device: Device, recipe: str | None
) -> None:
    region = Region((96, 128), include=(((28, 36), (60, 36), (60, 60), (28, 60)),))
    with Inspector.open(device.folder / "part.ssn", engine="onnxruntime-cpu") as inspector:
        own = Fitted(
            inspector.thresholds,
            inspector.engine_name,
            inspector.engine_sha256,
            zones={"seat": Zone(region, image=9.0)},
        )
        fitted = {"fp32": own}
        settings = DeviceSettings(inspector.package_id, fitted if recipe is None else {})
        if recipe is not None:
            settings = replace(settings, recipes={recipe: Recipe(fitted)})
    device.store.save(lambda _: settings)
    for asked in (None, "blue"):
        options = () if asked is None else ("--recipe", asked)
        is_refused = recipe is None or asked == recipe
        done = device.command(
            "--max-false-reject", "9%", "--dry-run", *options, code=2 if is_refused else 0
        )
        assert ("hold zones (seat)" in done.err) == is_refused


def test_without_a_run_or_data_the_pictures_are_unknown(device: Device) -> None:
    done = ssn_edge("calibrate", *FIXED[:2], "--max-false-reject", "5%", cwd=device.folder)
    assert done.code == 3
    assert "--data FOLDER" in done.err


def test_settings_for_another_package_stay_until_new_ones_are_asked_for(
    device: Device,
    make_package: Callable[..., Path],  # noqa: F811
) -> None:
    device.calibrate("--max-false-reject", "5%")
    text = json.loads(device.store.path.read_text(encoding="utf-8"))
    other = text["settings"]["package_id"]
    store = SettingsStore(device.folder / "other.json")
    store.save(lambda _: _other_settings())
    refused = device.command("--max-false-reject", "5%", "--settings", "other.json", code=2)
    assert "add --new" in refused.err
    device.calibrate("--max-false-reject", "5%", "--settings", "other.json", "--new")
    current = store.current()
    assert current is not None
    assert current.package_id == other


def _other_settings() -> Any:
    from ssn_edge_runtime.settings import DeviceSettings

    return DeviceSettings("ab" * 32)
