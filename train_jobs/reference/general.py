"""The voices that are no character: general talk in three speech levels, and public small talk."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from core.settings import PROJECT_ROOT
from data_pipelines.grammar.intents import Intent, load_intents
from data_pipelines.grammar.voices import Voice

GENERAL_DATA = PROJECT_ROOT / "train_jobs" / "reference" / "data"

Speech = Literal["casual", "polite", "formal"]

SPEECH_PROMPTS: dict[Speech, tuple[str, ...]] = {
    "casual": (
        "친한 친구처럼 반말로 이야기해.",
        "너는 다정한 친구야. 반말로 짧게 답해.",
        "편하게 반말로 대화해 줘.",
        "오래된 친구처럼 말을 놓고 답해.",
    ),
    "polite": (
        "부드러운 존댓말로 이야기해요.",
        "친절하게 해요체로 답해 주세요.",
        "다정한 존댓말로 짧게 답해요.",
    ),
    "formal": (
        "정중한 존댓말로 답합니다.",
        "당신은 친절한 안내원입니다. 합쇼체로 답하십시오.",
        "격식을 갖추어 간결하게 답변합니다.",
    ),
}


def general_voices() -> list[Voice]:
    """The voices that are no character, sorted by how politely their replies end."""
    by_speech: dict[Speech, list[Intent]] = {"casual": [], "polite": [], "formal": []}
    for intent in load_intents(GENERAL_DATA):
        by_speech[speech_of(intent.reply)].append(intent)
    return [
        Voice(name=speech, systems=SPEECH_PROMPTS[speech], intents=tuple(intents), noisy=speech == "casual")
        for speech, intents in by_speech.items()
        if intents
    ]


def speech_of(replies: Sequence[str]) -> Speech:
    """The speech level that most of ``replies`` end in."""
    endings = [reply.rstrip(" .!?~…✨🌙☁️💙🍓") for reply in replies]
    formal = sum(ending.endswith(("니다", "니까", "시오", "시다")) for ending in endings)
    polite = sum(ending.endswith(("요", "죠")) for ending in endings)
    if formal * 2 > len(endings):
        return "formal"
    return "polite" if (polite + formal) * 2 > len(endings) else "casual"


def small_talk_voice(path: Path) -> Voice:
    """Public question-and-answer pairs (CSV with columns Q and A) as one more polite voice."""
    with path.open(encoding="utf-8", newline="") as file:
        pairs = tuple((row["Q"].strip(), row["A"].strip()) for row in csv.DictReader(file))
    return Voice(name="small_talk", systems=SPEECH_PROMPTS["polite"], intents=(), pairs=pairs)
