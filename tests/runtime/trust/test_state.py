"""What was taken only rises, but for the one package that someone brings back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.trust import Returning, TrustState

A, B = "a" * 64, "b" * 64


@pytest.fixture
def state(tmp_path: Path) -> TrustState:
    return TrustState(tmp_path / "state.json")


def test_what_returns_lowers_what_was_taken_once_it_judges_and_not_before(
    state: TrustState,
) -> None:
    state.take_package("part", 7, package_id=B)
    state.take_package("other", 9)
    state.take_settings(A, 4)
    state.let_return(Returning(A, 2))
    before = state.read()
    assert (before.packages, before.settings) == ({"part": 7, "other": 9}, {A: 4})
    state.take_settings(A, 2)
    state.take_package("part", 5, package_id=A)
    after = state.read()
    assert (after.packages, after.settings) == ({"part": 5, "other": 9}, {A: 2})
    assert after.returning is None
    state.take_package("part", 4, package_id=A)
    assert state.read().packages == {"part": 5, "other": 9}


def test_another_package_that_judges_ends_it_and_so_does_taking_it_back(state: TrustState) -> None:
    state.take_package("part", 7, package_id=B)
    for end in (
        lambda: state.take_package("part", 7, package_id=B),
        lambda: state.let_return(None),
    ):
        state.let_return(Returning(A, None))
        end()
        state.take_package("part", 5, package_id=A)
        assert state.read().packages == {"part": 7}
        assert state.read().returning is None


@pytest.mark.parametrize(("has_settings", "left"), [(False, {B: 1}), (True, {A: 4, B: 1})])
def test_settings_are_forgotten_only_where_it_judges_without_any(
    state: TrustState, has_settings: bool, left: dict[str, int]
) -> None:
    state.take_settings(A, 4)
    state.take_settings(B, 1)
    state.let_return(Returning(A, None))
    state.take_package("part", 5, package_id=A, has_settings=has_settings)
    assert state.read().settings == left


def test_the_file_is_as_before_where_nothing_returns(state: TrustState) -> None:
    state.take_package("part", 7)
    document = {"packages": {"part": 7}, "schema": 1, "settings": {}}
    assert json.loads(state.path.read_bytes()) == document
    state.let_return(Returning(A, None))
    assert state.read().returning == Returning(A, None)
    state.let_return(None)
    assert json.loads(state.path.read_bytes()) == document


@pytest.mark.parametrize(
    "returning", [7, {}, {"package_id": A}, {"package_id": 1, "settings_version": None},
                  {"package_id": A, "settings_version": -1},
                  {"package_id": A, "settings_version": 1, "more": 1}],
)  # fmt: skip
def test_what_cannot_be_understood_is_an_error_and_not_nothing(
    state: TrustState, returning: object
) -> None:
    document = {"schema": 1, "packages": {}, "settings": {}, "returning": returning}
    state.path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="does not say which packages were taken"):
        state.read()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("take", "return", "end")), st.sampled_from((A, B)), st.integers(0, 9)
    )
)


@settings(max_examples=40)
@given(STEPS)
def test_it_falls_only_to_the_package_that_was_let_return(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    state = TrustState(tmp_path_factory.mktemp("state") / "state.json")
    let: str | None = None
    taken = 0
    for what, package_id, serial in steps:
        if what == "return":
            let = package_id
            state.let_return(Returning(package_id, None))
        elif what == "end":
            let = None
            state.let_return(None)
        else:
            state.take_package("part", serial, package_id=package_id)
            taken = serial if let == package_id else max(taken, serial)
            let = None
        assert state.read().packages.get("part", 0) == taken
