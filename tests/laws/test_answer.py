"""Yes, no, and maybe."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer, agreed, first

ANSWERS = st.lists(st.sampled_from(Answer))


@given(ANSWERS)
def test_agreed_is_what_all_say(answers: list[Answer]) -> None:
    found = agreed(answers)
    if found is MAYBE:
        assert MAYBE in answers or (YES in answers and NO in answers) or not answers
    else:
        assert answers == [found] * len(answers) != []


@given(ANSWERS)
def test_first_asks_no_further_than_it_must(answers: list[Answer]) -> None:
    left = iter(answers)
    found = first(left)
    asked = answers[: len(answers) - len(list(left))]
    assert found is (asked[-1] if asked else NO)
    assert all(answer is NO for answer in asked[:-1])
    assert found is not NO or asked == answers
