from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safety.normalise import is_boundary, normalise

TRICKY = st.text(alphabet="시발씨아녕가ㅅㅂㅣㅏㄹㅋㅎㅡ1.!~ \n\u200bａＢabc3$é\u0301かｶﾞﾟ。A5@가각", max_size=30)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("시1발", "시발"),
        ("씨.발", "씨발"),
        ("시ㅡ발", "시발"),
        ("시~!발", "시발"),
        ("ㅅㅣㅂㅏㄹ", "시발"),
        ("시\u200b발", "시발"),
        ("ㅅㅂ", "ㅅㅂ"),
        ("ㅋㅋㅋㅋㅋㅋ", "ㅋㅋ"),
        ("아ㅋㅋ", "아ㅋㅋ"),
        ("ＦｕＣＫ", "fuck"),
        ("sh1t", "shit"),
        ("іgnore", "ignore"),
        ("a   b\n\nc", "a b c"),
        ("\u1109\u1175발", "시발"),
        ("ｶﾞｷ", "ガキ"),
        ("안녕. 하늘아", "안녕. 하늘아"),
        ("{{user}}아", "{{user}}아"),
        ("mp3 10시", "mp3 10시"),
    ],
)
def test_disguises_come_off_and_plain_text_stays(written: str, canonical: str) -> None:
    assert normalise(written).text == canonical


def test_positions_lead_back_to_the_original() -> None:
    view = normalise("아 시1발점")

    assert view.text == "아 시발점"
    assert [view.original(i) for i in range(6)] == [0, 1, 2, 4, 5, 6]


@given(TRICKY | st.text(max_size=30))
def test_positions_rise_and_stay_inside(text: str) -> None:
    view = normalise(text)

    assert list(view.starts) == sorted(view.starts)
    assert len(view.starts) == len(view.text)
    assert all(0 <= start < len(text) for start in view.starts)


@given(TRICKY | st.text(max_size=30))
def test_a_cut_at_a_boundary_does_not_change_what_stands_before(text: str) -> None:
    whole = normalise(text).text

    for position in range(1, len(text)):
        if is_boundary(text, position):
            assert whole.startswith(normalise(text[:position]).text)
