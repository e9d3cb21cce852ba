"""Conversations that quote: the reply holds every line that serving would show, word for word."""

from __future__ import annotations

import random

import pytest

from data_pipelines.grammar.asking_back import asked_back
from data_pipelines.grammar.composer import Composer
from data_pipelines.grammar.quoting import Quoting, quote
from data_pipelines.grammar.reading import SENTENCES, quoted_reading
from data_pipelines.grammar.voices import Voice, character_voice
from memory.recall import asks_back, recalled

CHARACTERS = ("haneul", "mir", "kelron", "hotaru")


@pytest.fixture(scope="module", params=CHARACTERS)
def voice(request: pytest.FixtureRequest) -> Voice:
    return character_voice(request.param)


def test_what_is_recalled_stands_in_the_reply(voice: Voice) -> None:
    composer = Composer(voice)
    quoted = 0
    for seed in range(60):
        dialogue = asked_back(composer, random.Random(seed))
        lines, reply = dialogue.context.recalled, dialogue.turns[-1]
        assert 1 <= len(lines) <= 2
        assert all(value in reply for value in dialogue.answer_slots)
        quoted += all(line in reply for line in lines)
        assert dialogue.messages()[-3].role == "system", "the lines stand right before the question"
    assert quoted > 25


def test_most_questions_are_ones_that_serving_recognises(voice: Voice) -> None:
    composer = Composer(voice)
    found = [asked_back(composer, random.Random(seed)) for seed in range(120)]
    assert sum(asks_back(one.turns[-2]) for one in found) > 0.8 * len(found)
    hits = [recalled(one.turns[-2], one.context.recalled, 1) for one in found]
    assert sum(bool(hit) for hit in hits) > 0.4 * len(found), "hand-written questions often share no word at all"


def test_an_answer_from_a_document_quotes_the_sentence_that_holds_it(voice: Voice) -> None:
    for seed in range(60):
        found = quoted_reading(voice, made_up=0.5, unanswered=0.0, rng=random.Random(seed))
        ((question, answer),) = found.exchanges
        assert 1 <= len(found.passages) <= SENTENCES
        assert all(line in answer for line in found.passages)
        assert found.gold[0] in answer
        assert question


def test_a_question_without_an_answer_is_not_answered_with_a_quote(voice: Voice) -> None:
    found = quoted_reading(voice, made_up=0.0, unanswered=1.0, rng=random.Random(1))
    assert found.gold == ()
    assert found.exchanges[0][1] in voice.unknown


def test_a_voice_without_ways_to_quote_quotes_nothing() -> None:
    assert Quoting.of((), "ko") == Quoting()
    assert Quoting().answer("언제 나왔어?", ["3월 2일"], random.Random(0)) is None


def test_lines_are_joined_as_the_language_quotes() -> None:
    assert quote('"{said}"래', ["가", "나"], "ko") == '"가", "나"래'
    assert quote("「{said}」です", ["あ", "い"], "ja") == "「あ」「い」です"
