from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from documents.chunking import ChunkConfig, chunk, split
from documents.models import Document

TEXTS = st.lists(
    st.sampled_from(
        [
            "# 제목\n",
            "## 둘째\n\n",
            "문장이다. ",
            "짧다! ",
            "\n\n",
            "\n",
            "한강을걷는밤",
            "。",
            "word ",
            "   ",
            "가" * 40,
        ]
    ),
    max_size=40,
).map("".join)
CONFIGS = st.integers(2, 80).flatmap(
    lambda size: st.builds(ChunkConfig, size=st.just(size), overlap=st.integers(0, size // 2))
)


@settings(deadline=None, max_examples=150)
@given(TEXTS | st.text(max_size=200), CONFIGS)
def test_nothing_is_lost_and_nothing_is_too_long(text: str, config: ChunkConfig) -> None:
    pieces = split(text, config)

    assert "".join(text[p.start : p.end] for p in pieces) == text
    assert all(p.end - p.lead <= config.size for p in pieces)
    assert all(p.start - p.lead <= config.overlap for p in pieces)


@settings(deadline=None, max_examples=60)
@given(TEXTS)
def test_any_measure_of_length_is_kept(text: str) -> None:
    config = ChunkConfig(size=64, overlap=16)

    pieces = split(text, config, length=lambda part: len(part.encode("utf-8")))

    assert "".join(text[p.start : p.end] for p in pieces) == text
    assert all(len(text[p.lead : p.end].encode("utf-8")) <= 64 for p in pieces)


def test_a_section_starts_a_chunk_and_a_bare_heading_stays_with_what_follows() -> None:
    text = "# 별빛\n\n## 하늘\n\n메인보컬이다.\n\n## 루나\n\n리더다.\n"

    chunks = chunk(Document.of(text, "별빛", "profile", "profile.md"))

    assert [c.text for c in chunks] == ["# 별빛\n\n## 하늘\n\n메인보컬이다.", "## 루나\n\n리더다."]
    assert [c.position for c in chunks] == [0, 1]
    assert {(c.title, c.category, c.source) for c in chunks} == {("별빛", "profile", "profile.md")}


def test_a_long_section_is_cut_at_sentences_and_repeats_the_last_words() -> None:
    text = " ".join(f"이것은 {n}번째 문장이다." for n in range(20))

    pieces = split(text, ChunkConfig(size=60, overlap=16))

    assert len(pieces) > 3
    assert all(text[p.start : p.end].rstrip().endswith("문장이다.") for p in pieces)
    assert all(0 < p.start - p.lead <= 16 for p in pieces[1:])
    assert all(text[p.lead - 1].isspace() for p in pieces[1:])


def test_ids_depend_on_content_alone() -> None:
    first, again = (chunk(Document.of("가나다. " * 200, "t", "c", "s.md")) for _ in range(2))
    other = chunk(Document.of("가나라. " * 200, "t", "c", "s.md"))

    assert [c.id for c in first] == [c.id for c in again]
    assert len({c.id for c in first}) == len(first)
    assert not {c.id for c in first} & {c.id for c in other}


def test_an_overlap_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ValidationError, match="half of size"):
        ChunkConfig(size=10, overlap=6)
