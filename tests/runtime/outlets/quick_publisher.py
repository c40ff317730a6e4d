"""A publisher's process as it is, that waits less: so that many attempts fit into a test."""

from __future__ import annotations

import sys

from ssn_edge_runtime.outlets import mqtt, publisher, webhook
from ssn_edge_runtime.sources.reopening import ReopenBudget

if __name__ == "__main__":
    defaults = publisher.Publisher.__init__.__kwdefaults__
    assert defaults is not None
    defaults["pace"] = ReopenBudget(attempts=1, pause_s=0.02, longest_pause_s=0.05, jitter=0.5)
    mqtt.CONNECT_S = webhook.POST_S = 0.3
    mqtt.ACKNOWLEDGE_S = 1.0
    sys.exit({"mqtt": mqtt.main, "webhook": webhook.main}[sys.argv[1]](sys.argv[2:]))
