import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas.macros import StreamFiller, ends_in_consonant, fill, mask

WRITTEN = [
    ("{{user}}아, 왔어?", "서윤아, 왔어?", "민호야, 왔어?"),
    ("{{user}}이가 말했잖아", "서윤이가 말했잖아", "민호가 말했잖아"),
    ("{{user}}이는 어때?", "서윤이는 어때?", "민호는 어때?"),
    ("{{user}}이를 봤어", "서윤이를 봤어", "민호를 봤어"),
    ("{{user}}이랑 나랑", "서윤이랑 나랑", "민호랑 나랑"),
    ("{{user}}이도 와", "서윤이도 와", "민호도 와"),
    ("{{user}}이야?", "서윤이야?", "민호야?"),
    ("{{user}}은 좋다", "서윤은 좋다", "민호는 좋다"),
    ("{{user}}을 위해", "서윤을 위해", "민호를 위해"),
    ("{{user}}과 함께", "서윤과 함께", "민호와 함께"),
    ("{{user}}님, 안녕하십니까", "서윤님, 안녕하십니까", "민호님, 안녕하십니까"),
    ("{{user}}様", "서윤様", "민호様"),
    ("{{user}}아침 먹었어?", "서윤아침 먹었어?", "민호아침 먹었어?"),
    ("안녕 {{user}}", "안녕 서윤", "안녕 민호"),
]


@pytest.mark.parametrize(("written", "consonant", "vowel"), WRITTEN)
def test_particles_follow_the_name(written, consonant, vowel):
    assert fill(written, "서윤") == consonant
    assert fill(written, "민호") == vowel


def test_other_scripts_take_the_vowel_form():
    assert fill("{{user}}이가", "Emma") == "Emma가"
    assert not ends_in_consonant("")


@pytest.mark.parametrize("name", ["서윤", "민호", "Emma"])
@pytest.mark.parametrize("written", [w for w, _, _ in WRITTEN if "아침" not in w])
def test_masking_takes_out_what_filling_put_in(name, written):
    masked = mask(fill(written, name), name)
    assert name not in masked
    assert fill(masked, name) == fill(written, name)


def test_masking_leaves_other_words_alone():
    assert mask("하늘이 맑아", "민호") == "하늘이 맑아"
    assert mask("나 민호야", "민호") in ("나 {{user}}이야", "나 {{user}}아")
    assert mask("윤이 좋다", "윤") == "윤이 좋다"
    assert mask("어제 서민호텔에 갔어", "민호") == "어제 서민호텔에 갔어"
    assert mask("아무 말", None) == "아무 말"


pieces = st.lists(
    st.sampled_from(
        ["{{user}}", "{{", "}}", "{{us", "er}}", "아", "이", "가", "이가", "이름", " ", "안녕", "야", "랑"]
    ),
    max_size=12,
)


@given(
    parts=pieces, cuts=st.lists(st.integers(1, 4), min_size=1, max_size=60), name=st.sampled_from(["서윤", "민호"])
)
def test_a_stream_is_filled_like_the_whole_however_it_is_cut(parts, cuts, name):
    text = "".join(parts)
    filler, out, at, i = StreamFiller(name), "", 0, 0
    while at < len(text):
        step = cuts[i % len(cuts)]
        out += filler.feed(text[at : at + step])
        at, i = at + step, i + 1
    assert out + filler.finish() == fill(text, name)


@given(text=st.text(alphabet="가나다라 .!?", max_size=40))
def test_text_without_a_macro_is_never_held_back(text):
    assert StreamFiller("서윤").feed(text) == text
