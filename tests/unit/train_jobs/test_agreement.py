"""Counting where two models agree, and asking a served one."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ArtistMindError
from core.settings import PROJECT_ROOT
from train_jobs.agreement import (
    AGREEMENT_NAME,
    Agreement,
    Check,
    Turn,
    compare,
    compare_served,
    conclude,
    main,
    reference_turns,
)

replies = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=6)


def test_tokens_and_whole_replies_are_counted() -> None:
    found = compare("a", "b", [[1, 2, 3], [4, 5], [6]], [[1, 9, 3], [4, 5], [6]])
    assert (found.prompts, found.tokens) == (3, 6)
    assert found.agreeing_tokens == pytest.approx(5 / 6)
    assert found.identical_replies == pytest.approx(2 / 3)


@given(replies)
def test_a_model_agrees_with_itself(choices: list[list[int]]) -> None:
    found = compare("a", "a", choices, choices)
    assert (found.agreeing_tokens, found.identical_replies) == (1, 1)


@given(replies, st.data())
def test_one_difference_costs_one_token_and_one_reply(choices: list[list[int]], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(choices) - 1))
    column = data.draw(st.integers(0, len(choices[row]) - 1))
    other = [list(reply) for reply in choices]
    other[row][column] += 10
    found = compare("a", "b", choices, other)
    assert found.agreeing_tokens == pytest.approx(1 - 1 / sum(map(len, choices)))
    assert found.identical_replies == pytest.approx(1 - 1 / len(choices))


def test_replies_of_another_length_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare("a", "b", [[1, 2]], [[1]])


def agreement(share: float) -> Agreement:
    return Agreement(reference="a", candidate="b", prompts=1, tokens=10, agreeing_tokens=share, identical_replies=0)


def test_the_result_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conclude(agreement(0.9), tmp_path, minimum=0.9)
    assert "90.00% of 10 tokens" in capsys.readouterr().out
    assert json.loads((tmp_path / AGREEMENT_NAME).read_text(encoding="utf-8"))["agreeing_tokens"] == 0.9


def test_too_little_agreement_is_an_error_that_names_both_shares(tmp_path: Path) -> None:
    with pytest.raises(ArtistMindError, match=r"89\.00% of the tokens agree, 90\.00% were demanded"):
        conclude(agreement(0.89), tmp_path, minimum=0.9)
    assert (tmp_path / AGREEMENT_NAME).is_file()


def test_choices_along_a_greedy_reply_are_that_reply() -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(PROJECT_ROOT / "models" / "base")
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    # In float32 both kernels choose alike; a position off by one would not.
    turns = reference_turns(LlamaForCausalLM(shape).eval(), tokenizer, Check("haneul", prompts=2, reply_tokens=6))
    assert len(turns) == 2
    assert all(turn.choices == turn.reply for turn in turns)
    assert all(len(set(turn.reply)) > 1 for turn in turns)


class Server(ThreadingHTTPServer):
    """A completions server that would have chosen each token of the prompt plus ``off``."""

    off = 0
    knows_prompt_logprobs = True
    asked: list[dict[str, Any]]

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        choice: dict[str, Any] = {"text": "x"}
        if self.knows_prompt_logprobs:
            choice["prompt_logprobs"] = [None, *map(self.position, body["prompt"][1:])]
        return {"choices": [choice]}

    def position(self, token: int) -> dict[str, Any]:
        given = {str(token): {"logprob": -3.0, "rank": 7 if self.off else 1}}
        return given | {str(token + self.off): {"logprob": -0.1, "rank": 1}}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = self.path == "/v1/completions" and body["model"] == "haneul"
        answer = self.server.answer(body) if found else {"error": {"message": "no such model"}}  # type: ignore[attr-defined]  # our server
        said = json.dumps(answer).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as found:
        found.asked = []
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/v1"


TURNS = (Turn([1, 2], [3, 4], [3, 4]), Turn([5], [6], [6]))


def test_a_served_model_is_asked_for_every_token_of_the_reply(server: Server) -> None:
    found = compare_served(TURNS, "merged", address(server), "haneul")
    assert (found.reference, found.candidate, found.tokens) == ("merged", "haneul", 3)
    assert (found.agreeing_tokens, found.identical_replies) == (1, 1)
    assert [(body["prompt"], body["temperature"]) for body in server.asked] == [([1, 2, 3, 4], 0), ([5, 6], 0)]


def test_what_a_served_model_would_rather_say_is_a_difference(server: Server) -> None:
    server.off = 10
    assert compare_served(TURNS, "merged", address(server), "haneul").agreeing_tokens == 0


def test_a_server_without_prompt_logprobs_is_told(server: Server) -> None:
    server.knows_prompt_logprobs = False
    with pytest.raises(ArtistMindError, match="no prompt_logprobs"):
        compare_served(TURNS, "merged", address(server), "haneul")


def test_a_refusal_is_given_in_the_server_s_words(server: Server) -> None:
    with pytest.raises(ArtistMindError, match="HTTP 404: no such model"):
        compare_served(TURNS, "merged", address(server), "kelron")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--candidate", "b", "--endpoint", "http://127.0.0.1/v1"], "not allowed with"),
        (["--endpoint", "http://127.0.0.1/v1"], "needs --served-model"),
        (["--candidate", "b", "--min-agreement", "1.5"], "between 0 and 1"),
        (["--candidate", "b", "--prompts", "0"], "at least 1"),
        ([], "required"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--character", "haneul", "--reference", "a", *arguments])
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--candidate", "nowhere"], "nowhere: there is no such folder"),
        (["--candidate", ".", "--device", "cuda"], "this machine has 0 GPUs"),
        (["--candidate", ".", "--device", "tpu"], "torch knows no such device"),
        (["--candidate", ".", "--out", f"{__file__}/below"], "nothing can be written to"),
    ],
)
def test_what_is_not_there_is_told_before_a_model_is_loaded(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr(pytest.importorskip("torch").cuda, "device_count", lambda: 0)
    assert main(["--character", "haneul", "--reference", "a", *arguments]) == 2
    assert says in capsys.readouterr().err
