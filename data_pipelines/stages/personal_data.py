"""Personal data is masked, never learned: detectors of ``safety.pii``, names that fans give, account handles."""

from __future__ import annotations

import re
from collections.abc import Iterable

from core.contracts import USER_MACRO
from data_pipelines.rows import Row, Turn
from data_pipelines.stages.base import Outcome, RowStage
from personas.macros import mask as mask_name
from safety import pii

MIN_CONFIDENCE = 0.3
"""Lower than in live talk: a number masked too many costs nothing here."""

ID_LABEL = "[아이디]"

_HANDLE = re.compile(r"(?<![\w.@/])@[A-Za-z0-9_](?:[A-Za-z0-9_.]{1,29})")
_FULL_NAME = re.compile(
    r"(?:(?:내|제|본)\s?이름은|(?:나|저)는\s(?=[가-힣]{2,4}(?:이?라고\s(?:해|합니다|불러))))\s?"
    r"(?P<name>[가-힣]{2,4}?)(?=(?:이야|야|이에요|예요|입니다|이고|고|이라고|라고)(?![가-힣])|이?라고\s)"
)


def personal_data() -> RowStage:
    """Masks findings and says in ``safety_flags`` which kinds there were."""

    def stage(row: Row) -> Outcome:
        names = _introduced(row)
        masked = [_masked(turn, names) for turn in row.messages]
        flags = [flag for _, found in masked for flag in found]
        turns = [turn for turn, _ in masked]
        return Outcome.keep(row.with_messages(turns, flags) if flags else row)

    return stage


def _introduced(row: Row) -> list[str]:
    """Names that fans give as their own."""
    found = {match["name"] for text in row.texts("user") for match in _FULL_NAME.finditer(text)}
    return sorted(found, key=len, reverse=True)


def _masked(turn: Turn, names: Iterable[str]) -> tuple[Turn, list[str]]:
    findings = pii.find_all(turn.content, min_confidence=MIN_CONFIDENCE)
    text = pii.mask(turn.content, findings)
    flags = [f"masked:{finding.kind}" for finding in findings]
    without_ids = _HANDLE.sub(ID_LABEL, text)
    if without_ids != text:
        flags.append("masked:id")
    without_names = without_ids
    for name in names:
        without_names = mask_name(without_names, name)
        without_names = without_names.replace(name, USER_MACRO) if len(name) >= 3 else without_names
    if without_names != without_ids:
        flags.append("masked:name")
    return turn.model_copy(update={"content": without_names}), flags
