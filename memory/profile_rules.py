"""What a fan's message adds to their profile while they talk: a name, a birthday, a favourite.

Rules in three languages, and careful ones: a character that calls a fan by a wrong name is worse than one that asks
again. What the profile holds already stays as it is.
"""

from __future__ import annotations

import re
from dataclasses import replace

from core.contracts import FanProfile
from memory import fact_rules, fact_rules_ja
from memory.lexical import is_japanese

_NO_NAMES = (
    "언니|오빠|누나|형|형아|이모|삼촌|자기|여보|애기|아가|공주|왕자|바보|천사|친구|스텔라|선생님|고객님|사장님|"
    "뭐|뭔지|누구|누군지|비밀|알아|몰라|기억|이거|그거|저거|그게|이게|아무|다시|그만|사랑|최고"
)
_KOREAN_NAME = rf"(?P<name>(?!(?:{_NO_NAMES})(?:이|야|라|예|입))[가-힣]{{2,4}}?)"
_KANJI_KANA = r"(?P<name>[一-鿿々]{1,4}[ぁ-ゖ]{0,3}|[ぁ-ゖ]{2,6}?|[ァ-ヺー]{2,8})"
_NAMES = (
    re.compile(
        rf"(?:^|[\s,.!~])(?:내|제|나의|저의)\s?이름은?\s{_KOREAN_NAME}"
        r"(?:이야|야|이에요|이예요|예요|에요|입니다|이거든|거든|이라고|라고)(?!\s*(?:\?|？|했|말|알|생각|기억|물))"
    ),
    re.compile(
        rf"(?:^|[\s,.!~])(?:(?:나|나는|난|저|저는|전|앞으로|그냥|편하게)\s)?{_KOREAN_NAME}(?:이라고|라고)\s?"
        r"(?:부르면|합니다|하는데|(?:불러(?:줘|주세요|줄래|주라|요)?|해요|해)(?![가-힣]|\s*[?？]|\s도))"
    ),
    re.compile(
        rf"(?:私|わたし|僕|ぼく|俺|うち)の?名前は[「『]?{_KANJI_KANA}[」』]?(?:です|だよ|といいます|と言います|っていう)"
    ),
    re.compile(rf"(?:^|[、。！\s]){_KANJI_KANA}(?:と申します|って呼んで|と呼んで)"),
    re.compile(r"(?:\bmy name is|\bmy name's|\bcall me)\s+(?P<name>[A-Z][a-z]{1,14})\b", re.IGNORECASE),
)


def learned(profile: FanProfile | None, fan_id: str, text: str) -> FanProfile | None:
    """The profile with what ``text`` tells; ``None`` when there is nothing to add."""
    known = profile or FanProfile(fan_id)
    rules = fact_rules_ja if is_japanese(text) else fact_rules
    told = rules.profile_facts([text])
    fuller = replace(
        known,
        name=known.name or told_name(text),
        birthday=known.birthday or told.birthday,
        favorite=known.favorite or told.favorite,
    )
    return None if fuller == known else fuller


def told_name(text: str) -> str | None:
    """The name by which the fan introduces themselves."""
    found = (match for pattern in _NAMES if (match := pattern.search(text)) is not None)
    return next((match["name"] for match in found), None)
