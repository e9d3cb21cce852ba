"""Speech levels of Japanese sentences, told from how they end: です・ます (teinei) or plain (tameguchi).

Endings decide, as they do for a listener; there is no dictionary. A sentence is called plain only for an ending
that is a predicate beyond doubt, so what ends in a noun, a name or an interjection has no level.
"""

from __future__ import annotations

import re
from typing import Literal

from core.contracts import USER_MACRO

JapaneseLevel = Literal["teinei", "tameguchi", "other"]

_KANJI = "一-龯々"
_SENTENCE = re.compile(r"[^。．.!！?？…‥\n♪♡☆]+[。．.!！?？…‥♪♡☆]*")
_QUOTED = re.compile(r"「[^「」]*」|『[^『』]*』|“[^”]*”")
_ASIDE = re.compile(r"（[^（）]*）|\([^()]*\)")
_NOISE = re.compile(r"[^\w\s、，,]|[〜～]")
_LAUGH = re.compile(r"(?:(?<![a-z])w+|笑+|草|っ+|ッ+|ー+|\s)$")
_CALLED = re.compile(r"[、，,\s](?:[^、，,\s]{1,12}?(?:さん|ちゃん|くん|君|さま|様))$")

# What may follow a predicate without changing its level.
_TAIL = (
    "(?:よ|ね[えぇー]?|か|わ|な[あぁー]?|の|さ|ぞ|ぜ|とも|っけ|かしら|かい|もの|もん|し|"
    "けれども|けれど|けども|けど|が|から|ので|のに|って|ってば|ように|と)*"
)
# The stem before ます ends in an i- or e-sound, or in a kanji: 耳をすます and 励ます are plain verbs.
_STEM = f"(?:[いきしちにひみりぎじぢびぴえけせてねへめれげぜでべぺ]|(?![励済澄冷覚醒悩増])[{_KANJI}])"
_POLITE = re.compile(
    f"(?:です|でした|でしょう|{_STEM}(?:ます|ました|ません|ませんでした|ましょう|ませ)|"
    f"(?:ください|下さい)(?:ませ|まし)?){_TAIL}$"
)

_NOUNS_IN_I = "思想願匂違誓占笑扱祝問習迷勢救戦伝会合払互憩幸舞失添"
_KANA_VERB = (
    "(?:する|[てでっ]る|いる|ある|なる|くる|みる|やる|わかる|できる|くれる|もらう|あげる|しまう|ちゃう|じゃう|"
    "[てでと]く|いう|おもう|ちがう|がんばる|つくる|られる|させる|[かさたなまらわが]れる|たべる|のむ|よむ|はなす|つかう|[すさだ]ます)"
)
_PREDICATE = (
    "(?:"
    # copula
    "だ|だった|だろう?|でしょ|じゃん|じゃない|なの|なん|"
    # past: a verb's or an adjective's
    f"(?:[{_KANJI}いきしちにみりえけせてねべめれげびぎじっ]た|(?<=[{_KANJI}し死飲読遊呼休])んだ|かった)|"
    # negation and adjectives
    f"ない|なかった|(?:し|よ|い|た|ご|ば|も|ま|ろ|ゃ)い|(?![{_NOUNS_IN_I}])[{_KANJI}]い|"
    # verbs in their plain form
    f"(?![一二三四五六七八九幾直難早])[{_KANJI}][るぐすつぬぶむう]|[行書聞歩動泣働続届着開描置引弾輝咲吹乾驚付浮響焼空磨招]く|"
    f"[{_KANJI}][えけせてねべめれげびみじちきり]る|[{_KANJI}](?:[か-わ]る|[か-ん]す|[か-わ]む)|{_KANA_VERB}|"
    # let us
    f"しよう|[{_KANJI}べけてせれげみきえめね]よう|[{_KANJI}][こそとのぼもろごお]う|やろう|"
    # do it
    f"しろ|くれ|[{_KANJI}べ]ろ|行け|待て|黙れ|帰れ|頑張れ|がんばれ"
    ")"
)
_PLAIN = re.compile(f"{_PREDICATE}{_TAIL}$")
_CASUAL = re.compile("(?:かも|かな[あぁ]?|みたい|たい|んだもん|っしょ|なよ|ちゃった|じゃった)(?:ね|よ|な|ね[えぇ])*$")
_REQUEST = re.compile(
    f"(?:[{_KANJI}][っいしきえけせてねべめれげみびりじ]?て|(?:し|やっ|もらっ|がんばっ|なっ|あっ|わらっ|まっ|き|み|おい)て|"
    "[きしてみでっい]てて|[一-龯]んで|ないで|[一-龯]いで)(?:ね|よ|な|ね[えぇ]|さ|の|から)*$"
)
# Open ends and polite words broken off have no level; nor have nouns that merely look like predicates.
_OPEN_END = re.compile(
    "(?:ので|くて|まして|くださって|いただいて|なさい|らっしゃい|でして|のに|ように|ないと|くらいで|[にを]?(?:とって|よって|ついて)|として)$"
)
_NO_PREDICATE = re.compile(
    "(?:^|[^ま])ますます$|^(?:はい|ありがとう|おはよう|もしもし|また|あなた|うた|ふた|かた|そうか|そっか|だけど|だから|なのに|"
    "初めて|はじめて|みんなで|ひとりで|いつか|おい|よる|はる|ひる|まるで)[ねよ]?$|"
    "(?:全て|すべて|やがて|くらい|ぐらい|せかい|あい|こい|だいたい|いっぱい|ほたる)$"
)


def is_japanese(text: str) -> bool:
    """Whether the last Hangul or kana is kana."""
    found = re.findall(r"[ぁ-ヿ]|[가-힣]", text)
    return bool(found) and "ぁ" <= found[-1] <= "ヿ"


def sentences(text: str) -> list[str]:
    """Split at final punctuation; what stands in quotation marks or brackets is not the speaker's ending."""
    bare = _ASIDE.sub("", _QUOTED.sub("題", text))
    return [piece.strip() for piece in _SENTENCE.findall(bare) if re.search(r"\w", piece)]


def classify(sentence: str) -> JapaneseLevel:
    """The level of one sentence."""
    clauses = [clause for clause in re.split("[、，,]", _bare(sentence)) if clause.strip()]
    if not clauses:
        return "other"
    level = _level(clauses[-1])
    # 好きです、この曲: what was put after the predicate has no level of its own.
    if level == "other" and any(_POLITE.search(clause) for clause in clauses[:-1]):
        return "teinei"
    return level


def _bare(sentence: str) -> str:
    """Without emoji, laughter, drawn-out sounds and the name that is called at the end."""
    text = _ASIDE.sub("", _QUOTED.sub("題", sentence)).replace(USER_MACRO, "太郎")
    text = _NOISE.sub(" ", text).strip()
    while (shorter := _LAUGH.sub("", text)) != text:
        text = shorter
    return _CALLED.sub("", text).strip()


def _level(clause: str) -> JapaneseLevel:
    text = clause.replace(" ", "").replace("\u3000", "")
    if _NO_PREDICATE.search(text):
        return "other"
    if _POLITE.search(text):
        return "teinei"
    if _OPEN_END.search(text):
        return "other"
    plain = _CASUAL.search(text) or _PLAIN.search(text) or _REQUEST.search(text)
    return "tameguchi" if plain else "other"
