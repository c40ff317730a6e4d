"""Data sets: reading their layouts and masks, parting them, and drawing samples for the demo."""

from ssn_edge.data.defects import DefectKind
from ssn_edge.data.items import Dataset, GivenSplit, Item
from ssn_edge.data.layouts import LAYOUTS_HELP, read_dataset
from ssn_edge.data.loading import LoadedItem, check_dataset, has_pixel_truth, load_item
from ssn_edge.data.masks import MaskRule, detect_mask_rule, read_mask
from ssn_edge.data.samples import (
    Sample,
    draw_sample,
    high_pass_baseline,
    list_samples,
    make_samples,
)
from ssn_edge.data.split import Split, fingerprint, split_dataset
from ssn_edge.data.surfaces import Surface

__all__ = [
    "LAYOUTS_HELP",
    "Dataset",
    "DefectKind",
    "GivenSplit",
    "Item",
    "LoadedItem",
    "MaskRule",
    "Sample",
    "Split",
    "Surface",
    "check_dataset",
    "detect_mask_rule",
    "draw_sample",
    "fingerprint",
    "has_pixel_truth",
    "high_pass_baseline",
    "list_samples",
    "load_item",
    "make_samples",
    "read_dataset",
    "read_mask",
    "split_dataset",
]
