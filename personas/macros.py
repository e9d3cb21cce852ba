"""The ``{{user}}`` macro: a fan's name is filled in on the way out and taken out on the way in.

So a name never enters weights, prompts or logs, and prompts of different fans share their prefix. Text with
the macro is written as after a consonant (``{{user}}아``, ``{{user}}이가``); filling picks the particle that
the real name takes (서윤아, 민호야). Rules: 한글 맞춤법 of the National Institute of Korean Language
(particles after 받침) and the everyday 이 that follows a given name ending in a consonant.
"""

from __future__ import annotations

import re

from core.contracts import USER_MACRO

# Particle as written after the macro → (after a consonant, after a vowel). Longest first.
_PARTICLES: dict[str, tuple[str, str]] = {
    "이라고": ("이라고", "라고"),
    "이라는": ("이라는", "라는"),
    "이한테": ("이한테", "한테"),
    "이에게": ("이에게", "에게"),
    "이처럼": ("이처럼", "처럼"),
    "이하고": ("이하고", "하고"),
    "이보다": ("이보다", "보다"),
    "이부터": ("이부터", "부터"),
    "이까지": ("이까지", "까지"),
    "이네": ("이네", "네"),
    "이구나": ("이구나", "구나"),
    "이가": ("이가", "가"),
    "이는": ("이는", "는"),
    "이를": ("이를", "를"),
    "이랑": ("이랑", "랑"),
    "이도": ("이도", "도"),
    "이만": ("이만", "만"),
    "이의": ("이의", "의"),
    "이야": ("이야", "야"),
    "이랬": ("이랬", "랬"),
    "이잖": ("이잖", "잖"),
    "이지": ("이지", "지"),
    "이다": ("이다", "다"),
    "이니까": ("이니까", "니까"),
    "이라면": ("이라면", "라면"),
    "이라도": ("이라도", "라도"),
    "아": ("아", "야"),
    "은": ("은", "는"),
    "을": ("을", "를"),
    "과": ("과", "와"),
    "이": ("이", "가"),
    "으로": ("으로", "로"),
}
# A bare 이/은/을/과/아 is a particle only where the word ends: "{{user}}이름" is not one.
_BARE = frozenset({"아", "은", "을", "과", "이", "으로"})
_LONGEST = max(map(len, _PARTICLES))
_FOLLOWS_WORD = re.compile(r"[가-힣]")
_MACRO_AND_PARTICLE = re.compile(
    re.escape(USER_MACRO)
    + "(?:("
    + "|".join(p + (r"(?![가-힣])" if p in _BARE else "") for p in sorted(_PARTICLES, key=len, reverse=True))
    + "))?"
)


def ends_in_consonant(name: str) -> bool:
    """Whether a particle after ``name`` takes the consonant form; after other scripts it does not."""
    last = name.rstrip()[-1:]
    return "가" <= last <= "힣" and (ord(last) - ord("가")) % 28 != 0


def fill(text: str, name: str) -> str:
    """Replace every macro by ``name`` with the particle that fits it."""
    consonant = ends_in_consonant(name)

    def replaced(match: re.Match[str]) -> str:
        forms = _PARTICLES.get(match.group(1) or "")
        return name + (forms[0 if consonant else 1] if forms else "")

    return _MACRO_AND_PARTICLE.sub(replaced, text)


def mask(text: str, name: str | None) -> str:
    """Replace the fan's own name in what they write by the macro, with the particle in its written form.

    Names of one syllable are left alone: they occur inside too many words.
    """
    if not name or len(name) < 2 or name not in text:
        return text
    forms = {(pair[0] if ends_in_consonant(name) else pair[1]): written for written, pair in _PARTICLES.items()}
    particle = "|".join(re.escape(form) + "(?![가-힣])" for form in sorted(forms, key=len, reverse=True))
    pattern = re.compile(rf"(?<![가-힣]){re.escape(name)}({particle})?")
    return pattern.sub(lambda match: USER_MACRO + forms.get(match.group(1) or "", ""), text)


class StreamFiller:
    """Fills macros in a stream; holds back only what may still be part of a macro or its particle."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held = ""

    def feed(self, text: str) -> str:
        self._held += text
        cut = self._safe_length()
        ready, self._held = self._held[:cut], self._held[cut:]
        return fill(ready, self._name)

    def finish(self) -> str:
        ready, self._held = self._held, ""
        return fill(ready, self._name)

    def _safe_length(self) -> int:
        """How much of the held text no later text can change."""
        start = self._held.rfind(USER_MACRO)
        if start >= 0:
            tail = self._held[start + len(USER_MACRO) :]
            # One character past the longest particle decides; so does anything that is not Hangul.
            undecided = len(tail) <= _LONGEST and all(_FOLLOWS_WORD.match(char) for char in tail)
            if undecided:
                return start
        for length in range(min(len(USER_MACRO) - 1, len(self._held)), 0, -1):
            if self._held.endswith(USER_MACRO[:length]):
                return len(self._held) - length
        return len(self._held)
