from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.outlets.page.log_watch import Scored
from ssn_edge_runtime.outlets.page.what_if import histogram, what_if

SCORES = st.floats(-50, 50)
PARTS = st.lists(
    st.one_of(
        st.tuples(SCORES, SCORES).map(
            lambda both: Scored(*both, "fail" if both[0] >= both[1] else "pass", "none")
        ),
        st.tuples(SCORES, SCORES).map(lambda both: Scored(*both, "fail", "defect")),
        st.builds(Scored, SCORES, SCORES, st.just("unknown"), st.just("deadline")),
        st.just(Scored(None, None, "unknown", "no_frame")),
    ),
    max_size=40,
)


@given(PARTS, SCORES, SCORES)
def test_a_lower_threshold_never_passes_more(parts: list[Scored], one: float, two: float) -> None:
    low, high = (what_if(parts, each) for each in sorted((one, two)))
    assert low["would_be"]["pass"] <= high["would_be"]["pass"]  # type: ignore[index]
    for found in (low, high):
        assert sum(found["would_be"].values()) == len(parts)  # type: ignore[attr-defined]
        assert found["would_be"]["unknown"] == found["was"]["unknown"]  # type: ignore[index]


@given(st.lists(st.tuples(SCORES, st.booleans()), max_size=40), SCORES)
def test_the_threshold_in_force_changes_nothing(
    scores: list[tuple[float, bool]], threshold: float
) -> None:
    parts = [
        Scored(score, threshold, "fail" if score >= threshold or by_size else "pass", "none")
        for score, by_size in scores
    ]
    found = what_if(parts, threshold)
    assert found["would_be"] == found["was"]
    assert found["pass_to_fail"] == found["fail_to_pass"] == 0


def test_a_score_at_the_threshold_fails() -> None:
    part = Scored(2.0, 3.0, "pass", "none")
    assert what_if([part], 2.0)["pass_to_fail"] == 1
    assert what_if([part], 2.0001)["pass_to_fail"] == 0


@given(PARTS)
def test_every_scored_part_is_in_the_histogram(parts: list[Scored]) -> None:
    found = histogram(parts)
    counts = [*found["pass"], *found["reject"]]  # type: ignore[misc]
    assert sum(counts) == found["parts"] == sum(each.raw_score is not None for each in parts)
