"""Rules that find lasting facts in a fan's Japanese messages: the sibling of ``fact_rules``.

Japanese writes no spaces, so a rule has to fit a whole clause: an opening such as 実は, the fan's own words, and an
ending that neither asks, denies nor reports. What fits no rule is not kept. Names of people are never kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from core.contracts import USER_MACRO
from memory.fact_rules import ProfileFacts
from memory.fact_words_ja import COLOUR, EVENT, EXAM, FOOD, GOAL, JOB, KINDS, PET, PLACE, STUDENT
from memory.lexical import japanese_nouns

_FAN = f"{USER_MACRO}さん"
_QUOTE = re.compile(r"「([^「」\n]*)」|『([^『』\n]*)』")
_MARKS = range(0xE000, 0xF000)
"""Private characters that stand for a quotation while the text around it is read."""
_Q = "[\ue000-\uefff]"
_CHAR = "[ぁ-ゖァ-ヺー一-鿿々〆A-Za-z0-9・'&+ -]"
_NOT_HIRAGANA = "[ァ-ヺー一-鿿々A-Za-z0-9・]"
_V = rf"(?P<value>{_Q}|(?:[ァ-ヺ一-鿿々A-Za-z0-9]|[ぁ-ゖ]{{2}}){_CHAR}{{0,18}}?)"
_TITLE = rf"(?P<value>{_Q})"
_I = "(?:私|わたし|あたし|僕|ぼく|俺|おれ|自分|うち)"
_LEAD = (
    rf"(?:{_I}(?:って|は|も|の|が|(?=[{_Q[1:-1]}ァ-ヺ一-鿿])(?!私立|私服))|実は|じつは|ちなみに"
    rf"|やっぱり?|今は|今日は?|昨日は?"
    "|でも|それと|あとは|そういえば|昔から|子ども?のころから|子供の頃から|小さい頃から|ずっと"
    "|いちばん|一番|最近は?|本当は|正直|特に|とくに"
    "|断然|ついに|やっと|夜は|いつも|春から|今年から|学校で|昼間は|前から|なんと|えっと|まあ)*"
)
_VERY = (
    "(?:本当に|ほんとに?|すごく|すっごく|とても|めっちゃ|かなり|けっこう|結構|いちばん|一番"
    "|何より|ずっと|昔から|断然|どうしても|絶対)*"
)
_TAIL = "(?:よ|ね|な|さ|わ|ぞ|もの|もん|けれど|けど|が|から|ので|し)*"
_IS = rf"(?:(?:なん|なの|な)?(?:です|だ|でして|っす|である){_TAIL}|かなあ?|かも|で|なんで|なの)?"
_LIKES = rf"(?:なん|な|ん)?(?:(?:です|だ|でして|っす|で){_TAIL}|{_TAIL})"
_DOING = rf"(?:い?(?:る|るん(?:です|だ)|るの|ます|て|まして|るん)){_LIKES}"
_PAST = rf"(?:(?:た|だ|ました)(?:ん|の)?{_LIKES}|ちゃった(?:ん)?{_LIKES})"

_DAY_OF_YEAR = r"(?:(?P<year>\d{4})年)?(?P<month>\d{1,2})月(?P<day>\d{1,2})日"
_SOON = "(?:明日|あした|明後日|あさって|来週|今週末?|来月|もうすぐ|今度|次|[月火水木金土日]曜日?)(?:の|に|は|、)?"
_PEOPLE_WORD = (
    "(?:妹|弟|姉|兄|母|父|ママ|パパ|友達|友だち|ともだち|親友|彼女|彼氏|彼|先輩|後輩|上司|同僚|両親"
    "|親|子ども|子供|息子|娘|夫|妻|旦那|祖母|祖父|従兄弟"
    "|いとこ|あの人|あなた|きみ|君|お前|みんな|さん|ちゃん|くん|さま|様|先生)"
)
_OTHERS = re.compile(rf"{_PEOPLE_WORD}(?:たち)?(?:は|が|も|って|の(?!日))")
_FIRST_PERSON = re.compile(rf"{_I}(?:は|も|が|って|$|(?=[ァ-ヺー一-鿿{_Q[1:-1]}]))")
_OWN_NAME = re.compile(
    rf"(?:^|、|{_I}の?)(?:名前|本名|名字|苗字)|(?:って|と)(?:呼ん|申し|いいます|言います)"
    rf"|{_I}(?!の).{{1,8}}(?:って|と)いう"
)
_ASKS = re.compile(
    r"(?:です|ます|でした|ました|ません|でしょう|だろう|の|ない|る|た|好き)か(?:な|ね)?$"
    r"|(?<!ん)(?:だ|です)よね$|(?<!な)の$|(?:でしょう?|っけ)$"
    r"|(?:何|なに|どこ|いつ|誰|だれ|どれ|どんな)(?:が|を|の|に|で|だ|か|って|色|月)|なんて|なんの"
    r"|覚えて(?:る|い|ま|ね)|知って(?:る|ま)|当てて|教えて"
)
_HEARSAY = re.compile(
    r"らしい|(?:だ|る|た)そう|みたい|(?:って|と)(?:言|聞|思)|かもしれ|ドラマ|小説の|夢を見|夢で"
    r"|もし|たい|(?:た|だ)ら|ように|れば|そうだ|しそう|ちそう|るかも"
)
_VOCATIVE = re.compile(r"^(?:ねえ+|ねー|あの|あのね|ほたる(?:さん|ちゃん)?|[^、]{1,6}さん)、")
_ECHO = re.compile(r"(好きな[^\s、。?]{1,6}|趣味|誕生日|好物|大好物|仕事|部活|苦手なもの|嫌いなもの)[?]、?(?=\S)")
_SENTENCE = re.compile(r"[^。.!?\n…♪★☆]+[?]?")
_CLAUSE = re.compile(
    r"、|(?<=けど)|(?<=けれど)|(?<=ですが)|(?<=だから)|(?<=ですから)|(?<=なので)|(?<=だし)"
    r"|(?<=でして)|(?<=くて)|(?<=でさ)"
)
_NO_THING = re.compile(
    rf".*なら.*|.*(?:ない|なし|ません|なかった|内緒|秘密|ところで|{_PEOPLE_WORD})"
    rf"|.*[はも](?={_NOT_HIRAGANA}).*(?<!食べ)(?<!飲み)|(?:それ|これ|あれ|そこ|ここ|こと|もの|やつ"
    r"|ほう|人|全部|どれも|何か|なんか|なに|何|誰|今|こう|そう|どっち|いろいろ|色々|別|声|大好き|大"
    r"|ほたる.*)|.*(?:じゃ|では|とか|より)"
)

_LONGEST_CLAUSE = 60
"""No rule fits more, and a rule takes long to find that out."""

_MOODS = {
    "疲れた様子だった": "疲れた|疲れて|疲れまし|つかれた|くたくた|しんどい|へとへと",
    "落ち込んだ様子だった": "落ち込|悲しい|悲しく|つらい|辛いです|泣い|泣き",
    "寂しそうだった": "寂しい|さみしい|さびしい|寂しく|孤独",
    "不安そうだった": "不安|緊張|心配|ドキドキ|怖い|こわい",
    "うれしそうだった": "嬉し|うれし|幸せ|楽しかった|楽しみ|わくわく|ワクワク",
}
_DENIED = re.compile("^.{0,3}(?:ない|なく|ません|じゃ|では)")


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    tell: Callable[[re.Match[str]], str | None]
    whole: bool = True
    """Has to fit a whole clause, not only a part of a sentence."""


def extract_facts(said: Iterable[str]) -> list[str]:
    """Third-person facts in the order in which they were told, each once."""
    facts: dict[str, None] = {}
    for clauses, quotes in _own_statements(said):
        sentence = "、".join(clauses)
        for rule in _RULES:
            for match in _matches(rule, clauses, sentence):
                fact = rule.tell(match)
                if fact is not None:
                    facts[_unmasked(fact, quotes)] = None
    return [fact for fact in facts if len(fact) < 80 and not re.search(r"[{}<>\n]", fact.removeprefix(_FAN))]


def profile_facts(said: Iterable[str]) -> ProfileFacts:
    """The birthday, as told last. A favourite is a person more often than not, and people are not kept."""
    birthday = None
    for clauses, _ in _own_statements(said):
        for pattern in _BIRTHDAYS:
            if (match := pattern.search("、".join(clauses))) is not None:
                birthday = _date(match) or birthday
    return ProfileFacts(None, birthday)


def mood_of(said: Iterable[str]) -> str:
    """A sentence on how the fan felt, or nothing."""
    for clauses, _ in _own_statements(said):
        text = "、".join(clauses)
        found = [
            (match.start(), mood)
            for mood, cue in _MOODS.items()
            if (match := re.search(cue, text)) is not None and not _DENIED.match(text[match.end() :])
        ]
        if found:
            return f"{_FAN}は{min(found)[1]}。"
    return ""


def topics_of(said: Iterable[str]) -> list[str]:
    """What the fan talked of most, names of people left out."""
    counts = Counter(
        noun
        for clauses, _ in _own_statements(said, asks=True)
        for noun in japanese_nouns("、".join(clauses))
        if len(noun) <= 12
    )
    return [noun for noun, _ in counts.most_common(3)]


def _own_statements(said: Iterable[str], asks: bool = False) -> Iterator[tuple[list[str], list[str]]]:
    """The clauses in which the fan speaks of themselves, sentence by sentence, and the quotations masked in them."""
    for text in said:
        masked, quotes = _masked(unicodedata.normalize("NFKC", text))
        for match in _SENTENCE.finditer(_ECHO.sub(r"\1は", masked)):
            sentence = _tidy(match.group())
            if _OWN_NAME.search(sentence) or (not asks and (sentence.endswith("?") or _ASKS.search(sentence))):
                continue
            if clauses := _own_clauses(sentence):
                yield clauses, quotes


def _masked(text: str) -> tuple[str, list[str]]:
    quotes: list[str] = []

    def mask(match: re.Match[str]) -> str:
        quotes.append((match[1] or match[2] or "").strip())
        return chr(_MARKS[min(len(quotes), len(_MARKS)) - 1])

    return _QUOTE.sub(mask, re.sub(_Q, "", text)), quotes


def _unmasked(fact: str, quotes: Sequence[str]) -> str:
    return (
        re.sub(_Q, lambda match: f"「{quotes[ord(match[0]) - _MARKS.start]}」", fact)
        .replace("「「", "「")
        .replace("」」", "」")
    )


def _tidy(sentence: str) -> str:
    """Without laughter and drawn-out ends; blanks between Japanese words become commas."""
    sentence = re.sub(r"\(?(?:笑+|w+|泣|汗)\)?$|[^\w?\ue000-\uefff]+$", "", sentence.strip())
    sentence = re.sub(r"(?<=[ぁ-ゖ])[ー〜~ぁぃぅぇぉっ]+$", "", sentence.strip("〜~ "))
    sentence = re.sub(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])|,", "、", sentence)
    sentence = _kanji_days(sentence)
    return _VOCATIVE.sub("", re.sub(r"(?<=[はが])、|、(?=っていう|って名前)", "", sentence))


def _kanji_days(sentence: str) -> str:
    """五月二十日 as 5月20日."""

    def number(match: re.Match[str]) -> str:
        tens, ten, ones = match[0].rpartition("十")
        value = 10 * ("一二三四五六七八九".find(tens[-1:]) + 1 if tens else 1) if ten else 0
        return str(value + ("一二三四五六七八九".index(ones[0]) + 1 if ones else 0))

    return (
        re.sub(r"[一二三]?十?[一二三四五六七八九](?=月|日)|[一二三]?十(?=月|日)", number, sentence)
        if "月" in sentence
        else sentence
    )


def _own_clauses(sentence: str) -> list[str]:
    """Once another person is the topic, what follows is theirs until the fan says 私 again."""
    clauses, others = [], False
    for clause in _CLAUSE.split(sentence):
        if _FIRST_PERSON.search(clause):
            others = False
        elif _OTHERS.search(clause):
            others = True
        if 0 < len(clause) <= _LONGEST_CLAUSE and not others:
            clauses.append(clause)
    return clauses


def _matches(rule: _Rule, clauses: Sequence[str], sentence: str) -> Iterator[re.Match[str]]:
    if rule.whole:
        yield from (match for clause in clauses if (match := rule.pattern.fullmatch(clause)) is not None)
    elif not _HEARSAY.search(sentence):
        yield from rule.pattern.finditer(sentence)


def _about(template: str) -> Callable[[re.Match[str]], str | None]:
    """A teller: ``<group>`` in the template is what the pattern's group took."""

    def tell(match: re.Match[str]) -> str | None:
        groups = match.groupdict()
        thing = (groups.get("value") or "").strip()
        if "value" in groups and (not re.search("[^0-9 ・'&+-]", thing) or _NO_THING.fullmatch(thing)):
            return None
        if groups.get("month") and _date(match) is None:
            return None
        return _FAN + re.sub(r"<(\w+)>", lambda part: _number(groups[part[1]]), template)

    return tell


def _number(group: str | None) -> str:
    return str(int(group)) if group and group.isdecimal() else (group or "").strip()


def _date(match: re.Match[str]) -> str | None:
    try:
        found = date(int(match["year"] or 2000), int(match["month"]), int(match["day"]))
    except ValueError:
        return None
    return found.isoformat() if match["year"] else f"{found:%m-%d}"


def _tell_liking(match: re.Match[str]) -> str | None:
    thing = match["value"]
    kind = "食べもの" if FOOD.fullmatch(thing) else "色" if COLOUR.fullmatch(thing) else None
    return _about(f"の好きな{kind}は<value>。" if kind else "は<value>が好き。")(match)


def _tell_favourite(match: re.Match[str]) -> str | None:
    kind = match["kind"]
    if kind in ("曲", "歌"):
        return _about("のいちばん好きな曲は「<value>」。")(match)
    quoted = kind in ("映画", "本", "小説", "漫画", "マンガ", "アニメ", "番組", "ゲーム")
    kind = re.sub("食べ物|食べもん|たべもの|料理", "食べもの", kind).replace("飲み物", "飲みもの")
    return _about(f"の好きな{kind}は" + ("「<value>」。" if quoted else "<value>。"))(match)


def _clause(pattern: str, template: str) -> _Rule:
    return _Rule(re.compile(_LEAD + pattern), _about(template))


def _part(pattern: str, template: str) -> _Rule:
    return _Rule(re.compile(pattern), _about(template), whole=False)


_BIRTHDAYS = (
    re.compile(rf"(?:^|、|{_I}の?|ちなみに|実は)誕生日(?:は|が)?{_DAY_OF_YEAR}"),
    re.compile(rf"{_DAY_OF_YEAR}(?:生まれ|(?:が|は|、)(?:{_I}の)?誕生日)"),
)
_GOES = (
    r"(?:行く(?:んだ|の|よ|ん|こ|予|$|、)|行きます|行ってくる"
    r"|行けることにな|する(?:よ|ん|こ|予|$|、)|します|決まった)"
)
_TO = "(?:に|へ|まで)"
_WENT = r"行って(?:き(?:た|ました)|まいり)|行った|行きました|してき(?:た|ました)|した(?!い)|しました"

_RULES: Sequence[_Rule] = (
    *(_Rule(pattern, _about("の誕生日は<month>月<day>日。"), whole=False) for pattern in _BIRTHDAYS),
    _Rule(re.compile(rf"{_LEAD}(?:好きな|推し){KINDS}(?:は|って){_V}{_IS}"), _tell_favourite),
    _Rule(
        re.compile(rf"{_LEAD}(?P<kind>色|花|映画|曲|本)なら{_V}(?:が(?:いちばん|一番))?(?:好き)?{_IS}"),
        _tell_favourite,
    ),
    _Rule(re.compile(rf"{_LEAD}{_V}(?:が|は)?(?:いちばん|一番)?好きな(?P<kind>色|花|曲|映画){_IS}"), _tell_favourite),
    _Rule(
        re.compile(
            rf"{_LEAD}{_TITLE}(?:って|という)(?P<kind>曲|歌|映画|本|漫画|アニメ)(?:が|は){_VERY}大?好き{_LIKES}"
        ),
        _tell_favourite,
    ),
    _clause(rf"(?:大?好物は|食べもの(?:なら|だと)(?:断然)?){_V}{_IS}", "の好きな食べものは<value>。"),
    _clause(rf"{_V}(?:に目がない|が(?:大好物|好物)){_LIKES}", "の好きな食べものは<value>。"),
    _Rule(re.compile(rf"{_LEAD}{_V}(?:が|は|も)?{_VERY}大?好き{_LIKES}"), _tell_liking),
    _clause(rf"趣味(?:は|といえば){_V}{_IS}", "の趣味は<value>。"),
    _clause(rf"{_V}が趣味{_LIKES}", "の趣味は<value>。"),
    _clause(rf"{_V}にはまって{_DOING}", "の趣味は<value>。"),
    _clause(rf"休みの日は{_V}ばっかり{_LIKES}", "の趣味は<value>。"),
    _clause(rf"(?:苦手|嫌い|きらい)な(?:もの|食べもの|食べ物)は{_V}{_IS}", "が苦手なものは<value>。"),
    _clause(rf"{_V}(?:が|は|も)?{_VERY}(?:苦手|嫌い|大嫌い|きらい){_LIKES}", "が苦手なものは<value>。"),
    _clause(rf"{_V}(?:だけ)?(?:は|が)(?:ほんと|本当に|絶対)?(?:無理|だめ|ダメ){_LIKES}", "が苦手なものは<value>。"),
    _clause(rf"{_V}(?:が|は|を)食べられ(?:ない|ません){_LIKES}", "は<value>が食べられない。"),
    _clause(rf"{_V}アレルギー(?:が?(?:ある(?:ん)?|あります|あって))?{_LIKES}", "は<value>アレルギーがある。"),
    _part(
        rf"{PET}(?:を|も|が)?(?:飼って(?:い?て|い?る|います|ます)|いるよ|いて|の)、?(?:名前は)?{_TITLE}",
        "は<pet>を飼っていて、名前は「<value>」。",
    ),
    _part(rf"うちの{PET}(?:の名前)?(?:は|、)?{_TITLE}", "は<pet>を飼っていて、名前は「<value>」。"),
    _clause(rf"うちの{PET}の名前は{_V}{_IS}", "は<pet>を飼っていて、名前は「<value>」。"),
    _part(
        rf"{PET}(?:を|も|が)?(?:[1-9一二三]匹)?飼って(?:い?る(?!か)|い?ます)(?!.*{_Q})",
        "は<pet>を飼っている。",
    ),
    _clause(rf"(?:{_I}の)?仕事は{_V}(?:を?して{_DOING}|{_IS})", "の仕事は<value>。"),
    _clause(rf"{JOB}(?:を?して|をやって|になって).*", "の仕事は<value>。"),
    _clause(rf"{JOB}(?:になった|になりました|(?:なん)?です|なんだ|だ){_TAIL}", "の仕事は<value>。"),
    _clause(rf"{STUDENT}(?:なん)?(?:です|だ|で){_TAIL}", "は<value>。"),
    _clause(rf"{_V}で(?:働いて|バイトして|アルバイトして|パートして){_DOING}", "は<value>で働いている。"),
    _clause(
        r"(?P<value>[一-鿿ァ-ヺー]{0,8}(?:大学院?|高校|中学|専門学校|塾))に通って" + _DOING, "は<value>に通っている。"
    ),
    _clause(rf"部活は(?P<value>[一-鿿ァ-ヺー]+部){_IS}", "は学校で<value>に入っている。"),
    _clause(
        rf"(?P<value>[一-鿿ァ-ヺー]+部)(?:に?入って{_DOING}|に入りました|なん(?:です|だ).*)",
        "は学校で<value>に入っている。",
    ),
    _clause(
        r"(?P<value>[一-鿿ァ-ヺー]{1,7})(?:に住んで|で|暮らしも)(?P<n>\d{1,2})年(?:目|になる"
        r"|になります|暮らして(?:る|います|ます))?" + _LIKES,
        "は<value>に住んで<n>年になる。",
    ),
    _clause(rf"(?P<value>[一-鿿ァ-ヺー]{{1,7}})に住んで{_DOING}", "は<value>に住んでいる。"),
    _clause(rf"(?:最近|先週から|新しく)?{_V}(?:を)?習い(?:始め|はじめ){_PAST}", "は最近<value>を習いはじめた。"),
    _clause(rf"(?:毎週)?(?:[月火水木金土日]曜に?)?{_V}を習って{_DOING}", "は<value>を習っている。"),
    _clause(
        rf"(?:だいたい|寝る前は|毎晩)+{_V}を?(?:飲んで{_DOING}|飲みます|飲む{_LIKES})",
        "が夜によく飲むものは<value>。",
    ),
    _part(
        rf"(?:今|寝る前に|最近){_TITLE}(?:って本|という本)?を?読んで(?:い?る|い?ます)",
        "は今「<value>」という本を読んでいる。",
    ),
    _clause(
        rf"(?:ずっと欲しかった)?{_V}を?買(?:って(?:きた|きました)|った|いました|っちゃった)(?:んだ"
        rf"|の|んです)?{_TAIL}",
        "が最近買ったものは<value>。",
    ),
    _part(
        rf"{_DAY_OF_YEAR}(?:に|の|は|、)*{EXAM}(?!.{{0,8}}(?:った|ました|でした|ない|なく|中止|延期))",
        "は<month>月<day>日に<exam>を受ける。",
    ),
    _part(
        rf"{EXAM}(?:が|は|を?受け(?:る|ます)よ?、|まで.{{0,6}})、?{_DAY_OF_YEAR}(?!.{{0,8}}(?:だった|でした))",
        "は<month>月<day>日に<exam>を受ける。",
    ),
    _part(
        rf"{_SOON}{EVENT}(?!に?(?:は|が|も|じゃ|では)?(?:ない|なく|あり?ません|中止|延期|終わ|受か|落ち)|.*\d月)",
        "は<exam>を控えていると言っていた。",
    ),
    _part(
        rf"{GOAL}(?:に|は|も)?(?:無事に?|やっと|ついに)?(?:受かっ(?:て)?(?:た|まし)|合格(?:した|しまし|でし))(?!ら)",
        "は<exam>に受かったと言っていた。",
    ),
    _part(
        rf"{GOAL}(?:に|は|も)?(?:また)?(?:落ち(?:た|まし|ちゃった|てしま)|不合格(?:だった|でし))(?!ら)",
        "は<exam>に落ちたと言っていた。",
    ),
    _part(rf"{PLACE}(?:旅行に?|{_TO}旅行に?)(?:{_WENT})", "は<value>へ旅行してきたと言っていた。"),
    _part(rf"{PLACE}{_TO}?旅行(?:に|へ|が)?、?{_GOES}", "は今度<value>へ旅行する。"),
    _part(
        rf"(?:今度|来月|来週|次の休みに?|夏休みに?|連休に?|ずっと行きたかった){PLACE}{_TO}?、?(?:やっと)?{_GOES}",
        "は今度<value>へ旅行する。",
    ),
    _part(
        r"(?P<state>(?:腰|頭|歯|お腹|足|肩|のど|喉)が痛い|風邪を?ひいた|眠れない日が続いている"
        r"|失恋した|財布を落とした)(?!ら)",
        "は先日、「<state>」と言っていた。",
    ),
)
