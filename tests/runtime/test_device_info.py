"""What a device says of itself, and that no device, however odd, makes it raise."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime import device_info
from ssn_edge_runtime.device_info import describe_device, run_command
from ssn_edge_runtime.device_parsing import (
    NVIDIA_SMI_FIELDS,
    parse_cpuinfo,
    parse_cuda_probe,
    parse_l4t,
    parse_meminfo,
    parse_number,
    parse_nvidia_smi,
    parse_nvpmodel,
)

L4T = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n"
)
ORIN = """processor\t: 0
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 crc32 atomics fphp asimdhp cpuid asimdrdm asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd42

processor\t: 1
CPU implementer\t: 0x41
CPU part\t: 0xd42
"""
XEON = """processor\t: 0
model name\t: Some Xeon
physical id\t: 0
core id\t: 0
flags\t: sse avx2 fma avx512f avx512_vnni amx_int8 hypervisor

processor\t: 1
physical id\t: 0
core id\t: 0

processor\t: 2
physical id\t: 0
core id\t: 1
"""
PROBE = {
    "name": "Orin",
    "compute_capability": [8, 7],
    "sm_count": 8,
    "is_integrated": 1,
    "memory_bytes": 8 * 2**30,
    "cuda_version": 12060,
    "bus_id": "0000:00:00.0",
}
SMI = "NVIDIA L4, 550.54.15, 8.9, 23034, 210, 2040, 41, 72.00, P8\n"


def no_command(command: Sequence[str]) -> str | None:
    return None


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (L4T, "36.4.3"),
        ("# R35 (release), REVISION: 6.1, GCID: 1, BOARD: t186ref", "35.6.1"),
        ("# R38 (release), REVISION: 2.0, GCID: 42205042", "38.2.0"),
        ("", None),
        ("Ubuntu 22.04", None),
    ],
)
def test_the_l4t_line_gives_the_version(text: str, version: str | None) -> None:
    assert parse_l4t(text) == version


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN_SUPER\n2\n", "MAXN_SUPER (2)"),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: MODE_15W\n0\n", "MODE_15W (0)"),
        ("NV Fan Mode:quiet\nNV Power Mode: 25W", "25W"),
        ("NV Power Mode:", None),
        ("NVPM ERROR: must be root", None),
        ("", None),
    ],
)
def test_the_power_mode_is_what_nvpmodel_prints(text: str, mode: str | None) -> None:
    assert parse_nvpmodel(text) == mode


def test_cores_are_counted_once_and_instruction_sets_named() -> None:
    cpu = parse_cpuinfo(XEON)
    assert (cpu.model, cpu.physical_cores, cpu.is_virtual) == ("Some Xeon", 2, True)
    assert cpu.instruction_sets == ("fma", "avx2", "avx512f", "avx512_vnni", "amx_int8")


def test_an_arm_core_has_its_name() -> None:
    cpu = parse_cpuinfo(ORIN)
    assert (cpu.model, cpu.physical_cores, cpu.is_virtual) == ("ARM Cortex-A78AE", None, False)
    assert cpu.instruction_sets == ("asimd", "asimdhp", "asimddp")
    other = parse_cpuinfo(ORIN.replace("0xd42", "0xfff"))
    assert other.model == "ARM implementer 0x41 part 0xfff"


def test_what_nvidia_smi_does_not_know_is_left_out() -> None:
    assert parse_nvidia_smi(SMI)["clocks.max.sm"] == "2040"
    orin = parse_nvidia_smi("Orin (nvgpu), 540.4.0, N/A, [N/A], [N/A], N/A, N/A, [N/A], N/A")
    assert orin == {"name": "Orin (nvgpu)", "driver_version": "540.4.0"}
    assert parse_nvidia_smi("No devices were found") == {}


def test_a_gpu_is_what_the_driver_and_nvidia_smi_say_of_the_same_one(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> str | None:
        asked.append(command)
        return SMI if command[0] == "nvidia-smi" else json.dumps(PROBE)

    gpu = describe_device(root=tmp_path, run=run).gpu
    assert gpu is not None
    assert (gpu.name, gpu.compute_capability, gpu.sm_count) == ("Orin", "8.7", 8)
    assert (gpu.cuda_version, gpu.driver_version) == ("12.6", "550.54.15")
    assert gpu.is_integrated
    assert (gpu.clock_mhz, gpu.temperature_c, gpu.power_limit_w) == (210, 41, 72)
    (smi,) = (command for command in asked if command[0] == "nvidia-smi")
    assert tuple(smi[1:3]) == ("-i", PROBE["bus_id"])
    assert f"--query-gpu={','.join(NVIDIA_SMI_FIELDS)}" in smi


def test_without_the_cuda_driver_nvidia_smi_is_enough(tmp_path: Path) -> None:
    gpu = describe_device(
        root=tmp_path, run=lambda command: SMI if command[0] == "nvidia-smi" else None
    ).gpu
    assert gpu is not None
    assert (gpu.name, gpu.compute_capability, gpu.sm_count) == ("NVIDIA L4", "8.9", None)
    assert gpu.memory_bytes == 23034 * 2**20


def test_a_jetson_is_described_from_its_files(tmp_path: Path) -> None:
    write(tmp_path, "etc/nv_tegra_release", L4T)
    write(tmp_path, "proc/cpuinfo", ORIN)
    write(tmp_path, "proc/meminfo", "MemTotal:        7802388 kB\nMemAvailable: 5000 kB\n")
    write(tmp_path, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    cpus = "sys/devices/system/cpu"
    write(tmp_path, f"{cpus}/cpu0/cpufreq/scaling_governor", "schedutil\n")
    write(tmp_path, f"{cpus}/cpu0/cpufreq/scaling_cur_freq", "729600\n")
    write(tmp_path, f"{cpus}/cpu1/cpufreq/scaling_cur_freq", "1510400\n")
    write(tmp_path, f"{cpus}/cpu1/cpufreq/scaling_max_freq", "1728000\n")
    write(tmp_path, "sys/class/devfreq/17000000.gpu/cur_freq", "306000000\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/type", "gpu-thermal\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "47125\n")
    write(tmp_path, "sys/class/thermal/thermal_zone1/temp", "broken\n")

    device = describe_device(
        root=tmp_path,
        run=lambda command: "NV Power Mode: 15W\n0\n" if command[0] == "nvpmodel" else None,
    )

    assert device.model == "NVIDIA Jetson Orin Nano Developer Kit"
    assert device.l4t == "36.4.3"
    assert device.l4t_line is not None
    assert "GCID: 38968081" in device.l4t_line
    assert (device.power_mode, device.governor) == ("15W (0)", "schedutil")
    assert device.memory_bytes == 7802388 * 1024
    assert device.clocks_mhz == {"cpu": 1510.4, "cpu_max": 1728.0, "gpu": 306.0}
    assert device.temperatures_c == {"gpu-thermal": 47.125}
    assert device.gpu is None


def test_an_empty_machine_is_described_without_an_error(tmp_path: Path) -> None:
    device = describe_device(root=tmp_path, run=no_command)
    assert device.machine
    assert (device.processor, device.l4t, device.memory_bytes, device.gpu) == (None,) * 4
    assert device.clocks_mhz == device.temperatures_c == {}


def test_whatever_fails_the_rest_is_still_described(tmp_path: Path) -> None:
    def run(command: Sequence[str]) -> str | None:
        raise RuntimeError("the driver is gone")

    write(tmp_path, "proc/meminfo", "MemTotal: 1 kB\n")
    (tmp_path / "proc/cpuinfo").mkdir()
    device = describe_device(root=tmp_path, run=run)
    assert (device.gpu, device.power_mode, device.memory_bytes) == (None, None, 1024)


def test_this_machine_is_described_in_json() -> None:
    device = describe_device()
    document = json.loads(json.dumps(device.to_dict(), allow_nan=False))
    assert document["versions"]["numpy"]
    assert 1 <= document["usable_cores"] <= document["logical_cores"]
    assert document["instruction_sets"] == list(device.instruction_sets)


@given(text=st.text())
def test_no_text_breaks_a_parser(text: str) -> None:
    for parse in (
        *(parse_cpuinfo, parse_meminfo, parse_l4t, parse_nvpmodel, parse_cuda_probe),
        *(parse_nvidia_smi, parse_number),
    ):
        parse(text)


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"compute_capability": 8}', "\x00"])
def test_a_foreign_probe_is_no_device(text: str) -> None:
    assert parse_cuda_probe(text) is None


def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_info, "COMMAND_TIMEOUT_S", 0.2)
    started = time.monotonic()
    assert run_command(("sleep", "60")) is None
    assert time.monotonic() - started < 30


def test_a_command_that_is_missing_or_fails_prints_nothing() -> None:
    assert run_command(("no-such-command-here",)) is None
    assert run_command(("false",)) is None
    assert run_command(("echo", "here")) == "here\n"


def test_nothing_heavy_is_imported_to_describe_a_device() -> None:
    code = (
        "import sys; from ssn_edge_runtime.device_info import describe_device; describe_device();"
        "print(sorted({'torch', 'onnxruntime', 'openvino', 'tensorrt'} & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    assert printed.stdout == "[]\n"
