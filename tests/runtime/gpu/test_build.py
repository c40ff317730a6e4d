"""`build_engine` for true: certificates, cache hits, damaged plans, and what then may run."""

from __future__ import annotations

import pytest

from ssn_edge_runtime.engines import choose_engine
from ssn_edge_runtime.engines.cache import EngineCache
from ssn_edge_runtime.engines.tensorrt_build import BuildOptions
from ssn_edge_runtime.engines.tensorrt_cache import EngineBuild, build_engine
from ssn_edge_runtime.engines.tensorrt_library import TensorRt
from ssn_edge_runtime.errors import EngineError
from ssn_edge_runtime.inspector import Inspector
from ssn_edge_runtime.package import Package
from tests.runtime.gpu.conftest import surface

QUICK = BuildOptions(workspace_bytes=2**28, optimisation_level=1)


def build(package: Package, library: TensorRt, cache: EngineCache, precision: str) -> EngineBuild:
    return build_engine(
        package, engine=library.engine, precision=precision, cache=cache, options=QUICK
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_built_engine_is_certified_found_again_and_may_run(
    package: Package, library: TensorRt, plan_cache: EngineCache, precision: str
) -> None:
    first = build(package, library, plan_cache, precision)
    assert first.certificate.pictures == len(package.manifest.golden)
    assert first.details["layers"]
    assert not build(package, library, plan_cache, precision).was_built
    choice = choose_engine(package, engine=library.engine, precision=precision, cache=plan_cache)
    with choice.open() as engine:
        assert engine.identity == first.certificate.engine_sha256


def test_a_damaged_plan_is_refused_and_built_again(
    package: Package, library: TensorRt, plan_cache: EngineCache
) -> None:
    built = build(package, library, plan_cache, "fp32")
    (plan,) = built.folder.glob("*.plan")
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 0xFF
    plan.write_bytes(content)
    choice = choose_engine(package, engine=library.engine, precision="fp32", cache=plan_cache)
    with pytest.raises(EngineError, match="there is no plan"):
        choice.open()
    assert build(package, library, plan_cache, "fp32").was_built


def test_an_inspector_decides_with_the_engine(
    package: Package,
    library: TensorRt,
    plan_cache: EngineCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSN_EDGE_CACHE", str(plan_cache.root))
    build(package, library, plan_cache, "fp16")
    with Inspector.open(package.path, engine=library.engine, precision="fp16") as inspector:
        assert inspector.engine_name == library.engine
        verdicts = {inspector.inspect(surface(seed)).verdict.value for seed in range(300, 306)}
    assert verdicts <= {"pass", "fail"}
