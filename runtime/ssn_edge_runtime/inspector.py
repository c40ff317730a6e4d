"""The inspector: a frame in, a decision out. What an integrator imports."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, ScoringRule, Thresholds, decide, unknown
from ssn_edge_runtime.engines import choose_engine
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.engines.cache import EngineCache
from ssn_edge_runtime.errors import ConfigError, ScoreError, SsnEdgeError
from ssn_edge_runtime.in_force import AllInForce, InForce, put_all_in_force
from ssn_edge_runtime.judged_zones import JudgedZone
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.prepared_frame import PreparedFrame, Stopwatch, prepare_frame, unforeseen
from ssn_edge_runtime.preprocess import FrameError, Geometry
from ssn_edge_runtime.self_test import check_golden
from ssn_edge_runtime.settings import DeviceSettings
from ssn_edge_runtime.settings_store import read_settings

if TYPE_CHECKING:
    from ssn_edge_runtime.trust import SignedBy, Trust
    from ssn_edge_runtime.trust.later_note import LaterNote

logger = logging.getLogger(__name__)

SELF_TEST_PICTURES = 2
"""At every opening: enough to see a wrong model or a broken library, and over in a moment."""


class Inspector:
    """Judges frames, one at a time, with one model and one set of thresholds.

    Safe to call from several threads; they take turns. Everything runs in the caller's thread and
    without a hard deadline: a call that hangs in a driver cannot be ended from here. Who needs an
    answer in time gives its own, `unknown`, and does not wait.

    Most users want `Inspector.open`; the constructor puts one together from parts and checks
    nothing, for tests and for engines of one's own.

    Args:
        engine: A loaded model; the inspector closes it.
        manifest: Of the package that the model is from.
        precision: Which of the package's models it is.
        package_id: For the record.
        thresholds: In place of the package's own for this precision.
        package: Where `self_test` finds the golden pictures; the inspector closes it.
    """

    def __init__(
        self,
        engine: Engine,
        manifest: Manifest,
        *,
        precision: str,
        package_id: str,
        thresholds: Thresholds | None = None,
        package: Package | None = None,
    ) -> None:
        self._engine = engine
        self._manifest = manifest
        self._precision = precision
        self._package_id = package_id
        self._all_in_force = AllInForce(
            InForce(thresholds or manifest.precisions[precision].thresholds)
        )
        self._package = package
        self._trust: Trust | None = None
        self._later_note: LaterNote | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        engine: str = "auto",
        precision: str = "auto",
        thresholds: Thresholds | None = None,
        settings: DeviceSettings | str | Path | None = None,
        recipe: str | None = None,
        self_test: bool = True,
        threads: int = 0,
        cache: EngineCache | None = None,
        trust: Trust | None = None,
    ) -> Inspector:
        """Open a package, load and warm up its model, and test it on golden pictures.

        Every engine but ``onnxruntime-cpu`` needs a device certificate that fits: `ssn-edge verify`
        or `ssn-edge build` makes it.

        Args:
            path: A model package, ``part.ssn``.
            engine: ``auto`` or a name of `ssn_edge_runtime.engines.ENGINES`.
            precision: ``auto``, ``fp32``, ``fp16`` or ``int8``.
            thresholds: In place of the package's own; not together with settings.
            settings: This device's, or their file; see `apply_settings`.
            recipe: Which of their recipes.
            self_test: Whether to run `SELF_TEST_PICTURES` golden pictures first.
            threads: Of a CPU engine; 0 lets it choose.
            cache: Where plans and device certificates are; None for this device's.
            trust: Who must have signed package and settings, now and in `apply_settings`; None
                takes them signed or not. What was opened is noted: nothing older is taken then.

        Raises:
            ConfigError: An engine that is not known, a precision that is not in the package, or
                settings that cannot be used or are for another package.
            PackageError: Not a whole, unchanged package; `SignatureError` where nobody who is
                trusted signed it, or the settings.
            EngineError: The engine cannot be loaded here or has no device certificate that fits, or
                the settings were fitted on another one.
            CertificateError: It fails the self-test.
        """
        if settings is not None and thresholds is not None:
            raise ConfigError("thresholds are given twice: in the settings, and beside them")
        with contextlib.ExitStack() as opened:
            package = opened.enter_context(Package.open(path, trust=trust))
            choice = choose_engine(
                package, engine=engine, precision=precision, threads=threads, cache=cache
            )
            inspector = opened.enter_context(
                cls(
                    choice.open(),
                    package.manifest,
                    precision=choice.precision,
                    package_id=package.package_id,
                    thresholds=thresholds,
                    package=package,
                )
            )
            inspector._trust = trust
            if settings is not None:
                inspector.apply_settings(settings, recipe)
            elif trust is not None:
                trust.refuse_missing_settings(package.package_id)
            if settings is None and recipe is not None:
                raise ConfigError(f"recipe {recipe!r} is one of settings, and none were given")
            # The first inference allocates and compiles; it must not be the first part's.
            inspector.warm_up()
            if self_test:
                inspector.self_test(limit=SELF_TEST_PICTURES)
            if trust is not None and package.signed_by is not None:
                # Only now: a package that does not work here must not shut out the one before.
                trust.take_package(
                    package.manifest.name,
                    package.package_id,
                    package.signed_by,
                    has_settings=settings is not None,
                )
                # What comes later is a later decision, and parts must not wait for its note.
                from ssn_edge_runtime.trust.later_note import LaterNote

                inspector._trust = replace(trust, allows_older=False)
                inspector._later_note = LaterNote()
            opened.pop_all()
        return inspector

    def inspect(self, frame: ByteImage | None, *, recipe: str | None = None) -> Decision:
        """Judge one frame.

        Args:
            frame: (H, W, 3) uint8 in BGR order, or (H, W) uint8; it is only read, and not after the
                call. None, as a camera without a frame gives it, is `unknown` for `no_frame`.
            recipe: Of the settings in force, for this part alone; ``""`` for their general ones,
                None for what is in force.

        Returns:
            The verdict with its reason. A bad frame, a failing engine or a score that is none
            gives `unknown`, not an exception. The decision owns its arrays.

        Raises:
            TypeError: The frame is not an array.
            RuntimeError: The inspector is closed.
        """
        if self._is_closed:
            raise RuntimeError("the inspector is closed")
        return self.judge_prepared(self.prepare(frame), recipe=recipe)

    def prepare(self, frame: ByteImage | None) -> PreparedFrame:
        """The first half of `inspect`: everything before the engine, in whatever thread.

        The next frame can so be prepared while the engine works on this one.

        Args:
            frame: As `inspect` takes it; it is only read, and not after the call.

        Raises:
            TypeError: The frame is not an array.
        """
        return prepare_frame(frame, self._manifest)

    def judge_prepared(self, prepared: PreparedFrame, *, recipe: str | None = None) -> Decision:
        """The second half of `inspect`, with the settings that are in force now.

        Raises:
            RuntimeError: The inspector is closed.
        """
        if self._is_closed:
            raise RuntimeError("the inspector is closed")
        held = self._all_in_force  # once: a part is judged with old settings or with new ones
        in_force = held.own if recipe is None else held.recipes.get(recipe)
        timings = Stopwatch(prepared.timings_ms)
        if in_force is None:
            detail = f"the settings in force hold no recipe {recipe!r} that can be used here"
            return unknown(Reason.ENGINE_ERROR, detail, timings_ms=timings.stop())
        decision = prepared.decision
        if decision is None:
            decision = self._judged(prepared, timings, in_force)
        return replace(
            decision,
            timings_ms=timings.stop(),
            settings_id=in_force.settings_id,
            recipe=in_force.recipe,
        )

    def apply_settings(
        self,
        settings: DeviceSettings | str | Path,
        recipe: str | None = None,
        *,
        folder: Path | None = None,
    ) -> None:
        """Judge with these settings from the next part on; a part in hand keeps the old ones.

        Args:
            settings: This device's, or their file. A region's mask file is looked for beside it.
            recipe: Which of their recipes; None for the general settings.
            folder: Where that mask file is, for settings that are in no file.

        Raises:
            ConfigError: They cannot be used or are for another package; the old ones stay in force.
            SignatureError: Nobody who is trusted signed them, or they are older than some before.
            StorageError: Those before could not be noted as taken.
            EngineError: They were fitted on another engine, or for other precisions only.
            RuntimeError: The inspector is closed.
        """
        if self._is_closed:
            raise RuntimeError("the inspector is closed")
        if not isinstance(settings, DeviceSettings):
            folder = Path(settings).parent
            settings = read_settings(Path(settings))
        if self._later_note is not None:
            self._later_note.settle()
        signed_by = None if self._trust is None else self._trust.check_settings(settings)
        in_force = put_all_in_force(
            settings,
            self._manifest,
            package_id=self._package_id,
            precision=self._precision,
            engine=self.engine_name,
            engine_sha256=self.engine_sha256,
            recipe=recipe,
            folder=folder,
            before=self._all_in_force,
        )
        if signed_by is not None:
            self._note_settings(signed_by)
        self._all_in_force = in_force

    def _note_settings(self, signed_by: SignedBy) -> None:
        trust = self._trust
        assert trust is not None
        if self._later_note is None:  # being opened: no part waits yet
            trust.take_settings(self._package_id, signed_by)
        else:
            self._later_note.begin(lambda: trust.take_settings(self._package_id, signed_by))

    def note_taken(self) -> None:
        """Note what judges now as taken, where opening it did not (`Trust.notes_taken`).

        Raises:
            ConfigError: What was taken before cannot be read.
            StorageError: It cannot be noted.
        """
        if self._trust is None or self._package is None or self._package.signed_by is None:
            return
        self._trust = replace(self._trust, notes_taken=True)
        settings = self.settings
        # Settings first: with its package, what was brought back is no longer let pass.
        if settings is not None and (signed := self._trust.check_settings(settings)) is not None:
            self._trust.take_settings(self._package_id, signed)
        self._trust.take_package(
            self._manifest.name,
            self._package_id,
            self._package.signed_by,
            has_settings=settings is not None,
        )

    def warm_up(self) -> None:
        """Run the engine once on a blank input: done at opening, and worth it after idle time.

        Caches, clocks and pages cool down while no part comes; the next one pays for it.

        Raises:
            EngineError: The engine failed.
            RuntimeError: The inspector is closed.
        """
        if self._is_closed:
            raise RuntimeError("the inspector is closed")
        in_force = self._all_in_force.own
        blank = np.zeros((*self.geometry.input_size_hw, 3), dtype=np.uint8)
        with self._lock:
            self._engine.infer(
                blank,
                pixel_threshold=in_force.engine_pixel,
                region_mask=in_force.region_mask,
            )

    def self_test(self, limit: int | None = None) -> int:
        """Run golden pictures of the package and compare with what it was certified for.

        Args:
            limit: How many, spread over the package's; None for all.

        Returns:
            How many were run.

        Raises:
            CertificateError: Another score, verdict or mask than certified.
            EngineError: The engine failed.
            PackageError: The package holds no golden pictures, or was changed.
            RuntimeError: The inspector is closed, or was not made from a package.
        """
        if self._is_closed or self._package is None:
            raise RuntimeError("a self-test needs an open inspector that was made from a package")
        with self._lock:
            count = check_golden(self._package, self._engine, self._precision, limit=limit)
        logger.info("self-test passed on %d golden pictures", count)
        return count

    @property
    def manifest(self) -> Manifest:
        """Of the package that the model is from."""
        return self._manifest

    @property
    def package_id(self) -> str:
        """SHA-256 of the package's manifest."""
        return self._package_id

    @property
    def precision(self) -> str:
        """Which of the package's models runs."""
        return self._precision

    @property
    def engine_name(self) -> str:
        """What runs it, such as ``onnxruntime-cpu``."""
        return self._engine.name

    @property
    def engine_sha256(self) -> str:
        """SHA-256 of the file that runs: the plan where there is one, else the ONNX file."""
        return self._engine.identity

    @property
    def thresholds(self) -> Thresholds:
        """The cut-offs in force, outside of zones."""
        return self._all_in_force.own.thresholds

    @property
    def zones(self) -> Mapping[str, JudgedZone]:
        """Zones with cut-offs of their own, by name; empty for none."""
        return self._all_in_force.own.zones_by_name

    @property
    def recipes(self) -> Mapping[str, InForce]:
        """What a part that names its recipe is judged with, by its name; ``""`` without one."""
        return self._all_in_force.recipes

    @property
    def settings(self) -> DeviceSettings | None:
        """The device settings in force; None for the package's own thresholds."""
        return self._all_in_force.own.settings

    @property
    def settings_id(self) -> str | None:
        """Their SHA-256; it is in each record."""
        return self._all_in_force.own.settings_id

    @property
    def recipe(self) -> str | None:
        """Which of their recipes."""
        return self._all_in_force.own.recipe

    @property
    def scoring_rule(self) -> ScoringRule:
        """Which logit is the score."""
        return self._manifest.scoring_rule

    @property
    def geometry(self) -> Geometry:
        """How a frame becomes the network input."""
        return self._manifest.geometry

    def close(self) -> None:
        """Wait for a running call, then close engine and package; a second call does nothing."""
        if self._later_note is not None:
            self._later_note.close()
        with self._lock:
            self._is_closed = True
            self._engine.close()
            if self._package is not None:
                self._package.close()

    def __enter__(self) -> Inspector:
        """Return the inspector itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _judged(self, prepared: PreparedFrame, timings: Stopwatch, in_force: InForce) -> Decision:
        if prepared.pixels is None or prepared.frame_size_hw is None:
            return unknown(Reason.BAD_FRAME, "the frame was not prepared")
        failure = Reason.FRAME_SIZE  # what it is if something unforeseen happens now
        try:
            _check_drawn_size(prepared.frame_size_hw, in_force)
            failure = Reason.ENGINE_ERROR
            with self._lock:  # until the decision has copied the engine's arrays
                timings.skip()
                judgement = self._engine.infer(
                    prepared.pixels,
                    pixel_threshold=in_force.engine_pixel,
                    region_mask=in_force.region_mask,
                )
                timings.lap("infer")
                failure = Reason.INVALID_OUTPUT
                decision = decide(
                    judgement,
                    thresholds=in_force.thresholds,
                    rule=self.scoring_rule,
                    geometry=self.geometry,
                    frame_size_hw=prepared.frame_size_hw,
                    review=in_force.review,
                    region_mask=in_force.region_mask,
                    brightness=prepared.brightness,
                    zones=in_force.zones,
                )
            timings.lap("postprocess")
        except ScoreError as error:
            return unknown(Reason.INVALID_OUTPUT, str(error))
        except (FrameError, SsnEdgeError) as error:
            return unknown(failure, str(error))
        except Exception as error:  # noqa: BLE001
            # Whatever an engine or a driver does, the part in front of the camera needs an answer,
            # and the only safe one is `unknown`. An exception could be lost on its way.
            return unforeseen(failure, error)
        return decision


def _check_drawn_size(frame_size_hw: tuple[int, int], in_force: InForce) -> None:
    """Refuse a frame of another size than the region was drawn on."""
    drawn = in_force.region_frame_size_hw
    if drawn is not None and frame_size_hw != drawn:
        raise FrameError(
            f"the frame has {frame_size_hw[1]} x {frame_size_hw[0]} pixels, the settings' "
            f"region or zones were drawn on {drawn[1]} x {drawn[0]}; set the camera back, or draw "
            "them again"
        )
