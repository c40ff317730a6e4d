"""How the published results on each data set were made: parts, sizes, labels, settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

SQUARE_HW = (256, 256)
EPOCHS = 300
BATCH_SIZE = 32
RUNS = 5
"""Seeds of the published means and deviations."""

MVTEC_CATEGORIES = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill",
    "screw", "tile", "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip
VISA_CATEGORIES = (
    "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2",
    "pcb3", "pcb4", "pipe_fryum",
)  # fmt: skip
SENSUM_FOLDS = 3


class PublishedDataset(Enum):
    """The data sets that results were published on."""

    MVTEC = "mvtec"
    VISA = "visa"
    KSDD2 = "ksdd2"
    SENSUM = "sensum"


@dataclass(frozen=True, slots=True)
class Part:
    """What one net is trained and tested on.

    Args:
        name: Names the folder of its runs.
        group: Row of the published table that it counts in.
        folder: Data set folder, relative to the root.
        input_size_hw: Network input.
        fold: Of SensumSODF, else None.
    """

    name: str
    group: str
    folder: Path
    input_size_hw: tuple[int, int]
    fold: int | None = None


@dataclass(frozen=True, slots=True)
class Protocol:
    """One data set's experiment.

    Args:
        title: The data set's name in print.
        parts: All of them.
        kind: What its groups are called, in the plural.
        masks: Published choices of masks, fewest first; empty where results are unsupervised only.
        mask_unit: What the choices count.
        perlin_threshold: Of unsupervised training.
        note: What is not known about it, for the table; empty if nothing.
    """

    title: str
    parts: tuple[Part, ...]
    kind: str
    masks: tuple[int, ...] = ()
    mask_unit: str = ""
    perlin_threshold: float = 0.2
    note: str = ""

    @property
    def groups(self) -> tuple[str, ...]:
        """Rows of the published table, without their mean."""
        return tuple(dict.fromkeys(part.group for part in self.parts))


def protocol_of(dataset: PublishedDataset) -> Protocol:
    """The published protocol.

    Source:
        supersimplenet.md sections 1.2, 2.4, 4.1, 4.2 and 5.2.
    """
    return _PROTOCOLS[dataset]


def _categories(names: tuple[str, ...]) -> tuple[Part, ...]:
    return tuple(Part(name, name, Path(name), SQUARE_HW) for name in names)


def _folds(product: str, input_size_hw: tuple[int, int]) -> tuple[Part, ...]:
    return tuple(
        Part(f"{product}-fold{fold}", product, Path(product), input_size_hw, fold)
        for fold in range(SENSUM_FOLDS)
    )


_UNKNOWN_SETTINGS = (
    "The authors' settings for unsupervised training on this data set were not found; those of "
    "MVTec AD are used (Perlin threshold 0.2)."
)

_PROTOCOLS = {
    PublishedDataset.MVTEC: Protocol("MVTec AD", _categories(MVTEC_CATEGORIES), "categories"),
    PublishedDataset.VISA: Protocol(
        "VisA", _categories(VISA_CATEGORIES), "categories", perlin_threshold=0.6
    ),
    PublishedDataset.KSDD2: Protocol(
        "KolektorSDD2",
        (Part("all", "all", Path(), (640, 232)),),
        "parts",
        masks=(0, 16, 53, 126, 246),
        mask_unit="masks",
        note=_UNKNOWN_SETTINGS,
    ),
    PublishedDataset.SENSUM: Protocol(
        "SensumSODF",
        (*_folds("capsule", (320, 192)), *_folds("softgel", (144, 144))),
        "products",
        masks=(0, 20, 40, 60, 80, 100),
        mask_unit="% of the masks",
        note=_UNKNOWN_SETTINGS,
    ),
}
