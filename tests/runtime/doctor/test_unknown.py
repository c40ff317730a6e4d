"""A machine that tells little, or nonsense: what is not known is said, and nothing raises."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_runtime.doctor import Level, Wishes, gather, judge, parsing
from ssn_edge_runtime.doctor.host import read_import, read_package
from tests.runtime.doctor.recorded_host import RecordedHost, Recording, read_recording

TEXTS = st.text(max_size=200) | st.text(alphabet='0x179 :/-{}[]"=\nabc', max_size=60)


def test_a_machine_that_tells_nothing_gets_notes(tmp_path: Path) -> None:
    recording = read_recording("x86-no-gpu")
    bare = Recording(recording.python, {}, {})
    report = judge(gather(Wishes(output=tmp_path / "out"), RecordedHost(bare, tmp_path)))
    levels = {each.area: each.level for each in report.findings}
    for area in ("temperature", "clocks", "memory", "swap", "flash life", "time", "service"):
        assert levels[area] is Level.NOTE, area
    assert levels["NumPy"] is Level.PROBLEM
    assert levels["OpenCV"] is Level.PROBLEM
    assert levels["engines"] is Level.PROBLEM


def test_a_jetson_whose_commands_all_fail_is_judged_by_its_files(tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    recording.commands = {
        name: text for name, text in recording.commands.items() if name.startswith("import")
    }
    report = judge(gather(Wishes(output=tmp_path / "out"), RecordedHost(recording, tmp_path)))
    levels = {each.area: each.level for each in report.findings}
    assert levels["JetPack"] is Level.OK
    assert levels["time"] is Level.NOTE
    assert levels["GPU"] is Level.WARNING
    assert report.can_run  # on the processor


def test_files_of_nonsense_raise_nothing(tmp_path: Path) -> None:
    recording = read_recording("jetpack6-orin-nano")
    for number, path in enumerate(recording.files):
        if " -> " not in path and "etc/nv_tegra" not in path:
            recording.files[path] = ("\0", "-1", "NaN", "{", "x" * 5000)[number % 5]
    for number, name in enumerate(recording.commands):
        recording.commands[name] = ("", "[]", "null", "=\n=", "9" * 400)[number % 5]
    report = judge(gather(Wishes(output=tmp_path / "out"), RecordedHost(recording, tmp_path)))
    json.dumps(report.to_dict(), allow_nan=False)
    assert not report.can_run


@settings(deadline=None)  # a busy machine is no failure
@given(TEXTS, TEXTS)
def test_no_text_makes_a_parser_raise(first: str, second: str) -> None:
    parsing.parse_dpkg_status(first)
    parsing.parse_power_modes(first)
    parsing.parse_swaps(first)
    parsing.parse_mountinfo(first, second)
    parsing.parse_disk_stat(first)
    parsing.parse_emmc_life(first, second)
    parsing.parse_nvme_life(first)
    parsing.parse_properties(first)
    parsing.parse_formats(first)
    parsing.parse_v4l2_ctl(first)
    parsing.version_numbers(first)
    list(parsing.options_of(first, "--listen"))
    read_import(first)
    read_package("part.ssn", first)


def test_v4l2_ctl_is_read_like_the_probe() -> None:
    text = (
        "ioctl: VIDIOC_ENUM_FMT\n\tType: Video Capture\n\n"
        "\t[0]: 'MJPG' (Motion-JPEG, compressed)\n\t\tSize: Discrete 1920x1080\n"
        "\t\t\tInterval: Discrete 0.033s (30.000 fps)\n\t\tSize: Discrete 640x480\n"
        "\t[1]: 'Y16 ' (16-bit Greyscale)\n"
    )
    assert parsing.parse_v4l2_ctl(text) == ("MJPG 1920x1080, 640x480", "Y16")


def test_addresses_of_a_unit_are_found() -> None:
    start = '{ path=/x ; argv[]=/x run --listen 127.0.0.1:8090 "--listen=unix:/run/a.sock" ; }'
    assert list(parsing.options_of(start, "--listen")) == ["127.0.0.1:8090", "unix:/run/a.sock"]
