"""Lore that the talk calls up stands in the prompt, before what was retrieved."""

from dataclasses import replace

from core.contracts import Passage
from personas.lorebook import Lorebook, LoreEntry


async def test_active_lore_comes_before_retrieved_passages_and_only_when_called(stage):
    lore = LoreEntry(keys=("등대",), content="등대는 1902년에 섰다.")
    card = stage.haneul.card.model_copy(update={"lorebook": Lorebook(entries=(lore,))})
    persona = replace(stage.haneul, card=card)
    stage.retriever.search = found
    for message, expected in (
        ("등대 알아?", "[자료]\n- 등대는 1902년에 섰다.\n- 찾은 글"),
        ("안녕", "[자료]\n- 찾은 글"),
    ):
        events = [event async for event in stage.turns().run(stage.request(message, persona=persona))]
        assert expected in stage.generator.prompts[-1][-2].content
        assert [source.title for source in events[-1].sources] == ["글"]


async def found(*_: object) -> list[Passage]:
    return [Passage("1", "찾은 글", "글", "album", 0.9)]
