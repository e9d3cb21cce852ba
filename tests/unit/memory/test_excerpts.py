"""The sentences of passages that fit a question."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.contracts import Passage
from memory.excerpts import best_sentences, sentences

ALBUM = Passage("1", "# 첫 별\n「첫 별」은 2023년 3월 2일에 나왔다. 표지는 루나가 그렸다.", "앨범", "album", 0.9)
CAT = Passage("2", "구름은 네 살이다. 구름의 앞발에는 회색 점이 있다.", "구름", "cat", 0.8)


def test_sentences_lose_headings_bullets_and_full_stops() -> None:
    text = "# 제목\n- 첫째다. 둘째다!\n三つ目です。「四つ。」五つ"
    assert sentences(text) == ["제목", "첫째다", "둘째다!", "三つ目です", "「四つ。」五つ"]


def test_the_best_sentences_come_from_all_passages() -> None:
    found = best_sentences("구름이 앞발에 무슨 점 있어?", [ALBUM, CAT], 2)
    assert found[0].text == "구름의 앞발에는 회색 점이 있다"
    assert (found[0].id, found[0].title) == ("2", "구름")
    assert [one.text for one in best_sentences("표지 누가 그렸어", [ALBUM, CAT], 1)] == ["표지는 루나가 그렸다"]


def test_the_rest_of_a_sentence_gives_way_to_the_whole_one() -> None:
    rest = Passage("3", "점이 있다. 구름은 창가에서 잔다.", "구름", "cat", 0.7)
    assert "점이 있다" not in [one.text for one in best_sentences("구름이 점 어디 있어", [rest, CAT], 3)]


def test_without_shared_words_the_first_passage_speaks() -> None:
    assert [one.text for one in best_sentences("???", [ALBUM, CAT], 1)] == ["「첫 별」은 2023년 3월 2일에 나왔다"]
    assert best_sentences("구름", [], 2) == []


@given(st.text(max_size=200))
def test_any_text_splits_into_parts_of_it(text: str) -> None:
    for part in sentences(text):
        assert part in text
        assert part == part.strip()
