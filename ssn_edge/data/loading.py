"""From a record to pixels: one picture with its mask, checked against each other."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from ssn_edge.data.items import Dataset, Item
from ssn_edge.data.masks import MaskRule, is_mask_empty, read_mask
from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.errors import PictureError
from ssn_edge_runtime.pictures import read_picture

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedItem:
    """The pixels of one item.

    Args:
        image: (H, W, 3) uint8 BGR, or (H, W) uint8 grey, as in the file.
        gt_mask: (H, W) bool, True where defective. All False for a normal picture; None for an
            anomalous one whose defect nobody has drawn.
    """

    image: ByteImage
    gt_mask: BoolMask | None


def load_item(item: Item, rule: MaskRule) -> LoadedItem:
    """Read one picture and its mask.

    Raises:
        PictureError: Unreadable, 16 bit or transparent; a mask of another size; or a normal
            picture whose mask marks a defect.
    """
    image = read_picture(item.image)
    size_hw = (image.shape[0], image.shape[1])
    gt_mask = None if item.mask is None else read_mask(item.mask, rule, size_hw)
    if item.is_anomalous:
        return LoadedItem(image, gt_mask if gt_mask is not None and gt_mask.any() else None)
    if gt_mask is None:
        return LoadedItem(image, np.zeros(size_hw, dtype=np.bool_))
    if gt_mask.any():
        raise PictureError(
            f"{item.image}: is labelled normal, but {int(gt_mask.sum())} pixels of its mask "
            f"{item.mask} are above {rule.above}; correct the label or the mask"
        )
    return LoadedItem(image, gt_mask)


def has_pixel_truth(item: Item, rule: MaskRule) -> bool:
    """Whether it is known which pixels of a picture are defective.

    An anomalous picture needs a mask that is not empty; a normal one needs none.

    Raises:
        PictureError: The mask cannot be read.
    """
    if not item.is_anomalous:
        return True
    return item.mask is not None and not is_mask_empty(item.mask, rule)


def check_dataset(dataset: Dataset) -> int:
    """Decode every picture and mask once, so that training does not stop at the last one.

    Returns:
        How many anomalous pictures have pixel truth.

    Raises:
        PictureError: The first picture or mask that cannot be used, by name.
    """
    with_truth = 0
    for item in dataset.items:
        loaded = load_item(item, dataset.mask_rule)
        with_truth += item.is_anomalous and loaded.gt_mask is not None
    drawn = sum(item.mask is not None for item in dataset.anomalous)
    if drawn > with_truth:
        logger.info("%d anomalous pictures have an empty mask: used as without", drawn - with_truth)
    return with_truth
