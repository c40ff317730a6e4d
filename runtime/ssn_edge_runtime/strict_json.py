"""JSON in one byte form, read strictly: every field there, none besides, each of its type."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable
from typing import Any, cast

from ssn_edge_runtime.errors import SsnEdgeError


def canonical_json(document: object) -> bytes:
    """The one byte form of a JSON document: sorted keys, no blanks, UTF-8, no NaN."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def nearest(name: str, known: Iterable[str]) -> str:
    """Words that point from an unknown name to the nearest known one; empty without any."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"; did you mean {near[0]!r}?" if near else ""


class Fields:
    """A JSON object whose fields are taken one by one, each with its type.

    Args:
        document: What should be the object.
        where: What it is called in errors.
        refusal: Makes the error of a text that says what is wrong.
    """

    def __init__(
        self, document: object, where: str, *, refusal: Callable[[str], SsnEdgeError]
    ) -> None:
        self._refusal = refusal
        if not isinstance(document, dict):
            raise refusal(f"{where} is not an object")
        self._left = cast(dict[str, Any], dict(document))
        self._taken: list[str] = []
        self._where = where

    def take(self, key: str) -> Any:  # the methods below narrow it
        """A field of any type."""
        self._taken.append(key)
        if key not in self._left:
            raise self._refusal(f"{self._where} lacks {key!r}{self._unknown_near(key)}")
        return self._left.pop(key)

    def names(self) -> tuple[str, ...]:
        """The fields that were not taken yet."""
        return tuple(self._left)

    def done(self) -> None:
        """Refuse what was not taken."""
        if self._left:
            name = min(self._left)
            raise self._refusal(
                f"{self._where} has an unknown {name!r}{nearest(name, self._taken)}"
            )

    def text(self, key: str) -> str:
        """A text."""
        value = self.take(key)
        if not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def number(self, key: str) -> float:
        """A finite number."""
        return self._number(self.take(key), key)

    def whole(self, key: str) -> int:
        """A whole number, 0 or more."""
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(key, "a whole number")
        return value

    def truth(self, key: str) -> bool:
        """True or false."""
        value = self.take(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of several texts."""
        value = self.take(key)
        if value not in choices:
            raise self.wrong(key, f"one of {', '.join(choices)}")
        return cast(str, value)

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """A list of so many finite numbers."""
        value = self.take(key)
        if not isinstance(value, list) or len(value) != count:
            raise self.wrong(key, f"a list of {count} numbers")
        return tuple(self._number(each, key) for each in value)

    def entries(self, key: str) -> dict[str, Any]:
        """An object, whatever it holds."""
        value = self.take(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return cast(dict[str, Any], value)

    def items(self, key: str) -> list[Any]:
        """A list, whatever it holds."""
        value = self.take(key)
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        return value

    def is_null(self, key: str) -> bool:
        """Whether the field is there and null; then it is taken."""
        if key in self._left and self._left[key] is None:
            self.take(key)
            return True
        return False

    def text_or_none(self, key: str) -> str | None:
        """A text, or null."""
        return None if self.is_null(key) else self.text(key)

    def number_or_none(self, key: str) -> float | None:
        """A finite number, or null."""
        return None if self.is_null(key) else self.number(key)

    def whole_or_none(self, key: str) -> int | None:
        """A whole number, 0 or more, or null."""
        return None if self.is_null(key) else self.whole(key)

    def wrong(self, key: str, wanted: str) -> SsnEdgeError:
        """The error of a field that is not what is wanted."""
        return self._refusal(f"{self._where}.{key} is not {wanted}")

    def _number(self, value: object, key: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, "a number")
        try:
            number = float(value)
        except OverflowError as error:
            raise self._refusal(f"{self._where}.{key} is out of range") from error
        if not math.isfinite(number):
            raise self.wrong(key, "finite")
        return number

    def _unknown_near(self, key: str) -> str:
        """Names what may be the lacking field, misspelt."""
        near = difflib.get_close_matches(key, self._left, n=1, cutoff=0.8)
        return f" (is {near[0]!r} it?)" if near else ""
