"""Who waits for which answer, and the answers that a repeated trigger gets again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.line.answers import Answer, OnAnswer
from ssn_edge_runtime.line.ledger import Part


class AnswerBook:
    """The answers of one line, by the number of their part.

    Args:
        remembered: So many of the newest are kept.
        on_failure: Told what a listener raised.
    """

    def __init__(self, remembered: int, on_failure: Callable[[Exception], None]) -> None:
        self._remembered = remembered
        self._on_failure = on_failure
        self._waiting: dict[int, tuple[int | None, list[OnAnswer]]] = {}
        self._answers: OrderedDict[int, Answer] = OrderedDict()

    def when_answered(self, part: Part, on_answer: OnAnswer) -> None:
        """Have a part's answer told once there is one."""
        self._waiting.setdefault(part.sequence, (part.trigger_id, []))[1].append(on_answer)

    def answer(self, sequence: int, answer: Answer) -> None:
        """A part's answer stands: tell it to those who wait, and keep it."""
        self.keep(sequence, answer)
        _, listeners = self._waiting.pop(sequence, (None, []))
        for on_answer in listeners:
            self.tell(on_answer, answer)

    def keep(self, sequence: int, answer: Answer) -> None:
        """Keep an answer for those who ask again."""
        self._answers[sequence] = answer
        while len(self._answers) > self._remembered:
            self._answers.popitem(last=False)

    def take_back(self, sequence: int | None = None) -> None:
        """A pass that was told counts no more: of one part, or of all.

        Whoever asks again is told so; whoever was told has to hear it from the signal.
        """
        for each in tuple(self._answers) if sequence is None else (sequence,):
            answer = self._answers.get(each)
            if answer is not None and answer.is_pass:
                self._answers[each] = answer.taken_back()

    def answer_again(self, part: Part, on_answer: OnAnswer, now_ns: int) -> None:
        """Answer a repeated trigger as the first one was, or will be."""
        answer = self._answers.get(part.sequence)
        if answer is None:
            self.when_answered(part, on_answer)
        else:
            self.tell(on_answer, answer.again(now_ns))

    def answer_all(self, detail: str) -> None:
        """Answer whoever still waits: nothing more is decided."""
        waiting, self._waiting = self._waiting, {}
        for sequence, (trigger_id, listeners) in waiting.items():
            answer = Answer(trigger_id, sequence, Verdict.UNKNOWN, Reason.STORAGE_ERROR, detail)
            for on_answer in listeners:
                self.tell(on_answer, answer)

    def tell(self, on_answer: OnAnswer, answer: Answer) -> None:
        """Give an answer; a listener that fails does not end the line."""
        try:
            on_answer(answer)
        except Exception as error:  # noqa: BLE001 - whoever is not told takes it for reject
            self._on_failure(error)
