"""The picture of the last part for whoever looks at the line now; kept nowhere.

The engine's worker lays frame, map and mask into memory that outlives it, small, a few times a
second at most, and only while somebody looks. What is drawn of them is drawn by the one that
looks. A line that nobody looks at pays one look at a file's time for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssn_edge_runtime.arrays import BoolMask, ByteImage, FloatArray
from ssn_edge_runtime.decision import Decision, Verdict
from ssn_edge_runtime.line.messages import Message

LONGEST_SIDE_PX = 960
EVERY_S = 0.5
REJECT_EVERY_S = 0.2
"""A reject is what people want to see: it need not wait as long for its turn."""
LOOKED_AT_S = 5.0
"""So long after a viewer was there, pictures are laid out."""
BEHIND_S = 0.005
"""The answer goes first."""
_PICTURE = "live.bin"
_VIEWERS = "viewers"
_LONGEST_HEAD = 4096
_SHARED_MEMORY = Path("/dev/shm")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class LivePicture:
    """One part as it was judged.

    Args:
        sequence: Of its record.
        camera: That saw it.
        verdict: As the engine's worker said; the record may say `unknown` where it came late.
        frame: Every so many pixels of the camera's, (H, W, 3) BGR or (H, W) mono uint8.
        region_xywh: What of it was judged.
        pixel_threshold: The logit of the mask; None without a judgement.
        anomaly_map: Logits at network resolution, (h, w) float32; None without a judgement.
        mask: The defect mask at network resolution, (h, w) bool; None likewise.
    """

    sequence: int
    camera: str
    verdict: str
    frame: ByteImage
    region_xywh: tuple[int, int, int, int]
    pixel_threshold: float | None = None
    anomaly_map: FloatArray | None = None
    mask: BoolMask | None = None


def live_folder(output: Path) -> Path:
    """Where the pictures of a line lie: in memory, by the name of its journal's folder."""
    base = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    name = hashlib.sha256(os.fsencode(output.absolute())).hexdigest()[:16]
    return base / f"ssn-edge-live-{os.getuid()}-{name}"


class LivePictures:
    """In the engine's worker: lays out a part now and then; never waits, never raises.

    Args:
        folder: See `live_folder`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._viewers = folder / _VIEWERS
        self._seen_at = 0
        self._looked_at_s = -LOOKED_AT_S
        self._taken_s = 0.0
        self._picture: LivePicture | None = None
        self._has_one = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, setup: Message) -> LivePictures | None:
        """As the authority wants it; None where no page is served."""
        folder = setup.text_or_none("live_folder")
        return None if folder is None else cls(Path(folder))

    def look(self, job: Message, image: ByteImage, decision: Decision) -> None:
        """Take a part, if one is due and somebody looks; copies what it keeps."""
        now_s = time.monotonic()
        every_s = EVERY_S if decision.verdict is Verdict.PASS else REJECT_EVERY_S
        if now_s < self._taken_s + every_s or self._has_one.is_set():
            return
        self._taken_s = now_s
        try:
            if not self._is_looked_at(now_s):
                return
            self._picture = _small(job.whole("sequence"), job.text("camera"), image, decision)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._write_all, name="ssn-edge-live", daemon=True
                )
                self._thread.start()
            self._has_one.set()
        except Exception:  # a part must not lose its answer by a picture
            logger.debug("no live picture", exc_info=True)

    def _is_looked_at(self, now_s: float) -> bool:
        try:
            seen_at = self._viewers.stat().st_mtime_ns
        except OSError:
            return False
        if seen_at != self._seen_at:  # by its change: a wall clock may be set
            self._seen_at, self._looked_at_s = seen_at, now_s
        return now_s - self._looked_at_s < LOOKED_AT_S

    def _write_all(self) -> None:
        while True:
            self._has_one.wait()
            time.sleep(BEHIND_S)
            picture, self._picture = self._picture, None
            try:
                if picture is not None:
                    _write(self._folder, picture)
            except Exception:
                logger.debug("no live picture", exc_info=True)
            finally:
                self._has_one.clear()


class LiveViewer:
    """In the page's process: says that somebody looks, and reads what was laid out.

    Args:
        folder: See `live_folder`; made, for this user alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._version = (0, 0)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            self._is_ours = found.st_uid == os.getuid() and folder.is_dir()
        except OSError:
            self._is_ours = False

    def somebody_looks(self) -> None:
        """Tell the engine's worker; to be said every second or so."""
        if self._is_ours:
            with suppress(OSError):
                (self._folder / _VIEWERS).touch()

    def newest(self) -> LivePicture | None:
        """The picture laid out last, once; None where there is no newer one."""
        if not self._is_ours:
            return None
        try:
            with (self._folder / _PICTURE).open("rb") as file:
                found = os.fstat(file.fileno())
                version = (found.st_ino, found.st_mtime_ns)
                if version == self._version:
                    return None
                self._version = version
                return _read(file.readline(_LONGEST_HEAD), file.read())
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def close(self) -> None:
        """Nobody looks any more; nothing is left."""
        if not self._is_ours:
            return
        for path in self._folder.glob("*"):
            with suppress(OSError):
                path.unlink()
        with suppress(OSError):
            self._folder.rmdir()


def _small(sequence: int, camera: str, image: ByteImage, decision: Decision) -> LivePicture:
    """Every so many pixels: taken before the answer, since the frame's place is filled anew after.

    OpenCV's nearest neighbour is some ten times as fast here as a stepped copy.
    """
    step = max(1, -(-max(image.shape[:2]) // LONGEST_SIDE_PX))
    if step == 1:
        frame = image.copy()
    else:
        size = (max(1, image.shape[1] // step), max(1, image.shape[0] // step))
        frame = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    size_hw = (image.shape[0], image.shape[1])
    region = (0, 0, size_hw[1], size_hw[0])
    if decision.geometry is not None:
        region = decision.geometry.region_xywh(size_hw)
    x, y, width, height = (each // step for each in region)
    return LivePicture(
        sequence,
        camera,
        decision.verdict.value,
        frame,
        (x, y, max(1, width), max(1, height)),
        decision.pixel_threshold,
        decision.anomaly_map,
        decision.mask,
    )


def _write(folder: Path, picture: LivePicture) -> None:
    arrays = {"frame": picture.frame, "map": picture.anomaly_map, "mask": picture.mask}
    held = {name: np.ascontiguousarray(each) for name, each in arrays.items() if each is not None}
    head = {
        "sequence": picture.sequence,
        "camera": picture.camera,
        "verdict": picture.verdict,
        "region": picture.region_xywh,
        "pixel_threshold": picture.pixel_threshold,
        "shapes": {name: each.shape for name, each in held.items()},
    }
    unfinished = folder / f".{_PICTURE}"
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(json.dumps(head).encode() + b"\n")
        for each in held.values():
            file.write(each.data)
    unfinished.replace(folder / _PICTURE)


def _read(head: bytes, data: bytes) -> LivePicture:
    """Read back what `_write` wrote.

    Raises:
        ValueError, KeyError, TypeError: It is none.
    """
    document = json.loads(head)
    offset = 0
    held: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
    for name, kind in (("frame", np.uint8), ("map", np.float32), ("mask", np.bool_)):
        shape = document["shapes"].get(name)
        if shape is not None:
            count = int(np.prod(shape))
            array = np.frombuffer(data, dtype=kind, count=count, offset=offset)
            held[name] = array.reshape(shape)
            offset += array.nbytes
    x, y, width, height = document["region"]
    anomaly_map, mask = held.get("map"), held.get("mask")
    return LivePicture(
        document["sequence"],
        document["camera"],
        document["verdict"],
        np.asarray(held["frame"], dtype=np.uint8),
        (x, y, width, height),
        document["pixel_threshold"],
        None if anomaly_map is None else np.asarray(anomaly_map, dtype=np.float32),
        None if mask is None else np.asarray(mask, dtype=np.bool_),
    )
