"""Korean street addresses, by road (도로명) or by lot (지번), down to a number."""

from __future__ import annotations

from safety.pii.base import PatternDetector

_PROVINCE = (
    "서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|충북|충남|전북|전남|경북|경남|제주|"
    "충청[남북]|전라[남북]|경상[남북]"
)
_PATTERN = rf"""
(?<![가-힣])
(?: (?:{_PROVINCE}) (?:특별자치시|특별자치도|특별시|광역시|시|도)? \s{{1,2}} )?
(?: [가-힣]{{1,6}}[시군구] \s{{1,2}} ){{1,3}}
(?: [가-힣]{{1,6}}[읍면동가] \s{{1,2}} )?
(?:
    [가-힣0-9]{{1,10}}(?:로|길|대로) (?:\s?\d{{1,4}}번?[가-힣]?길)? \s? \d{{1,4}}(?:-\d{{1,4}})?   # 테헤란로 123
  | [가-힣0-9]{{1,6}}[동리] \s? (?:산\s?)?\d{{1,4}}(?:-\d{{1,4}})?(?:번지)?                       # 역삼동 12-3
)
(?! \d|[호년월일시분][^가-힣]?선? )
(?: ,?\s?\d{{1,4}}동 )? (?: ,?\s?\d{{1,5}}호 )?
"""


def address_detector() -> PatternDetector:
    return PatternDetector("address", _PATTERN)
