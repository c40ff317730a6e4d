"""What the doctor finds on machines put together from public documents; see recorded/README.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ssn_edge_runtime.doctor import Finding, Level, Report, Wishes, gather, judge
from ssn_edge_runtime.errors import ConfigError
from tests.runtime.doctor.recorded_host import (
    RECORDED,
    RecordedHost,
    Recording,
    read_recording,
)

ALL = sorted(path.stem for path in RECORDED.glob("*.txt"))
ENVIRONMENT = "home/user/ssn-edge/lib/python3.10/site-packages"
SYSTEM = "usr/lib/python3.10/dist-packages"


def look(recording: Recording, root: Path, **wishes: object) -> Report:
    root.mkdir(exist_ok=True)
    output = root / "var/lib/ssn-edge"
    return judge(gather(Wishes(output=output, **wishes), RecordedHost(recording, root)))  # type: ignore[arg-type]


def of(report: Report, area: str) -> list[Finding]:
    return [each for each in report.findings if each.area == area]


def worst(report: Report, area: str) -> Finding:
    order = list(Level)
    return max(of(report, area), key=lambda each: order.index(each.level))


@pytest.mark.parametrize("name", ALL)
def test_every_warning_and_problem_has_a_fix(name: str, tmp_path: Path) -> None:
    report = look(read_recording(name), tmp_path)
    for each in report.findings:
        if each.level in (Level.WARNING, Level.PROBLEM):
            assert each.fix, each
            assert each.wanted, each
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["schema"] == 1


def test_jetpack_5_is_refused(tmp_path: Path) -> None:
    report = look(read_recording("jetpack5-xavier-nx"), tmp_path)
    assert not report.can_run
    (jetpack,) = of(report, "JetPack")
    assert jetpack.level is Level.PROBLEM
    assert "JetPack 5" in jetpack.found
    assert jetpack.wanted == "JetPack 6.1 or newer"
    assert worst(report, "Python").level is Level.PROBLEM  # 3.8
    assert worst(report, "engines").level is Level.PROBLEM  # TensorRT 8 counts for none


@pytest.mark.parametrize(
    ("name", "jetpack", "tensorrt"),
    [
        ("jetpack6-orin-nano", "JetPack 6", "10.3.0 of JetPack (10.3.0.30-1+cuda12.5)"),
        ("jetpack7-orin-nano", "JetPack 7", "10.16.2.10 of JetPack (10.16.2.10-1+cuda13.2)"),
    ],
)
def test_jetpack_6_and_7_are_supported(
    name: str, jetpack: str, tensorrt: str, tmp_path: Path
) -> None:
    report = look(read_recording(name), tmp_path)
    assert report.can_run
    assert not [each for each in report.findings if each.level is Level.WARNING]
    assert of(report, "JetPack")[0].found.endswith(jetpack)
    assert tensorrt in of(report, "TensorRT")[0].found
    assert "Orin, compute capability 8.7" in of(report, "GPU")[0].found


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("# R36 (release), REVISION: 3.0, GCID: 1", Level.PROBLEM),  # JetPack 6.0: TensorRT 8.6
        ("# R36 (release), REVISION: 4.0, GCID: 1", Level.OK),
        ("# R32 (release), REVISION: 7.1, GCID: 1", Level.PROBLEM),
        ("# R41 (release), REVISION: 1.0, GCID: 1", Level.WARNING),
    ],
)
def test_the_release_decides_and_a_later_one_is_not_known(
    line: str, level: Level, tmp_path: Path
) -> None:
    recording = read_recording("jetpack6-orin-nano")
    recording.files["etc/nv_tegra_release"] = line
    recording.files["var/lib/dpkg/status"] = ""
    assert worst(look(recording, tmp_path), "JetPack").level is level


def test_a_half_finished_update_and_a_foreign_jetpack_are_told(tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    status = recording.files["var/lib/dpkg/status"]
    recording.files["var/lib/dpkg/status"] = status.replace("6.2.1+b38", "7.2.1-b49").replace(
        "36.4.7-2025", "36.5.0-2026"
    )
    first, foreign, unfinished = of(look(recording, tmp_path), "JetPack")
    assert first.level is Level.OK
    assert (foreign.level, unfinished.level) == (Level.WARNING, Level.WARNING)
    assert "7.2.1-b49" in foreign.found
    assert "36.5.0" in unfinished.found


def wheel(recording: Recording) -> None:
    recording.install(ENVIRONMENT, "tensorrt-cu12", "10.3.0", "tensorrt/__init__.py")


def hidden(recording: Recording) -> None:
    config = "home/user/ssn-edge/pyvenv.cfg"
    recording.files[config] = recording.files[config].replace("= true", "= false")
    kept = tuple(each for each in recording.python.path if "dist-packages" not in each)
    recording.python = type(recording.python)(
        **{**{n: getattr(recording.python, n) for n in recording.python.__slots__}, "path": kept}
    )


def not_installed(recording: Recording) -> None:
    recording.remove(f"{SYSTEM}/tensorrt")
    recording.files["var/lib/dpkg/status"] = ""


def broken(recording: Recording) -> None:
    recording.imports("tensorrt", error="ImportError: libnvinfer.so.10: cannot open")


@pytest.mark.parametrize(
    ("change", "found", "fix"),
    [
        (wheel, "tensorrt-cu12 10.3.0 from pip hides JetPack's", "uninstall -y tensorrt-cu12"),
        (hidden, "this Python does not see it", "--system-site-packages"),
        (not_installed, "is not installed", "sudo apt install nvidia-jetpack"),
        (broken, "libnvinfer.so.10", "apt install --reinstall python3-libnvinfer"),
    ],
)
@pytest.mark.parametrize("on_processor", [True, False])
def test_a_wrong_tensorrt_is_a_problem_where_no_other_engine_can_run(
    change: Callable[[Recording], None], found: str, fix: str, on_processor: bool, tmp_path: Path
) -> None:
    recording = read_recording("jetpack6-orin-nano")
    change(recording)
    if not on_processor:
        recording.remove(f"{ENVIRONMENT}/onnxruntime")
    report = look(recording, tmp_path)
    finding = worst(report, "TensorRT")
    assert finding.level is (Level.WARNING if on_processor else Level.PROBLEM)
    assert found in finding.found
    assert any(fix in each for each in finding.fix)


def test_an_environment_without_the_systems_packages_is_told_with_its_command(
    tmp_path: Path,
) -> None:
    recording = read_recording("jetpack6-orin-nano")
    hidden(recording)
    report = look(recording, tmp_path)
    finding = worst(report, "environment")
    assert finding.level is Level.WARNING
    assert finding.fix[0] == "/usr/bin/python3 -m venv --system-site-packages ~/ssn-edge"
    assert "'numpy<2' 'cuda-python<13'" in finding.fix[1]
    assert worst(report, "OpenCV").level is Level.PROBLEM  # nothing can be read without it
    assert not report.can_run


def test_a_foreign_python_never_sees_jetpacks_packages(tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    recording.python = type(recording.python)(
        "3.10.13", "aarch64", "/x/bin/python", "/home/user/ssn-edge", "/home/user/.pyenv/3.10",
        recording.python.path,
    )  # fmt: skip
    finding = worst(look(recording, tmp_path), "environment")
    assert finding.level is Level.WARNING
    assert "not the system's" in finding.found


def test_a_wheel_of_tensorrt_is_right_on_jetpack_7(tmp_path: Path) -> None:
    report = look(read_recording("jetpack7-thor"), tmp_path)
    (finding,) = of(report, "TensorRT")
    assert (finding.level, finding.found) == (Level.OK, "TensorRT 10.16.1.11 from pip")


@pytest.mark.parametrize("works", [True, False])
def test_numpy_2_beside_jetpacks_opencv_is_told(works: bool, tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    recording.imports("numpy", version="2.2.6", file="/x")
    if not works:
        recording.imports("cv2", error="ImportError: numpy.core.multiarray failed to import")
    finding = worst(look(recording, tmp_path), "OpenCV")
    assert finding.level is (Level.WARNING if works else Level.PROBLEM)
    assert "NumPy 1" in finding.wanted
    assert finding.fix == ("python3 -m pip install 'numpy<2'",)


def test_numpy_2_beside_an_opencv_wheel_is_right(tmp_path: Path) -> None:
    assert worst(look(read_recording("x86-no-gpu"), tmp_path), "OpenCV").level is Level.OK


def test_a_wheel_that_hides_jetpacks_opencv_is_told(tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    recording.install(ENVIRONMENT, "opencv-python", "4.11.0.86", "cv2/__init__.py")
    finding = worst(look(recording, tmp_path), "OpenCV")
    assert finding.level is Level.WARNING
    assert "hides JetPack's own" in finding.found
    assert finding.fix == ("python3 -m pip uninstall -y opencv-python",)


def test_two_opencv_wheels_are_told(tmp_path: Path) -> None:
    recording = read_recording("x86-no-gpu")
    folder = "srv/line/lib/python3.11/site-packages"
    recording.install(folder, "opencv-contrib-python", "5.0.0.93")
    finding = worst(look(recording, tmp_path), "OpenCV")
    assert finding.level is Level.WARNING
    assert "opencv-python-headless 5.0.0.93" in finding.found
    assert "opencv-contrib-python 5.0.0.93" in finding.found


def test_two_onnxruntimes_are_told(tmp_path: Path) -> None:
    recording = read_recording("x86-no-gpu")
    folder = "srv/line/lib/python3.11/site-packages"
    recording.install(folder, "onnxruntime-gpu", "1.31.1")
    finding = worst(look(recording, tmp_path), "ONNX Runtime")
    assert finding.level is Level.WARNING
    assert "onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1" in finding.found
    assert worst(look(recording, tmp_path / "again"), "engines").level is Level.PROBLEM


def test_cuda_python_newer_than_the_driver_is_told(tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    recording.remove(f"{ENVIRONMENT}/cuda_bindings")
    recording.install(ENVIRONMENT, "cuda-bindings", "13.0.3")
    finding = worst(look(recording, tmp_path), "CUDA for Python")
    assert finding.level is Level.WARNING
    assert "12.6" in finding.found


def test_a_card_without_a_driver_is_told(tmp_path: Path) -> None:
    recording = read_recording("x86-no-gpu")
    recording.files["sys/bus/pci/devices/0000:01:00.0/class"] = "0x030000"
    recording.files["sys/bus/pci/devices/0000:01:00.0/vendor"] = "0x10de"
    finding = worst(look(recording, tmp_path), "GPU")
    assert finding.level is Level.WARNING
    assert "does not answer" in finding.found


def test_a_jetsons_gpu_that_may_not_be_opened_is_a_matter_of_groups(tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    del recording.commands["cuda-probe"], recording.commands["nvidia-smi"]
    recording.denied = {"/dev/nvmap", "/dev/dri/renderD128"}
    recording.groups = ("user",)
    report = look(recording, tmp_path)
    access = worst(report, "access")
    assert access.level is Level.WARNING
    assert access.fix[0] == "sudo usermod -aG video,render user"
    assert worst(report, "GPU").level is Level.WARNING


def slot(root: Path, mode: str | None, package: str = "p1") -> None:
    folder = root / "home/user/.cache/ssn-edge" / "a1"
    (folder / "certificates").mkdir(parents=True)
    (folder / "certificates" / f"{package}.json").write_text("{}")
    note = {"key": {"engine": "tensorrt", "precision": "int8"}, "details": {"power_mode": mode}}
    (folder / "plan.json").write_text(json.dumps(note))


def test_an_engine_of_another_power_mode_is_told(tmp_path: Path) -> None:
    slot(tmp_path, "25W (1)")
    report = look(read_recording("jetpack6-orin-nano"), tmp_path, package=Path("part.ssn"))
    finding = worst(report, "power mode")
    assert finding.level is Level.WARNING
    assert "MAXN_SUPER (2), and the engine was built and measured in 25W (1)" in finding.found
    assert finding.fix[0] == "sudo nvpmodel -m 1"


@pytest.mark.parametrize(
    ("mode", "package", "level"),
    [("MAXN_SUPER (2)", "p1", Level.OK), ("25W (1)", "another", Level.NOTE)],
)
def test_only_engines_of_the_package_count(
    mode: str, package: str, level: Level, tmp_path: Path
) -> None:
    slot(tmp_path, mode, package)
    report = look(read_recording("jetpack6-orin-nano"), tmp_path, package=Path("part.ssn"))
    assert worst(report, "power mode").level is level


def test_the_power_mode_is_read_from_files_where_the_command_fails(tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    del recording.commands["nvpmodel -q"]
    assert "MAXN_SUPER (2)" in worst(look(recording, tmp_path), "power mode").found


def test_a_camera_of_raw_sensor_data_needs_nvidias_service(tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    recording.commands["formats /dev/video0"] = json.dumps({"formats": ["RG10 3280x2464"]})
    finding = worst(look(recording, tmp_path), "camera")
    assert finding.level is Level.NOTE
    assert "nvarguscamerasrc" in finding.fix[0]


@pytest.mark.parametrize("formats", [["GREY 640x480"], ["RG10 64x48", "YUYV 64x48"]])
def test_grey_values_are_no_raw_colours(formats: list[str], tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    recording.commands["formats /dev/video0"] = json.dumps({"formats": formats})
    assert worst(look(recording, tmp_path), "camera").level is Level.OK


def test_formats_that_no_line_reads_are_told(tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    recording.commands["formats /dev/video0"] = json.dumps({"formats": ["Y16 640x480"]})
    finding = worst(look(recording, tmp_path), "camera")
    assert finding.level is Level.NOTE
    assert "YUYV" in finding.wanted


def test_of_many_formats_people_see_the_first(tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    formats = [f"F{number:03} 640x480" for number in range(70)]
    formats[40] = "YUYV 640x480"
    recording.commands["formats /dev/video0"] = json.dumps({"formats": formats})
    report = look(recording, tmp_path)
    assert worst(report, "camera").found.endswith(
        ": YUYV 640x480; F000 640x480; F001 640x480; F002 640x480; and 66 more"
    )
    assert report.facts.cameras[0].formats == tuple(formats)


@pytest.mark.parametrize(
    ("camera", "problem"),
    [
        ("/dev/video0", None),
        ("front=v4l2:/dev/video0?width=640&height=480", None),
        ("/dev/video7", "there is no camera /dev/video7; there are: /dev/video0"),
        ("gst:nvarguscamerasrc ! appsink", "camera service"),
        ("genicam:192.168.0.2", None),
        ("test:", None),
        ("watch:no-such-folder", "there is no folder no-such-folder"),
        ("no-such-folder", "there is nothing of that name"),
    ],
)
def test_a_camera_that_was_asked_for_is_tried(
    camera: str, problem: str | None, tmp_path: Path
) -> None:
    report = look(read_recording("jetpack6-orin-nano"), tmp_path, cameras=(camera,))
    finding = of(report, "camera")[-1]
    assert finding.level is (Level.OK if problem is None else Level.PROBLEM)
    assert report.can_run is (problem is None)
    assert problem is None or problem in finding.found


def test_a_camera_that_may_not_be_opened_is_told_with_the_group(tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    recording.denied = {"/dev/video0"}
    report = look(recording, tmp_path, cameras=("0",))
    finding = of(report, "camera")[-1]
    assert finding.level is Level.PROBLEM
    assert "usermod -aG video" in finding.fix[0]


def test_a_camera_address_that_means_nothing_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        look(read_recording("x86-no-gpu"), tmp_path, cameras=("rtps://x/",))


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    for name in ("x86-no-gpu", "jetpack6-orin-nano"):
        recording = read_recording(name)
        if name == "jetpack6-orin-nano":  # nothing can be loaded there: another way to the text
            recording.imports("cv2", error="ImportError: broken")
        camera = "rtsp://eye:secret@127.0.0.1:9/stream"
        report = look(recording, tmp_path / name, cameras=(camera,))
        assert "secret" not in json.dumps(report.to_dict())
        assert "secret" not in "\n".join(report.lines())


@pytest.mark.parametrize(
    ("properties", "level", "found"),
    [
        ("LoadState=loaded\nActiveState=active\nSubState=running", Level.OK, "active (running)"),
        ("LoadState=loaded\nActiveState=failed\nResult=exit-code", Level.WARNING, "exit-code"),
        ("LoadState=loaded\nActiveState=inactive\nUnitFileState=disabled", Level.WARNING, "start"),
        ("LoadState=loaded\nActiveState=active\nNRestarts=4", Level.NOTE, "restarted 4 times"),
        ("LoadState=bad-setting", Level.WARNING, "bad-setting"),
        ("LoadState=not-found", Level.NOTE, "not installed"),
    ],
)
def test_the_unit_is_judged(properties: str, level: Level, found: str, tmp_path: Path) -> None:
    recording = read_recording("x86-no-gpu")
    recording.commands["systemctl show ssn-edge.service"] = properties
    if "not-found" not in properties:
        recording.files["etc/systemd/system/ssn-edge.service"] = "[Service]"
    (finding,) = of(look(recording, tmp_path), "service")
    assert finding.level is level
    assert found in finding.found


def on_disk(recording: Recording, name: str, above: str, files: dict[str, str]) -> None:
    """The journal on another disk than the recording's NVMe; `files` lie in the disk's folder."""
    block = f"sys/devices/{above}/{name}"
    recording.files = {
        path: text for path, text in recording.files.items() if "nvme0n1" not in path
    } | {
        "proc/self/mountinfo": f"26 1 179:1 / / rw shared:1 - ext4 /dev/{name}p1 rw",
        f"sys/dev/block/179:1 -> ../../devices/{above}/{name}/{name}p1": "",
        f"{block}/{name}p1/partition": "1",
        f"sys/block/{name} -> ../devices/{above}/{name}": "",
        f"{block}/size": str(64 * 10**9 // 512),
        f"{block}/queue/rotational": "0",
        **{f"{block}/{path}": text for path, text in files.items()},
    }
    recording.commands["stat -c %Hd:%Ld /"] = "179:1"


EMMC = {"device/type": "MMC\n", "device/life_time": "0x02 0x03\n", "device/pre_eol_info": "0x01\n"}


@pytest.mark.parametrize(
    ("changes", "level", "found"),
    [
        ({}, Level.OK, "mmcblk0 (emmc), 20% to 30% of its life used, reserve normal"),
        ({"device/life_time": "0x0a 0x01"}, Level.WARNING, "90% to 100% of its life used"),
        ({"device/life_time": "0x0b 0x0b"}, Level.WARNING, "all of its rated life is used"),
        ({"device/pre_eol_info": "0x02"}, Level.WARNING, "reserve warning"),
        ({"device/pre_eol_info": "0x03"}, Level.WARNING, "reserve urgent"),
        ({"device/life_time": "", "device/pre_eol_info": ""}, Level.NOTE, "it tells no wear"),
        # An old one that tells nothing is not taken for a new one.
        ({"device/life_time": "0x00 0x00", "device/pre_eol_info": "0x00"}, Level.NOTE, "no wear"),
    ],
)
def test_emmc_is_judged_by_what_it_tells_and_the_rest_is_called_a_guess(
    changes: dict[str, str], level: Level, found: str, tmp_path: Path
) -> None:
    recording = read_recording("jetpack6-orin-nano")
    on_disk(recording, "mmcblk0", "platform/3460000.mmc", EMMC | changes)
    report = look(recording, tmp_path, write_bytes_a_day=2 * 10**9)
    (finding,) = of(report, "flash life")
    assert (finding.level, found in finding.found) == (level, True), finding
    assert "years left at 2 GB a day, a guess: 250 whole writes" in finding.found
    assert ("less what is used" in finding.found) is ("tells no wear" not in finding.found)
    if not changes:
        # 64 GB 250 times, less 30 %, at 2 GB a day.
        assert "about 15.3 years left" in finding.found


def test_ufs_tells_its_wear_beside_its_controller(tmp_path: Path) -> None:
    recording = read_recording("jetpack7-thor")
    health = "sys/devices/platform/2500000.ufshci/health_descriptor"
    on_disk(recording, "sda", "platform/2500000.ufshci/host0/block", {})
    recording.files |= {
        f"{health}/life_time_estimation_a": "0x01\n",
        f"{health}/life_time_estimation_b": "0x04\n",
        f"{health}/eol_info": "0x02\n",
    }
    (finding,) = of(look(recording, tmp_path), "flash life")
    assert finding.level is Level.WARNING
    assert "sda (ufs), 30% to 40% of its life used, reserve warning" in finding.found


@pytest.mark.parametrize(
    ("printed", "level", "found"),
    [
        (None, Level.NOTE, "sda (ssd), it tells no wear here, more than 30 years left"),
        ("{}", Level.NOTE, "a guess: 300 whole writes"),
        (
            '{"ata_device_statistics": {"pages": [{"table": ['
            '{"name": "Percentage Used Endurance Indicator", "value": 40},'
            '{"name": "Logical Sectors Written", "value": 80000000000}]}]}}',
            Level.OK,
            "40% to 41% of its life used, more than 30 years left",
        ),
    ],
)
def test_an_ssds_wear_is_its_own_word_where_it_may_be_asked(
    printed: str | None, level: Level, found: str, tmp_path: Path
) -> None:
    recording = read_recording("x86-no-gpu")
    on_disk(recording, "sda", "pci0000:00/ata1", {})
    if printed is not None:
        recording.commands["smartctl -j -l devstat /dev/sda"] = printed
    (finding,) = of(look(recording, tmp_path, write_bytes_a_day=10**9), "flash life")
    assert finding.level is level
    assert found in finding.found
    assert ("by what it counted" in finding.found) is (level is Level.OK)
    assert level is Level.OK or "sudo smartctl -l devstat /dev/sda" in finding.fix


@pytest.mark.parametrize(
    ("synchronised", "level"), [("yes", Level.OK), ("no", Level.WARNING), ("", Level.NOTE)]
)
def test_time_is_judged(synchronised: str, level: Level, tmp_path: Path) -> None:
    recording = read_recording("x86-no-gpu")
    recording.commands["timedatectl show"] = f"NTP=yes\nNTPSynchronized={synchronised}"
    assert worst(look(recording, tmp_path), "time").level is level


@pytest.mark.parametrize(
    ("celsius", "level"), [(52, Level.OK), (91, Level.WARNING), (100, Level.PROBLEM)]
)
def test_heat_is_judged_by_what_the_zone_calls_critical(
    celsius: int, level: Level, tmp_path: Path
) -> None:
    recording = read_recording("jetpack6-orin-nano")
    recording.files["sys/class/thermal/thermal_zone5/temp"] = f"{celsius}000"
    assert worst(look(recording, tmp_path), "temperature").level is level


def test_swap_on_flash_that_is_in_use_is_told(tmp_path: Path) -> None:
    recording = read_recording("x86-no-gpu")
    swaps = recording.files["proc/swaps"]
    assert worst(look(recording, tmp_path / "a"), "swap").level is Level.OK
    recording.files["proc/swaps"] = swaps.replace("\t\t0\t\t-2", "\t\t81920\t\t-2")
    assert worst(look(recording, tmp_path / "b"), "swap").level is Level.NOTE
