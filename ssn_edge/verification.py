"""Is a package whole, and does it decide right on this device: what `ssn-edge verify` does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ssn_edge.decision_comparison import (
    DecisionComparison,
    ReferenceDecisions,
    compare_decisions,
    decide_all,
)
from ssn_edge_runtime import Inspector, Package
from ssn_edge_runtime.device_certificate import certify
from ssn_edge_runtime.device_info import describe_device
from ssn_edge_runtime.engines import ENGINES, EngineCache, EngineChoice, choose_engine
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.errors import CertificateError, ConfigError, EngineError, PackageError
from ssn_edge_runtime.self_test import GoldenOutcome
from ssn_edge_runtime.trust import SignedBy, Trust

ALL = "all"
REFERENCE_ENGINE = "onnxruntime-cpu"
REFERENCE_PRECISION = "fp32"

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What is to be verified.

    Args:
        package: The model package.
        engine: A name of `ENGINES`, ``auto``, or ``all`` that can run here.
        precision: ``fp32``, ``fp16``, ``int8``, or ``all`` that the package holds.
        data: A folder of the user's own pictures; None for the golden pictures alone.
        threads: Of CPU engines; 0 lets them choose.
        trust: Who must have signed it; None takes it signed or not.
    """

    package: Path
    engine: str = ALL
    precision: str = ALL
    data: Path | None = None
    threads: int = 0
    trust: Trust | None = None

    def __post_init__(self) -> None:
        """Refuse a folder that is not there, before minutes are spent."""
        if self.data is not None and not self.data.is_dir():
            raise ConfigError(f"--data {self.data}: is no folder; give one with pictures")


@dataclass(frozen=True, slots=True)
class EngineResult:
    """How one engine did with one precision.

    Args:
        engine: Its name.
        precision: Which of the package's models.
        result: ``passed``; ``refused`` for deciding differently; ``failed`` for not running;
            ``not built`` for an engine whose plan this device has yet to build.
        detail: Why, for all but ``passed``.
        engine_sha256: What ran; empty if nothing did.
        pictures: Golden pictures that were run.
        score_difference: Largest difference of a logit on them.
        score_tolerance: What a logit of 0 may differ by.
        mask_share: Largest share of a mask's pixels that differ.
        near_threshold: Verdicts that differ within the tolerance of the threshold.
        seconds: Loading and the golden pictures.
        data: The comparison on the user's own pictures.
        certificate: Where the device certificate lies; None where none was written.
    """

    engine: str
    precision: str
    result: str
    detail: str = ""
    engine_sha256: str = ""
    pictures: int = 0
    score_difference: float = 0.0
    score_tolerance: float = 0.0
    mask_share: float = 0.0
    near_threshold: int = 0
    seconds: float = 0.0
    data: DecisionComparison | None = None
    certificate: str | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        document = asdict(self)
        if not math.isfinite(self.score_difference):  # an engine that gives NaN is refused
            document["score_difference"] = None
        return {**document, "data": None if self.data is None else self.data.to_dict()}


@dataclass(frozen=True, slots=True)
class Verification:
    """All that was found out about a package on this device.

    Args:
        package_id: SHA-256 of its manifest.
        is_signed: Whether it carries a signature, checked or not.
        signed_by: Whose signature was checked; None where none was asked for.
        results: By engine and precision.
        skipped: Engines that cannot run here, each with what is missing.
    """

    package_id: str
    is_signed: bool
    signed_by: SignedBy | None
    results: tuple[EngineResult, ...]
    skipped: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, object]:
        """For JSON, the device included."""
        return {
            "package_id": self.package_id,
            "is_signed": self.is_signed,
            "signed_by": None if self.signed_by is None else asdict(self.signed_by),
            "results": [result.to_dict() for result in self.results],
            "cannot_run_here": dict(self.skipped),
            "device": describe_device().to_dict(),
        }

    def raise_for_result(self) -> None:
        """Say no where an engine must not be used.

        Raises:
            CertificateError: One decides differently.
            EngineError: One cannot run, though it should.
        """
        for result, error in (("refused", CertificateError), ("failed", EngineError)):
            bad = [each for each in self.results if each.result == result]
            if bad:
                names = ", ".join(f"{each.engine} ({each.precision})" for each in bad)
                others = any(each.result == "passed" for each in self.results)
                advice = "use one that passed" if others else "nothing here may run the package"
                raise error(f"{result}: {names}: {bad[0].detail}; {advice}")


def verify_package(
    request: VerifyRequest,
    *,
    cache: EngineCache | None = None,
    on_progress: OnProgress = lambda stage, done, count: None,
) -> Verification:
    """Check a package, and each engine with all its golden pictures; write device certificates.

    An engine that is refused loses the certificate that it had.

    Raises:
        ConfigError: An engine that is not known, or a precision that is not in the package.
        PackageError: Not a whole, unchanged package, one without golden pictures, or one that
            nobody who is trusted has signed.
        EngineError: The one engine that was asked for is not installed or not built.
        DatasetError: The user's folder holds no picture that can be read.
        StorageError: A certificate cannot be written.
    """
    cache = cache or EngineCache()
    with Package.open(request.package, trust=request.trust) as package:
        if not package.manifest.golden:
            raise PackageError(
                f"{request.package}: holds no golden pictures, so nothing shows that its models "
                "work here; export the package again"
            )
        choices, results, skipped = _choices(package, request, cache)
        reference = None
        if request.data is not None:
            reference = _reference(package, request.data, on_progress)
        for choice in choices:
            results.append(_verify(package, choice, reference, on_progress))
        return Verification(
            package.package_id,
            package.is_signed,
            package.signed_by,
            tuple(results),
            tuple(skipped.items()),
        )


def _choices(
    package: Package, request: VerifyRequest, cache: EngineCache
) -> tuple[list[EngineChoice], list[EngineResult], dict[str, str]]:
    """What to run; results of what cannot be; engines that are not here."""
    precisions = (
        tuple(package.manifest.precisions) if request.precision == ALL else (request.precision,)
    )
    choices: list[EngineChoice] = []
    results: list[EngineResult] = []
    skipped: dict[str, str] = {}
    for name in ENGINES if request.engine == ALL else (request.engine,):
        missing = ENGINES[name].missing() if request.engine == ALL else None
        if missing:
            skipped[name] = missing
            continue
        for precision in precisions:
            made_for = ENGINES[name].precisions if name in ENGINES else precisions
            if request.precision == ALL and precision not in made_for:
                continue  # it is made for another engine
            try:
                choice = choose_engine(
                    package,
                    engine=name,
                    precision=precision,
                    threads=request.threads,
                    cache=cache,
                    certified=False,
                )
            except EngineError as error:
                if request.engine != ALL:
                    raise
                results.append(EngineResult(name, precision, "not built", str(error)))
                continue
            choices.append(choice)
    return choices, results, skipped


def _reference(package: Package, folder: Path, on_progress: OnProgress) -> ReferenceDecisions:
    if REFERENCE_PRECISION not in package.manifest.precisions:
        raise PackageError(
            f"{package.path}: holds no {REFERENCE_PRECISION} model to compare with; export the "
            "package again"
        )
    choice = choose_engine(package, engine=REFERENCE_ENGINE, precision=REFERENCE_PRECISION)
    with _inspector(package, choice, choice.open()) as inspector:
        return decide_all(inspector, folder, lambda done: on_progress("reference", done, done))


def _inspector(package: Package, choice: EngineChoice, engine: Engine) -> Inspector:
    return Inspector(
        engine, package.manifest, precision=choice.precision, package_id=package.package_id
    )


def _verify(
    package: Package,
    choice: EngineChoice,
    reference: ReferenceDecisions | None,
    on_progress: OnProgress,
) -> EngineResult:
    """Certify one engine: it gets a certificate only if all is well, and loses one if refused."""
    stage = f"{choice.engine} {choice.precision}"
    golden = len(package.manifest.golden)
    tolerance = package.manifest.precisions[choice.precision].tolerance
    needs_certificate = ENGINES[choice.engine].must_be_certified(choice.precision)
    outcomes: list[GoldenOutcome] = []

    def on_picture(outcome: GoldenOutcome) -> None:
        outcomes.append(outcome)
        on_progress(stage, len(outcomes), golden)

    result = EngineResult(
        choice.engine, choice.precision, "passed", score_tolerance=tolerance.score
    )
    started = time.monotonic()
    try:
        with choice.open() as engine:
            result = replace(result, engine_sha256=engine.identity)
            certificate = certify(
                package, engine, choice.precision, key=choice.slot.key, on_picture=on_picture
            )
            result = replace(result, seconds=time.monotonic() - started)
            if reference is not None:
                result = replace(
                    result, data=_data(package, choice, engine, reference, on_progress)
                )
    except CertificateError as error:
        result = replace(result, result="refused", detail=str(error))
    except EngineError as error:
        result = replace(result, result="failed", detail=str(error))
    result = replace(
        result,
        pictures=len(outcomes),
        score_difference=max((each.score_difference for each in outcomes), default=0.0),
        mask_share=max((each.mask_share for each in outcomes), default=0.0),
        near_threshold=sum(each.verdict is not each.expected for each in outcomes),
    )
    if result.data is not None and result.data.outside:
        outside = result.data.outside
        result = replace(
            result,
            result="refused",
            detail=f"{len(outside)} of {result.data.pictures} pictures are decided differently "
            f"from {REFERENCE_ENGINE} ({REFERENCE_PRECISION}), first {outside[0]}",
        )
    if result.result == "refused" and needs_certificate:
        choice.slot.remove_certificate(package.package_id)
    if result.result != "passed" or not needs_certificate:
        return result
    if result.data is not None:
        certificate = replace(certificate, data=result.data.to_dict())
    path = choice.slot.write_certificate(package.package_id, certificate.to_dict())
    return replace(result, certificate=str(path))


def _data(
    package: Package,
    choice: EngineChoice,
    engine: Engine,
    reference: ReferenceDecisions,
    on_progress: OnProgress,
) -> DecisionComparison:
    stage = f"{choice.engine} {choice.precision} data"
    count = len(reference.decisions) + reference.unreadable
    # Not closed: the engine is the caller's.
    inspector = _inspector(package, choice, engine)
    return compare_decisions(
        package, reference, inspector, lambda done: on_progress(stage, done, count)
    )
