"""Rules that find lasting facts in a fan's Korean messages. Pure functions over text.

A fact is a fixed sentence around the fan's own words. ``{{user}}`` stands for the fan and takes the particles of
a name that ends in a consonant (은, 이, 을, 과); they are adapted when the name is filled in. Names are never kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from core.contracts import USER_MACRO
from memory.lexical import without_particle

_WORD = r"[가-힣A-Za-z0-9]+"
_VALUE = rf"(?P<value>{_WORD}(?: {_WORD})?)"
_IS = r"(?:이야|야|이에요|예요|에요|이예요|입니다|이고|고|인데|이거든|거든|이지|지|임|이다|다|이라|라)"
_VERY = r"(?:(?:진짜|정말|너무|엄청|제일|완전|많이|되게|가장|특히|항상|원래|별로)\s*)*"
_DAY = (
    r"(?:오늘|내일|모레|글피|주말|곧|이번\s?주말?|다음\s?주|다음\s?달|[월화수목금토일]요일"
    r"|\d{1,2}월\s?\d{1,2}일|\d{1,2}일)"
)
_EVENT = (
    r"(?P<value>최종 면접|면접|운전면허 시험|기말고사|중간고사|모의고사|수능|시험|발표|콘서트|공연|이사|졸업식"
    r"|입학식|결혼식|소개팅|수술|대회|오디션|시합|팬미팅|팬사인회|첫 출근|개강|개학|입대|여행)"
)
_PET = r"(?P<pet>강아지|고양이|햄스터|토끼|앵무새|거북이|고슴도치|금붕어|도마뱀|기니피그)"
_JOB = (
    r"(?P<value>초등학생|중학생|고등학생|대학생|대학원생|취준생|취업 준비생|수험생|재수생|휴학생|유학생"
    r"|고[1-3]|중[1-3]|직장인|회사원|간호사|교사|선생님|개발자|디자이너|의사|약사|공무원|알바생|군인|주부|프리랜서|신입사원|인턴"
    r"|요리사|미용사|작가|화가|사회복지사)"
)

_FILLERS = re.compile(
    "더|제일|정말|진짜|너무|엄청|완전|많이|되게|가장|특히|항상|원래|안|잘|못|별로|또|그냥|오늘|내일|요즘|그래서"
    "|그리고|근데|그런데|하지만|사실|아직|이제|지금|역시|솔직히|다|모두|다들"
)
_PEOPLE = re.compile(
    "나|난|저|전|내|제|내가|제가|너|넌|네|니|우리|누구|누군|언니|오빠|누나|형|당신|자기|그대|걔|얘|쟤|팬"
)
_BOUND_NOUNS = re.compile("[이그저]거|[이그저]것|거|것|걸|게|그|이|뭐|뭘|[이그저]게|기분|때|데|수|줄|점|쪽|모습")
_FIRST_PERSON = re.compile(r"(?:^|\s)(?:나|난|나는|나도|내|내가|저|전|저는|저도|제|제가|우리)(?:\s|$)")
_SECOND_PERSON = re.compile(r"(?:^|\s)(?:너|넌|너는|너도|너의|네가|니가|네|니|당신\S*)(?:\s|$)")
_OWN_NAME = re.compile(r"(?:내|제|나의|저의) 이름|(?:이)?라고 (?:해|불러|합니다|해요)")
_NEGATED = re.compile(r"안 |지 않|진 않|지는 않|별로")
_SENTENCE = re.compile(r"[^.!?。！？\n,~ㅠㅜㅋㅎ…]+[.!?。！？\n,~ㅠㅜㅋㅎ…]*")

_MOODS = {
    "힘들어했다": r"힘들|힘드|지쳤|지친|피곤",
    "우울해했다": r"우울|슬프|슬퍼|속상|눈물",
    "외로워했다": r"외로|외롭",
    "불안해했다": r"불안|떨려|떨린|긴장|걱정",
    "기뻐했다": r"행복|기뻐|기쁘|신나|신난|설레|설렌",
}


@dataclass(frozen=True, slots=True)
class ProfileFacts:
    """What goes into a profile that leaves it open."""

    favorite: str | None = None
    birthday: str | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    tell: Callable[[re.Match[str]], str | None]


def extract_facts(said: Iterable[str]) -> list[str]:
    """Third-person facts in the order in which they were told, each once."""
    facts: dict[str, None] = {}
    for sentence in _own_statements(said):
        for rule in _RULES:
            for match in rule.pattern.finditer(sentence):
                fact = rule.tell(match)
                if fact is not None:
                    facts[fact] = None
    return list(facts)


def profile_facts(said: Iterable[str]) -> ProfileFacts:
    """The favourite and the birthday, as told last."""
    favorite = birthday = None
    for sentence in _own_statements(said):
        if (match := _FAVORITE.search(sentence)) is not None:
            favorite = _thing(match) or favorite
        for pattern in (_BIRTHDAY, _BIRTHDAY_AFTER):
            if (match := pattern.search(sentence)) is not None:
                birthday = _date(match) or birthday
    return ProfileFacts(favorite, birthday)


def mood_of(said: Iterable[str]) -> str:
    """A sentence on how the fan felt, or nothing."""
    text = "\n".join(said)
    found = [(match.start(), mood) for mood, cue in _MOODS.items() if (match := re.search(cue, text))]
    return f"{USER_MACRO}은 {min(found)[1]}." if found else ""


def with_particle(word: str, after_consonant: str, after_vowel: str) -> str:
    """``word`` with the particle that its last sound asks for."""
    return word + (after_consonant if _ends_in_consonant(word) else after_vowel)


def _ends_in_consonant(word: str) -> bool:
    last = word[-1:]
    if "가" <= last <= "힣":
        return (ord(last) - ord("가")) % 28 != 0
    return last.lower() in "lmnr0136780"


def _own_statements(said: Iterable[str]) -> Iterator[str]:
    """Sentences in which the fan speaks of themselves: no questions to the character, no names."""
    for text in said:
        for match in _SENTENCE.finditer(" ".join(text.split(" "))):
            sentence = match.group().strip()
            about_me = _FIRST_PERSON.search(sentence) is not None
            asks = sentence.endswith(("?", "？")) or _SECOND_PERSON.search(sentence) is not None
            if sentence and not _OWN_NAME.search(sentence) and (about_me or not asks):
                yield sentence


def _thing(match: re.Match[str], particles: bool = True) -> str | None:
    """The captured words without particles, people and fillers; nothing when no thing is left."""
    words = [without_particle(word) if particles else word for word in match["value"].split()]
    while words and (_FILLERS.fullmatch(words[0]) or _PEOPLE.fullmatch(without_particle(words[0]))):
        words.pop(0)
    while words and _FILLERS.fullmatch(words[-1]):
        words.pop()
    thing = " ".join(words)
    if not re.search(r"[가-힣A-Za-z]", thing):
        return None
    if _BOUND_NOUNS.fullmatch(words[-1]) or _PEOPLE.fullmatch(words[-1]):
        return None
    return thing if len(thing) <= 20 else None


def _about(
    template: str, *, negatable: bool = False, particles: bool = True
) -> Callable[[re.Match[str]], str | None]:
    """A teller: ``<x>`` in the template is the thing, ``<x:을/를>`` the thing with its particle."""

    def tell(match: re.Match[str]) -> str | None:
        thing = _thing(match, particles)
        if thing is None or (negatable and _NEGATED.search(match.string[match.start() : match.end() + 6])):
            return None
        return _filled(template, thing)

    return tell


def _filled(template: str, thing: str) -> str:
    def particle(match: re.Match[str]) -> str:
        return with_particle(thing, match[1], match[2]) if match[1] is not None else thing

    return f"{USER_MACRO}{re.sub(r'<x(?::([^/>]+)/([^>]*))?>', particle, template)}"


def _date(match: re.Match[str]) -> str | None:
    month, day = int(match["month"]), int(match["day"])
    year = int(match["year"]) if match["year"] else None
    try:
        found = date(year or 2000, month, day)
    except ValueError:
        return None
    return found.isoformat() if year else f"{found:%m-%d}"


def _tell_birthday(match: re.Match[str]) -> str | None:
    if _date(match) is None:
        return None
    return f"{USER_MACRO}의 생일은 {int(match['month'])}월 {int(match['day'])}일이다."


def _tell_pet(match: re.Match[str]) -> str:
    return f"{USER_MACRO}은 {with_particle(match['pet'], '을', '를')} 키운다."


def _tell_pet_name(match: re.Match[str]) -> str | None:
    thing = _thing(match)
    return None if thing is None else f"{USER_MACRO}의 {match['pet']} 이름은 {with_particle(thing, '이다', '다')}."


def _rule(pattern: str, template: str, *, negatable: bool = False, particles: bool = True) -> _Rule:
    return _Rule(re.compile(pattern), _about(template, negatable=negatable, particles=particles))


_FAVORITE = re.compile(
    rf"(?:최애(?: 멤버)?|(?:제일|가장) 좋아하는 멤버)(?:는|은)\s+(?P<value>{_WORD}?){_IS}?(?:[.!,~]|$)"
)
_DATE = r"(?:(?P<year>\d{4})년\s*)?(?P<month>\d{1,2})월\s*(?P<day>\d{1,2})일"
_MY = r"(?:내|제|나의|저의)\s*"
_BIRTHDAY = re.compile(rf"(?:^|^(?:나|나는|난|저|저는|전)\s|{_MY})생일(?:은|이)?\s*{_DATE}")
_BIRTHDAY_AFTER = re.compile(rf"{_DATE}(?:이|은)?\s*{_MY}생일")

_RULES: Sequence[_Rule] = (
    _Rule(_FAVORITE, _about("의 최애는 <x:이다/다>.")),
    _Rule(_BIRTHDAY, _tell_birthday),
    _Rule(_BIRTHDAY_AFTER, _tell_birthday),
    _rule(
        rf"(?P<value>(?:{_WORD} ){{0,2}}{_WORD}는) (?:걸|것을|거|게|건) ?{_VERY}좋아(?:해|하|함|한|합)",
        "은 <x> 것을 좋아한다.",
        negatable=True,
        particles=False,
    ),
    _rule(rf"{_VALUE} {_VERY}좋아(?:해|하|함|한|합)", "은 <x:을/를> 좋아한다.", negatable=True),
    _rule(rf"{_VALUE} {_VERY}(?:싫어|싫다|싫음|별로야|안 좋아|좋아하(?:지|진|지는) 않)", "은 <x:을/를> 싫어한다."),
    _rule(rf"{_VALUE} {_VERY}못 먹", "은 <x:을/를> 못 먹는다."),
    _rule(rf"{_VALUE} 알레르기", "은 <x> 알레르기가 있다."),
    _rule(rf"취미(?:는|가) (?P<value>{_WORD}(?: {_WORD})??){_IS}(?:[.!,~]|$)", "의 취미는 <x:이다/다>."),
    _Rule(re.compile(rf"{_PET}(?:을|를|도)? (?:\S+ 마리(?:를|도)? )?키[우워운]"), _tell_pet),
    _Rule(re.compile(rf"{_PET} 이름(?:은|이) (?P<value>{_WORD}?){_IS}(?:[.!,~]|$)"), _tell_pet_name),
    _rule(rf"(?:^|\s){_JOB}{_IS}", "은 <x:이다/다>."),
    _rule(rf"(?P<value>{_WORD})에서 (?:일해|일하|근무|알바)", "은 <x>에서 일한다."),
    _rule(rf"(?P<value>{_WORD}(?:학교|대|대학|회사|학원))에? 다[니녀닌]", "은 <x>에 다닌다."),
    _rule(rf"전공(?:은|이) (?P<value>{_WORD}?){_IS}(?:[.!,~]|$)", "의 전공은 <x:이다/다>."),
    _rule(
        rf"{_DAY}(?:에|은|이|부터)? (?:드디어 |또 )?{_EVENT}(?!.*[었았했봤갔쳤났졌])",
        "은 <x:을/를> 앞두고 있다고 했다.",
    ),
    _rule(rf"{_EVENT}(?:을|를|도)? (?:\S+ )?(?:망쳤|망했|망함)", "은 <x:을/를> 망쳤다고 했다."),
    _rule(rf"{_EVENT}(?:에|에서|도)? (?:\S+ )?(?:떨어졌|떨어짐|불합격)", "은 <x>에서 떨어졌다고 했다."),
    _rule(rf"{_EVENT}(?:에|도)? (?:\S+ )?(?:붙었|합격)", "은 <x>에 붙었다고 했다."),
    _rule(rf"{_EVENT}(?:을|를|도)? 잘 봤", "은 <x:을/를> 잘 봤다고 했다."),
    _rule(rf"(?P<value>{_WORD}?)(?:에|로|으로)? 여행(?:을)? (?:갔|다녀)", "은 <x> 여행을 다녀왔다고 했다."),
    _rule(rf"(?P<value>{_WORD}?)(?:에|로|으로)? 여행(?:을)? (?:갈|가기|간다|가려)", "은 <x> 여행을 갈 거라고 했다."),
)
