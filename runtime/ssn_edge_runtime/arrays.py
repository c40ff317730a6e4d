"""Names for the arrays that cross a room's border."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

ByteImage: TypeAlias = npt.NDArray[np.uint8]
"""Pixels, (H, W, 3) or (H, W) uint8."""

FloatArray: TypeAlias = npt.NDArray[np.float32]
"""Scores and maps, float32."""

BoolMask: TypeAlias = npt.NDArray[np.bool_]
"""A defect mask, (H, W) bool."""
