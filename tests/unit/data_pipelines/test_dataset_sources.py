"""Sources: a character's folder, files, chat logs under consent, earlier versions."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT
from data_pipelines.config import ChatLogSource, FileSource
from data_pipelines.rows import READS_CONTEXT, kind_of, make_row
from data_pipelines.sources.chat_logs import chat_logs, read_consents
from data_pipelines.sources.files import NO_CONSENT, from_parent, read_file
from data_pipelines.sources.grammar import composed
from data_pipelines.sources.written import facts, seeds
from personas.loader import Persona, load_card

TALK = [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": "어서 와"}]


def write(path: Path, *objects: object) -> Path:
    path.write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in objects), encoding="utf-8")
    return path


@pytest.fixture
def persona(tmp_path: Path) -> Persona:
    card = load_card(PROJECT_ROOT / "personas" / "cards" / "haneul" / "card.yaml")
    return Persona(card, tmp_path)


def test_seeds_become_rows_of_the_kind_of_their_category(persona: Persona, tmp_path: Path) -> None:
    write(tmp_path / "seeds.jsonl", {"id": "1", "category": "refusal", "messages": TALK})
    found = seeds(persona, "Apache-2.0")
    assert [(row.kind, row.category, row.dataset_source) for row in found.rows] == [("safety", "refusal", "seeds")]
    assert list(found.files) == ["seeds.jsonl"]
    assert kind_of("everyday") == "persona"
    assert kind_of("identity") == "identity"


def test_a_seed_with_context_shows_it_where_serving_does(persona: Persona, tmp_path: Path) -> None:
    turns = [*TALK, {"role": "user", "content": "내 최애곡?"}, {"role": "assistant", "content": "'우표'잖아"}]
    seed = {"category": "memory", "context": ["{{user}}의 최애 곡은 '우표'이다."], "messages": turns}
    write(tmp_path / "seeds.jsonl", seed)
    row = seeds(persona, "x").rows[0]
    assert [turn.role for turn in row.messages] == ["user", "assistant", "system", "user", "assistant"]
    assert "{{user}}의 최애 곡은 '우표'이다." in row.messages[2].content
    assert row.style_tags == (READS_CONTEXT,)


def test_every_way_to_ask_meets_every_way_to_say(persona: Persona, tmp_path: Path) -> None:
    (tmp_path / "facts.yaml").write_text(
        "- {doc: group, fact: f, gold: [은하수], ask: [회사 어디야, 소속사는], say: [은하수야, 은하수지, 은하수]}\n",
        encoding="utf-8",
    )
    found = facts(persona, "x")
    assert len({row.id for row in found.rows}) == 6
    assert {row.kind for row in found.rows} == {"worldview"}


def test_a_wrong_facts_file_is_named_with_the_field(persona: Persona, tmp_path: Path) -> None:
    entry = "- {doc: group, fact: f, gold: [은하수], ask: [], say: [은하수]}\n"
    (tmp_path / "facts.yaml").write_text(entry, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"facts\.yaml: 0\.ask"):
        facts(persona, "x")


def test_a_character_without_seeds_is_no_error(persona: Persona) -> None:
    assert seeds(persona, "x").rows == []


def test_files_lose_their_system_prompt_and_other_characters_lines(tmp_path: Path) -> None:
    prompt = {"role": "system", "content": "너는 하늘이야"}
    path = write(
        tmp_path / "more.jsonl",
        {"messages": [prompt, *TALK], "kind": "safety", "category": "refusal"},
        {"messages": TALK, "character_id": "mir"},
        {"messages": TALK, "consent_id": "c-1"},
    )
    found = read_file(FileSource(path=path, licence="CC0"), path, "haneul", lambda consent: False)
    assert [(row.kind, row.dataset_source, len(row.messages)) for row in found.rows] == [("safety", "more.jsonl", 2)]
    assert found.skipped == {"another character's": 1, NO_CONSENT: 1}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ("{}", 'no "messages"'),
        ('{"messages": [{"role": "user"}]}', "no {role, content}"),
        ('{"messages": [{"role": "boss", "content": "x"}]}', "no {role, content}"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"messages": TALK}) + "\n" + line, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"bad\.jsonl:2") as caught:
        read_file(FileSource(path=path, licence="CC0"), path, "haneul", lambda consent: True)
    assert says in str(caught.value)


NOW = datetime.now(UTC)


def consent(consent_id: str, **values: object) -> dict[str, object]:
    granted = (NOW - timedelta(days=9)).isoformat()
    basics = {"consent_id": consent_id, "fan_id": f"fan-{consent_id}", "scope": "training", "granted_at": granted}
    return {**basics, "fan_name": "서윤", **values}


def log(consent_id: str | None, **values: object) -> dict[str, object]:
    said = (NOW - timedelta(days=1)).isoformat()
    basics: dict[str, object] = {"character_id": "haneul", "dataset_source": "chat", "timestamp": said}
    return {**basics, "messages": TALK, **({"consent_id": consent_id} if consent_id else {}), **values}


def read_logs(tmp_path: Path, consents: list[object], rows: list[object]) -> tuple[list[str | None], dict[str, int]]:
    consents_path, rows_path = write(tmp_path / "c.jsonl", *consents), write(tmp_path / "r.jsonl", *rows)
    source = ChatLogSource(rows=rows_path, consents=consents_path)
    found = chat_logs(source, rows_path, consents_path, "haneul")
    return [row.consent_id for row in found.rows], found.skipped


def test_only_rows_under_a_live_consent_are_read(tmp_path: Path) -> None:
    yesterday = (NOW - timedelta(days=1)).isoformat()
    consents = [
        consent("live"),
        consent("gone", withdrawn_at=yesterday),
        consent("other", scope="analytics"),
        consent("future", granted_at=(NOW + timedelta(days=1)).isoformat()),
    ]
    rows = [log("live"), log("gone"), log("other"), log("future"), log("nobody"), log(None)]
    kept, skipped = read_logs(tmp_path, consents, rows)
    assert kept == ["live"]
    assert skipped == {"no live consent": 5}


def test_a_row_without_consent_is_not_even_looked_into(tmp_path: Path) -> None:
    kept, skipped = read_logs(tmp_path, [consent("live")], [log(None, messages="not a conversation", timestamp="?")])
    assert (kept, skipped) == ([], {"no live consent": 1})


def test_what_was_said_before_the_consent_or_by_another_fan_stays_out(tmp_path: Path) -> None:
    early = log("live", timestamp=(NOW - timedelta(days=30)).isoformat())
    kept, skipped = read_logs(tmp_path, [consent("live")], [early, log("live", fan_id="fan-x")])
    assert kept == []
    assert skipped == {"said before the consent was given": 1, "the consent is another fan's": 1}


def test_a_withdrawal_holds_against_a_later_line_of_the_same_consent(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", consent("c", withdrawn_at=NOW.isoformat()), consent("c"))
    assert read_consents(path).live("c", "training") is None


def test_names_and_ids_of_fans_are_masked(tmp_path: Path) -> None:
    said = [
        {"role": "user", "content": "나 서윤이야, 아이디는 fan-live"},
        {"role": "assistant", "content": "서윤아 안녕! 서윤이가 왔구나"},
    ]
    consents_path = write(tmp_path / "c.jsonl", consent("live"))
    rows_path = write(tmp_path / "r.jsonl", log("live", messages=said))
    row = chat_logs(ChatLogSource(rows=rows_path, consents=consents_path), rows_path, consents_path, "haneul").rows[0]
    text = " ".join(turn.content for turn in row.messages)
    assert "서윤" not in text
    assert "fan-live" not in text
    assert "{{user}}아 안녕! {{user}}이가 왔구나" in text


def test_a_parents_rows_come_over_without_withdrawn_ones() -> None:
    basics = {"character_id": "haneul", "dataset_source": "chat_logs", "kind": "persona", "category": "chat"}
    rows = [make_row(**basics, messages=tuple(TALK), consent_id=one) for one in (None, "live", "gone")]
    found = from_parent("haneul@v1", "x", rows, lambda consent_id: consent_id == "live")
    assert [row.consent_id for row in found.rows] == [None, "live"]
    assert found.skipped == {NO_CONSENT: 1}


def test_composed_rows_are_distinct_and_a_missing_kind_is_none() -> None:
    def compose(character: str, kind: str, count: int, seed: int) -> list[dict[str, object]]:
        if kind != "persona":
            raise ConfigurationError("nothing of that kind")
        return [{"category": "talk", "messages": TALK, "style_tags": ["multi_turn"]}] * count

    rows = composed(compose, "haneul", "persona", 3, 0)
    assert [(row.dataset_source, row.style_tags) for row in rows] == [("grammar", ("multi_turn",))]
    assert composed(compose, "haneul", "identity", 3, 0) == []
