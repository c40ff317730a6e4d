"""The systemd unit: right by systemd's own tools, and never over someone else's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ssn_edge.service import found_gpu, install_unit, next_steps, uninstall_unit
from ssn_edge.service_unit import ServiceOptions, unit_text
from ssn_edge_runtime.errors import ConfigError, StorageError

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")

MOST_EXPOSED = 1.0
"""The README states the score; systemd counts from 0 to 10."""


@pytest.fixture
def options(tmp_path: Path) -> ServiceOptions:
    package = tmp_path / "part.ssn"
    package.touch()
    return ServiceOptions(
        executable=Path(shutil.which("true") or "/bin/true"),
        package=package,
        device="/dev/video0",
        output=tmp_path,
        user="daemon",
    )


VARIANTS = [
    {},
    {"gpu": "nvidia", "realtime": 20, "hardware_watchdog": True},
    {"gpu": "jetson", "needs_network": True, "device": "rtsp://camera/stream?x=100%&a=$b"},
    {"device": "/data/my parts", "arguments": ("--alarm-after", "5")},
]


def analyze(verb: str, unit: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run(
        [ANALYZE, verb, *options, str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@needs_systemd
@pytest.mark.parametrize("changes", VARIANTS)
def test_systemd_finds_nothing_wrong_with_the_unit(
    options: ServiceOptions, tmp_path: Path, changes: dict[str, object]
) -> None:
    unit = install_unit(replace(options, **changes), folder=tmp_path)  # type: ignore[arg-type]
    found = analyze("verify", unit, "--man=no")
    about_us = [line for line in found.stderr.splitlines() if unit.name in line]
    assert (found.returncode, about_us) == (0, [])


@needs_systemd
@pytest.mark.parametrize("changes", VARIANTS[:2])
def test_systemd_calls_the_unit_hardly_exposed(
    options: ServiceOptions, tmp_path: Path, changes: dict[str, object]
) -> None:
    unit = install_unit(replace(options, **changes), folder=tmp_path)  # type: ignore[arg-type]
    found = analyze("security", unit, "--offline=true", "--no-pager")
    score = re.search(r"Overall exposure level for .*: ([\d.]+)", found.stdout)
    assert score is not None, found.stderr
    assert float(score[1]) <= MOST_EXPOSED


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="systemd is not installed")
def test_words_of_the_command_are_what_systemd_reads(options: ServiceOptions) -> None:
    text = unit_text(replace(options, device='/a b/50% of "$HOME"'))
    assert 'run --device "/a b/50%% of \\"$$HOME\\"" --package' in text


def values(text: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def test_without_need_of_a_network_there_is_none(options: ServiceOptions) -> None:
    text = unit_text(options)
    assert values(text, "PrivateNetwork") == ["yes"]
    assert values(text, "RestrictAddressFamilies") == ["AF_UNIX"]
    text = unit_text(replace(options, needs_network=True))
    assert values(text, "PrivateNetwork") == []
    assert values(text, "RestrictAddressFamilies") == ["AF_UNIX AF_INET AF_INET6 AF_NETLINK"]


def test_only_the_camera_and_the_gpu_may_be_opened(options: ServiceOptions) -> None:
    assert values(unit_text(options), "DeviceAllow") == ["char-video4linux rw", "char-media rw"]
    folder = replace(options, device="/data/parts")
    assert values(unit_text(folder), "DeviceAllow") == []
    gpu = values(unit_text(replace(folder, gpu="nvidia")), "DeviceAllow")
    assert gpu
    assert all(each.startswith("char-nvidia") for each in gpu)


def test_only_the_output_can_be_written_to(options: ServiceOptions) -> None:
    text = unit_text(options)
    assert values(text, "ProtectSystem") == ["strict"]
    assert values(text, "ReadWritePaths") == [str(options.output)]
    assert values(text, "User") == ["daemon"]


def test_what_is_under_home_can_still_be_read(options: ServiceOptions) -> None:
    text = unit_text(replace(options, package=Path("/home/me/part.ssn")))
    assert values(text, "ProtectHome") == ["read-only"]


@pytest.mark.parametrize("words", [("--page-signing-key", "{}"), ("--page-signing-key={}",)])
def test_a_key_under_home_can_still_be_read(
    options: ServiceOptions, words: tuple[str, ...]
) -> None:
    arguments = tuple(each.format("/root/page.key") for each in words)
    text = unit_text(replace(options, arguments=arguments))
    assert values(text, "ProtectHome") == ["read-only"]
    assert " ".join(arguments) in text
    assert values(unit_text(options), "ProtectHome") == ["yes"]


def test_a_realtime_priority_is_granted_and_asked_for(options: ServiceOptions) -> None:
    text = unit_text(replace(options, realtime=20))
    assert values(text, "LimitRTPRIO") == ["20"]
    assert values(text, "RestrictRealtime") == ["no"]
    assert " --realtime 20" in text
    assert values(unit_text(options), "RestrictRealtime") == ["yes"]


def test_errors_that_a_restart_does_not_mend_are_not_restarted(options: ServiceOptions) -> None:
    text = unit_text(options)
    assert values(text, "Restart") == ["on-failure"]
    assert values(text, "RestartPreventExitStatus") == ["2 3 4"]


def test_our_own_unit_is_written_over_and_taken_away(
    options: ServiceOptions, tmp_path: Path
) -> None:
    path = install_unit(options, folder=tmp_path)
    assert path.read_text() == unit_text(options)
    other = replace(options, realtime=3)
    assert install_unit(other, folder=tmp_path) == path
    assert path.read_text() == unit_text(other)
    assert uninstall_unit(folder=tmp_path) == path
    assert not path.exists()
    with pytest.raises(ConfigError, match="there is no unit"):
        uninstall_unit(folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: "[Service]\n", "was not written by ssn-edge; choose another name"),
        (lambda text: text + "Nice=5\n", "was changed since ssn-edge wrote it; put changes into"),
        (lambda text: "", "was not written by ssn-edge"),
    ],
)
def test_a_unit_that_is_not_as_we_wrote_it_is_left_alone(
    options: ServiceOptions, tmp_path: Path, change: object, complaint: str
) -> None:
    path = tmp_path / "ssn-edge.service"
    path.write_text(change(unit_text(options)))  # type: ignore[operator]
    before = path.read_bytes()
    for act in (
        lambda: install_unit(options, folder=tmp_path),
        lambda: uninstall_unit(folder=tmp_path),
    ):
        with pytest.raises(ConfigError, match=complaint):
            act()
    assert path.read_bytes() == before


def test_a_machine_without_systemd_is_told(options: ServiceOptions, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not run systemd"):
        install_unit(options, folder=tmp_path / "none")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"package": Path("part.ssn")}, "an absolute path is wanted"),
        ({"user": "root"}, "does not run as root"),
        ({"name": "ssn edge"}, "the unit is named 'ssn edge'"),
        ({"gpu": "amd"}, "one of none, nvidia, jetson"),
        ({"realtime": 100}, "1 to 99"),
        ({"watchdog_s": 0.5}, "2 to 3600 seconds"),
        ({"arguments": ("--output=/tmp",)}, "is an option of ssn-edge service itself"),
        ({"device": "a\nExecStart=/bin/sh"}, "no control characters"),
    ],
)
def test_options_that_would_fail_at_boot_are_refused(
    options: ServiceOptions, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        replace(options, **changes)  # type: ignore[arg-type]


def test_next_steps_make_what_is_missing(options: ServiceOptions) -> None:
    steps = next_steps(replace(options, user="nobody-yet"))
    assert steps[0].startswith("useradd --system")
    assert steps[-3:] == [
        "systemctl daemon-reload",
        "systemctl enable --now ssn-edge.service",
        "systemctl status ssn-edge.service",
    ]
    assert not any(step.startswith("useradd") for step in next_steps(options))


def test_the_gpu_is_found_by_the_files_of_its_driver(tmp_path: Path) -> None:
    assert found_gpu(tmp_path) == "none"
    for file, gpu in (("dev/nvidiactl", "nvidia"), ("etc/nv_tegra_release", "jetson")):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
        assert found_gpu(tmp_path) == gpu


def ssn_edge(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssn_edge", *arguments],
        capture_output=True, text=True, check=False, timeout=60, cwd=cwd,
    )  # fmt: skip


def test_the_command_prints_installs_and_uninstalls(tmp_path: Path) -> None:
    (tmp_path / "part.ssn").touch()
    (tmp_path / "units").mkdir()
    common = ["--device", "/dev/video0", "--executable", "/usr/bin/ssn-edge", "--gpu", "none"]
    printed = ssn_edge("service", "print", *common, "--", "--alarm-after", "5", cwd=tmp_path)
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.startswith("# Written by ssn-edge service install")
    assert f"--package {tmp_path}/part.ssn" in printed.stdout
    assert "--lock-memory --alarm-after 5\n" in printed.stdout

    folder = ["--folder", "units"]
    done = ssn_edge("service", "install", *common, *folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "wrote units/ssn-edge.service; now run, as root:" in done.stderr
    assert "  systemctl daemon-reload\n" in done.stdout
    assert [path.name for path in (tmp_path / "units").iterdir()] == ["ssn-edge.service"]
    gone = ssn_edge("service", "uninstall", *folder, cwd=tmp_path)
    assert gone.returncode == 0
    assert list((tmp_path / "units").iterdir()) == []
    assert ssn_edge("service", "uninstall", *folder, cwd=tmp_path).returncode == 2


def test_status_asks_systemd_or_says_that_there_is_none(tmp_path: Path) -> None:
    done = ssn_edge("service", "status", cwd=tmp_path)
    assert done.returncode in (0, 2)
    if done.returncode == 2:
        assert "systemd" in done.stderr
    else:
        assert "LoadState: " in done.stdout


def test_the_readme_states_the_score() -> None:
    readme = (Path(__file__).parents[2] / "runtime" / "README.md").read_text(encoding="utf-8")
    assert f"exposure of {MOST_EXPOSED:.1f} or less" in readme
