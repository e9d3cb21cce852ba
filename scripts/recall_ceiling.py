"""How often the lines that ``memory.recall`` finds hold the answer, on the memory sets and without any model.

An upper bound for what quoting can reach (docs/experiments.md). Names are not counted: they stand in the profile.

    python scripts/recall_ceiling.py [--reranker reranker]
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from core.contracts import FanContext, FanProfile, Message
from memory.profile_rules import learned
from memory.recall import asks_back
from memory.recaller import Recaller
from memory.reranker import CrossEncoder, RerankerConfig
from personas.context_labels import labels_for

SETS = Path(__file__).parents[1] / "evaluation" / "sets"
LANGUAGES = {"haneul": "ko", "mir": "ko", "hotaru": "ja"}
LINES = 2
"""As many as ``serve_local.yaml`` shows (``recalled_lines``)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reranker", help="reads the lines, instead of comparing words")
    model = parser.parse_args().reranker
    asyncio.run(measure(Recaller(CrossEncoder(RerankerConfig(model=model)) if model else None, timeout_s=30)))


async def measure(recaller: Recaller) -> None:
    for character, language in LANGUAGES.items():
        asked = recognised = found = 0
        for line in (SETS / character / "memory.jsonl").read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            fan = FanContext(FanProfile("fan", **item.get("profile", {})))
            history: list[Message] = []
            for turn in (turn for session in item["sessions"] for turn in session):
                profile = learned(fan.profile, "fan", turn["user"]) or fan.profile
                fan = FanContext(profile)
                if turn.get("gold") and turn["kind"] != "name":
                    asked += 1
                    if asks_back(turn["user"]):
                        recognised += 1
                        known = labels_for(language).fan_lines(fan.profile)
                        shown = await recaller.lines(turn["user"], known, (), history, LINES)
                        found += any(gold in text for gold in turn["gold"] for text in shown)
                history.append(Message("user", turn["user"]))
        print(f"{character}: asked {asked}, recognised {recognised}, answer among the lines {found}")


if __name__ == "__main__":
    main()
