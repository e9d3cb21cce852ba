"""Notices a reply that has run into a loop."""

from __future__ import annotations

import re

SYLLABLE = re.compile("(?![하허호히헤흐크키큭아야어여오요우유으이애에와워草笑])[가-힣一-鿿]")
"""What nobody says many times in a row, unlike laughter (하하하, 草草草) and drawn-out vowels (와아아아)."""


class LoopDetector:
    """Takes text character by character; true once a unit stands ``times`` times in a row.

    A unit has ``min_unit`` to ``max_unit`` characters and at least two different letters or digits, so that
    laughter (ㅋㅋㅋㅋ), rulers (-----) and table borders are no loops. One Korean syllable or Chinese character
    that stands ``syllables`` times in a row is a loop, too.
    """

    def __init__(self, min_unit: int = 4, max_unit: int = 64, times: int = 4, syllables: int = 6) -> None:
        self._units = range(min_unit, max_unit + 1)
        self._times = times
        self._runs = dict.fromkeys(self._units, 0)
        self._text = ""
        self._syllables, self._same = syllables, 1

    def push(self, char: str) -> bool:
        """Add one character; whether a loop is complete with it."""
        text = self._text
        self._same = self._same + 1 if text.endswith(char) else 1
        looping = self._same >= self._syllables and SYLLABLE.match(char) is not None
        for unit in self._units:
            if unit > len(text):
                break
            if text[-unit] != char:
                self._runs[unit] = 0
                continue
            self._runs[unit] += 1
            if self._runs[unit] >= unit * (self._times - 1):
                looping = looping or self._says_something(text[-unit:])
        self._text = (text + char)[-self._units.stop :]
        return looping

    @staticmethod
    def _says_something(unit: str) -> bool:
        return len({c for c in unit if c.isalnum()}) >= 2
