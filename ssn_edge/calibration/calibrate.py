"""Thresholds for a stated risk: what `ssn-edge calibrate` does, callable from Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from ssn_edge.calibration.choice import Choice, Chosen, Fit, choose
from ssn_edge.calibration.held_out import HeldOut, Wanted, held_out_pictures
from ssn_edge.calibration.judged import Judge
from ssn_edge.device_settings import SettingsChange, change_settings_with, settings_to_change
from ssn_edge_calibrate.operating_point import Kind, Sample, wrong_at
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import ScoringMethod
from ssn_edge_runtime.errors import CalibrationError, ConfigError
from ssn_edge_runtime.manifest import Caught, Risk
from ssn_edge_runtime.settings import DeviceSettings
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.trust import Trust


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What is asked for.

    Args:
        package: The model package.
        choice: Of the thresholds.
        pictures: Where held-out pictures are.
        engine: ``auto``, or a name of `ssn_edge_runtime.engines.ENGINES`: the one that will run.
        precision: ``auto``, or one of the package's.
        recipe: Which of the settings' recipes; None for the general ones.
        is_new: Begin new settings, for another package than those in force.
        note: Why, for people; without it, what is promised.
        is_dry: Save nothing.
        trust: Who must have signed the package; None takes it signed or not.
    """

    package: Path
    choice: Choice
    pictures: Wanted = field(default_factory=Wanted)
    engine: str = "auto"
    precision: str = "auto"
    recipe: str | None = None
    is_new: bool = False
    note: str = ""
    is_dry: bool = False
    trust: Trust | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What was found, and saved.

    Args:
        chosen: Thresholds, bounds and where they are from.
        confidence: Of all bounds together.
        held_out: The pictures.
        engine: What gave the scores.
        engine_sha256: Its identity.
        precision: Of the package.
        package_id: Of the package.
        recipe: Whose thresholds they are.
        notes: What a reader must know beside the numbers.
        settings: In force now; None where nothing was saved.
    """

    chosen: Chosen
    confidence: float
    held_out: HeldOut
    engine: str
    engine_sha256: str
    precision: str
    package_id: str
    recipe: str | None
    notes: tuple[str, ...]
    settings: DeviceSettings | None = None

    @property
    def caught(self) -> Caught | None:
        """What the settings keep of the bounds: the defects' side; None where there is none.

        A defect that is rejected without review does not pass, so that bound is one of these.
        """
        for bound in self.chosen.point.bounds:
            if bound.kind in (Kind.MISSES, Kind.UNSURE):
                right = float(1 - Fraction(repr(bound.share)))  # 0.95, not a little less
                return Caught(right, bound.count, self.confidence)
        return None

    @property
    def risk(self) -> Risk | None:
        """What the settings keep of the bounds: the good parts' side; None where there is none."""
        for bound in self.chosen.point.bounds:
            if bound.kind is Kind.FALSE_REJECTS:
                return Risk(bound.share, bound.count, True, self.confidence)
        return None


def calibrate(
    store: SettingsStore,
    request: CalibrationRequest,
    *,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, count: None,
) -> Calibration:
    """Choose thresholds on held-out pictures, and save them in a device's settings.

    Every picture is judged by the package on the engine that will run, with the region of the
    settings; a good part that does not pass for whatever reason is a false reject.

    Args:
        store: The device's settings.
        request: What is asked for.
        on_progress: Called with a stage, pictures done and in all.

    Raises:
        ConfigError: What is asked for cannot be together, or the settings are for another package.
        DatasetError: No pictures, or pictures that were trained on.
        CheckpointError: No run here is the package's.
        CalibrationError: The pictures cannot carry what is to be promised.
        EngineError: No engine that may decide here.
        StorageError: The disk does not take the settings.
    """
    choice = request.choice
    with Inspector.open(
        request.package,
        engine=request.engine,
        precision=request.precision,
        trust=None if request.trust is None else request.trust.for_a_trial(),
    ) as inspector:
        before = None if request.is_new else store.current()
        settings = settings_to_change(before, inspector, store.path, is_new=request.is_new)
        judge = Judge(inspector, settings, request.recipe, store.path.parent)
        judge.refuse_zones()
        held_out = held_out_pictures(request.pictures, inspector.manifest.training_data)
        pixel, area = choice.given(judge.thresholds)
        chosen = choose(
            choice,
            judge.judged(
                held_out,
                pixel=pixel,
                min_area_px=area,
                on_progress=lambda done, count: on_progress("judge", done, count),
            ),
            pixel=pixel,
            min_area_px=area,
            scoring=inspector.scoring_rule.method,
        )
        if choice.pixel is Fit.FIT and area is not None:
            # The mask is the engine's, at a threshold that it did not run with until now.
            judged = judge.judged(
                held_out,
                pixel=chosen.thresholds.pixel,
                min_area_px=area,
                on_progress=lambda done, count: on_progress("confirm", done, count),
            )
            _confirm(chosen, judged.sample(area))
        done = Calibration(
            chosen=chosen,
            confidence=choice.confidence if choice.wish is None else choice.wish.confidence,
            held_out=held_out,
            engine=inspector.engine_name,
            engine_sha256=inspector.engine_sha256,
            precision=inspector.precision,
            package_id=inspector.package_id,
            recipe=request.recipe,
            notes=_notes(held_out, inspector, chosen, judge),
        )
        if request.is_dry:
            return done
        if not request.is_new and store.current() != before:
            raise ConfigError(
                f"{store.path}: was changed while pictures were judged with what it was; calibrate "
                "again"
            )
        change = _change(request, done)
        return replace(done, settings=change_settings_with(inspector, store, change))


def _confirm(chosen: Chosen, sample: Sample) -> None:
    for bound in chosen.point.bounds:
        if bound.kind not in (Kind.FALSE_REJECTS, Kind.MISSES):
            continue
        _, wrong = wrong_at(sample, bound.kind, chosen.point.image)
        if wrong > bound.wrong:
            raise CalibrationError(
                f"at the pixel threshold {chosen.thresholds.pixel:.4g} the engine's masks give "
                f"{wrong} {bound.kind.value}, its maps {bound.wrong}; take another engine or "
                "precision, or a threshold by hand"
            )


def _notes(
    held_out: HeldOut, inspector: Inspector, chosen: Chosen, judge: Judge
) -> tuple[str, ...]:
    notes = list(held_out.notes)
    if held_out.is_part_of_run:
        used = []
        if inspector.scoring_rule.method is ScoringMethod.COMBINED:
            used.append("fitted the weights of the combined score")
        if inspector.precision.startswith("int8"):
            used.append("chose the layers that run in INT8")
        if used:
            notes.append(
                f"Export {' and '.join(used)} on these very pictures: the bounds are exact only "
                "with others (--data)."
            )
    if chosen.sample.causes:
        notes.append(f"Good pictures rejected whatever the score: {chosen.sample.causes}.")
    if judge.review is not None and chosen.point.review is None:
        notes.append("The review zone that was in force is gone: it would reject more good parts.")
    return tuple(notes)


def _change(request: CalibrationRequest, done: Calibration) -> SettingsChange:
    from ssn_edge.calibration.text import note_of

    thresholds = done.chosen.thresholds
    return SettingsChange(
        package=request.package,
        recipe=request.recipe,
        image_threshold=thresholds.image,
        pixel_threshold=thresholds.pixel,
        min_area_px=thresholds.min_area_px or 0.0,
        review=done.chosen.point.review or (),
        note=request.note or note_of(done),
        is_new=request.is_new,
        risk=done.risk,
        caught=done.caught,
    )
