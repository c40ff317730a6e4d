"""This device's settings on a guarded line: which are in force, and how others come to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ssn_edge_runtime.errors import SsnEdgeError
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.rules import DEADLINE_MS
from ssn_edge_runtime.record import EventKind, EventRecord, Scalar
from ssn_edge_runtime.settings import DeviceSettings
from ssn_edge_runtime.settings_store import read_settings


class GuardedSettings:
    """What a supervisor asks for settings, where another process judges with them.

    Args:
        path: The file in force; None for the package's own thresholds.
        recipe: Which of its recipes.

    Raises:
        ConfigError: The file cannot be used.
    """

    def __init__(self, path: Path | None, recipe: str | None) -> None:
        self.path = None if path is None else kept_version(path)
        """A file that does not change: an engine that is started again must find the same."""
        self.settings = None if self.path is None else read_settings(self.path)
        self.recipe = recipe
        self.authority: Authority | None = None
        self.note: Callable[[EventRecord], None] = lambda event: None
        self.on_change: Callable[[], None] = lambda: None

    def apply_settings(self, settings: Path, recipe: str | None = None) -> None:
        """Have them judged with; they are in force once the engine's process says so.

        Raises:
            ConfigError: They cannot be used.
        """
        kept = kept_version(settings)
        if self.authority is not None:
            self.authority.use_settings(str(kept), recipe, on_done=lambda refusal: None)

    def in_force(self, path: str, recipe: str | None) -> None:
        """The engine judges with these now; called in the line's thread."""
        before, self.path, self.recipe = self.settings, Path(path), recipe
        try:
            self.settings = read_settings(self.path)
        except SsnEdgeError:  # the engine read it a moment ago; limits stay as they were
            return
        deadline_ms = _deadline_ms(self.settings)
        if deadline_ms != _deadline_ms(before):
            detail: dict[str, Scalar] = {"deadline_ms": deadline_ms, "taken": "at the next start"}
            self.note(EventRecord.now(EventKind.SETTINGS, detail))
        self.on_change()


def deadline_ms_of(settings: Path | None) -> float:
    """The deadline that device settings state, or the usual one.

    Raises:
        ConfigError: The settings cannot be used.
    """
    return _deadline_ms(None if settings is None else read_settings(settings))


def kept_version(path: Path) -> Path:
    """The kept file of the settings in force, or they themselves where none is kept.

    Raises:
        ConfigError: They cannot be used.
    """
    settings = read_settings(path)
    kept = path.with_name(f"settings-{settings.version}.json")
    is_kept = kept.exists() and read_settings(kept) == settings
    return (kept if is_kept else path).absolute()


def _deadline_ms(settings: DeviceSettings | None) -> float:
    stated = None if settings is None else settings.line.deadline_ms
    return DEADLINE_MS if stated is None else stated
