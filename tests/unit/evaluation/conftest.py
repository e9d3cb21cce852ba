"""Characters, scorers and replies for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.settings import get_settings
from evaluation.characters import Character, load_character
from evaluation.items import Item
from evaluation.replies import Played, Reply
from evaluation.scores import Scorer
from evaluation.suite import make_scorer
from personas.loader import PersonaLibrary
from safety.speech_level import SpeechClassifier, shared


@pytest.fixture(scope="session")
def library() -> PersonaLibrary:
    settings = get_settings()
    return PersonaLibrary(settings.resolved(settings.cards_dir))


@pytest.fixture(scope="session")
def haneul(library: PersonaLibrary) -> Character:
    return load_character("haneul", library)


@pytest.fixture(scope="session")
def kelron(library: PersonaLibrary) -> Character:
    return load_character("kelron", library)


@pytest.fixture(scope="session")
def scorer(haneul: Character) -> Scorer:
    return make_scorer(haneul)


@pytest.fixture(scope="session")
def classifier() -> SpeechClassifier:
    return shared()


@pytest.fixture(scope="session")
def played() -> Callable[..., Played]:
    """``played(item, *texts)``: the item with these replies, one after the other."""

    def make(item: Item, *texts: str | Reply) -> Played:
        replies = [text if isinstance(text, Reply) else Reply(text=text, total_ms=1) for text in texts]
        sessions, rest = [], iter(replies)
        for lines in item.script().sessions:
            sessions.append(tuple(next(rest) for _ in lines))
        asked = item.script().sessions
        return Played(item_id=item.id, fan_name="서윤", asked=asked, replies=tuple(sessions))

    return make
