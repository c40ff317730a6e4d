"""The two libraries, what they log, and the names that we use of them in every version."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ssn_edge_runtime.engines
from ssn_edge_runtime.engines import tensorrt_library
from ssn_edge_runtime.engines.tensorrt_library import (
    TENSORRT,
    TENSORRT_RTX,
    Messages,
    TensorRt,
    import_tensorrt,
)
from ssn_edge_runtime.errors import EngineError

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed"
)

USED = """
    Builder.create_network Builder.create_builder_config Builder.create_optimization_profile
    Builder.build_serialized_network OnnxParser.parse OnnxParser.num_errors OnnxParser.get_error
    ParserError.node_name ParserError.node_operator ParserError.desc INetworkDefinition.num_inputs
    INetworkDefinition.get_input INetworkDefinition.num_layers IBuilderConfig.clear_flag
    IBuilderConfig.set_memory_pool_limit IBuilderConfig.builder_optimization_level
    IBuilderConfig.profiling_verbosity IBuilderConfig.progress_monitor
    IBuilderConfig.add_optimization_profile IBuilderConfig.create_timing_cache
    IBuilderConfig.set_timing_cache ITimingCache.serialize IOptimizationProfile.set_shape
    IProgressMonitor.phase_start IProgressMonitor.step_complete IProgressMonitor.phase_finish
    MemoryPoolType.WORKSPACE ProfilingVerbosity.DETAILED BuilderFlag.TF32
    NetworkDefinitionCreationFlag.STRONGLY_TYPED ILogger.Severity ILogger.log
    Runtime.deserialize_cuda_engine Runtime.engine_host_code_allowed
    ICudaEngine.create_execution_context ICudaEngine.num_io_tensors ICudaEngine.get_tensor_name
    ICudaEngine.get_tensor_dtype ICudaEngine.get_tensor_mode ICudaEngine.create_engine_inspector
    IExecutionContext.set_input_shape IExecutionContext.get_tensor_shape
    IExecutionContext.set_tensor_address IExecutionContext.execute_async_v3
    EngineInspector.get_engine_information LayerInformationFormat.JSON DataType.UINT8
    DataType.FLOAT TensorIOMode.INPUT
""".split()  # noqa: SIM905 - a list of so many names is read more easily so
"""Everything of TensorRT's that our code names."""

GONE_IN_11 = """
    BuilderFlag.FP16 BuilderFlag.INT8 BuilderFlag.BF16 BuilderFlag.FP8 BuilderFlag.INT4
    BuilderFlag.FP4 OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS IInt8Calibrator
    int8_calibrator QuantizationFlag dynamic_range EXPLICIT_BATCH platform_has_fast_fp16
    platform_has_fast_int8 platform_has_tf32 supports_model( TacticSource.CUBLAS TacticSource.CUDNN
    .device_memory_size create_execution_context_without_device_memory
""".split()  # noqa: SIM905
"""In TensorRT 10.3 and 10.16.1, and not in 11.4: recorded from the bindings of the three."""

SOURCES = Path(ssn_edge_runtime.engines.__file__).parent


@needs_rtx
@pytest.mark.parametrize("name", USED)
def test_the_library_has_every_name_that_we_use(name: str) -> None:
    found: object = import_tensorrt(TENSORRT_RTX).module
    for part in name.split("."):
        found = getattr(found, part)


@pytest.mark.parametrize("name", GONE_IN_11)
def test_nothing_that_is_gone_in_tensorrt_11_is_used(name: str) -> None:
    for source in SOURCES.glob("tensorrt*.py"):
        assert name not in source.read_text(encoding="utf-8"), source.name


def test_the_list_of_used_names_is_whole() -> None:
    attributes = {name.split(".")[-1] for name in USED} | {name.split(".")[0] for name in USED}
    for source in SOURCES.glob("tensorrt*.py"):
        for name in re.findall(r"\bmodule\.([A-Z]\w+)", source.read_text(encoding="utf-8")):
            assert name in attributes, (source.name, name)


def test_what_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    tensorrt_library._imported.cache_clear()
    with pytest.raises(EngineError, match=r"pip install 'ssn-edge\[tensorrt\]'"):
        import_tensorrt(TENSORRT)


def test_on_a_jetson_it_is_the_systems_python_that_has_tensorrt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64\n")
    monkeypatch.setattr(tensorrt_library, "TEGRA_RELEASE", release)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    tensorrt_library._imported.cache_clear()
    with pytest.raises(EngineError, match=r"python3 -m venv --system-site-packages"):
        import_tensorrt(TENSORRT)


def test_jetpack_5_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R35 (release), REVISION: 6.1, GCID: 1, BOARD: t186ref\n")
    monkeypatch.setattr(tensorrt_library, "TEGRA_RELEASE", release)
    with pytest.raises(EngineError, match=r"35\.6\.1 \(JetPack 6\.0 or older\).*JetPack 6\.1"):
        import_tensorrt(TENSORRT)


@pytest.mark.parametrize(
    ("version", "is_taken"), [("8.5.2.2", False), ("10.2.0", False), ("10.3.0", True)]
)
def test_tensorrt_before_10_3_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str, is_taken: bool
) -> None:
    module = ModuleType("tensorrt")
    severity = type("Severity", (), {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2})
    module.__version__ = version  # type: ignore[attr-defined]
    module.ILogger = type("ILogger", (), {"Severity": severity})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    tensorrt_library._imported.cache_clear()
    try:
        if is_taken:
            assert import_tensorrt(TENSORRT).version == version
        else:
            with pytest.raises(EngineError, match=rf"TensorRT {version} is installed, 10\.3"):
                import_tensorrt(TENSORRT)
    finally:
        tensorrt_library._imported.cache_clear()


@pytest.mark.parametrize(
    ("engine", "version", "needed"),
    [
        (TENSORRT, "10.3.0.30", True),
        (TENSORRT, "10.16.2.10", True),
        (TENSORRT, "11.4.1.5", False),
        (TENSORRT_RTX, "1.7.1.116", False),
    ],
)
def test_the_flag_of_strong_types_is_set_before_tensorrt_11_alone(
    engine: str, version: str, needed: bool
) -> None:
    library = TensorRt(engine, None, version, Messages(), None)
    assert library.needs_typed_flag is needed


def test_the_reason_of_a_failure_is_the_first_and_the_last_error() -> None:
    messages = Messages()
    assert messages.why() == "it gave no reason"
    for text in ("first cause\nat 0x12", "between", "what came of it"):
        messages.add_error(text)
    assert messages.why() == "first cause; what came of it"
    messages.clear()
    assert messages.why() == "it gave no reason"


@needs_rtx
def test_what_the_library_logs_is_kept_and_goes_to_logging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    library = import_tensorrt(TENSORRT_RTX)
    severity = library.module.ILogger.Severity
    library.messages.clear()
    with caplog.at_level(logging.DEBUG):
        library.logger.log(severity.VERBOSE, "thousands of these")
        library.logger.log(severity.WARNING, "a warning")
        library.logger.log(severity.ERROR, "an error")
    assert library.messages.why() == "an error"
    assert "a warning" in caplog.text
    assert "thousands" not in caplog.text
