"""Numbers that are never given twice, also not after a restart: what makes a PLC's ids unique."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.files import write_whole

RESERVED = 1024
"""So many are written down as used at a time, so that few triggers wait for the disk."""
MOST = 10**13
"""Beyond it the line's ids would have more digits than the control socket takes."""

logger = logging.getLogger(__name__)


class Epochs:
    """Counts on in a file.

    Args:
        path: The file; made at the first number.

    Raises:
        ConfigError: It is there and does not say where the last one stopped.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = self._reserved = _read(path)

    def next(self) -> int | None:
        """The next number, from 1; None if it cannot be written down."""
        if self._next >= self._reserved:
            document = {"next_epoch": self._next + RESERVED}
            try:
                write_whole(self._path, json.dumps(document).encode() + b"\n", durable=True)
            except StorageError as error:
                logger.warning("no trigger of the PLC is taken: %s", error)
                return None
            self._reserved = self._next + RESERVED
        epoch, self._next = self._next, self._next + 1
        return epoch


def _read(path: Path) -> int:
    try:
        document = json.loads(path.read_bytes())
        number = document["next_epoch"]
        if type(number) is int and 1 <= number < MOST:
            return number
    except FileNotFoundError:
        return 1
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ConfigError(
        f"{path} does not say which ids of the PLC were used; move it away together with the log "
        "beside it, whose parts it keeps apart"
    )
