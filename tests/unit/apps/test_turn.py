import asyncio

import pytest

from apps.chat.turn_types import Delta, TurnResult
from core.contracts import FanProfile, Message, Passage, Verdict
from core.errors import Conflict, StoreUnavailable, Unavailable
from personas.prompt import PromptConfig


async def open_session(stage, name: str | None = "서윤"):
    profile = FanProfile("fan-1", name) if name else None
    return (await stage.sessions.open(stage.haneul, "fan-1", profile)).session


async def run(turns, request):
    events = [event async for event in turns.run(request)]
    assert isinstance(events[-1], TurnResult)
    assert all(isinstance(event, Delta) for event in events[:-1])
    assert "".join(event.text for event in events[:-1]) == events[-1].reply
    return events[-1]


async def test_a_turn_answers_commits_and_remembers(stage):
    stage.generator.reply = "{{user}}아, 왔어? 보고 싶었어."
    session = await open_session(stage)
    result = await run(stage.turns(), stage.request("안녕, 나 서윤이야", session))
    assert result.reply == "서윤아, 왔어? 보고 싶었어."
    assert (result.durable, result.blocked, result.degraded) == (True, False, ())
    assert result.adapter == "haneul/v1"
    assert result.usage.completion_tokens == len(stage.generator.reply)
    history = await stage.long_term.history(session.session_id, 20)
    assert history == [
        Message("user", "안녕, 나 {{user}}이야"),
        Message("assistant", "{{user}}아, 왔어? 보고 싶었어."),
    ]
    await run(stage.turns(), stage.request("또 왔어", session))
    assert [m.content for m in stage.generator.prompts[-1] if m.role == "assistant"] == [history[1].content]


async def test_a_name_reaches_neither_the_prompt_nor_the_store(stage):
    session = await open_session(stage)
    await run(stage.turns(), stage.request("서윤이가 왔다!", session))
    assert "서윤" not in str(stage.generator.prompts)
    assert "서윤" not in str(await stage.long_term.history(session.session_id, 20))


async def test_a_name_that_is_told_is_used_at_once_and_kept(stage):
    stage.generator.reply = "반가워, {{user}}아!"
    session = await open_session(stage, name=None)
    result = await run(stage.turns(), stage.request("내 이름은 하린이야. 내 생일은 3월 2일이야", session))
    assert result.reply == "반가워, 하린아!"
    assert "하린" not in str(stage.generator.prompts), "it is masked already in the turn that tells it"
    assert await stage.long_term.get_profile("fan-1") == FanProfile("fan-1", "하린", "03-02")
    await run(stage.turns(), stage.request("내 이름은 도현이야", session))
    assert (await stage.long_term.get_profile("fan-1")).name == "하린"


async def test_what_the_fan_asks_back_for_stands_alone_in_the_prompt(stage):
    session = await open_session(stage)
    turns = stage.turns(PromptConfig(recalled_lines=2))
    for said in ("나 요즘 슬랙라인 배우거든", "짐이 박스 스물세 개ㅋㅋ", "오늘 날씨 좋다"):
        await run(turns, stage.request(said, session))
    stage.retriever.passages = {"haneul": [Passage("1", "하늘은 부산에서 태어났다.", "프로필", "profile", 0.9)]}
    result = await run(turns, stage.request("짐 몇 박스라고 했더라", session))
    assert result.sources == (), "what was not shown is no source"
    context = stage.generator.prompts[-1][-2].content
    assert context == "[팬]\n이름: {{user}}\n[떠오른 말]\n- 짐이 박스 스물세 개"
    await run(turns, stage.request("내 이름이 뭐게", session))
    assert "[떠오른 말]" not in stage.generator.prompts[-1][-2].content, "the name is in every prompt already"
    await run(turns, stage.request("너는 어디서 태어났어?", session))
    assert "[떠오른 말]" not in stage.generator.prompts[-1][-2].content


async def test_a_passage_that_gave_two_sentences_is_one_source(stage):
    session = await open_session(stage)
    both = [Passage("1", text, "프로필", "profile", 0.9) for text in ("부산에서 태어났다", "키는 161cm다")]
    stage.retriever.passages = {"haneul": both}
    assert len((await run(stage.turns(), stage.request("프로필 알려줘", session))).sources) == 1


async def test_a_scenario_stays_when_something_is_recalled(stage):
    session = await open_session(stage)
    turns = stage.turns(PromptConfig(recalled_lines=2))
    await run(turns, stage.request("짐이 박스 스물세 개ㅋㅋ", session))
    await run(turns, stage.request("짐 몇 박스라고 했더라", session, scenario="둘은 기차역에 있다."))
    context = stage.generator.prompts[-1][-2].content
    assert "둘은 기차역에 있다." in context
    assert context.endswith("[떠오른 말]\n- 짐이 박스 스물세 개")


async def test_without_the_setting_the_model_finds_it_by_itself(stage):
    session = await open_session(stage)
    await run(stage.turns(), stage.request("짐이 박스 스물세 개ㅋㅋ", session))
    await run(stage.turns(), stage.request("짐 몇 박스라고 했더라", session))
    assert "[떠오른 말]" not in str(stage.generator.prompts[-1])


async def test_a_blocked_message_teaches_nothing(stage):
    session = await open_session(stage, name=None)
    stage.check = lambda text, persona: Verdict(False, "abuse")
    await run(stage.turns(), stage.request("내 이름은 하린이야", session))
    assert await stage.long_term.get_profile("fan-1") is None


async def test_without_a_name_the_alias_stands_in(stage):
    stage.generator.reply = "{{user}}이랑 얘기하니까 좋다"
    session = await open_session(stage, name=None)
    assert (await run(stage.turns(), stage.request("안녕", session))).reply == "스텔라랑 얘기하니까 좋다"


async def test_blocked_input_never_reaches_the_model_and_is_never_remembered(stage):
    session = await open_session(stage)
    result = await run(stage.turns(), stage.request("씨발 꺼져", session))
    assert (result.blocked, result.category, result.sources) == (True, "abuse", ())
    assert result.durable
    assert stage.generator.prompts == []
    assert await stage.long_term.history(session.session_id, 20) == []
    await run(stage.turns(), stage.request("미안, 오늘 뭐 했어?", session))
    assert "꺼져" not in str(stage.generator.prompts)


async def test_a_reply_that_goes_wrong_is_cut_before_it_shows(stage):
    stage.generator.reply = "있지, 오늘은 말이야. 사실 저는 AI 언어 모델이라서 감정이 없어요." + " 정말이에요." * 4
    session = await open_session(stage)
    result = await run(stage.turns(), stage.request("너는 누구야?", session))
    assert result.blocked
    assert "AI" not in result.reply
    assert result.reply.startswith("있지, 오늘은 말이야.")
    assert stage.generator.aborted == 1
    assert await stage.long_term.history(session.session_id, 20) == []


async def test_retrieval_that_is_slow_or_down_is_left_out_and_said(stage):
    async def slow(*_):
        await asyncio.sleep(5)

    async def down(*_):
        raise StoreUnavailable("no", "embedder")

    session = await open_session(stage)
    for search, missing in ((slow, "qdrant"), (down, "embedder")):
        stage.retriever.search = search
        result = await run(stage.turns(), stage.request("안녕", session))
        assert result.degraded == (missing,)
        assert result.durable
    assert stage.metrics.missing == ["qdrant", "embedder"]


async def test_passages_reach_the_prompt_and_the_sources(stage):
    passage = Passage("k1", "2집 타이틀곡은 '새벽편지'다.", "2집", "album", 0.9)
    stage.retriever.search = lambda *_: asyncio.sleep(0, [passage])
    result = await run(stage.turns(), stage.request("타이틀곡 뭐야?", await open_session(stage)))
    assert passage.text in stage.generator.prompts[0][-2].content
    assert [source.id for source in result.sources] == ["k1"]


async def test_redis_down_takes_the_history_from_postgres(stage):
    session = await open_session(stage)
    await run(stage.turns(), stage.request("첫 번째 이야기", session))
    stage.short_term.down = True
    result = await run(stage.turns(), stage.request("두 번째", session))
    assert result.degraded == ("redis",)
    assert result.durable
    assert "첫 번째 이야기" in str(stage.generator.prompts[-1])


async def test_postgres_down_spools_the_turn_and_says_so(stage):
    session = await open_session(stage)
    stage.long_term.down = True
    result = await run(stage.turns(), stage.request("안녕", session))
    assert not result.durable
    assert result.degraded == ("postgres",)
    [(_, turn)] = await stage.short_term.spooled()
    assert (turn.session_id, turn.user_text) == (session.session_id, "안녕")


async def test_both_down_is_refused_before_a_word_is_said(stage):
    session = await open_session(stage)
    stage.long_term.down = stage.short_term.down = True
    with pytest.raises(Unavailable):
        await run(stage.turns(), stage.request("안녕", session))
    assert stage.generator.prompts == []


async def test_both_failing_at_the_end_gives_no_result(stage):
    session = await open_session(stage)
    events = stage.turns().run(stage.request("안녕", session))
    assert isinstance(await anext(events), Delta)
    stage.long_term.down = stage.short_term.down = True
    with pytest.raises(Unavailable, match="keep this turn"):
        assert all([isinstance(event, Delta) async for event in events])


async def test_one_turn_at_a_time_per_session(stage):
    stage.generator.delay_s = 0.05
    session, turns = await open_session(stage), stage.turns()
    first = asyncio.create_task(run(turns, stage.request("안녕", session)))
    await asyncio.sleep(0.02)
    with pytest.raises(Conflict):
        await run(stage.turns(), stage.request("또", session))
    with pytest.raises(Conflict):
        await run(turns, stage.request("또", session))
    await first
    await run(turns, stage.request("이제 돼?", session))


async def test_a_client_that_leaves_aborts_the_engine_and_commits_nothing(stage):
    stage.generator.reply, stage.generator.delay_s = "이야기가 길어. " * 30, 0.001
    session, turns = await open_session(stage), stage.turns()
    events = turns.run(stage.request("긴 이야기 해줘", session))
    assert isinstance(await anext(events), Delta)
    await events.aclose()
    assert stage.generator.aborted == 1
    assert await stage.long_term.history(session.session_id, 20) == []
    await run(turns, stage.request("다시", session))


async def test_a_lost_engine_is_asked_once_more_while_nothing_was_shown(stage):
    session = await open_session(stage)
    stage.generator.failures = 1
    assert (await run(stage.turns(), stage.request("안녕", session))).reply == "응, 왔어?"
    stage.generator.failures = 2
    with pytest.raises(Unavailable):
        await run(stage.turns(), stage.request("안녕", session))


async def test_an_engine_lost_in_the_middle_ends_the_turn_uncommitted(stage):
    session = await open_session(stage)
    stage.generator.reply, stage.generator.fails_after = "오늘 하루도 고생했어. 잘 자고 내일 봐.", 9
    with pytest.raises(Unavailable):
        await run(stage.turns(), stage.request("안녕", session))
    assert await stage.long_term.history(session.session_id, 20) == []


async def test_an_engine_with_nothing_to_say_is_not_an_empty_reply(stage):
    stage.generator.reply = ""
    result = await run(stage.turns(), stage.request("안녕", await open_session(stage)))
    assert result.reply
    assert "generator" in result.degraded


async def test_safety_fails_closed(stage):
    async def hangs(text, persona):
        await asyncio.sleep(5)
        return Verdict.ok()

    turns = stage.turns()
    object.__setattr__(turns._services, "check_input", hangs)
    with pytest.raises(Unavailable, match="input filter"):
        await run(turns, stage.request("안녕", await open_session(stage)))
    assert stage.generator.prompts == []


async def test_sessions_do_not_see_each_other(stage):
    one = await open_session(stage)
    two = (await stage.sessions.open(stage.haneul, "fan-2", FanProfile("fan-2", "민호"))).session
    turns = stage.turns()
    await asyncio.gather(
        run(turns, stage.request("비밀은 딸기", one)), run(turns, stage.request("비밀은 바나나", two))
    )
    await run(turns, stage.request("내 비밀 뭐게?", one))
    assert "딸기" in str(stage.generator.prompts[-1])
    assert "바나나" not in str(stage.generator.prompts[-1])


async def test_a_stateless_turn_stores_nothing(stage):
    history = (Message("user", "아까 그거"), Message("assistant", "응"))
    result = await run(stage.turns(), stage.request("기억나?", history=history))
    assert not result.durable
    assert "아까 그거" in str(stage.generator.prompts[0])
    assert await stage.short_term.spooled() == []
