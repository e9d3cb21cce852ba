"""Knowledge sets are made from facts and documents, and those that ship are what would be made now."""

from __future__ import annotations

import pytest

from core.errors import ConfigurationError
from evaluation.facts import Fact, load_facts
from evaluation.items import SetKind, set_path
from evaluation.knowledge import documents_of
from evaluation.questions import as_jsonl, characters, generate, gold_passage, questions

TEXT = """# 앨범

「첫 별」은 데뷔 앨범이다. 2023년 3월 2일에 발매되었다. 온도는 36.5도다.
팬미팅은 3월 2일이 아니라 4월에 열렸다. 二枚目だ。四月に出た。
"""
FACT = Fact(
    doc="album",
    fact="첫 별은 2023년 3월 2일에 발매되었다.",
    gold=("3월 2일",),
    keyword=("첫 별 발매일?", "데뷔 앨범 언제"),
    abstract=("When was it out?",),
)


@pytest.mark.parametrize("character", characters())
def test_the_shipped_set_is_what_would_be_made_now(character: str) -> None:
    made = as_jsonl(generate(character))
    assert set_path(character, SetKind.KNOWLEDGE).read_text(encoding="utf-8") == made, (
        "run python -m evaluation.questions"
    )


def test_every_question_is_an_item_with_its_passage() -> None:
    items = questions("x", [FACT, Fact(doc=None, unanswerable=("키는?", "몸무게는?"))], {"album": TEXT}, "ko")
    assert [(item.id, item.kind, item.language) for item in items] == [
        ("x-knowledge-album-01-k1", "keyword", "ko"),
        ("x-knowledge-album-01-k2", "keyword", "ko"),
        ("x-knowledge-album-01-a1", "abstract", "en"),
        ("x-knowledge-none-001", "unanswerable", "ko"),
        ("x-knowledge-none-002", "unanswerable", "ko"),
    ]
    assert items[0].passage == "2023년 3월 2일에 발매되었다."
    assert [item.answerable for item in items] == [True, True, True, False, False]


def test_the_passage_is_the_sentence_nearest_to_the_fact() -> None:
    other = FACT.model_copy(update={"fact": "팬미팅은 3월 2일이 아니라 4월이었다."})
    assert gold_passage(other, {"album": TEXT}) == "팬미팅은 3월 2일이 아니라 4월에 열렸다."


@pytest.mark.parametrize(
    ("change", "named"), [({"gold": ("5월 1일",)}, "5월 1일.*album"), ({"doc": "gone"}, "no document 'gone'")]
)
def test_an_entry_that_the_documents_do_not_bear_out_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        questions("x", [FACT.model_copy(update=change)], {"album": TEXT}, "ko")


@pytest.mark.parametrize(
    "text",
    [
        "- doc: a\n  fact: b\n  gold: [c]\n",
        "- doc: null\n  keyword: [a]\n",
        "- doc: a\n  fact: b\n  gold: [c]\n  keyword: [d]\n  unanswerable: [e]\n",
        "- doc: a\n  fact: b\n  gold: [c]\n  keyword: [d]\n  ask: [e]\n",
        "doc: a",
        "- {",
    ],
)
def test_a_facts_file_that_is_wrong_is_refused_by_name(tmp_path, text: str) -> None:
    path = tmp_path / "facts.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"facts\.yaml"):
        load_facts(path)


def test_documents_go_by_their_file_names_also_where_one_name_begins_another(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "x" / "knowledge"
    folder.mkdir(parents=True)
    for name in ("shop", "shop-services"):
        (folder / f"{name}.md").write_text(f"---\ntitle: {name}\n---\n본문 {name}\n", encoding="utf-8")
    monkeypatch.setattr("evaluation.knowledge.cards_dir", lambda: tmp_path)
    assert {name: document.title for name, document in documents_of("x").items()} == {
        "shop": "shop",
        "shop-services": "shop-services",
    }
    assert documents_of("nobody") == {}
