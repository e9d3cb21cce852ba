import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adapters.rollout import AdapterState, RolloutTable, fan_bucket
from core.errors import Conflict, NotFound, RequestError

VERSIONS = ["v1", "v2", "v3"]


def live_v1() -> RolloutTable:
    return RolloutTable().add("haneul", "v1").promote("haneul", "v1")


def test_a_canary_answers_its_share_of_fans_and_each_fan_stays_on_one_side():
    table = live_v1().add("haneul", "v2").canary("haneul", "v2", 20)
    fans = [f"fan-{i}" for i in range(2000)]
    first = [table.resolve("haneul", fan) for fan in fans]
    assert first == [table.resolve("haneul", fan) for fan in fans]
    assert 0.16 < first.count("v2") / len(fans) < 0.24
    wider = table.canary("haneul", "v2", 50)
    assert all(wider.resolve("haneul", f) == "v2" for f, v in zip(fans, first, strict=True) if v == "v2")


def test_promotion_and_rollback_go_back_to_what_was_live_before():
    table = live_v1().add("haneul", "v2").promote("haneul", "v2")
    assert table.resolve("haneul", "anyone") == "v2"
    back = table.rollback("haneul")
    assert back.resolve("haneul", "anyone") == "v1"
    with pytest.raises(Conflict, match="no earlier"):
        back.rollback("haneul")


def test_what_makes_no_sense_is_refused():
    table = live_v1()
    with pytest.raises(NotFound):
        table.promote("haneul", "v9")
    with pytest.raises(Conflict, match="live"):
        table.retire("haneul", "v1")
    with pytest.raises(Conflict, match="1 to 99"):
        table.add("haneul", "v2").canary("haneul", "v2", 100)


def test_a_character_without_a_live_adapter_falls_to_the_base_model():
    assert RolloutTable().add("haneul", "v1").resolve("haneul", "fan") is None


@given(st.text(), st.text())
def test_buckets_are_percentages(persona, fan):
    assert 0 <= fan_bucket(persona, fan) < 100


class Moves(RuleBasedStateMachine):
    """Whatever is done in whatever order, there is at most one live version and one canary."""

    def __init__(self) -> None:
        super().__init__()
        self.table = RolloutTable()

    @rule(version=st.sampled_from(VERSIONS))
    def add(self, version):
        self.table = self.table.add("haneul", version)

    @rule(move=st.sampled_from(["promote", "retire"]), version=st.sampled_from(VERSIONS))
    def move(self, move, version):
        self._try(lambda: getattr(self.table, move)("haneul", version))

    @rule(version=st.sampled_from(VERSIONS), share=st.integers(-1, 101))
    def canary(self, version, share):
        self._try(lambda: self.table.canary("haneul", version, share))

    @rule()
    def rollback(self):
        self._try(lambda: self.table.rollback("haneul"))

    def _try(self, move):
        try:
            self.table = move()
        except RequestError:
            return

    @invariant()
    def one_live_one_canary(self):
        states = [v.state for v in self.table.versions("haneul")]
        assert states.count(AdapterState.LIVE) <= 1
        assert states.count(AdapterState.CANARY) <= 1

    @invariant()
    def once_live_always_answered(self):
        if any(v.previous_live or v.state is AdapterState.LIVE for v in self.table.versions("haneul")):
            assert self.table.resolve("haneul", "fan") is not None


TestMoves = Moves.TestCase
