"""The engine worker's second thread: takes messages, and prepares a part while one is judged.

What stands before the engine, a copy of the frame at the network's size and the looks at it, takes
as long as the rest of our own code together. A library that computes lets other threads run.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision
from ssn_edge_runtime.line.messages import Message
from ssn_edge_runtime.line.shared_frames import FrameMap
from ssn_edge_runtime.line.worker_side import WorkerLink
from ssn_edge_runtime.loop import Judge
from ssn_edge_runtime.prepared_frame import PreparedFrame


@runtime_checkable
class PreparingJudge(Protocol):
    """A judge whose work can be begun before the last part's is done; an `Inspector` is one."""

    def prepare(self, frame: ByteImage) -> PreparedFrame:
        """The first half of `inspect`."""
        ...

    def judge_prepared(self, prepared: PreparedFrame, *, recipe: str | None = None) -> Decision:
        """The second half."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A message in its order; of a job also the frame, and what is prepared of it.

    Args:
        message: As it came.
        image: The frame where it lies; held for us until the answer.
        prepared: None where the judge takes frames only, or could not begin.
    """

    message: Message
    image: ByteImage | None = None
    prepared: PreparedFrame | None = None


class EngineIntake:
    """Messages of the authority in their order; the thread lives as long as the process.

    Args:
        link: To the authority; nobody else receives from it.
        judge: Prepares frames.
        cameras: Where frames lie, by the camera's name.
    """

    def __init__(self, link: WorkerLink, judge: Judge, cameras: dict[str, FrameMap]) -> None:
        self._link = link
        self._judge = judge
        self._cameras = cameras
        # The authority gives two jobs at most; what it has told beyond them need not wait for us.
        self._tasks: queue.SimpleQueue[Task | Exception] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ssn-edge-intake", daemon=True)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def next(self, timeout_s: float) -> Task | None:
        """The next message, or None if none came in time.

        Raises:
            Exception: What ended the thread; nothing comes any more.
        """
        try:
            task = self._tasks.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(task, Exception):
            raise task
        return task

    def _work(self) -> None:
        try:
            while not self._link.is_stopped:
                message = self._link.receive(None)
                if message is not None:
                    self._tasks.put(self._task(message))
        except Exception as error:  # noqa: BLE001 - it ends the process, not this thread in silence
            self._tasks.put(error)

    def _task(self, message: Message) -> Task:
        if message.kind != "job":
            return Task(message)
        self._link.busy(True, "intake")  # a call that hangs here is found like one of the engine's
        try:
            camera = self._cameras[message.text("camera")]
            image = camera.look(message.whole("slot"), message.shape("shape"))
            prepared = None
            if isinstance(self._judge, PreparingJudge):
                try:
                    prepared = self._judge.prepare(image)
                except Exception:  # noqa: BLE001 - the judge is asked again, and says why
                    prepared = None
            return Task(message, image, prepared)
        finally:
            self._link.busy(False, "intake")
