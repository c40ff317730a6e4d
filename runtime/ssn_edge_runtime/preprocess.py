"""Frame to network input: the only implementation, called in training, export and on the line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from ssn_edge_runtime.antialiased_resize import resize_antialiased
from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.errors import ConfigError


class FrameError(ValueError):
    """A frame that cannot be judged: wrong type, shape or size for the geometry."""


class Interpolation(Enum):
    """How a frame is brought to the network's size."""

    LINEAR_EXACT = "linear_exact"
    """OpenCV's bit-exact bilinear: the same bytes on every machine. The default."""
    LINEAR = "linear"
    """OpenCV's plain bilinear, which the authors' numbers were made with; may differ by a level."""
    LINEAR_ANTIALIASED = "linear_antialias"
    """Bilinear with antialiasing, as anomalib resizes: the same bytes on every machine."""


_CV2_INTERPOLATION = {
    Interpolation.LINEAR_EXACT: cv2.INTER_LINEAR_EXACT,
    Interpolation.LINEAR: cv2.INTER_LINEAR,
}

MIN_SIDE = 32
"""Two cells at stride 16; less than that the network has no grid to look at."""
MAX_SIDE = 8192


@dataclass(frozen=True, slots=True)
class Geometry:
    """From camera pixels to network pixels.

    Args:
        input_size_hw: Height and width of the network input in pixels.
        roi_xywh: Region of interest in camera pixels, or None for the whole frame. Nothing outside
            it is looked at.
        interpolation: The resize that training used; part of the model.
    """

    input_size_hw: tuple[int, int]
    roi_xywh: tuple[int, int, int, int] | None = None
    interpolation: Interpolation = Interpolation.LINEAR_EXACT

    def __post_init__(self) -> None:
        """Refuse sizes that no network here can take."""
        if not all(MIN_SIDE <= side <= MAX_SIDE for side in self.input_size_hw):
            raise ConfigError(
                f"network input size {self.input_size_hw[0]} x {self.input_size_hw[1]} is out of "
                f"range; each side must be {MIN_SIDE} to {MAX_SIDE} pixels"
            )
        if self.roi_xywh is not None:
            x, y, width, height = self.roi_xywh
            if x < 0 or y < 0 or width < 1 or height < 1:
                raise ConfigError(
                    f"region of interest {x},{y},{width},{height} is not x,y,width,height with a "
                    "corner at or right of 0,0 and a positive size"
                )

    def region_xywh(self, frame_size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        """The part of a frame of this size that is judged, in camera pixels.

        Raises:
            FrameError: The region of interest reaches beyond the frame.
        """
        frame_height, frame_width = frame_size_hw
        if self.roi_xywh is None:
            return 0, 0, frame_width, frame_height
        x, y, width, height = self.roi_xywh
        if x + width > frame_width or y + height > frame_height:
            raise FrameError(
                f"the region of interest {x},{y},{width},{height} reaches beyond a frame of "
                f"{frame_width} x {frame_height} pixels"
            )
        return self.roi_xywh


def check_frame(frame: ByteImage) -> None:
    """Refuse what is not a picture of 8-bit pixels.

    Raises:
        FrameError: Not (H, W, 3) or (H, W) uint8, or empty.
    """
    if frame.dtype != np.uint8:
        raise FrameError(f"a frame must be uint8, this one is {frame.dtype}")
    if frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] != 3):
        raise FrameError(f"a frame must be H x W x 3 or H x W, this one is {frame.shape}")
    if frame.size == 0:
        raise FrameError("the frame is empty")


def preprocess(frame: ByteImage, geometry: Geometry) -> ByteImage:
    """Crop a frame to its region of interest and resize it to the network's input.

    Scaling, mean and deviation are part of the exported graph, not of this function.

    Args:
        frame: (H, W, 3) uint8 in the camera's colour order (BGR), or (H, W) uint8 mono.
        geometry: Region and size of the network input.

    Returns:
        (h, w, 3) uint8, C-contiguous, in the frame's colour order; mono is repeated over the
        three channels. Always a new array.

    Raises:
        FrameError: The frame has another type or shape, or is smaller than the region.
    """
    check_frame(frame)
    x, y, width, height = geometry.region_xywh((frame.shape[0], frame.shape[1]))
    region = frame[y : y + height, x : x + width]
    resized = _resize(region, geometry)
    if resized.ndim == 2:
        return np.asarray(cv2.cvtColor(resized, cv2.COLOR_GRAY2BGR))  # (h, w, 3)
    return resized


def _resize(region: ByteImage, geometry: Geometry) -> ByteImage:
    if geometry.interpolation is Interpolation.LINEAR_ANTIALIASED:
        return resize_antialiased(region, geometry.input_size_hw)
    target_height, target_width = geometry.input_size_hw
    return np.asarray(
        cv2.resize(
            region,
            (target_width, target_height),
            interpolation=_CV2_INTERPOLATION[geometry.interpolation],
        )
    )


def preprocess_mask(mask: BoolMask, geometry: Geometry) -> BoolMask:
    """Bring a ground-truth mask to the network's input: same region, nearest neighbour.

    Args:
        mask: (H, W) bool in camera pixels.
        geometry: The one its frame is preprocessed with.

    Returns:
        (h, w) bool, a new array.

    Raises:
        FrameError: The mask is smaller than the region of interest.
    """
    x, y, width, height = geometry.region_xywh((mask.shape[0], mask.shape[1]))
    target_height, target_width = geometry.input_size_hw
    resized = cv2.resize(
        np.ascontiguousarray(mask[y : y + height, x : x + width]).view(np.uint8),
        (target_width, target_height),
        interpolation=cv2.INTER_NEAREST,
    )
    return np.asarray(resized != 0)


def mask_to_frame(mask: BoolMask, geometry: Geometry, frame_size_hw: tuple[int, int]) -> BoolMask:
    """Put a mask at network resolution back into camera pixels.

    Args:
        mask: (h, w) bool at the network's input size.
        geometry: The one the frame was preprocessed with.
        frame_size_hw: Height and width of the frame in pixels.

    Returns:
        (H, W) bool, False outside the region of interest. A new array.

    Raises:
        FrameError: The region of interest reaches beyond the frame.
    """
    x, y, width, height = geometry.region_xywh(frame_size_hw)
    placed = np.zeros(frame_size_hw, dtype=np.bool_)
    placed[y : y + height, x : x + width] = (
        cv2.resize(
            np.ascontiguousarray(mask).view(np.uint8),
            (width, height),
            # The plain one rounds: at some sizes a pixel lands one column beside its place.
            interpolation=cv2.INTER_NEAREST_EXACT,
        )
        != 0
    )
    return placed
