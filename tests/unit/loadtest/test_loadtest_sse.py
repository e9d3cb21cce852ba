import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from loadtest.sse import SseEvent, SseParser


def parse(*pieces: bytes) -> list[SseEvent]:
    parser = SseParser()
    return [event for piece in pieces for event in parser.feed(piece)]


def test_events_carry_name_and_data() -> None:
    raw = b'event: delta\ndata: {"text": "hi"}\n\ndata: [DONE]\n\n'
    assert parse(raw) == [SseEvent('{"text": "hi"}', "delta"), SseEvent("[DONE]")]


def test_comments_and_other_fields_are_skipped_and_data_lines_joined() -> None:
    assert parse(b": ping\nid: 7\nretry: 10\ndata: one\ndata: two\n\n") == [SseEvent("one\ntwo")]


def test_an_event_name_does_not_leak_into_the_next_event() -> None:
    assert parse(b"event: final\n\ndata: x\n\n") == [SseEvent("x")]


def test_an_unfinished_event_is_not_given() -> None:
    assert parse(b"data: half\n") == []


def test_only_one_leading_space_belongs_to_the_protocol() -> None:
    assert parse(b"data:  two\n\ndata:none\n\n") == [SseEvent(" two"), SseEvent("none")]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20)
names = st.sampled_from(["message", "delta", "final", "error"])


@given(
    events=st.lists(st.builds(SseEvent, texts.map(lambda t: json.dumps({"text": t}, ensure_ascii=False)), names)),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    cuts=st.lists(st.integers(0, 400), max_size=30),
)
def test_any_chunking_gives_the_same_events(events: list[SseEvent], newline: str, cuts: list[int]) -> None:
    frames = [f"event: {e.name}{newline}data: {e.data}{newline}{newline}" for e in events]
    # A comment at the end: a lone carriage return is only known to end a line once something follows it.
    raw = ("".join(frames) + ": end").encode()
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[a:b] for a, b in itertools.pairwise(edges)]
    assert parse(*pieces) == events


@given(st.binary(max_size=200))
def test_garbage_never_raises(raw: bytes) -> None:
    assert parse(raw) == parse(*(raw[i : i + 1] for i in range(len(raw))))
