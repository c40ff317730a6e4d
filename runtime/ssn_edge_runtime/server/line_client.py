"""The local server's side of a guarded line: it talks over the line's control socket.

One connection for each trigger, so that an answer is never taken for another's; the state is asked
for a few times a second at most, however many clients want it.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, monotonic_ns

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.server.answers import Refusal
from ssn_edge_runtime.verdict_codes import verdict_code

MOST_TRIGGERS = 8
"""At a time: the control socket has room for others as well."""
STATE_AGE_S = 0.2
CONNECT_S = 1.0
RECIPE_S = 10.0
"""An engine worker takes other settings between two frames."""
ANSWER_GRACE_S = 0.5
"""Beyond the line's deadline; each trigger is answered by then, or the line does not answer."""
LONGEST_ANSWER = 1 << 18
_WORD = re.compile(r"(?![@%])[!-~]{1,256}")
"""As a part's id stands in a line of the control socket: with @ or % it would be another thing."""


class LineClient:
    """Asks a line; called from several threads.

    Args:
        control: The line's control socket.
        deadline_ms: The line's, from the trigger to the verdict.
        state_age_s: How old a state may be that is told again.
    """

    def __init__(
        self, control: Path, *, deadline_ms: float, state_age_s: float = STATE_AGE_S
    ) -> None:
        self._state_age_s = state_age_s
        self._control = control
        self._deadline_ns = round(deadline_ms * 1e6)
        self._triggers = threading.BoundedSemaphore(MOST_TRIGGERS)
        self._asking = threading.Lock()
        self._state: Mapping[str, object] = {}
        self._asked_s: float | None = None

    def trigger(
        self, trigger_id: int, part_id: str | None, camera: str | None, recipe: str | None = None
    ) -> Mapping[str, object]:
        """Give a trigger and wait for its verdict.

        Raises:
            Refusal: It made no part, or the verdict came too late to count.
        """
        words = ["trigger", str(trigger_id)]
        if part_id is not None and not _WORD.fullmatch(part_id):
            raise Refusal(422, Reason.NO_FRAME, "a part's id is one word, without @ or % in front")
        words += [] if part_id is None else [part_id]
        words += [] if camera is None else [f"@{camera}"]
        words += [] if recipe is None else [f"%{recipe}"]
        if not self._triggers.acquire(blocking=False):
            raise Refusal(503, Reason.OVERRUN, f"{MOST_TRIGGERS} triggers wait for their verdict")
        try:
            sent_ns = monotonic_ns()
            line = self._ask(" ".join(words), self._deadline_ns / 1e9 + ANSWER_GRACE_S)
        finally:
            self._triggers.release()
        if line.startswith("error:"):
            raise Refusal(422, Reason.NO_FRAME, line.removeprefix("error:").strip())
        verdict, reason = _verdict_of(line, trigger_id)
        # The deadline counts from the line's receipt; from the sending it is over a little sooner.
        if verdict is Verdict.PASS and monotonic_ns() - sent_ns >= self._deadline_ns:
            raise Refusal(504, Reason.DEADLINE, "passed, but its time is over")
        return {"verdict": verdict.value, "reason": reason.value}

    def select_recipe(self, name: str | None) -> None:
        """Have parts judged by another recipe; None for the general settings.

        Raises:
            Refusal: There is none of that name, or the line does not take it.
        """
        asked = "recipe" if name is None else f"recipe {name}"
        answer = self._ask(asked, RECIPE_S)
        if answer != asked:
            detail = answer.removeprefix("error:").strip()
            raise Refusal(422, Reason.NO_FRAME, detail)

    def state(self) -> Mapping[str, object]:
        """The line's state, at most `state_age_s` old.

        Raises:
            Refusal: It does not tell.
        """
        with self._asking:
            if self._asked_s is None or monotonic() - self._asked_s > self._state_age_s:
                self._state = self._ask_state()
                self._asked_s = monotonic()
            return self._state

    def tell(self, line: str, timeout_s: float) -> str:
        """Say a line of the control socket, and hear what it answers.

        Raises:
            Refusal: It does not answer.
        """
        return self._ask(line, timeout_s)

    def _ask_state(self) -> Mapping[str, object]:
        try:
            document = json.loads(self._ask("state", CONNECT_S))
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Refusal(503, Reason.RESTART, "the line says what is no state")
        return document

    def _ask(self, line: str, timeout_s: float) -> str:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
                talk.settimeout(CONNECT_S)
                talk.connect(str(self._control))
                talk.settimeout(timeout_s)
                talk.sendall(line.encode("ascii") + b"\n")
                with talk.makefile("rb") as lines:
                    answer = lines.readline(LONGEST_ANSWER)
        except TimeoutError:
            raise Refusal(504, Reason.DEADLINE, "the line does not answer") from None
        except OSError as error:
            raise Refusal(
                503, Reason.RESTART, f"the line does not listen ({error.strerror})"
            ) from error
        if not answer.endswith(b"\n"):
            raise Refusal(503, Reason.RESTART, "the line hung up")
        return answer.decode("utf-8", "replace").strip()


def _verdict_of(line: str, trigger_id: int) -> tuple[Verdict, Reason]:
    """The verdict of an answer's line.

    Raises:
        Refusal: There is none, or it is another trigger's.
    """
    words = line.split()
    if len(words) == 4 and words[0] == str(trigger_id):
        if words[1] == "none":
            raise Refusal(503, Reason.MISSED_TRIGGER, words[2].replace("_", " "))
        try:
            verdict, reason = Verdict(words[1]), Reason(words[2])
        except ValueError:
            pass
        else:
            if words[3] == f"0x{int(verdict_code(verdict)):04X}":
                return verdict, reason
    raise Refusal(500, Reason.INVALID_OUTPUT, "the line's answer is none to this trigger")
