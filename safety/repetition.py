"""Notices a reply that has run into a loop."""

from __future__ import annotations


class LoopDetector:
    """Takes text character by character; true once a unit stands ``times`` times in a row.

    A unit has ``min_unit`` to ``max_unit`` characters and at least two different letters or digits, so that
    laughter (ㅋㅋㅋㅋ), rulers (-----) and table borders are no loops.
    """

    def __init__(self, min_unit: int = 4, max_unit: int = 64, times: int = 4) -> None:
        self._units = range(min_unit, max_unit + 1)
        self._times = times
        self._runs = dict.fromkeys(self._units, 0)
        self._text = ""

    def push(self, char: str) -> bool:
        """Add one character; whether a loop is complete with it."""
        text = self._text
        looping = False
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
