"""The process that judges frames: `python -m ssn_edge_runtime.line.engine_worker FD`.

It sees frames through memory that it cannot write, answers each job once, and owns nothing: what it
says is looked at again by the authority.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import cast

import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, Thresholds, unknown
from ssn_edge_runtime.errors import SsnEdgeError, StorageError
from ssn_edge_runtime.in_force import InForce
from ssn_edge_runtime.inspector import Inspector
from ssn_edge_runtime.judged_zones import JudgedZone
from ssn_edge_runtime.line.engine_intake import EngineIntake, PreparingJudge
from ssn_edge_runtime.line.live_picture import LivePictures
from ssn_edge_runtime.line.messages import Message, decision_fields
from ssn_edge_runtime.line.shared_frames import open_frames
from ssn_edge_runtime.line.worker_side import (
    WorkerLink,
    ask_the_system,
    call_factory,
    report_failure,
    set_up_logging,
    settle,
    single_thread_opencv,
)
from ssn_edge_runtime.line.zone_limits import zones_told
from ssn_edge_runtime.loop import Judge
from ssn_edge_runtime.prepared_frame import PreparedFrame
from ssn_edge_runtime.sinks.base import PictureNames
from ssn_edge_runtime.sinks.pictures import KeepPolicy, PictureFollower
from ssn_edge_runtime.sources.base import Frame
from ssn_edge_runtime.supervision.process import make_later_threads_ordinary
from ssn_edge_runtime.trust import Trust

IDLE_S = 0.5
WARM_UP_EVERY_S = 2.0
"""Without a job for so long, the engine runs once on nothing: a part that comes after a pause then
finds caches and clocks as in the middle of a shift."""

logger = logging.getLogger(__name__)


def open_inspector(
    package: str,
    engine: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    settings: str | None = None,
    recipe: str | None = None,
    trust: dict[str, object] | None = None,
) -> Inspector:
    """The factory of a model package, with this device's settings where there are any."""
    return Inspector.open(
        package,
        engine=engine,
        precision=precision,
        threads=threads,
        settings=settings,
        recipe=recipe,
        trust=None if trust is None else Trust.from_dict(trust),
    )


def answer(
    judge: Judge,
    image: ByteImage,
    prepared: PreparedFrame | None = None,
    recipe: str | None = None,
) -> tuple[dict[str, object], Decision]:
    """Judge one frame; whatever happens, there is an answer that can be sent."""
    try:
        if isinstance(judge, PreparingJudge) and (prepared is not None or recipe is not None):
            prepared = judge.prepare(image) if prepared is None else prepared
            decision = judge.judge_prepared(prepared, recipe=recipe)
        elif recipe is not None:
            decision = unknown(Reason.ENGINE_ERROR, "what judges here has no recipes")
        else:
            decision = judge.inspect(image)
    except Exception as error:  # noqa: BLE001 - the part needs an answer, and it is UNKNOWN
        text = " ".join(f"the judge failed: {error!r}".split())[:500]
        decision = unknown(Reason.ENGINE_ERROR, text)
    if not isinstance(decision, Decision):
        decision = unknown(Reason.INVALID_OUTPUT, "the judge gave no decision")
    try:
        return decision_fields(decision), decision
    except (AttributeError, TypeError, ValueError) as error:
        text = f"the judge gave no sound decision: {error}"[:500]
        decision = unknown(Reason.INVALID_OUTPUT, text)
        return decision_fields(decision), decision


def serve(
    link: WorkerLink,
    judge: Judge,
    intake: EngineIntake,
    pictures: PictureFollower | None,
    opened: ExitStack,
    live: LivePictures | None = None,
) -> None:
    """Answer jobs until the stop; pictures are drawn and written behind the answers.

    Their folder is made for the first of them, so that a line that never judged leaves nothing.
    """
    is_open = False
    worked_s = monotonic()
    while True:
        task = intake.next(IDLE_S)
        if task is None:
            gc.collect()
            if monotonic() - worked_s >= WARM_UP_EVERY_S:
                link.busy(True)
                warm_up(judge)
                link.busy(False)
                worked_s = monotonic()
            continue
        worked_s = monotonic()
        message = task.message
        if message.kind == "stop":
            return
        if message.kind == "settings":
            link.busy(True)
            told = take_settings(judge, message)
            link.busy(False)
            link.send("settings", **told)
            continue
        if message.kind == "settled":
            # It syncs a file; no part waits for a disk.
            threading.Thread(target=settle_package, args=(judge,), daemon=True).start()
            continue
        image = task.image
        if message.kind != "job" or image is None:
            continue
        link.busy(True)
        fields, decision = answer(judge, image, task.prepared, message.text_or_none("recipe"))
        kept = None if pictures is None else _planned(pictures, message, image, decision)
        if live is not None:
            live.look(message, image, decision)
        link.busy(False)
        # The slot may be filled anew as soon as the answer is out: what is kept was copied before.
        del image, task
        names = PictureNames() if kept is None else kept[0]
        link.send(
            "result",
            job=message.whole("job"),
            generation=message.whole("generation"),
            decision=fields,
            mask=names.mask,
            overlay=names.overlay,
        )
        if pictures is None or kept is None:
            continue
        try:
            if not is_open:
                opened.enter_context(pictures)
                is_open = True
            pictures.keep(*kept, decision)
        except StorageError as error:  # the journal is the truth; it has the verdict
            logger.warning("%s; the line goes on without pictures", error)
            pictures = None


def warm_up(judge: Judge) -> None:
    """Keep the judge warm, where it knows how; a failure shows with the next part."""
    run_once = getattr(judge, "warm_up", None)
    if run_once is None:
        return
    try:
        run_once()
    except Exception as error:  # noqa: BLE001 - no part is at stake here
        logger.warning("the warm-up of an idle engine failed: %s", error)


def take_settings(judge: Judge, message: Message) -> dict[str, object]:
    """Judge with other settings from the next job on; what is in force now, or the refusal."""
    apply_settings = getattr(judge, "apply_settings", None)
    if apply_settings is None:
        return {"refused": "what judges here takes no settings"}
    try:
        apply_settings(Path(message.text("settings")), message.text_or_none("recipe"))
    except Exception as error:  # noqa: BLE001 - the old ones stay in force, and the line goes on
        return {"refused": " ".join(str(error).split())[:500] or repr(error)[:500]}
    return {"refused": None, **in_force(judge)}


def settle_package(judge: Judge) -> None:
    """Note that what judges has proved itself: an older one is no longer taken."""
    note = getattr(judge, "note_taken", None)
    if note is None:
        return
    try:
        note()
    except SsnEdgeError as error:  # the line goes on; the next start takes the older one, too
        logger.warning("that the package was taken cannot be noted: %s", error)


def in_force(judge: Judge) -> dict[str, object]:
    """By what its answers are to be checked."""
    recipes: Mapping[str, InForce] = getattr(judge, "recipes", {})
    return {
        **_limits(getattr(judge, "thresholds", None), getattr(judge, "zones", {})),
        "settings_id": getattr(judge, "settings_id", None),
        "recipe": getattr(judge, "recipe", None),
        "recipes": {
            name: _limits(each.thresholds, each.zones_by_name) for name, each in recipes.items()
        },
    }


def _limits(thresholds: Thresholds | None, zones: Mapping[str, JudgedZone]) -> dict[str, object]:
    return {
        "threshold": None if thresholds is None else thresholds.image,
        "min_area_px": None if thresholds is None else thresholds.min_area_px,
        "zones": zones_told(zones),
    }


def open_pictures(setup: Message) -> PictureFollower | None:
    """What writes pictures of the parts that are kept; None where none are."""
    folder = setup.text_or_none("pictures_folder")
    if folder is None:
        return None
    return PictureFollower(Path(folder), keep=KeepPolicy(setup.text("pictures_keep")))


def _planned(
    pictures: PictureFollower, job: Message, image: ByteImage, decision: Decision
) -> tuple[PictureNames, Frame] | None:
    """The names of a part's pictures and a copy of its frame; None if none are kept of it."""
    try:
        seen = Frame.taken_now(image, source=job.text("camera"), index=0)
        names = pictures.plan(job.whole("sequence"), seen, decision)
        if names == PictureNames():
            return None
        return names, replace(seen, image=image.copy())
    except Exception:  # a part must not lose its answer by a picture
        logger.exception("a picture cannot be kept")
        return None


def tell_ready(link: WorkerLink, judge: Judge, granted: list[str]) -> None:
    """Say what judges, and by which threshold its answers are to be checked."""
    link.send(
        "ready",
        package_id=judge.package_id,
        precision=judge.precision,
        engine=judge.engine_name,
        engine_sha256=judge.engine_sha256,
        **in_force(judge),
        granted=granted,
    )


def main() -> None:
    """Serve one authority, then end."""
    set_up_logging()
    link, setup = WorkerLink.from_arguments()
    cameras = open_frames(setup)
    granted = ask_the_system(setup)
    single_thread_opencv()
    try:
        opened = cast(AbstractContextManager[Judge], call_factory(setup))
        with opened as judge:
            # Once through all of our own code, too: the first part must not wait for imports.
            answer(judge, np.zeros((8, 8, 3), dtype=np.uint8))
            settle()
            pictures = open_pictures(setup)
            intake = EngineIntake(link, judge, cameras)
            intake.start()
            make_later_threads_ordinary()  # they draw pictures
            tell_ready(link, judge, granted)
            # Above the engine's own threads, which may use every core for longer than a pulse.
            priority = setup.whole_or_none("realtime")
            link.start_pulse(None if priority is None else priority + 1)
            with ExitStack() as opened_pictures:
                serve(link, judge, intake, pictures, opened_pictures, LivePictures.of(setup))
    except SsnEdgeError as error:
        report_failure(link, error)
    for frames in cameras.values():
        frames.close()


if __name__ == "__main__":
    main()
