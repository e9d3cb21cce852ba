"""The choice: gates, loss, ties; the same in any order, and never a configuration that another one beats."""

from dataclasses import replace
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Unprocessable
from tune_sweeps.config import Rule
from tune_sweeps.score import Candidate, Share, choose, gate, paired_error

ROWS = 4


ALL = Share(1000, 1000)


def candidate(
    value: str,
    order: int,
    loss: float,
    noise: float = 0.0,
    speech: float = 1.0,
    persona: float = 1.0,
    memory_mib: float = 100.0,
) -> Candidate:
    rows = (loss - noise, loss + noise, loss - noise, loss + noise)
    return Candidate(value, order, {0: rows}, of_1000(speech), of_1000(persona), memory_mib, seconds=10.0)


def of_1000(share: float) -> Share:
    return Share(round(1000 * share), 1000)


def chosen(*candidates: Candidate, rule: Rule = Rule()) -> str:  # noqa: B008 - frozen
    return choose(candidates, rule).best.value


def test_the_lowest_loss_wins_when_it_is_clear() -> None:
    assert chosen(candidate("a", 0, 1.2), candidate("b", 1, 1.0), candidate("c", 2, 1.1)) == "b"


def test_a_tie_goes_to_memory_then_to_time_then_to_loss() -> None:
    close = candidate("close", 0, 1.01, noise=0.1, memory_mib=50)
    assert chosen(candidate("low", 1, 1.0), close) == "close"
    same = replace(close, memory_mib=100.0, seconds=9.0)
    assert chosen(candidate("low", 1, 1.0), same) == "close"
    assert chosen(candidate("low", 1, 1.0), replace(same, seconds=10.0)) == "low"
    assert chosen(candidate("low", 1, 1.0), close, rule=Rule(tie_errors=0)) == "low"


def test_who_falls_below_a_gate_is_out_however_low_the_loss() -> None:
    polite, sloppy = candidate("polite", 0, 2.0, speech=0.95), candidate("sloppy", 1, 1.0, speech=0.85)
    assert chosen(polite, sloppy) == "polite"
    assert chosen(polite, sloppy, rule=Rule(speech_slack=0.11)) == "sloppy"
    assert chosen(polite, replace(sloppy, speech=of_1000(0.95), persona=of_1000(0.8))) == "polite"
    decision = choose([polite, sloppy], Rule())
    assert [one.passed for one in decision.standings] == [True, False]
    assert decision.speech_gate == pytest.approx(0.9)


def test_a_gate_does_not_throw_out_by_chance() -> None:
    assert gate([Share(9, 10), Share(8, 10)], slack=0.05, errors=2) == pytest.approx(
        0.9 - 2 * sqrt(2 * 0.85 * 0.15 / 10)
    )
    assert gate([Share(9, 10), Share(8, 10)], slack=0.05, errors=0) == pytest.approx(0.85)
    assert gate([Share(0, 0), Share(0, 0)], slack=0.05, errors=2) == 0
    assert gate([Share(20, 20), Share(0, 0)], slack=0.05, errors=2) == pytest.approx(0.95)


def test_when_nobody_passes_both_gates_loss_decides() -> None:
    first, second = candidate("a", 0, 1.0, speech=0.5), candidate("b", 1, 2.0, persona=0.5)
    assert chosen(first, second) == "a"


def test_the_error_is_of_paired_differences() -> None:
    hard = Candidate("hard", 0, {0: (1.0, 5.0, 9.0)}, ALL, ALL, 1, 1)
    harder = Candidate("harder", 1, {0: (1.1, 5.1, 9.1)}, ALL, ALL, 1, 1)
    assert paired_error(hard, harder) == pytest.approx(0, abs=1e-12)
    other = Candidate("other", 2, {0: (1.0, 5.0, 9.3)}, ALL, ALL, 1, 1)
    assert paired_error(other, hard) == pytest.approx(0.3 / 3)  # of (0, 0, 0.3): variance 0.03, over 3 rows


def test_seeds_add_their_own_error() -> None:
    one = Candidate("one", 0, {0: (1.0, 1.0), 1: (3.0, 3.0)}, ALL, ALL, 1, 1)
    other = Candidate("other", 1, {0: (1.0, 1.0), 1: (1.0, 1.0)}, ALL, ALL, 1, 1)
    assert paired_error(one, other) == pytest.approx(sqrt(2 / 2))
    assert paired_error(one, replace(other, losses={0: (1.0, 1.0)})) == 0
    assert paired_error(one, replace(other, losses={7: (1.0, 2.0)})) == pytest.approx(0.5)


def test_a_configuration_does_not_win_because_its_bad_seed_was_stopped() -> None:
    both = Candidate("both", 0, {0: (1.00, 1.02), 1: (1.20, 1.22)}, ALL, ALL, 1, 1)
    lucky = Candidate("lucky", 1, {0: (1.05, 1.07)}, ALL, ALL, 1, 1)
    decision = choose([both, lucky], Rule())
    assert decision.best is both
    assert [one.short for one in decision.standings] == [False, True]
    assert choose([replace(both, barred="not servable"), lucky], Rule()).best is lucky


def test_who_is_barred_has_no_part_in_the_choice() -> None:
    # The barred one is better in everything, so much that the others would not pass the gates beside it.
    rivals = [candidate("a", 0, 1.2, noise=0.1, speech=0.5), candidate("b", 1, 1.3, speech=0.5)]
    best_of_all = replace(candidate("c", 2, 0.5, noise=0.4, memory_mib=1), barred="not servable")
    decision, without = choose([*rivals, best_of_all], Rule()), choose(rivals, Rule())
    assert (decision.best, decision.leader, decision.margin) == (without.best, without.leader, without.margin)
    assert (decision.speech_gate, decision.persona_gate) == (without.speech_gate, without.persona_gate)
    assert decision.standings[:2] == without.standings
    last = decision.standings[2]
    assert (last.candidate, last.tied, last.passed) == (best_of_all, False, False)


def test_nothing_to_choose_from_is_an_error() -> None:
    with pytest.raises(Unprocessable, match="no configuration that can win"):
        choose([replace(candidate("a", 0, 1.0), barred="not servable")], Rule())
    with pytest.raises(Unprocessable, match="no configuration"):
        choose([], Rule())
    with pytest.raises(Unprocessable, match="same conversations"):
        choose([candidate("a", 0, 1.0), replace(candidate("b", 1, 1.0), losses={0: (1.0,)})], Rule())


shares = st.integers(0, 40).flatmap(lambda of: st.integers(0, of).map(lambda kept: Share(kept, of)))
amounts = st.sampled_from([1.0, 2.0, 3.0])
losses = st.floats(0.5, 3.0).map(lambda value: round(value, 3))


@st.composite
def fields(draw: st.DrawFn) -> list[Candidate]:
    count = draw(st.integers(1, 6))
    return [
        Candidate(
            value=str(order),
            order=order,
            losses={seed: tuple(draw(losses) for _ in range(ROWS)) for seed in range(draw(st.integers(1, 2)))},
            speech=draw(shares),
            persona=draw(shares),
            memory_mib=draw(amounts),
            seconds=draw(amounts),
        )
        for order in range(count)
    ]


@given(fields(), st.randoms())
def test_the_order_of_the_candidates_plays_no_part(found: list[Candidate], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis names no type
    assert choose(found, Rule()) == choose(shuffled, Rule())


@given(fields())
def test_nobody_who_is_no_worse_in_anything_and_better_in_something_is_passed_over(found: list[Candidate]) -> None:
    best = choose(found, Rule()).best
    assert len(best.losses) == max(len(one.losses) for one in found)
    for other in (one for one in found if len(one.losses) == len(best.losses)):
        ours = (best.loss, -best.speech.value, -best.persona.value, best.memory_mib, best.seconds)
        theirs = (other.loss, -other.speech.value, -other.persona.value, other.memory_mib, other.seconds)
        if all(a <= b for a, b in zip(theirs, ours, strict=True)):
            assert theirs[3:] == ours[3:]
            assert theirs[0] == ours[0]


@given(fields(), amounts, amounts)
def test_a_winner_that_gets_cheaper_stays_the_winner(found: list[Candidate], memory: float, time: float) -> None:
    best = choose(found, Rule()).best
    cheaper = replace(best, memory_mib=best.memory_mib / memory, seconds=best.seconds / time)
    assert choose([cheaper if one is best else one for one in found], Rule()).best == cheaper


@given(fields())
def test_the_winner_passed_the_gates_and_is_within_the_margin(found: list[Candidate]) -> None:
    decision = choose(found, Rule())
    standing = next(one for one in decision.standings if one.candidate == decision.best)
    assert standing.tied
    assert standing.behind <= decision.margin
    assert standing.passed or not any(one.passed for one in decision.standings)
