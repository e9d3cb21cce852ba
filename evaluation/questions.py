"""``python -m evaluation.questions``: knowledge sets from the facts files and the documents they speak of.

The files that it writes are part of the repository; a test writes them again and compares.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from core.errors import ArtistMindError, ConfigurationError
from documents.models import language_of
from evaluation.facts import FACTS_DIR, Fact, load_facts
from evaluation.items import KnowledgeItem, Language, QuestionKind, SetKind, set_path
from evaluation.knowledge import cards_dir, documents_of
from evaluation.matching import holds, squeezed

_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")
_KINDS: dict[QuestionKind, str] = {"keyword": "k", "context": "c", "abstract": "a"}


def questions(
    character: str, facts: Sequence[Fact], texts: dict[str, str], language: Language
) -> list[KnowledgeItem]:
    """Every question of a facts file as an item.

    Args:
        character: Begins the ids.
        facts: The entries, in the order of the file.
        texts: Documents by name.
        language: Of questions whose script does not tell.

    Raises:
        ConfigurationError: A gold answer does not stand in its document.
    """
    items: list[KnowledgeItem] = []
    numbers: Counter[str] = Counter()
    for fact in facts:
        stem = f"{character}-knowledge-{fact.doc or 'none'}"
        if fact.doc is None:
            for question in fact.unanswerable:
                numbers[stem] += 1
                items.append(_unanswerable(f"{stem}-{numbers[stem]:03}", question, language))
            continue
        numbers[stem] += 1
        items.extend(_answerable(f"{stem}-{numbers[stem]:02}", fact, gold_passage(fact, texts), language))
    return items


def gold_passage(fact: Fact, texts: dict[str, str]) -> str:
    """The sentence of the document that holds a gold answer; of several, the one nearest to the stated fact."""
    if fact.doc not in texts:
        raise ConfigurationError(f"{fact.fact!r}: there is no document {fact.doc!r}")
    sentences = [one.strip() for one in _SENTENCE_END.split(texts[fact.doc]) if one and one.strip()]
    holding = [one for one in sentences if any(holds(one, gold) for gold in fact.gold)]
    if not holding:
        raise ConfigurationError(f"{fact.fact!r}: none of {list(fact.gold)} stands in {fact.doc}.md")
    return max(holding, key=lambda one: _likeness(one, fact.fact or ""))


def _likeness(one: str, other: str) -> float:
    """Share of common character pairs (Jaccard)."""
    pairs = [{text[i : i + 2] for i in range(len(text) - 1)} for text in (squeezed(one), squeezed(other))]
    return len(pairs[0] & pairs[1]) / max(1, len(pairs[0] | pairs[1]))


def _answerable(stem: str, fact: Fact, passage: str, language: Language) -> Iterator[KnowledgeItem]:
    for kind, letter in _KINDS.items():
        for number, question in enumerate(getattr(fact, kind), 1):
            yield KnowledgeItem(
                id=f"{stem}-{letter}{number}",
                kind=kind,
                question=question,
                answerable=True,
                gold=fact.gold,
                doc=fact.doc,
                passage=passage,
                language=_language(question, language),
            )


def _unanswerable(item_id: str, question: str, language: Language) -> KnowledgeItem:
    return KnowledgeItem(
        id=item_id,
        kind="unanswerable",
        question=question,
        answerable=False,
        language=_language(question, language),
    )


def _language(question: str, default: Language) -> Language:
    found = language_of(question)
    return default if found == "und" else found


def generate(character: str) -> list[KnowledgeItem]:
    """A character's knowledge set, from the files of the repository."""
    from personas.loader import load_card

    path = FACTS_DIR / f"{character}.yaml"
    language = load_card(cards_dir() / character / "card.yaml").language
    if language not in get_args(Language):
        raise ConfigurationError(f"{character}: language {language!r} is none of {get_args(Language)}")
    try:
        texts = {name: document.text for name, document in documents_of(character).items()}
        return questions(character, load_facts(path), texts, language)  # type: ignore[arg-type]  # checked above
    except ConfigurationError as error:
        if error.message.startswith(str(path)):
            raise
        raise ConfigurationError(f"{path}: {error.message}") from error


def as_jsonl(items: Sequence[KnowledgeItem]) -> str:
    """The text of a set's file."""
    return "".join(item.model_dump_json() + "\n" for item in items)


def characters() -> list[str]:
    """Those who have a facts file."""
    return sorted(path.stem for path in FACTS_DIR.glob("*.yaml"))


def main(names: Sequence[str]) -> int:
    """Write the sets of these characters (of all without a name); what fails is named and the rest is written."""
    failed = 0
    for name in names or characters():
        try:
            items = generate(name)
        except ArtistMindError as error:
            print(error, file=sys.stderr)
            failed += 1
            continue
        path = set_path(name, SetKind.KNOWLEDGE)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_jsonl(items), encoding="utf-8")
        print(f"{path.name}: {name}, {len(items)} questions")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
