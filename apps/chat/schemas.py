"""Bodies of the HTTP calls, checked at the edge: an unknown key or a wrong type never gets further."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from core.contracts import FanProfile

_BIRTHDAY = re.compile(r"^(?:\d{4}-)?(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$")
_ALLOWED_CONTROLS = frozenset("\n\t")


def _printable(text: str) -> str:
    """Reject control and other invisible characters that a message has no use for."""
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cs", "Co") and char not in _ALLOWED_CONTROLS:
            raise ValueError(f"holds the control character U+{ord(char):04X}; remove it")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


def _birthday(text: str) -> str:
    if not _BIRTHDAY.match(text):
        raise ValueError("must be YYYY-MM-DD or MM-DD")
    return text


Text = Annotated[str, AfterValidator(_printable), AfterValidator(_not_blank)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProfileBody(Body):
    """What a fan tells about themselves; a field left out stays unknown."""

    name: Annotated[Text, Field(max_length=32)] | None = None
    birthday: Annotated[str, AfterValidator(_birthday)] | None = None
    """``YYYY-MM-DD`` or ``MM-DD``."""

    favorite: Annotated[Text, Field(max_length=64)] | None = None
    """Favourite member (최애)."""

    def as_profile(self, fan_id: str) -> FanProfile:
        name = self.name.strip() if self.name else None
        return FanProfile(fan_id, name, self.birthday, self.favorite)


class SessionBody(Body):
    persona: str
    fan_id: Identifier | None = None
    """The caller's own id of the fan; made up when a profile comes without one."""

    profile: ProfileBody | None = None


class ChatBody(Body):
    session_id: Identifier
    message: Text
    stream: bool = False


class KeyBody(Body):
    label: Annotated[str, Field(min_length=1, max_length=64)]
    scopes: tuple[Annotated[str, Field(pattern="^(chat|admin)$")], ...] = ("chat",)


class CanaryBody(Body):
    share: int
    """Percent of the fans, 1 to 99."""


def profile_json(profile: FanProfile) -> dict[str, Any]:
    return {
        "fan_id": profile.fan_id,
        "name": profile.name,
        "birthday": profile.birthday,
        "favorite": profile.favorite,
    }
