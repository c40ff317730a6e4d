"""The process that keeps frames as evidence: `python -m ssn_edge_runtime.line.keeper_worker FD`.

It sees frames through memory that it cannot write, behind their verdicts, and hashes and writes one
after the other. Nobody waits for it.
"""

from __future__ import annotations

import gc
import logging
from pathlib import Path

from ssn_edge_runtime.line.messages import Message
from ssn_edge_runtime.line.shared_frames import FrameMap, open_frames
from ssn_edge_runtime.line.worker_side import (
    WorkerLink,
    set_up_logging,
    settle,
    single_thread_opencv,
)
from ssn_edge_runtime.record import frame_sha256
from ssn_edge_runtime.sinks.evidence_folder import EvidenceFolder
from ssn_edge_runtime.sinks.evidence_policy import EvidenceName, EvidencePolicy

IDLE_S = 0.5

logger = logging.getLogger(__name__)


class Keeper:
    """One keeper, with its folder and its link.

    The folder is made for the first frame, so that a line that never judged leaves nothing.

    Args:
        link: To the authority.
        folder: Of evidence.
        cameras: The memories of the frames.
    """

    def __init__(
        self, link: WorkerLink, folder: EvidenceFolder, cameras: dict[str, FrameMap]
    ) -> None:
        self._link = link
        self._folder = folder
        self._cameras = cameras
        self._is_open = False
        self._failed = 0

    def run(self) -> None:
        """Keep frames until the stop; those that were lent before it are kept, too."""
        while True:
            message = self._link.receive(IDLE_S)
            if message is None:
                gc.collect()
            elif message.kind == "stop":
                return
            elif message.kind == "frame":
                self._link.busy(True)
                try:
                    self._keep(message)
                finally:
                    self._link.busy(False)
            elif message.kind == "retire":
                up_to = message.whole("up_to")
                self._folder.evict_up_to(up_to)
                self._link.send("retired", up_to=up_to, evicted=self._folder.evicted)

    def _keep(self, message: Message) -> None:
        job, name = message.whole("job"), EvidenceName.read(message.text("file"))
        try:
            if name is None:
                raise ValueError(f"{message.text('file')} is no name of evidence")
            if not self._is_open:
                self._folder.open()
                self._folder.trim()
                self._is_open = True
            image = self._cameras[message.text("camera")].look(
                message.whole("slot"), message.shape("shape")
            )
            sha256 = frame_sha256(image)
            size = self._folder.keep(name, image)
        except Exception as error:  # noqa: BLE001 - outermost handler: the next frame goes on
            self._failed += 1
            log = logger.warning if self._failed == 1 else logger.debug
            log("%s: %s cannot be kept: %s", self._folder.path, name, error)
            self._link.send("left", job=job, **self._totals())
            return
        self._link.send("kept", job=job, frame_sha256=sha256, bytes=size, **self._totals())

    def _totals(self) -> dict[str, int]:
        return {"evicted": self._folder.evicted, "held_bytes": self._folder.held_bytes}


def open_folder(setup: Message) -> EvidenceFolder:
    """The folder that the set-up names, with its bounds."""
    policy = EvidencePolicy(setup.whole("quota_bytes"), reserve_bytes=setup.whole("reserve_bytes"))
    return EvidenceFolder(Path(setup.text("folder")), policy)


def main() -> None:
    """Serve one authority, then end."""
    set_up_logging()
    link, setup = WorkerLink.from_arguments()
    cameras = open_frames(setup)
    single_thread_opencv()
    settle()
    link.send("ready")
    link.start_pulse()
    Keeper(link, open_folder(setup), cameras).run()
    for frames in cameras.values():
        frames.close()


if __name__ == "__main__":
    main()
