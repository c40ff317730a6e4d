"""Back to a package that was in force here: checked, recorded, and let past what was taken since.

A device that requires signatures refuses whatever is older than what it has taken. Who may write to
the file that says so may bring back one package out of the device's own history, and that one
alone: an old package from elsewhere stays refused, also in between.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ssn_edge.line_talk import OnMessage, have_line_note
from ssn_edge.packages import KeptPackage, PackageStore
from ssn_edge_runtime.errors import ConfigError, PackageError, StorageError
from ssn_edge_runtime.line.user_actions import user_action
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.record import EventKind, EventRecord
from ssn_edge_runtime.settings_store import read_settings
from ssn_edge_runtime.sinks import JOURNAL_NAME, DeviceKey, Journal
from ssn_edge_runtime.trust import Returning, Trust, TrustState

ACTION = "package_rollback"
LONGEST_DETAIL = 80


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """What is asked for.

    Args:
        to: The package's number in the history, from 1; None for the one before.
        note: Why, for people and for the log.
        control: Socket of a line that runs; None where none does.
        trust: Who must have signed package and settings; None takes them signed or not.
        output: Folder of the decisions: the log says who went back, and why.
        key: Device key of that log; None for none.
    """

    to: int | None = None
    note: str = ""
    control: Path | None = None
    trust: Trust | None = None
    output: Path | None = None
    key: Path | None = None


def roll_back(
    store: PackageStore,
    request: RollbackRequest,
    *,
    on_message: OnMessage = lambda message: None,
) -> KeptPackage:
    """Bring a package and its settings back, together, in one step.

    Raises:
        ConfigError: There is none such, or a line runs and its socket was not named.
        PackageError: It cannot be used, or the line refused it or went back.
        SignatureError: It or its settings were revoked, or nobody who is trusted signed them.
        SourceError: No line answers on the socket.
        StorageError: It cannot be written; what was in force stays so.
    """
    wanted = store.wanted(request.to)
    if request.trust is not None:
        _check(store, wanted, request.trust)
    with _recorded(wanted, request):
        state = None if request.trust is None else request.trust.state
        if state is None:
            return store.put(wanted, request.note, request.control, on_message)
        TrustState(state).let_return(Returning(wanted.package_id, wanted.settings_version))
        try:
            return store.put(wanted, request.note, request.control, on_message)
        except BaseException:
            if not store.is_begun(wanted):
                TrustState(state).let_return(None)
            raise


def _check(store: PackageStore, wanted: KeptPackage, trust: Trust) -> None:
    """All but its age: what was revoked meanwhile, or is below the least serial, stays away."""
    trust = replace(trust, allows_older=True)
    path = store.kept_file(wanted)
    with Package.open(path, trust=trust) as opened:
        if opened.package_id != wanted.package_id:
            raise PackageError(f"{path}: is another package than it was; look at the disk")
    settings = store.kept_settings(wanted)
    if settings is not None:
        trust.check_settings(read_settings(settings))


@contextmanager
def _recorded(wanted: KeptPackage, request: RollbackRequest) -> Iterator[None]:
    """Say in the log who goes back to what, and why, before it is done."""
    settings = "none" if wanted.settings_version is None else str(wanted.settings_version)
    details = [f"package_id={wanted.package_id}", f"settings_version={settings}"]
    if request.note:
        details.append(f"why={_word(request.note)}")
    if request.control is not None:
        have_line_note(request.control, _who(), ACTION, details)
        yield
        return
    if request.output is None or not (request.output / JOURNAL_NAME).exists():
        yield  # nothing was ever judged here
        return
    key = None if request.key is None else DeviceKey.open(request.key)
    journal = Journal(request.output, key=key, is_line=False)
    try:
        journal.open()
    except StorageError as error:
        raise ConfigError(
            f"{error}; where a line runs, it goes back first: name its socket, --control"
        ) from error
    # Held until it is done: no line starts in the middle of it.
    try:
        journal.note(EventRecord.now(EventKind.USER_ACTION, user_action(_who(), ACTION, details)))
        yield
    finally:
        journal.close()


def _who() -> str:
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid-{os.getuid()}"
    return _word(name)[:64].lstrip("_.:@+-") or f"uid-{os.getuid()}"


def _word(text: str) -> str:
    """A text as the one word that a line's log takes."""
    return re.sub(r"[^A-Za-z0-9_.:@-]+", "_", text.strip())[:LONGEST_DETAIL]
