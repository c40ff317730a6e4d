"""Evidence: which pictures are kept, what they are called, and what each is worth."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.record import DecisionRecord

EVIDENCE_FOLDER = "evidence"
_NAME = re.compile(r"(\d{9,})_(pass_random|pass_near|fail|unknown)\.png")


class Worth(IntEnum):
    """Why a picture is kept; what is worth least goes first."""

    RANDOM = 0
    """One of an even share of the parts that passed."""
    NEAR = 1
    """It passed, with a score near the threshold."""
    REJECT = 2
    """It failed, or nothing could be said."""


@dataclass(frozen=True, slots=True)
class EvidencePolicy:
    """What is kept, and how much of it.

    Args:
        quota_bytes: Of the disk, for all pictures together.
        near: Distance of the normalised score from the threshold (0.5) within which a part that
            passed is kept.
        share: Share of the other parts that passed; which ones follows from sequence and seed.
        seed: Of that choice.
        reserve_bytes: Pictures go, and none comes, while less of the disk is free.
    """

    quota_bytes: int
    near: float = 0.05
    share: float = 0.001
    seed: int = 0
    reserve_bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        """Refuse what cannot be kept."""
        if self.quota_bytes < 1 or self.reserve_bytes < 0:
            raise ConfigError(
                f"an evidence quota of {self.quota_bytes} bytes with {self.reserve_bytes} in "
                "reserve; the quota must be above 0, the reserve 0 or more"
            )
        if not 0 <= self.near <= 0.5 or not 0 <= self.share <= 1:
            raise ConfigError(
                f"evidence within {self.near} of the threshold, and a share of {self.share} of the "
                "rest; 0 to 0.5 and 0 to 1 are wanted"
            )

    def worth(self, record: DecisionRecord) -> Worth | None:
        """Why this part's picture is kept; None if it is not."""
        if record.verdict is not Verdict.PASS:
            return Worth.REJECT
        if record.score is not None and abs(record.score - 0.5) <= self.near:
            return Worth.NEAR
        digest = hashlib.sha256(f"{self.seed}:{record.sequence}".encode()).digest()
        is_drawn = int.from_bytes(digest[:8], "big") < self.share * 2**64
        return Worth.RANDOM if is_drawn else None

    def name_of(self, record: DecisionRecord) -> EvidenceName | None:
        """What this part's picture is called; None if it is not kept."""
        worth = self.worth(record)
        return None if worth is None else EvidenceName(record.sequence, record.verdict, worth)


@dataclass(frozen=True, slots=True)
class EvidenceName:
    """What a picture's file name says.

    Args:
        sequence: Number of its record.
        verdict: Of its record.
        worth: Why it is kept.
    """

    sequence: int
    verdict: Verdict
    worth: Worth

    def __str__(self) -> str:
        """``<sequence>_<why>.png``."""
        more = {Worth.RANDOM: "_random", Worth.NEAR: "_near", Worth.REJECT: ""}[self.worth]
        return f"{self.sequence:09d}_{self.verdict.value}{more}.png"

    @classmethod
    def read(cls, name: str) -> EvidenceName | None:
        """A file's name; None if it is no evidence."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        verdict, _, why = match[2].partition("_")
        worth = {"random": Worth.RANDOM, "near": Worth.NEAR}.get(why, Worth.REJECT)
        return cls(int(match[1]), Verdict(verdict), worth)
