"""Labels and masks that contradict each other, and masks that cannot be right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ssn_edge.data.masks import MaskRule
from ssn_edge.data_check.findings import Finding, Kind, Severity, size_text
from ssn_edge.data_check.measure import Looked, MaskLook, PictureLook

LARGE_MASK = 0.5
"""Share of the picture from which a mask is rather its negative, or a region of interest."""
AMBIGUOUS = 2.0
"""Both rules for mask values must agree within this factor on a mask's area."""


def mask_findings(looked: Sequence[Looked], rule: MaskRule) -> list[Finding]:
    """Find faults of every mask on its own, and masks that several pictures share."""
    found = [
        finding
        for each in looked
        if each.mask is not None
        for finding in _about_mask(each, each.mask, each.picture, rule)
    ]
    return [*found, *_shared(looked)]


def _about_mask(
    each: Looked, mask: MaskLook, picture: PictureLook | None, rule: MaskRule
) -> list[Finding]:
    """What is wrong with one mask."""
    found: list[Finding] = []

    def add(kind: Kind, severity: Severity, text: str) -> None:
        found.append(Finding(kind, severity, text, (each.item.image,), shows_masks=True))

    if picture is not None and picture.size_hw != mask.size_hw:
        add(
            Kind.MASK_SIZE,
            Severity.ERROR,
            f"the mask has {size_text(mask.size_hw)} pixels, the picture "
            f"{size_text(picture.size_hw)}; "
            "export the mask at the picture's own size",
        )
    if not each.item.is_anomalous:
        if mask.marked:
            add(
                Kind.NORMAL_WITH_MASK,
                Severity.ERROR,
                f"labelled normal, but its mask marks {mask.marked} pixels; "
                "correct the label or the mask",
            )
        return found
    low, high = sorted((mask.as_class_ids, mask.as_white))
    if high > AMBIGUOUS * low:
        add(
            Kind.MASK_VALUES,
            Severity.WARNING,
            f"the mask marks {mask.as_class_ids} pixels if every value but 0 counts, "
            f"{mask.as_white} if only bright ones do; what counts now is above {rule.above}, which "
            "--mask-above sets",
        )
    if mask.marked == 0:
        add(
            Kind.EMPTY_MASK,
            Severity.NOTE,
            "labelled anomalous with an empty mask: where its defect is counts as unknown",
        )
    elif mask.share > LARGE_MASK:
        add(
            Kind.LARGE_MASK,
            Severity.WARNING,
            f"the mask marks {100 * mask.share:.0f} % of the picture; is it inverted, or a region "
            "of interest?",
        )
    return found


def _shared(looked: Sequence[Looked]) -> list[Finding]:
    """Masks that mark something and belong to several pictures."""
    by_file: dict[Path, list[Looked]] = defaultdict(list)
    by_digest: dict[bytes, list[Looked]] = defaultdict(list)
    for each in looked:
        if each.mask is not None and each.item.mask is not None and each.mask.marked:
            by_file[each.item.mask.resolve()].append(each)
            by_digest[each.mask.digest].append(each)
    found = []
    for group in by_digest.values():
        if len(group) < 2:
            continue
        one_file = any(len(each) > 1 for each in by_file.values() if each[0] in group)
        text = (
            "share one mask file; give each picture its own mask"
            if one_file
            else "have the very same mask, pixel by pixel, in different files; is one a copy by "
            "mistake?"
        )
        severity = Severity.WARNING if one_file else Severity.NOTE
        files = tuple(each.item.image for each in group)
        found.append(Finding(Kind.SHARED_MASK, severity, text, files, shows_masks=True))
    return found
