"""How the context block of the prompt is labelled, by the language that the character speaks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from core.contracts import USER_MACRO, FanProfile

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@dataclass(frozen=True, slots=True)
class ContextLabels:
    """Headings of the four sections and the labels of the fan's profile, in one language."""

    fan: str
    """Heading over what is known of the fan."""

    memories: str
    """Heading over what the fan has told."""

    knowledge: str
    """Heading over what the character knows."""

    recalled: str
    """Heading over what answers the fan's question about themselves."""

    name: str
    """Label of the fan's name."""

    birthday: str
    """Label of the fan's birthday."""

    favorite: str
    """Label of whom or what the fan likes best."""

    date: str
    """A day of the year: a template over ``month``, ``month_name`` and ``day``."""

    def fan_lines(self, profile: FanProfile | None) -> list[str]:
        """The lines of the fan's section; the name is always the macro."""
        if profile is None:
            return []
        lines = [f"{self.name}: {USER_MACRO}"] if profile.name else []
        if profile.birthday:
            lines.append(f"{self.birthday}: {self._day(profile.birthday)}")
        if profile.favorite:
            lines.append(f"{self.favorite}: {profile.favorite}")
        return lines

    def _day(self, birthday: str) -> str:
        month, day = map(int, birthday[-5:].split("-"))
        return self.date.format(month=month, month_name=_MONTHS[month - 1], day=day)


_LABELS = {
    "ko": ContextLabels("[팬]", "[기억]", "[자료]", "[떠오른 말]", "이름", "생일", "최애", "{month}월 {day}일"),
    "ja": ContextLabels(
        "[相手]", "[記憶]", "[資料]", "[思い出した言葉]", "名前", "誕生日", "推し", "{month}月{day}日"
    ),
    "en": ContextLabels(
        *("[USER]", "[MEMORY]", "[DOCUMENTS]", "[RECALLED]"), *("Name", "Birthday", "Favourite", "{month_name} {day}")
    ),
}


def base_language(tag: str) -> str:
    """The language of a BCP 47 tag without region and script: ``ko`` of ``ko-KR``."""
    return re.split(r"[-_]", tag.strip().lower(), maxsplit=1)[0]


def labels_for(language: str) -> ContextLabels:
    """Labels for a BCP 47 tag; English where a language has none of its own."""
    return _LABELS.get(base_language(language), _LABELS["en"])


def render_sections(
    labels: ContextLabels,
    fan_lines: Sequence[str],
    memories: Sequence[str],
    knowledge: Sequence[str],
    recalled: Sequence[str] = (),
) -> str:
    """The context block: every section that holds something, in the fixed order.

    Serving and training both call this, so that a model sees in training what it is asked with later.
    """
    sections = (
        (labels.fan, [one_line(line) for line in fan_lines]),
        (labels.memories, [f"- {one_line(line)}" for line in memories]),
        (labels.knowledge, [f"- {one_line(line)}" for line in knowledge]),
        (labels.recalled, [f"- {one_line(line)}" for line in recalled]),
    )
    return "\n".join("\n".join([heading, *lines]) for heading, lines in sections if lines)


def one_line(text: str) -> str:
    """A passage may hold headings and line breaks; in the prompt it is one line, as in training."""
    return " ".join(re.sub(r"(?m)^#+\s*", "", text).split())
