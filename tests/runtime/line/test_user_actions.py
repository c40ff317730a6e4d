from __future__ import annotations

import pytest

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.user_actions import MOST_DETAILS, user_action


def test_an_action_says_who_did_what_with_its_details() -> None:
    found = user_action("anna", "recipe", ["recipe=brass", "from="])
    assert found == {"user": "anna", "action": "recipe", "recipe": "brass", "from": ""}


@pytest.mark.parametrize(
    ("name", "action", "details"),
    [
        ("", "recipe", []),
        ("an na", "recipe", []),
        ("anna", "recipe\n", []),
        ("anna", "a" * 65, []),
        ("anna", "recipe", ["recipe"]),
        ("anna", "recipe", ["user=otto"]),
        ("anna", "recipe", ["recipe=a", "recipe=b"]),
        ("anna", "recipe", ["recipe=" + "a" * 81]),
        ("anna", "recipe", [f"key_{'a' * number}=1" for number in range(1, MOST_DETAILS + 2)]),
    ],
)
def test_words_that_are_none_are_refused(name: str, action: str, details: list[str]) -> None:
    with pytest.raises(ConfigError):
        user_action(name, action, details)
