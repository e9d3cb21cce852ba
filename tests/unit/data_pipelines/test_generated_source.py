"""Generation through an endpoint: a small local server stands in for the provider."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError, Unavailable
from core.settings import PROJECT_ROOT
from data_pipelines.config import GeneratedSource
from data_pipelines.rows import Row, make_row
from data_pipelines.sources.generated import GenerationPlan, plan
from data_pipelines.sources.language_model import LlmRequest, Pace, ReplyCache
from personas.loader import load_card
from personas.schema import Card


class Provider:
    """Answers with the statuses in ``script``, then with conversations for ever."""

    def __init__(self) -> None:
        self.script: list[int] = []
        self.seen: list[dict[str, Any]] = []
        self.broken_replies = False
        provider, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    provider.seen.append({**body, "authorization": self.headers["Authorization"]})
                    status = provider.script.pop(0) if provider.script else 200
                    number = len(provider.seen)
                content = json.dumps(provider.answer(number) if status == 200 else {"error": {"message": "no"}})
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                if status == 429:
                    self.send_header("Retry-After-Ms", "10")
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def answer(self, number: int) -> dict[str, Any]:
        talk = [{"role": "user", "content": f"질문 {number}"}, {"role": "assistant", "content": f"대답 {number}"}]
        text = "Sorry." if self.broken_replies else f"```json\n{json.dumps([talk, [{'role': 'user'}]])}\n```"
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-test")


@pytest.fixture(scope="module")
def card() -> Card:
    return load_card(PROJECT_ROOT / "personas" / "cards" / "haneul" / "card.yaml")


def seeds() -> list[Row]:
    return [
        make_row(
            character_id="haneul",
            dataset_source="seeds",
            kind="persona",
            category="talk",
            messages=({"role": "user", "content": f"말 {n}"}, {"role": "assistant", "content": f"답 {n}"}),
        )
        for n in range(6)
    ]


def planned(card: Card, url: str | None, **values: object) -> GenerationPlan:
    settings: dict[str, object] = {
        "base_url": url,
        "model": "m",
        "api_key_env": "TEST_KEY",
        "counts": {"persona": 20},
        "queries_per_second": 500,
        "max_retries": 3,
        "usd_per_million_out": 10.0,
    }
    return plan(GeneratedSource.model_validate({**settings, **values}), card, seeds(), seed=0)


def test_busy_answers_are_asked_for_again(card: Card, provider: Provider, tmp_path: Path) -> None:
    provider.script = [429, 503]
    found = planned(card, provider.url).run(ReplyCache(tmp_path))
    assert len(found.rows) == 4
    assert len(provider.seen) == 6
    assert found.skipped == {"unreadable reply": 4}
    assert {one["authorization"] for one in provider.seen} == {"Bearer sk-test"}


def test_replies_are_paid_for_once(card: Card, provider: Provider, tmp_path: Path) -> None:
    first = planned(card, provider.url).run(ReplyCache(tmp_path))
    again = planned(card, provider.url).run(ReplyCache(tmp_path))
    assert again.rows == first.rows
    assert len(provider.seen) == 4
    assert not any("sk-test" in path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.json"))


def test_a_run_that_failed_goes_on_where_it_stopped(card: Card, provider: Provider, tmp_path: Path) -> None:
    provider.script = [200, 200, 500]
    with pytest.raises(Unavailable, match="500 after all retries"):
        planned(card, provider.url, max_retries=0, concurrency=1).run(ReplyCache(tmp_path))
    done = len(list(tmp_path.rglob("*.json")))
    assert done >= 2
    before = len(provider.seen)
    assert len(planned(card, provider.url, concurrency=1).run(ReplyCache(tmp_path)).rows) == 4
    assert len(provider.seen) - before == 4 - done


def test_a_refused_key_is_said_at_once(card: Card, provider: Provider, tmp_path: Path) -> None:
    provider.script = [401] * 9
    with pytest.raises(ConfigurationError, match="401"):
        planned(card, provider.url, concurrency=1).run(ReplyCache(tmp_path))
    assert len(provider.seen) <= 4


def test_a_missing_key_is_said_before_anything_is_sent(
    card: Card, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ConfigurationError, match="set TEST_KEY"):
        planned(card, provider.url).run(ReplyCache(tmp_path))
    assert provider.seen == []


def test_replies_that_are_no_conversations_are_counted(card: Card, provider: Provider, tmp_path: Path) -> None:
    provider.broken_replies = True
    found = planned(card, provider.url).run(ReplyCache(tmp_path))
    assert (found.rows, found.skipped) == ([], {"unreadable reply": 4})


def test_the_estimate_counts_only_what_is_missing(card: Card, provider: Provider, tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path)
    before = planned(card, provider.url).estimate(cache)
    assert (before.requests, before.cached, before.tokens_out) == (4, 0, 4 * 2048)
    assert before.usd == pytest.approx(4 * 2048 * 10 / 1e6)
    planned(card, provider.url).run(cache)
    after = planned(card, provider.url).estimate(cache)
    assert (after.requests, after.cached, after.usd) == (0, 4, 0)


def test_a_reply_that_was_cut_off_while_it_was_written_is_asked_for_again(tmp_path: Path) -> None:
    request = LlmRequest(endpoint="e", model="m", system="s", prompt="p", max_tokens=9, temperature=1, number=0)
    cache = ReplyCache(tmp_path)
    cache.put(request, "안녕")
    assert cache.get(request) == "안녕"
    path = next(tmp_path.rglob("*.json"))
    path.write_text(path.read_text(encoding="utf-8")[:20], encoding="utf-8")
    assert cache.get(request) is None


def test_the_offline_model_needs_no_endpoint(card: Card, tmp_path: Path) -> None:
    found = planned(card, None).run(ReplyCache(tmp_path))
    assert {row.dataset_source for row in found.rows} == {"generated"}
    assert {row.texts("assistant")[0] for row in found.rows} <= {f"답 {n}" for n in range(6)}


def test_a_kind_without_examples_is_refused(card: Card) -> None:
    with pytest.raises(ConfigurationError, match="no hand-written conversation of the kind 'safety'"):
        planned(card, None, counts={"safety": 5})


def test_the_pace_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("data_pipelines.sources.language_model.time.monotonic", lambda: 100.0)
    monkeypatch.setattr("data_pipelines.sources.language_model.time.sleep", waits.append)
    pace = Pace(per_second=2)
    for _ in range(4):
        pace.wait()
    assert waits == pytest.approx([0, 0.5, 1.0, 1.5])
