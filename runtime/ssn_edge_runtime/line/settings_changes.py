"""Other settings, or another recipe, for an engine worker that runs: asked for, told, in force."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from ssn_edge_runtime.line.delivery import Delivery
from ssn_edge_runtime.line.engine_desk import EngineDesk
from ssn_edge_runtime.line.messages import Message, MessageError
from ssn_edge_runtime.line.worker_process import WorkerState
from ssn_edge_runtime.record import EventKind

MOST_TRIES = 2
"""A change that the engine did not survive so often is refused."""

OnSettings = Callable[["str | None"], None]
"""Told None once they are in force, or else in one line why they are not."""


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What the engine is to judge with.

    Args:
        settings: A file that does not change; None for the one in force.
        recipe: Which of their recipes; None for the general settings.
        on_done: Told what came of it, in the line's thread: it must not wait.
    """

    settings: str | None
    recipe: str | None
    on_done: OnSettings


class SettingsChanges:
    """Changes in the order in which they were asked for, one at a time.

    The worker takes messages in order, and so do we: an answer before its "applied" was judged with
    the old settings, one after it with the new ones, and each is held against what it was judged
    with. No part waits for more than the reading of a file.

    Args:
        engine: Whose worker is told.
        delivery: Notes what came of it.
        on_settings: Told the file and the recipe whenever others came to be in force.
    """

    def __init__(
        self,
        engine: EngineDesk,
        delivery: Delivery,
        on_settings: Callable[[str, str | None], None],
    ) -> None:
        self._engine = engine
        self._delivery = delivery
        self._on_settings = on_settings
        self._waiting: deque[SettingsChange] = deque()
        self._told: SettingsChange | None = None
        self._told_settings: str | None = None
        self._tries = 0
        engine.is_held = lambda: not self.is_settled

    @property
    def is_telling(self) -> bool:
        """Whether the worker was told of a change, and has not answered yet."""
        return self._told is not None

    @property
    def is_settled(self) -> bool:
        """Whether what the worker told last is in force, and no change is on its way."""
        return not self._waiting and self._told is None

    def ask(self, change: SettingsChange) -> None:
        """Put a change in line."""
        self._waiting.append(change)

    def feed(self) -> None:
        """Tell the worker of the next change, if it is free for it."""
        worker = self._engine.worker
        while self._waiting and self._told is None and worker.state is WorkerState.RUNNING:
            change = self._waiting.popleft()
            settings = change.settings or worker.command.arguments.get("settings")
            if not isinstance(settings, str):
                self._refused(change, "there are no settings here, and so no recipes")
                continue
            self._told, self._told_settings = change, settings
            if not worker.send("settings", settings=settings, recipe=change.recipe):
                worker.kill("takes no settings")

    def answered(self, message: Message) -> None:
        """Take the worker's word on the change that it was told of.

        Raises:
            MessageError: Nobody told it of one.
        """
        change, settings = self._told, self._told_settings
        identity = self._engine.identity
        if change is None or settings is None or identity is None:
            raise MessageError("an answer to settings that nobody gave")
        self._told, self._tries = None, 0
        if (refusal := message.text_or_none("refused")) is not None:
            self._refused(change, refusal)
            return
        before = identity
        identity = identity.with_settings(message)
        self._engine.identity = self._delivery.identity = identity
        # A worker that is started again opens with what is in force now.
        worker = self._engine.worker
        arguments = {**worker.command.arguments, "settings": settings, "recipe": change.recipe}
        worker.command = replace(worker.command, arguments=arguments)
        if (identity.settings_id, identity.recipe) != (before.settings_id, before.recipe):
            self._delivery.note(
                EventKind.SETTINGS,
                {
                    "settings_id": identity.settings_id,
                    "recipe": identity.recipe,
                    "previous_settings_id": before.settings_id,
                    "previous_recipe": before.recipe,
                },
            )
        self._on_settings(settings, change.recipe)
        self._delivery.tell(change.on_done, None)

    def worker_gone(self) -> None:
        """The worker was reaped: what it was told of is not in force, and is told once more."""
        change, self._told = self._told, None
        if change is None:
            return
        self._tries += 1
        if self._tries < MOST_TRIES:
            self._waiting.appendleft(change)
        else:
            self._tries = 0
            self._refused(change, f"the engine ended {MOST_TRIES} times while it took them")

    def end(self) -> None:
        """The run is over: whoever still waits is told."""
        changes, self._waiting = list(self._waiting), deque()
        if self._told is not None:
            changes.insert(0, self._told)
            self._told = None
        for change in changes:
            self._delivery.tell(change.on_done, "the line ended")

    def _refused(self, change: SettingsChange, why: str) -> None:
        detail = " ".join(why.split())[:500]
        self._delivery.note(EventKind.SETTINGS, {"refused": detail})
        self._delivery.tell(change.on_done, detail)
