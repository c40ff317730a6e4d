"""A keeper whose disk takes its time: each picture so many seconds, as its environment says."""

from __future__ import annotations

import os
import time

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.line import keeper_worker
from ssn_edge_runtime.sinks.evidence_folder import EvidenceFolder
from ssn_edge_runtime.sinks.evidence_policy import EvidenceName

PICTURE_S = "SLOW_KEEPER_S"


class SlowFolder(EvidenceFolder):
    def keep(self, name: EvidenceName, image: ByteImage) -> int:
        time.sleep(float(os.environ[PICTURE_S]))
        return super().keep(name, image)


if __name__ == "__main__":
    keeper_worker.EvidenceFolder = SlowFolder  # type: ignore[misc]
    keeper_worker.main()
