"""Rows: their ids, their canonical form, the hash of a whole version."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_pipelines.rows import Row, Turn, canonical, content_hash, make_row, parse

TEXT = st.text(min_size=1, max_size=40)


def row(user: str = "안녕", reply: str = "어서 와", **values: object) -> Row:
    fields: dict[str, object] = {
        "character_id": "haneul",
        "dataset_source": "seeds",
        "kind": "persona",
        "category": "greeting",
        "messages": ({"role": "user", "content": user}, {"role": "assistant", "content": reply}),
    }
    return make_row(**{**fields, **values})


@given(user=TEXT, reply=TEXT)
def test_a_row_survives_its_canonical_line(user: str, reply: str) -> None:
    one = row(user, reply)
    assert parse(canonical(one)) == one


def test_the_id_follows_from_content_and_source() -> None:
    assert row().id == row().id
    assert row().id != row(reply="또 왔네").id
    assert row().id != row(dataset_source="grammar").id


def test_a_row_that_was_changed_by_hand_is_refused() -> None:
    line = canonical(row()).replace("어서 와", "저리 가")
    with pytest.raises(ValidationError, match="id does not follow"):
        parse(line)


def test_other_words_give_another_id_and_keep_the_rest() -> None:
    one = row(consent_id="c-1")
    other = one.with_messages(
        [Turn(role="user", content="응"), Turn(role="assistant", content="그래")], ["masked:id"]
    )
    assert other.id != one.id
    assert (other.consent_id, other.safety_flags) == ("c-1", ("masked:id",))


def test_unknown_fields_and_roles_are_refused() -> None:
    with pytest.raises(ValidationError):
        row(mood="happy")
    with pytest.raises(ValidationError):
        row(messages=({"role": "narrator", "content": "밤"},))


def test_the_content_hash_knows_rows_and_sides_but_no_order() -> None:
    one, two, three = row("하나"), row("둘"), row("셋")
    whole = content_hash({"train": [one, two], "validation": [three]})
    assert whole == content_hash({"validation": [three], "train": [two, one]})
    assert whole != content_hash({"train": [one], "validation": [two, three]})
    assert whole != content_hash({"train": [one, two], "validation": []})
