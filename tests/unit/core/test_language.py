from __future__ import annotations

import pytest

from core.language import line_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("뭐야", "ko"),
        ("ㅇㅇ", "ko"),
        ("Kelron 이름 뭐야", "ko"),
        ("何ですか", "ja"),
        ("半休 時刻", "ja"),
        ("カード", "ja"),
        ("why", "en"),
        ("!?", "en"),
    ],
)
def test_the_script_tells_the_language_of_a_line(text: str, language: str) -> None:
    assert line_language(text) == language
