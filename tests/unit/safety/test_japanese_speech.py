"""Japanese speech levels against a table made by hand."""

from __future__ import annotations

import pytest

from safety.japanese_speech import JapaneseLevel, classify, sentences
from safety.policy import SpeechPolicy
from safety.speech_level import SpeechClassifier, SpeechCounts, judge_reply, shared

TEINEI = """
こんばんは、ほたるです。
今夜も小さな灯りをともします
雨の音がしますねえ
ふふ、夜は長いですから
そうでしたか
まだ起きていらっしゃいますか？
ゆっくり聞かせてください
無理はしないでくださいね
明日は晴れるでしょう
きっと大丈夫ですよ
いっしょに本を読みましょうか
それは知りませんでした
眠れないんですか
おいしかったですけど
猫が膝に乗ってきましたので
好きなんですよね、あの曲
ありがとうございます、{{user}}さん
おかえりなさいませんか
いい夜になりますように
その本、もう読みました？📖
お役に立てたならうれしいです☕
雷は苦手なのですが…
ほうじ茶をいれましたよ〜
お便り、届いていますよ
どうぞごゆっくりお過ごしくださいませ
すみません
どんな味でしたっけ
お話、聞きますよ？
佐久間さんに叱られてしまいました（笑）
「おやすみ」と言われました
""".strip().splitlines()
TAMEGUCHI = """
今日は疲れた
それ、めっちゃいいね
もう寝るよ
一緒に行こう
何してるの？
今から帰る
わからないな
すごく楽しかったよ
明日も早いんだ
そうなんだよね
雨だね
猫、かわいいじゃん
ちょっと待って
教えてよ
もう食べたの？
好きだよ
眠いなあ
会いたい
そうかもね
どうしよう
また一緒に聞こうね
君のこと、覚えてるから
なんで泣いてるんだろう
無理しないで
耳をすます
友だちを励ました
昨日、目を覚ましたよ
うん、知ってる
きっと大丈夫だって
これは秘密だからね
早く行け
宿題しろよ
歌ってほしいな
やっぱり寒いw
彼は「そうです」と言った
電話しちゃった
""".strip().splitlines()
# Nouns, names, greetings, open ends, and words that merely look like predicates.
OTHER = """
ほうじ茶
はい
うん
ふふ
おやすみなさい
ありがとう
おはよう
ごめんなさい
また明日
夜の散歩
「灯台のない海」
ほたる
{{user}}さん！
2026年3月6日
なるほど
へえ〜
雨の音
よりそいホットライン 0120-279-338
ますます
小さな思い
初めて
えっと…
まさか
こんばんは
そうか
二つ
春の夜
お待たせしまして
静かな夜に
雨宿りの本屋で
いつもの場所
ずっと前から
部屋の明かりを消したので
行ってらっしゃい
猫が安心して眠れるように
あなたの顔が浮かんで
そういったことは苦手でして
その香りが届けばいいのに
""".strip().splitlines()


@pytest.mark.parametrize(
    ("sentence", "level"),
    [*((s, "teinei") for s in TEINEI), *((s, "tameguchi") for s in TAMEGUCHI), *((s, "other") for s in OTHER)],
)
def test_each_sentence_has_the_level_a_listener_hears(sentence: str, level: JapaneseLevel) -> None:
    assert classify(sentence) == level


@pytest.mark.parametrize(
    ("polite", "plain"),
    [("見ます", "励ます"), ("覚えました", "目を覚ました"), ("晴れますか", "耳をすますか"), ("夜ですね", "夜だね")],
)
def test_a_plain_verb_that_ends_in_masu_is_not_polite(polite: str, plain: str) -> None:
    assert (classify(polite), classify(plain)) == ("teinei", "tameguchi")


@pytest.mark.parametrize("noise", ["📻", "〜", "ー", "♪", "！", "（笑）", "w", "、{{user}}さん"])
def test_what_adorns_an_ending_does_not_hide_it(noise: str) -> None:
    assert classify("雨が降ってきました" + noise) == "teinei"
    assert classify("雨が降ってきた" + noise) == "tameguchi"


def test_sentences_inside_quotation_marks_are_not_the_speakers_own() -> None:
    assert len(sentences("「もう寝る。おやすみ。」と書いてありました。いい手紙ですね。")) == 2


@pytest.fixture(scope="module")
def classifier() -> SpeechClassifier:
    return shared()


def test_the_shared_classifier_tells_the_languages_apart(classifier: SpeechClassifier) -> None:
    counts = classifier.count("こんばんは。今夜も聞いてくれたんですね！眠いの？\n저는 켈론입니다. 반가워.")

    assert counts == SpeechCounts(banmal=1, hapsyo=1, teinei=1, tameguchi=1, other=1)
    assert (counts.judged, counts.of_language("teinei"), counts.ratio("teinei")) == (4, 2, 0.5)


def test_a_shift_into_plain_speech_is_noted(classifier: SpeechClassifier) -> None:
    policy = SpeechPolicy(level="teinei", mode="block")

    assert judge_reply("おかえり。今日は疲れたね。もう寝よう。", policy, classifier).rule == "not-teinei"
    assert judge_reply("おかえりなさい。お疲れさまでした。もう休みましょう。", policy, classifier).rule is None


def test_an_answer_in_another_language_is_no_shift(classifier: SpeechClassifier) -> None:
    reply = "私はKelronです。営業日は月曜日から金曜日までです。"

    assert judge_reply(reply, SpeechPolicy(level="hapsyo", mode="block"), classifier).rule is None
