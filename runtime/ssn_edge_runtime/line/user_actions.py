"""What people do to a line, as its records spell it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.record import Scalar

MOST_DETAILS = 8
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,63}")
_DETAIL = re.compile(r"([a-z][a-z_]{0,31})=([A-Za-z0-9_.:+@-]{0,80})")


def user_action(name: str, action: str, details: Sequence[str]) -> dict[str, Scalar]:
    """The detail of a `user_action` record.

    Raises:
        ConfigError: A word that is none: a log must not be written full by whoever may speak here.
    """
    for word in (name, action):
        if not _WORD.fullmatch(word):
            raise ConfigError(f"{word[:40]!r} is no name of a user or an action")
    found: dict[str, Scalar] = {"user": name, "action": action}
    if len(details) > MOST_DETAILS:
        raise ConfigError(f"an action has {MOST_DETAILS} details at most")
    for text in details:
        match = _DETAIL.fullmatch(text)
        if match is None or match[1] in found:
            raise ConfigError(f"{text[:40]!r} is no detail such as recipe=brass")
        found[match[1]] = match[2]
    return found
