"""Runs a function block of structured text, as far as the PLC's program here uses the language.

One statement a line. A line that is not understood raises: nothing is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_OPERATORS = {"AND": "and", "OR": "or", "NOT": "not", "TRUE": "True", "FALSE": "False"}
_ZERO = {"BOOL": False, "UINT": 0, "UDINT": 0, "INT": 0, "TIME": 0}


class OnDelay:
    """TON: `Q` once `IN` was true for `PT`."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._began_ns: int | None = None
        self.Q = False

    def __call__(self, *, IN: bool, PT: int) -> None:
        if not IN:
            self._began_ns = None
        elif self._began_ns is None:
            self._began_ns = self._now_ns()
        self.Q = self._began_ns is not None and self._now_ns() - self._began_ns >= PT


class FunctionBlock:
    """One instance; its variables are items.

    Args:
        text: Of one function block.
        now_ns: The controller's clock.
    """

    def __init__(self, text: str, now_ns: Callable[[], int]) -> None:
        text = re.sub(r"\(\*.*?\*\)", "", text, flags=re.S)
        head, body = _parts(text)
        self._variables: dict[str, Any] = {}
        for name, kind, value in re.findall(r"(\w+)\s*:\s*([^:;]+?)\s*(?::=\s*([^;]+))?;", head):
            self._variables[name] = _initial(kind, value, now_ns)
        self._program = compile(_python(body), "structured text", "exec")

    def __getitem__(self, name: str) -> Any:
        return self._variables[name]

    def __setitem__(self, name: str, value: object) -> None:
        assert name in self._variables
        self._variables[name] = value

    def scan(self) -> None:
        """Run it once."""
        before = set(self._variables)
        exec(self._program, {"__builtins__": {}}, self._variables)
        assert set(self._variables) == before, "a variable that was not declared"


def _parts(text: str) -> tuple[str, str]:
    matched = re.search(r"FUNCTION_BLOCK \w+\n(.*END_VAR)(.*)END_FUNCTION_BLOCK", text, re.S)
    assert matched is not None
    return re.sub(r"\b(VAR\w*( CONSTANT)?|END_VAR)\b", "", matched[1]), matched[2]


def _initial(kind: str, value: str, now_ns: Callable[[], int]) -> object:
    array = re.fullmatch(r"ARRAY \[0\.\.(\d+)\] OF UINT", kind)
    if array is not None:
        return [0] * (int(array[1]) + 1)
    if kind == "TON":
        return OnDelay(now_ns)
    return eval(_expression(value)) if value else _ZERO[kind]


def _expression(text: str) -> str:
    text = re.sub(r"\bT#(\d+)(ms|s)\b", _time, text)
    text = re.sub(r"\b16#(\w+)", r"0x\1", text)
    text = re.sub(r"(?<![:<>])=", "==", text).replace("<>", "!=")
    return re.sub(r"\b[A-Z]+\b", lambda word: _OPERATORS.get(word[0], word[0]), text)


def _time(text: re.Match[str]) -> str:
    return str(int(text[1]) * (1_000_000 if text[2] == "ms" else 1_000_000_000))


def _python(body: str) -> str:
    lines, depth, subject = [], 0, ""
    for line in filter(None, (each.strip() for each in body.splitlines())):
        if (found := re.fullmatch(r"(IF|ELSIF) (.*) THEN", line)) is not None:
            is_more = found[1] == "ELSIF"
            word = "elif" if is_more else "if"
            lines.append("    " * (depth - is_more) + f"{word} {_expression(found[2])}:")
            depth += not is_more
        elif line == "ELSE":
            lines.append("    " * (depth - 1) + "else:")
        elif line == "END_IF;":
            depth -= 1
        elif (found := re.fullmatch(r"CASE (\w+) OF", line)) is not None:
            subject, is_first = found[1], True
            depth += 1
        elif line == "END_CASE;":
            depth, subject = depth - 1, ""
        elif subject and (found := re.fullmatch(r"(\w+):", line)) is not None:
            word = "if" if is_first else "elif"
            is_first = False
            lines.append("    " * (depth - 1) + f"{word} {subject} == {found[1]}:")
        elif (found := re.fullmatch(r"(\w+)\(IN := (.*), PT := (.*)\);", line)) is not None:
            call = f"{found[1]}(IN={_expression(found[2])}, PT={_expression(found[3])})"
            lines.append("    " * depth + call)
        elif (found := re.fullmatch(r"([\w\[\]]+) := (.*);", line)) is not None:
            lines.append("    " * depth + f"{found[1]} = {_expression(found[2])}")
        else:
            raise ValueError(f"not understood: {line}")
    assert depth == 0
    return "\n".join(lines)
