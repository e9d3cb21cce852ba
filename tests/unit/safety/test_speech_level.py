"""Speech levels against a table made by hand."""

from __future__ import annotations

import pytest

from safety.policy import SpeechPolicy
from safety.speech_level import SpeechClassifier, SpeechLevel, judge_reply, shared

BANMAL = """
나 오늘 연습하고 왔어
밥은 먹었어?
있지, 나 딸기우유 또 마셨다
그건 좀 무섭다
나도 같이 갈래
우리 구름이 진짜 귀엽지
너 오늘 힘들었구나
내일 또 얘기하자
얼른 자야지
나랑 같이 걸을까?
그거 내가 쓴 가사거든
비 오는 날이 좋아
무슨 소리야~ 나 하늘이잖아 ✨
오늘도 고생 많았어 💙
벌써 열두 시네
그랬니
빨리 와라
나 그거 좋아하는데
이따 연습 가야 돼
헤헤 들켰지롱
그 노래 들어 봤냐
천천히 말해 줘
보고 싶었어, {{user}}아!
그럼 이렇게 하면 되겠다
나 지금 녹음실이야
창문 열어 놓고 노래 듣는 중이야
""".strip().splitlines()
HAEYO = """
오늘 뭐 했어요?
저는 떡볶이를 좋아해요
정말 고마워요
내일 만나요
비가 오네요
그건 제가 쓴 가사예요
우리 같이 걸을까요?
많이 힘들었죠?
저도 그렇게 생각하는데요
조심히 들어가세요
그런 노래는 처음이에요
지금 녹음실이에요
아직 못 먹었거든요
천천히 말해 주세요
정말요?
좋은 아침이에요
그렇군요
제가 도와 드릴게요
""".strip().splitlines()
HAPSYO = """
연차는 기본 15일입니다
휴가는 3일 전에 신청합니다
제공된 문서에서는 확인되지 않습니다
인사팀에 문의해 주십시오
무엇을 도와 드릴까요? 저는 켈론입니다
비밀번호는 90일마다 변경해야 합니다
어떤 문서를 찾으십니까?
영수증은 5영업일 안에 제출하십시오
내선 1190으로 신고하시기 바랍니다
셔틀은 7시 20분에 출발합니다
같이 확인해 봅시다
감사합니다
확인했습니다
재택근무는 주 2일까지 가능합니다만
해당 규정은 없습니다
""".strip().splitlines()
OTHER = """
하늘
떡볶이!
ㅋㅋㅋㅋ
✨
아하
넵!
넵넵!
Hello there
I am Kelron.
{{user}}아!
2026년 9월 10일
""".strip().splitlines()


@pytest.fixture(scope="module")
def classifier() -> SpeechClassifier:
    return shared()


@pytest.mark.parametrize(
    ("sentence", "level"),
    [
        *((s, "banmal") for s in BANMAL),
        *((s, "haeyo") for s in HAEYO),
        *((s, "hapsyo") for s in HAPSYO),
        *((s, "other") for s in OTHER),
    ],
)
def test_each_sentence_has_the_level_a_speaker_hears(
    classifier: SpeechClassifier, sentence: str, level: SpeechLevel
) -> None:
    assert classifier.classify(sentence) == level


def test_a_text_is_counted_sentence_by_sentence_even_without_punctuation(classifier: SpeechClassifier) -> None:
    counts = classifier.count("안녕 나 하늘이야 오늘 뭐 했어")

    assert counts.banmal >= 2
    assert counts.ratio("banmal") == 1.0


def test_mixed_levels_give_a_ratio(classifier: SpeechClassifier) -> None:
    counts = classifier.count("나 하늘이야. 오늘 뭐 했어요? 밥 먹었어? 감사합니다.")

    assert (counts.banmal, counts.haeyo, counts.hapsyo) == (2, 1, 1)
    assert counts.ratio("banmal") == 0.5


def test_a_text_without_sentences_has_no_ratio(classifier: SpeechClassifier) -> None:
    assert classifier.count("✨ 🌙").ratio("banmal") == 0.0


@pytest.mark.parametrize(("mode", "allowed"), [("report", True), ("block", False)])
def test_a_clear_shift_is_noted_and_blocks_only_where_asked(
    classifier: SpeechClassifier, mode: str, allowed: bool
) -> None:
    policy = SpeechPolicy.model_validate({"level": "banmal", "mode": mode})

    verdict = judge_reply("저는 하늘입니다. 무엇을 도와 드릴까요?", policy, classifier)

    assert (verdict.allowed, verdict.category, verdict.rule) == (allowed, "out_of_persona", "not-banmal")


@pytest.mark.parametrize("reply", ["나 하늘이야. 오늘 뭐 했어요? 밥은 먹었어?", "감사합니다!"])
def test_one_polite_sentence_is_no_shift(classifier: SpeechClassifier, reply: str) -> None:
    policy = SpeechPolicy(level="banmal", mode="block")

    assert judge_reply(reply, policy, classifier).category is None


def test_quoted_words_are_not_the_speaker_s() -> None:
    assert shared().count('찾아봤어요! "무게는 170g이다", "표지는 루나가 그렸다"래요').ratio("haeyo") == 1.0
    assert shared().count("文書には「연차는 15일이다」とあります。").ratio("teinei") == 1.0
