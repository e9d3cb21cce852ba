"""``artistmind chat``: a conversation in the terminal, or through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from cli.chat_api import ChatApi, Final, OpenSession

_HELP = "/new starts over, /who tells who is talking, /quit ends"


def chat(
    persona: Annotated[str, typer.Option(help="Which character answers.")] = "haneul",
    name: Annotated[str | None, typer.Option(help="What the character calls you; kept in your profile.")] = None,
    fan: Annotated[str | None, typer.Option(help="Your id: with it the character remembers you.")] = None,
    url: Annotated[str | None, typer.Option(help="Gateway; default: the one `up` started.")] = None,
) -> None:
    """Talk to a character; replies appear as they are written.

    \b
    Examples:
      artistmind chat --name 서윤
      artistmind chat --persona haneul --fan seoyun --name 서윤
      echo 안녕 | artistmind chat
    """
    from rich.console import Console

    from cli.chat_api import ChatApi

    with ChatApi(url or running_url()) as api:
        Conversation(api, Caller(persona, fan, name), Console(highlight=False)).run()


def running_url() -> str:
    from cli.state import load_state
    from core.settings import get_settings

    settings = get_settings()
    graph = load_state(settings.home_dir).graph
    return graph.url if graph else f"http://{settings.host}:{settings.port}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who talks to whom."""

    persona: str
    fan: str | None
    name: str | None


class Conversation:
    """Reads lines, sends them, writes replies; the session is ended with it."""

    def __init__(self, api: ChatApi, caller: Caller, console: Console) -> None:
        self._api = api
        self._caller = caller
        self._console = console
        self._interactive = sys.stdin.isatty()
        self._session: OpenSession

    def run(self) -> None:
        self._open()
        try:
            for line in self._lines():
                if line == "/quit":
                    break
                self._handle(line)
        except KeyboardInterrupt:
            self._console.print()
        finally:
            self._api.end_session(self._session.session_id)

    def _open(self) -> None:
        self._session = self._api.open_session(self._caller.persona, self._caller.fan, self._caller.name)
        if self._interactive:
            self._note(_HELP)
            self._write(self._session.greeting + "\n")

    def _lines(self) -> Iterator[str]:
        while True:
            try:
                line = input("> " if self._interactive else "")
            except EOFError:
                return
            if line.strip():
                yield line.strip()

    def _handle(self, line: str) -> None:
        if line == "/new":
            self._api.end_session(self._session.session_id)
            self._open()
        elif line == "/who":
            fan = self._caller.name or self._caller.fan or "a stranger"
            self._note(f"{self._session.persona} talks with {fan} (session {self._session.session_id})")
        elif line.startswith("/"):
            self._note(_HELP)
        else:
            self._turn(line)

    def _turn(self, line: str) -> None:
        from cli.chat_api import Delta
        from core.errors import ArtistMindError

        try:
            for event in self._api.say(self._session.session_id, line):
                if isinstance(event, Delta):
                    self._write(event.text)
                else:
                    self._finish(event)
        except ArtistMindError as error:
            if not self._interactive:
                raise
            self._note(f"\n{error}")

    def _finish(self, final: Final) -> None:
        self._write("\n")
        remarks = [f"without {part}" for part in final.degraded]
        if final.blocked:
            remarks.append("blocked")
        if not final.durable:
            remarks.append("not stored yet")
        if remarks:
            self._note(f"({', '.join(remarks)})")

    def _write(self, text: str) -> None:
        """Straight to the terminal: a reply may hold anything that looks like markup."""
        self._console.file.write(text)
        self._console.file.flush()

    def _note(self, text: str) -> None:
        """Aside from the conversation: dimmed, and never into a pipe's output."""
        from rich.console import Console

        Console(stderr=True, highlight=False).print(text, style="dim", markup=False)
