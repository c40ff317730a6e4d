"""The GPU and the engines: driver, CUDA, TensorRT and where it is from, what can run at all.

Source:
    NVIDIA TensorRT documentation, installation and support matrix; NVIDIA developer forum on
    TensorRT wheels for Jetson ("we only provide Python 3.10" for JetPack 6).
"""

from __future__ import annotations

from ssn_edge_runtime.doctor.facts import Facts
from ssn_edge_runtime.doctor.findings import Finding, Level
from ssn_edge_runtime.doctor.judge_python import JETPACK_7, new_environment, pip
from ssn_edge_runtime.doctor.parsing import version_numbers

OLDEST_TENSORRT = (10, 3)


def judge_gpu(facts: Facts) -> list[Finding]:
    """The GPU, its driver, and what Python reaches it by."""
    gpu, area = facts.device.gpu, "GPU"
    if gpu is None:
        return [_no_gpu(facts)]
    memory = "" if gpu.memory_bytes is None else f", {gpu.memory_bytes / 2**30:.1f} GiB"
    capability = gpu.compute_capability or "not known"
    driver = gpu.driver_version or (facts.device.l4t and f"of Jetson Linux {facts.device.l4t}")
    findings = [
        Finding(area, Level.OK, f"{gpu.name}, compute capability {capability}{memory}"),
        Finding(
            "driver",
            Level.OK if driver else Level.NOTE,
            f"driver {driver or 'not known'}, CUDA up to {gpu.cuda_version or 'not known'}",
        ),
    ]
    return findings + _cuda_for_python(facts, version_numbers(gpu.cuda_version))


def _cuda_for_python(facts: Facts, newest: tuple[int, ...]) -> list[Finding]:
    """The adapter that the TensorRT engine reaches CUDA by."""
    python, area = facts.python, "CUDA for Python"
    there = python.named("pycuda", "cuda-python", "cuda-bindings")
    if not there:
        if not _on_gpu(facts):
            return []
        below = f"'cuda-python>=12.6,<{newest[0] + 1}'" if newest else "'ssn-edge[cuda]'"
        told, wanted = "neither cuda-python nor pycuda is installed", "one, for TensorRT"
        return [Finding(area, Level.WARNING, told, wanted, (pip(f"install {below}"),))]
    told = " and ".join(f"{each.name} {each.version}" for each in there)
    for each in there:
        major = version_numbers(each.version)[:1]
        if each.name != "pycuda" and newest and major > newest[:1]:
            return [
                Finding(
                    area,
                    Level.WARNING,
                    f"{told}, newer than the driver's CUDA {'.'.join(map(str, newest))}",
                    f"cuda-python {newest[0]}",
                    (pip(f"install 'cuda-python>=12.6,<{newest[0] + 1}'"),),
                )
            ]
    return [Finding(area, Level.OK, told)]


def _no_gpu(facts: Facts) -> Finding:
    fix: tuple[str, ...]
    area = "GPU"
    if facts.jetson is not None:
        shut = [node for node, may in facts.access.nodes.items() if not may]
        told = "the CUDA driver of this Jetson does not answer"
        if shut:
            return Finding(area, gpu_level(facts), told, "access to its devices", ("see access",))
        fix = ("sudo reboot", "sudo apt install --reinstall nvidia-l4t-core nvidia-l4t-cuda")
        return Finding(area, gpu_level(facts), told, "one that answers", fix)
    if facts.has_nvidia_card:
        told = "an NVIDIA card is in this machine, and its driver does not answer"
        fix = ("sudo ubuntu-drivers install", "sudo reboot", "nvidia-smi")
        return Finding(area, Level.WARNING, told, "a driver that answers", fix)
    return Finding(area, Level.NOTE, "no NVIDIA GPU: engines on the processor run")


def gpu_level(facts: Facts) -> Level:
    """How bad it is that the GPU's engine cannot run: a problem where no other engine can."""
    return Level.WARNING if _on_processor(facts) else Level.PROBLEM


def _on_processor(facts: Facts) -> list[str]:
    python, engines = facts.python, []
    # The engine refuses to run on two: see `engines.onnxruntime`.
    if python.works("onnxruntime") and len(python.named("onnxruntime", "onnxruntime-gpu")) < 2:
        engines.append("onnxruntime-cpu")
    return engines + (["openvino"] if python.works("openvino") else [])


def _on_gpu(facts: Facts) -> list[str]:
    python = facts.python
    if facts.device.gpu is None:
        return []
    engines = []
    tensorrt = python.imports.get("tensorrt")
    if python.works("tensorrt") and tensorrt is not None:
        is_new = version_numbers(tensorrt.version) >= OLDEST_TENSORRT
        engines += ["tensorrt"] if is_new else []
    if python.works("tensorrt_rtx"):
        engines.append("tensorrt-rtx")
    return engines


def judge_engines(facts: Facts) -> list[Finding]:
    """Whether any engine can run."""
    area = "engines"
    there = [*_on_gpu(facts), *_on_processor(facts)]
    if there:
        return [Finding(area, Level.OK, f"can be loaded: {', '.join(there)}")]
    told = "neither TensorRT nor ONNX Runtime nor OpenVINO can be used"
    return [Finding(area, Level.PROBLEM, told, "one engine", (pip("install 'ssn-edge[cpu]'"),))]


def judge_tensorrt(facts: Facts) -> list[Finding]:
    """TensorRT: whether there is one, where it is from, and whether it is the right one."""
    fix: tuple[str, ...]
    if facts.jetson is not None:
        return _tensorrt_on_jetson(facts)
    python, area = facts.python, "TensorRT"
    findings = []
    for module, title in (("tensorrt", "TensorRT"), ("tensorrt_rtx", "TensorRT-RTX")):
        found = python.imports.get(module)
        if found is None:
            continue
        if found.error is not None:
            level = Level.NOTE if facts.device.gpu is None else Level.WARNING
            told = f"{title} cannot be imported ({found.error})"
            extra = module.replace("_", "-")
            fix = (pip(f"install --force-reinstall 'ssn-edge[{extra}]'"),)
            findings.append(Finding(area, level, told, "one that works", fix))
        elif module == "tensorrt" and version_numbers(found.version) < OLDEST_TENSORRT:
            fix = (pip("install 'ssn-edge[tensorrt]'"),)
            told = f"TensorRT {found.version}"
            findings.append(Finding(area, Level.WARNING, told, "10.3 or newer", fix))
        else:
            told = f"{title} {found.version or '?'}"
            if facts.device.gpu is None:
                told += ": checks exports; without a GPU it runs nothing"
            findings.append(Finding(area, Level.OK, told))
    if not findings and facts.device.gpu is not None:
        fix = (pip("install 'ssn-edge[tensorrt,cuda]'"),)
        findings = [Finding(area, Level.NOTE, "is not installed", "it, for this GPU", fix)]
    return findings


def _tensorrt_on_jetson(facts: Facts) -> list[Finding]:
    fix: tuple[str, ...]
    jetson, python, area = facts.jetson, facts.python, "TensorRT"
    assert jetson is not None
    of_jetpack = jetson.packages.get("python3-libnvinfer")
    wheels = [each for each in python.distributions if _is_tensorrt_wheel(each.name, each.folder)]
    found = python.imports.get("tensorrt")
    if wheels and version_numbers(jetson.l4t) < JETPACK_7:
        names = " ".join(dict.fromkeys(each.name for each in wheels))
        told = (
            f"{wheels[0].name} {wheels[0].version} from pip hides JetPack's, and has no code for "
            "this GPU"
        )
        fix = (pip(f"uninstall -y {names}"), "python3 -c 'import tensorrt'")
        return [Finding(area, gpu_level(facts), told, "JetPack's own", fix)]
    if found is not None and found.error is None:
        if version_numbers(found.version) < OLDEST_TENSORRT:
            told = f"TensorRT {found.version}, which knows no strongly typed networks"
            fix = ("update this Jetson to JetPack 6.2 or newer",)
            return [Finding(area, gpu_level(facts), told, "10.3 or newer", fix)]
        origin = "from pip" if wheels else f"of JetPack ({of_jetpack or 'package not known'})"
        return [Finding(area, Level.OK, f"TensorRT {found.version} {origin}")]
    if found is not None:
        told = f"cannot be imported ({found.error})"
        fix = ("sudo apt install --reinstall python3-libnvinfer",)
        return [Finding(area, gpu_level(facts), told, "one that works", fix)]
    if of_jetpack is not None:
        told = f"JetPack's {of_jetpack} is installed, and this Python does not see it"
        wanted = "an environment with --system-site-packages"
        return [Finding(area, gpu_level(facts), told, wanted, new_environment(facts))]
    fix = ("sudo apt update", "sudo apt install nvidia-jetpack")
    return [Finding(area, gpu_level(facts), "is not installed", "JetPack's own", fix)]


def _is_tensorrt_wheel(name: str, folder: str) -> bool:
    """Whether pip brought it: JetPack's own lies among the distribution's packages."""
    is_tensorrt = name.startswith("tensorrt") and not name.startswith("tensorrt-rtx")
    return is_tensorrt and not folder.startswith("/usr/lib/")
