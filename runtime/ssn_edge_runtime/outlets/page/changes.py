"""What people do to the line by the page: each goes into the line's journal, with who did it."""

from __future__ import annotations

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.outlets.page.access import Session
from ssn_edge_runtime.outlets.page.snapshot import Watch
from ssn_edge_runtime.server.answers import Refusal

TAKES_S = 5.0
"""How long the line may take to obey."""


class Changes:
    """Called by several connections at once.

    Args:
        watch: Of the line.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def acknowledge(self, session: Session, line: int) -> dict[str, object]:
        """Somebody has seen an alarm, by the number of its line in the journal.

        Raises:
            ConfigError: The line does not take it.
        """
        self._note(session, "acknowledge", line=str(line))
        return {"acknowledged": line}

    def recipe(self, session: Session, recipe: str | None) -> dict[str, object]:
        """Judge by another recipe from the next frame on.

        Raises:
            ConfigError: There is none of that name, or the line refuses it.
        """
        known = self._watch.settings.document(self._watch.identity)["recipes"]
        if recipe is not None and (not isinstance(known, list) or recipe not in known):
            raise ConfigError(f"the settings hold no recipe {recipe[:40]!r}")
        self._note(session, "recipe", recipe=recipe or "")
        self._tell("recipe" if recipe is None else f"recipe {recipe}")
        return {"recipe": recipe}

    def threshold(self, session: Session, threshold: float, seen_id: str) -> dict[str, object]:
        """Make a version of the settings with another threshold; the line takes it up by itself.

        Raises:
            SsnEdgeError: See `SettingsDesk.apply`.
        """
        settings = self._watch.settings.apply(
            threshold, seen_id=seen_id, identity=self._watch.identity, user=session.token.name
        )
        key_id = None if settings.signature is None else settings.signature.key_id
        self._note(
            session,
            "threshold",
            version=str(settings.version),
            settings_id=settings.settings_id,
            key_id=key_id or "",
        )
        return {
            "version": settings.version,
            "settings_id": settings.settings_id,
            "is_signed": key_id is not None,
            "key_id": key_id,
        }

    def _note(self, session: Session, action: str, **details: str) -> None:
        words = [f"{name}={value}" for name, value in details.items()]
        self._tell(" ".join(["user", session.token.name, action, *words]))

    def _tell(self, line: str) -> None:
        try:
            answer = self._watch.line.tell(line, TAKES_S)
        except Refusal as refusal:
            raise ConfigError(refusal.detail) from refusal
        if answer.startswith("error:"):
            raise ConfigError(answer.removeprefix("error:").strip())
