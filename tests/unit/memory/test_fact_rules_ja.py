"""What the Japanese rules keep of a fan's words, and what they leave."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.contracts import Message
from memory.fact_rules_ja import extract_facts, mood_of, profile_facts
from memory.lexical import terms
from memory.summarise import ExtractiveSummariser, LlmSummariser

_KNOWN = [
    ("好きな食べものはカレーライスです", "の好きな食べものはカレーライス。"),
    ("うどんがいちばん好き", "の好きな食べものはうどん。"),
    ("実はおでんが大好物でして", "の好きな食べものはおでん。"),
    ("私餃子に目がないんだよね", "の好きな食べものは餃子。"),
    ("好物？プリンかな", "の好きな食べものはプリン。"),
    ("ほたるさん、私は肉じゃがが好きです！", "の好きな食べものは肉じゃが。"),
    ("好きな飲み物は紅茶だよ", "の好きな飲みものは紅茶。"),
    ("好きな色は藍色だよ", "の好きな色は藍色。"),
    ("私桜色が好きなんです", "の好きな色は桜色。"),
    ("色なら水色がいちばん好き", "の好きな色は水色。"),
    ("いちばん好きな曲は「夏の終電」です", "のいちばん好きな曲は「夏の終電」。"),
    ("「窓辺のワルツ」って曲が大好きで", "のいちばん好きな曲は「窓辺のワルツ」。"),
    ("好きな曲？「星を拾う」だよ", "のいちばん好きな曲は「星を拾う」。"),
    ("好きな映画は「白い港」です", "の好きな映画は「白い港」。"),
    ("今「夜の郵便局」って本読んでる", "は今「夜の郵便局」という本を読んでいる。"),
    ("好きな花はあじさいです", "の好きな花はあじさい。"),
    ("雨の音が好きです", "は雨の音が好き。"),
    ("趣味は編み物です", "の趣味は編み物。"),
    ("水彩画が趣味なんだ", "の趣味は水彩画。"),
    ("最近ボードゲームにはまってて", "の趣味はボードゲーム。"),
    ("私の趣味？読書だよ", "の趣味は読書。"),
    ("うちの猫、「きなこ」っていうんだ", "は猫を飼っていて、名前は「きなこ」。"),
    ("柴犬飼ってて名前は「むぎ」です", "は柴犬を飼っていて、名前は「むぎ」。"),
    ("うさぎを飼っています", "はうさぎを飼っている。"),
    ("仕事は看護師です", "の仕事は看護師。"),
    ("私デザイナーなんですよ", "の仕事はデザイナー。"),
    ("春から保育士になったよ", "の仕事は保育士。"),
    ("私は大学生です", "は大学生。"),
    ("部活は吹奏楽部です", "は学校で吹奏楽部に入っている。"),
    ("横浜に住んでます", "は横浜に住んでいる。"),
    ("仙台に住んで5年なんだ", "は仙台に住んで5年になる。"),
    ("6月12日に英検があるんだ", "は6月12日に英検を受ける。"),
    ("簿記検定が１１月３日でさ、緊張する", "は11月3日に簿記検定を受ける。"),
    ("来週の面接が不安です", "は面接を控えていると言っていた。"),
    ("英検に受かったよ！", "は英検に受かったと言っていた。"),
    ("試験に落ちちゃった", "は試験に落ちたと言っていた。"),
    ("来月函館へ旅行します", "は今度函館へ旅行する。"),
    ("今度京都に行くんだ", "は今度京都へ旅行する。"),
    ("沖縄旅行に行ってきました", "は沖縄へ旅行してきたと言っていた。"),
    ("誕生日は3月14日です", "の誕生日は3月14日。"),
    ("私五月二十日生まれなんだ", "の誕生日は5月20日。"),
    ("誕生日？12月25日だよ〜", "の誕生日は12月25日。"),
    ("実は虫が苦手なんです", "が苦手なものは虫。"),
    ("ピーマンは嫌い", "が苦手なものはピーマン。"),
    ("えびアレルギーがあるんです", "はえびアレルギーがある。"),
    ("最近茶道習いはじめたんだ", "は最近茶道を習いはじめた。"),
    ("ついに自転車買ったよ！", "が最近買ったものは自転車。"),
    ("今日は腰が痛い", "は先日、「腰が痛い」と言っていた。"),
]
_NOT_FACTS = [
    "カレー好き？",
    "カレーは好きですか",
    "ほたるさんはほうじ茶が好きだよね",
    "ほたるさんが好きです",
    "あなたが好き",
    "カレーは好きじゃない",
    "カレーが好きではないです",
    "虫は苦手じゃないよ",
    "妹はカレーが好きです",
    "母の誕生日は5月5日です",
    "妹は大学生で、猫を飼っている",
    "私の名前は田中です",
    "猫を飼いたい",
    "猫は飼ってないです",
    "京都に行きたいな",
    "試験に落ちたらどうしよう",
    "英検に受かりますように",
    "友達が英検に受かった",
    "私の誕生日いつだっけ",
    "私の好きな食べもの覚えてる？",
    "好きな食べものは特にないです",
    "誕生日は13月40日です",
    "来週の試験は中止になった",
    "田中さんが好き",
    "趣味は何ですか",
    "明日病院に行く",
    "医者になりたい",
    "",
]
# What a sentence of the rules adds to the fan's words.
_WORDS_OF_THE_RULES = set("{{user}}さん").union(*(set(fact) - set(said) for said, fact in _KNOWN))
_said = st.lists(
    st.one_of(
        st.sampled_from([text for text, _ in _KNOWN] + _NOT_FACTS),
        st.text(max_size=60),
        st.text("私は好きなカレー猫を飼ってる「」、。？月日1{}が試験 ", max_size=40),
    ),
    max_size=8,
)


@pytest.mark.parametrize(("said", "fact"), _KNOWN)
def test_japanese_fact_is_kept(said, fact):
    assert extract_facts([said]) == ["{{user}}さん" + fact]


@pytest.mark.parametrize("said", _NOT_FACTS)
def test_no_japanese_fact_is_made_up(said):
    assert extract_facts([said]) == []


@settings(max_examples=60, deadline=None)
@given(said=_said)
def test_nothing_is_kept_that_was_not_given(said):
    facts = extract_facts(said)
    assert extract_facts(said + said) == facts, "said twice, kept once"
    given = set(unicodedata.normalize("NFKC", "".join(said))) | set("0123456789")
    assert all(set(fact) <= given | _WORDS_OF_THE_RULES and len(fact) < 80 for fact in facts)
    assert all(re.match(r"\{\{user\}\}さん(は|の|が).+。$", fact) for fact in facts)
    mood_of(said), profile_facts(said)


def test_japanese_birthday_told_last_fills_the_profile():
    said = [Message("user", "誕生日は3月14日です"), Message("user", "間違えた。誕生日は2001年2月3日です")]
    assert ExtractiveSummariser().extract(said).birthday == "2001-02-03"


def test_japanese_session_gets_a_japanese_summary():
    said = [Message("user", "来週の英検が不安です"), Message("assistant", "わたしは雷が苦手です")]
    summary = ExtractiveSummariser().extract(said)
    assert summary.text == "{{user}}さんと英検の話をした。{{user}}さんは不安そうだった。"
    assert summary.facts == ("{{user}}さんは英検を控えていると言っていた。",)


def test_mixed_session_uses_both_rules():
    said = [Message("user", "나 떡볶이 좋아해"), Message("user", "趣味は読書です")]
    assert ExtractiveSummariser().extract(said).facts == (
        "{{user}}은 떡볶이를 좋아한다.",
        "{{user}}さんの趣味は読書。",
    )


@pytest.mark.parametrize(
    ("said", "mood"),
    [("疲れてない", ""), ("不安はないです", ""), ("今日は疲れた", "{{user}}さんは疲れた様子だった。")],
)
def test_denied_mood_is_no_mood(said, mood):
    assert mood_of([said]) == mood


async def test_japanese_model_facts_need_the_fans_words():
    async def complete(messages):
        assert "ファン" in messages[0].content
        return (
            '{"summary": "うどんの話をした。", "facts": ["{{user}}さんはうどんが好き。", "{{user}}さんは登山家。"]}'
        )

    summary = await LlmSummariser(complete).summarise([Message("user", "うどんならまいにちでもいける")])
    assert summary.facts == ("{{user}}さんはうどんが好き。",)


def test_japanese_terms_meet_and_korean_ones_stay():
    assert {"猫", "毛猫"} <= set(terms("三毛猫を飼う"))
    assert "猫" in terms("うちの猫の名前")
    assert {"うど", "どん"} <= set(terms("うどんが好き")) & set(terms("うどんは？"))
    assert terms("떡볶이를 京都에서") == ["떡볶이", "京都"]
