"""In which of the platform's languages a single line is written, judged by its script."""

from __future__ import annotations

import re
from typing import Literal

LineLanguage = Literal["ko", "ja", "en"]

_KOREAN = re.compile("[가-힣ㄱ-ㅎ]")
_JAPANESE = re.compile("[ぁ-ヿ一-鿿]")


def line_language(text: str) -> LineLanguage:
    """Any Hangul makes a line Korean, foreign words in it or not; then kana and Chinese characters make it Japanese.

    ``documents.models.language_of`` weighs the scripts of a whole document instead.
    """
    if _KOREAN.search(text):
        return "ko"
    return "ja" if _JAPANESE.search(text) else "en"
