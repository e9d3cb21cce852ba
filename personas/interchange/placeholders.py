"""Placeholders of other programs, and marks that only a chat template may write, out of imported text."""

from __future__ import annotations

import re

from core.contracts import USER_MACRO

_CHAR = re.compile(r"\{\{char\}\}|<(?:bot|char)>", re.IGNORECASE)
_USER = re.compile(r"\{\{user\}\}|<user>", re.IGNORECASE)
_REMARK = re.compile(r"\{\{(?://|comment:|hidden_key:)[^{}]*+\}\}|\{\{original\}\}", re.IGNORECASE)
_CHOICE = re.compile(r"\{\{(?:random|pick)::?((?:\\,|[^{},])*+)[^{}]*+\}\}", re.IGNORECASE)
# <|im_start|>, [INST], <<SYS>>, <s>, <start_of_turn>: a model would take them for the end of what it is told.
_TEMPLATE_MARK = re.compile(r"<\|[^<>|\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>", re.IGNORECASE)
_ROUNDS = 5
"""Marks inside marks inside marks: nobody writes that by chance, so then all brackets go."""

_DECORATOR = re.compile(r"\A(?:\s*@@@?[a-z_]+[^\n]*(?:\n|\Z))+")


def resolve(text: str, name: str) -> str:
    """The character's own name filled in, remarks dropped, the first of several choices taken.

    The fan's placeholder becomes ours and stays: it is filled in when the text is shown.
    """
    text = _CHOICE.sub(lambda match: match[1].replace("\\,", ","), _REMARK.sub("", text))
    return without_template_marks(_USER.sub(USER_MACRO, _CHAR.sub(lambda _: name, text))).strip()


def without_template_marks(text: str) -> str:
    """Without marks of chat templates, even those that taking out others puts together."""
    for _ in range(_ROUNDS):
        if (shorter := _TEMPLATE_MARK.sub("", text)) == text:
            return text
        text = shorter
    return re.sub(r"[<>|\[\]]", "", text)


def without_decorators(text: str) -> str:
    """Lore without the ``@@`` lines at its head, which tell other programs where to put it."""
    return _DECORATOR.sub("", text)
