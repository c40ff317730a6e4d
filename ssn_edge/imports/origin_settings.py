"""What a checkpoint says of its net beside the weights: anomalib's hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ssn_edge.imports.foreign_file import ForeignFile
from ssn_edge.imports.foreign_names import Origin
from ssn_edge.model.variant import Variant
from ssn_edge.training.regime import Regime


@dataclass(frozen=True, slots=True)
class OriginSettings:
    """Each None where the file does not tell.

    Args:
        variant: Which feature the classification head sees.
        regime: Supervision that training had.
        backbone: timm name.
        layers: The backbone's layers whose outputs are used.
    """

    variant: Variant | None = None
    regime: Regime | None = None
    backbone: str | None = None
    layers: tuple[str, ...] | None = None


def read_origin_settings(file: ForeignFile, origin: Origin) -> OriginSettings:
    """Take what can be read; a value of another type tells nothing.

    The authors' file has weights only. anomalib's Supersimplenet trains on normal pictures only,
    unless `supervised` is set: then it demands a mask for each anomalous one. Its setting
    `adapt_cls_features` is the variant. Versions that have no such setting had the conference net,
    but a converted file lacks it as well: where it is absent, the variant is asked for.

    Source:
        anomalib@204426f2 src/anomalib/models/image/supersimplenet/{lightning_model,torch_model}.py.
    """
    if origin is Origin.AUTHORS:
        return OriginSettings()
    found: Mapping[str, object] = file.hyper_parameters or {}
    adapts, backbone, layers = (
        found.get(name) for name in ("adapt_cls_features", "backbone", "layers")
    )
    variant = None
    if isinstance(adapts, bool):
        variant = Variant.CONFERENCE if adapts else Variant.JOURNAL
    return OriginSettings(
        variant=variant,
        regime=Regime.FULL if found.get("supervised") is True else Regime.UNSUPERVISED,
        backbone=backbone if isinstance(backbone, str) else None,
        layers=(
            tuple(str(layer) for layer in layers) if isinstance(layers, (list, tuple)) else None
        ),
    )
