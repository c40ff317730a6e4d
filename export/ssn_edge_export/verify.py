"""The trained net as a judge: what every exported model is held against."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from ssn_edge_export.reference_graph import InspectionNet
from ssn_edge_runtime.arrays import ByteImage, FloatArray
from ssn_edge_runtime.decision import Judgement


class Judge(Protocol):
    """Whatever judges one preprocessed frame; an engine's `infer` is one."""

    def __call__(self, pixels: ByteImage, *, pixel_threshold: float) -> Judgement:
        """Judge (h, w, 3) uint8 BGR pixels."""
        ...


class NetJudge:
    """The trained net as a judge, in plain steps and without the export's graph around it.

    So a mistake in that graph (colours, mean, region) shows as a difference, too.

    Args:
        net: In evaluation mode, on the CPU.
    """

    def __init__(self, net: InspectionNet) -> None:
        self._net = net
        self._mean = np.asarray(net.mean, dtype=np.float32)
        self._std = np.asarray(net.std, dtype=np.float32)

    def __call__(self, pixels: ByteImage, *, pixel_threshold: float) -> Judgement:
        """Judge (h, w, 3) uint8 BGR pixels."""
        image = (pixels[:, :, ::-1].astype(np.float32) / 255 - self._mean) / self._std
        batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
        with torch.inference_mode():
            maps, logits = self._net(batch)
        anomaly_map: FloatArray = maps[0].numpy()
        return Judgement(
            classification_logit=float(logits[0]),
            map_max_logit=float(anomaly_map.max()),
            anomaly_map=anomaly_map,
            defect_mask=(anomaly_map >= np.float32(pixel_threshold)).astype(np.uint8),
        )
