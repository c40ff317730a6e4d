"""The device settings that decided, as a report shows them: what `ssn-edge calibrate` wrote."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ssn_edge.risk_words import promise_lines
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import ReviewZone, Thresholds
from ssn_edge_runtime.manifest import Caught, Risk


@dataclass(frozen=True, slots=True)
class SettingsSummary:
    """One version of a device's settings, as far as it decided here.

    Args:
        version: Running number on its device.
        settings_id: SHA-256.
        written_at: UTC.
        note: Why, for people.
        recipe: Which of its recipes; None for the general settings.
        precision: Of the model that judged.
        thresholds: In force.
        review: Scores for a person; None for none.
        engine: That the thresholds were fitted on; None where they are the package's own.
        engine_sha256: Its identity.
        risk: What is promised of good parts.
        caught: What is promised of defects.
        has_region: Whether a part of the frame only is judged.
    """

    version: int
    settings_id: str
    written_at: str
    note: str
    recipe: str | None
    precision: str
    thresholds: Thresholds
    review: ReviewZone | None
    engine: str | None
    engine_sha256: str | None
    risk: Risk | None
    caught: Caught | None
    has_region: bool

    @property
    def promises(self) -> tuple[str, ...]:
        """A line each."""
        return promise_lines(self.risk, self.caught)

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return asdict(self)


def summarise_settings(inspector: Inspector) -> SettingsSummary | None:
    """What an inspector judges with; None for the package's own thresholds alone."""
    settings, precision, recipe = inspector.settings, inspector.precision, inspector.recipe
    if settings is None:
        return None
    fitted = settings.fitted(precision, recipe)
    has_region = settings.region_of(recipe) is not None
    risk = None if fitted is None else fitted.risk
    if fitted is None and not has_region:  # with a region, other pixels than it was promised for
        risk = inspector.manifest.precisions[precision].risk
    return SettingsSummary(
        version=settings.version,
        settings_id=settings.settings_id,
        written_at=settings.written_at,
        note=settings.note,
        recipe=recipe,
        precision=precision,
        thresholds=inspector.thresholds,
        review=None if fitted is None else fitted.review,
        engine=None if fitted is None else fitted.engine,
        engine_sha256=None if fitted is None else fitted.engine_sha256,
        risk=risk,
        caught=None if fitted is None else fitted.caught,
        has_region=has_region,
    )
