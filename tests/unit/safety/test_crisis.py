"""The classifier for fans in danger: how text is read, and what the shipped model knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigurationError
from safety.crisis import MOST_CHARS, CrisisClassifier, Shape, pieces, plain
from safety.input_filter import InputFilter
from safety.policy import load_policies

SHIPPED = Path(__file__).parents[3] / "models" / "crisis"


@pytest.fixture(scope="module")
def shipped() -> CrisisClassifier:
    return CrisisClassifier.load(SHIPPED)


def test_laughter_tears_and_marks_say_nothing() -> None:
    assert plain("다 정리했어ㅋㅋㅋ!!ㅠㅠ") == "다 정리했어"
    assert plain("もう全部終わったwww") == "もう全部終わった"


@given(st.text(max_size=400))
def test_pieces_are_short_and_hold_every_word(text: str) -> None:
    found = list(pieces(text))
    assert all(len(piece) <= MOST_CHARS + 1 for piece in found)
    assert bool(found) == bool(plain(text))


@given(st.text(max_size=200))
def test_a_probability(text: str) -> None:
    model = CrisisClassifier(np.ones(Shape().features, np.float32), 0.0, {})
    assert all(0 <= value <= 1 for value in model.probabilities(list(pieces(text)) or [""]))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    shape = Shape(features=64, shortest=1, longest=2)
    weights = np.linspace(-1, 1, 64).astype(np.float32)
    model = CrisisClassifier(weights, -0.25, {"ko": 0.7}, shape)
    model.save(tmp_path / "crisis", shape)
    again = CrisisClassifier.load(tmp_path / "crisis")
    assert again.thresholds == {"ko": 0.7}
    assert again.probabilities(["다 정리했어"]) == pytest.approx(model.probabilities(["다 정리했어"]), abs=1e-3)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"train_jobs\.crisis"):
        CrisisClassifier.load(tmp_path)


def test_one_sentence_of_a_long_message_is_enough(shipped: CrisisClassifier) -> None:
    talk = "오늘 회사에서 점심으로 김치찌개를 먹었는데 진짜 맛있었어. 동료들이랑 커피도 마시고 산책도 했거든. " * 3
    assert shipped.classify(talk, "haneul").allowed
    assert not shipped.classify(f"{talk}나 이제 그만 끝내고 싶어. 다들 나 없어야 편할 거야.", "haneul").allowed


@pytest.mark.parametrize(
    "text",
    [
        "요즘은 그냥 잠들어서 안 깼으면 싶어",
        "내가 없어져도 아무도 모를 거야",
        "もう頑張れない。朝が来なければいいのに",
        "i gave away all my stuff, nobody will need to worry about me after tonight",
    ],
)
def test_hints_that_no_rule_knows(shipped: CrisisClassifier, text: str) -> None:
    assert InputFilter(load_policies(), None, shipped).check(text, "haneul").category == "self_harm"


@pytest.mark.parametrize(
    "text",
    [
        "배고파 죽겠다ㅋㅋ",
        "오늘 무대 보고 심장 멎는 줄",
        "이사 가려고 짐 다 정리했어",
        "시험 망했어ㅠㅠ 위로해줘",
        "死ぬほど眠いです",
        "今日で卒業です、今までありがとうございました",
        "아침에 일어나기 너무 싫다",
        "that song killed me lol",
    ],
)
def test_ordinary_talk_passes(shipped: CrisisClassifier, text: str) -> None:
    assert shipped.classify(text, "haneul").allowed
