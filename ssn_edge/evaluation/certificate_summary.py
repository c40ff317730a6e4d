"""The export gate's certificate and the data's fingerprints, as a report shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DataPart:
    """What one part of the data holds.

    Args:
        name: train, calibration or test.
        normal: Pictures.
        anomalous: Pictures.
        groups: Groups that they are of; None where the data name none.
    """

    name: str
    normal: int
    anomalous: int
    groups: int | None


@dataclass(frozen=True, slots=True)
class DataRecord:
    """Which data: who has the same fingerprints, has the same pictures, masks, labels and parts.

    Args:
        training: Fingerprint of all parts as training saw them, SHA-256.
        judged: Fingerprint of the pictures that this report judged, SHA-256.
        parts: What they hold.
    """

    training: str
    judged: str
    parts: tuple[DataPart, ...]

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CertifiedEngine:
    """One row of a certificate: a model in an engine, against the trained net.

    Args:
        title: Precision, graph and engine.
        pictures: That both judged.
        flips: Verdicts that differ.
        unjudged: Pictures that got none.
        largest_score: Largest difference of a score's distance from its threshold, a logit.
        largest_map: Largest difference of a map value, a logit.
    """

    title: str
    pictures: int
    flips: int
    unjudged: int
    largest_score: float
    largest_map: float


@dataclass(frozen=True, slots=True)
class CertificateSummary:
    """What the export gate found about the model that judged.

    Args:
        precision: Of the model.
        model_sha256: Of its bytes.
        what: Was compared.
        where: It was measured.
        engines: A row each.
        versions: Of what took part, by name.
        document: The certificate as the package has it.
    """

    precision: str
    model_sha256: str
    what: str
    where: str
    engines: tuple[CertifiedEngine, ...]
    versions: Mapping[str, str]
    document: Mapping[str, Any]


def summarise_certificate(document: Mapping[str, Any]) -> CertificateSummary:
    """Pick what people look at out of a package's certificate.

    Args:
        document: Parsed, of the version that `export` writes.

    Raises:
        KeyError: It lacks something; a package of this version does not.
    """
    return CertificateSummary(
        precision=str(document["precision"]),
        model_sha256=str(document["model_sha256"]),
        what=str(document["what"]),
        where=str(document["where"]),
        engines=tuple(
            CertifiedEngine(
                title="{precision} {graph} on {engine}".format(**column["column"]),
                pictures=int(column["pictures"]),
                flips=len(column["flips"]),
                unjudged=len(column["unjudged"]),
                largest_score=float(column["score"]["largest"]),
                largest_map=float(column["maps"]["largest"]),
            )
            for column in document["columns"]
        ),
        versions={name: str(version) for name, version in document["versions"].items()},
        document=document,
    )
