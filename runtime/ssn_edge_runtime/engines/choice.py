"""Which engine runs a package here, in which precision, and why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ssn_edge_runtime.engines.base import Engine, ModelToRun
from ssn_edge_runtime.engines.cache import EngineCache, EngineSlot
from ssn_edge_runtime.engines.certificates import Binding, require_certificate, why_not_certified
from ssn_edge_runtime.engines.kinds import CPU_PRECISIONS, ENGINES
from ssn_edge_runtime.errors import ConfigError, EngineError
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.package import Package

logger = logging.getLogger(__name__)

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine that can be opened.

    Args:
        engine: A name of `ENGINES`.
        model: What it will run.
        slot: Its place in the cache.
        package_id: Of the package that the model is from.
        reason: Why this engine and this precision.
        passed_over: Better engines that could run and may not, each with the reason.
        fallen_from: Better precisions of this engine that may not run, each with the reason.
        must_be_certified: Whether it opens only with a device certificate.
        mend: The command that makes the certificate.
    """

    engine: str
    model: ModelToRun
    slot: EngineSlot
    package_id: str
    reason: str
    passed_over: tuple[str, ...]
    fallen_from: tuple[str, ...]
    must_be_certified: bool
    mend: str

    @property
    def precision(self) -> str:
        """Which of the package's models."""
        return self.model.precision

    @property
    def binding(self) -> Binding:
        """What a certificate of it must speak of."""
        return Binding(
            self.package_id, self.precision, self.model.sha256, self.engine, self.slot.key.sha256
        )

    def open(self) -> Engine:
        """Load it.

        Raises:
            EngineError: It cannot be loaded, or is not the one that was certified.
        """
        for each in self.passed_over:
            logger.info("passed over: %s", each)
        for each in self.fallen_from:  # its own thresholds, but another model than expected
            logger.warning("falls back to %s: %s", self.precision, each)
        engine = ENGINES[self.engine].load(self.model, self.slot)
        try:
            if self.must_be_certified:
                require_certificate(self.slot, self.binding, engine.identity, mend=self.mend)
        except BaseException:
            engine.close()
            raise
        logger.info("%s, package %s", self.reason, self.package_id)
        return engine


def choose_precision(
    manifest: Manifest, precision: str = AUTO, *, order: Sequence[str] = CPU_PRECISIONS
) -> str:
    """The precision to run: the one asked for, or for `auto` the first that the package holds.

    Raises:
        ConfigError: The package does not hold it.
    """
    return _precisions(manifest, precision, order)[0]


def choose_engine(
    package: Package,
    *,
    engine: str = AUTO,
    precision: str = AUTO,
    batch_size: int = 1,
    threads: int = 0,
    cache: EngineCache | None = None,
    certified: bool = True,
) -> EngineChoice:
    """Choose an engine and a precision for a package on this device.

    `auto` takes the first of `ENGINES` that can run here and has a device certificate for the
    package. A GPU with TensorRT is never passed over because its engine was not built: that would
    run the line on the processor without anyone having wanted it.

    Args:
        package: An open package; it may be closed afterwards.
        engine: A name of `ENGINES`, or `auto`.
        precision: `fp32`, `fp16`, `int8`, or `auto` for the engine's own order.
        batch_size: Frames at once.
        threads: Of a CPU engine; 0 lets it choose.
        cache: Where plans and certificates are; None for this device's.
        certified: False for who measures or certifies: engines without a certificate count, too.

    Raises:
        ConfigError: An engine that is not known, or a precision that is not in the package.
        EngineError: None can run; what is missing, and what to do.
        PackageError: The package was changed since it was opened.
    """
    if engine not in (AUTO, *ENGINES):
        raise ConfigError(
            f"engine {engine!r} is not known; choose one of auto, {', '.join(ENGINES)}"
        )
    cache = cache or EngineCache()
    models: dict[str, ModelToRun] = {}
    passed_over: list[str] = []
    not_built: str | None = None
    for name, kind in ENGINES.items():
        if engine not in (AUTO, name):
            continue
        problem = kind.missing()
        if problem:
            if engine != AUTO:
                raise EngineError(f"engine {name} cannot run here: {problem}")
            logger.debug("engine %s: %s", name, problem)
            continue
        if engine == AUTO and precision != AUTO and precision not in kind.precisions:
            logger.debug("engine %s does not run %s", name, precision)
            continue
        if not_built and not kind.has_plan:
            raise EngineError(f"{not_built}; or choose --engine {name}")
        faults: list[str] = []
        for each in _precisions(package.manifest, precision, kind.precisions):
            if each not in models:
                models[each] = model_to_run(package, each, batch_size=batch_size, threads=threads)
            model = models[each]
            choice = EngineChoice(
                engine=name,
                model=model,
                slot=cache.slot(kind.key(model)),
                package_id=package.package_id,
                reason=_reason(name, each, engine, precision, kind.precisions),
                passed_over=tuple(passed_over),
                fallen_from=tuple(faults),
                must_be_certified=certified and kind.must_be_certified(each),
                mend=_mend(package, name, each, has_plan=kind.has_plan),
            )
            fault = _fault(choice)
            if not fault:
                return choice
            faults.append(f"engine {name} ({each}): {fault}; run {choice.mend}")
        if engine != AUTO:
            raise EngineError(faults[0])
        if kind.has_plan:
            not_built = not_built or faults[0]
        passed_over += faults
    if not passed_over:
        _precisions(package.manifest, precision, ())  # names what the package holds
    raise EngineError(f"no engine can run here: {'; '.join(passed_over)}")


def open_engine(
    package: Package,
    *,
    engine: str = AUTO,
    precision: str = AUTO,
    batch_size: int = 1,
    threads: int = 0,
    cache: EngineCache | None = None,
    certified: bool = True,
) -> Engine:
    """Choose an engine, load the package's model into it and log which, and why.

    See `choose_engine` for the arguments.

    Raises:
        ConfigError: An engine that is not known, or a precision that is not in the package.
        EngineError: The engine is not installed, not built, not certified, or cannot load the
            model.
        PackageError: The package was changed since it was opened.
    """
    return choose_engine(
        package,
        engine=engine,
        precision=precision,
        batch_size=batch_size,
        threads=threads,
        cache=cache,
        certified=certified,
    ).open()


def model_to_run(
    package: Package, precision: str, *, batch_size: int = 1, threads: int = 0
) -> ModelToRun:
    """A package's model as engines take it.

    Raises:
        PackageError: The package was changed since it was opened.
    """
    manifest = package.manifest
    entry = manifest.precisions[precision].model
    return ModelToRun(
        onnx=package.read(entry),
        sha256=manifest.entries[entry].sha256,
        precision=precision,
        input_size_hw=manifest.geometry.input_size_hw,
        batch_size=batch_size,
        threads=threads,
    )


def _precisions(manifest: Manifest, precision: str, order: Sequence[str]) -> tuple[str, ...]:
    if precision == AUTO:
        return tuple(each for each in order if each in manifest.precisions)
    if precision not in manifest.precisions:
        raise ConfigError(
            f"precision {precision!r} is not in the package {manifest.name}, which holds "
            f"{', '.join(manifest.precisions)}; choose one of them, or auto"
        )
    if precision not in order:
        raise ConfigError(
            f"precision {precision} is not for this engine, which runs {', '.join(order)}; choose "
            "one of them, or another engine"
        )
    return (precision,)


def _fault(choice: EngineChoice) -> str:
    """Why it cannot be opened yet; empty if it can."""
    if ENGINES[choice.engine].has_plan and choice.slot.read_note() is None:
        return "it was not built on this device"
    if choice.must_be_certified:
        return why_not_certified(choice.slot, choice.binding)
    return ""


def _mend(package: Package, engine: str, precision: str, *, has_plan: bool) -> str:
    verb = "build" if has_plan else "verify"
    return f"ssn-edge {verb} {package.path.name} --engine {engine} --precision {precision}"


def _reason(
    engine: str, precision: str, asked_engine: str, asked_precision: str, order: Sequence[str]
) -> str:
    """Engine and precision, each with why."""
    why_engine = "asked for" if asked_engine != AUTO else "the best that may decide here"
    why_precision = (
        "asked for" if asked_precision != AUTO else f"the first that may of {', '.join(order)}"
    )
    return f"engine {engine} ({why_engine}), precision {precision} ({why_precision})"
