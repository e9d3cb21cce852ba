"""Does one model answer as another? Their greedy tokens on a character's held-out prompts, compared.

The reference answers each prompt greedily. At every position of that reply both models are then asked which token
comes next after the same tokens, so one early difference is not counted again in all that follows it. A reply with
no difference is the one that the candidate would have given on its own, by induction over its tokens::

    python -m train_jobs.agreement --character haneul --reference merged --candidate quantized
    python -m train_jobs.agreement --character haneul --reference merged \
        --endpoint http://127.0.0.1:8000/v1 --served-model haneul
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from core.errors import ArtistMindError, ConfigurationError
from core.logs import setup_logging
from core.settings import get_settings
from evaluation.http import PatientHttp
from train_jobs.qlora.data import Messages, held_out_prompts

AGREEMENT_NAME = "agreement.json"
KEY_VARIABLE = "OPENAI_API_KEY"
PATIENCE_S = 120.0
"""How long a served model may take for one reply, in seconds."""


@dataclass(frozen=True, slots=True)
class Check:
    """How an agreement is measured, and how high it must be."""

    character: str
    """Whose held-out prompts are asked."""

    prompts: int = 32
    """How many of them."""

    reply_tokens: int = 64
    """Length of the replies at most."""

    minimum: float | None = None
    """Share of agreeing tokens below which the check fails; ``None`` only reports."""

    device: str = "cpu"
    """Where the models compute, in torch's words."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One prompt and what the reference says to it, as token ids."""

    prompt: list[int]
    reply: list[int]
    """The reference's greedy reply, with the token that ends it."""

    choices: list[int]
    """The reference's next token at each position of the reply, computed as the candidate's will be.

    They equal ``reply`` but for rounding: decoding with a cache and one pass over the whole are different kernels.
    """


class Agreement(BaseModel):
    """How often two models choose the same next token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str
    """The model that is trusted."""

    candidate: str
    """The model that is to answer as the reference does."""

    prompts: int = Field(ge=1)
    """Replies that were compared."""

    tokens: int = Field(ge=1)
    """Positions that were compared."""

    agreeing_tokens: float = Field(ge=0, le=1)
    """Share of the positions at which both choose the same token."""

    identical_replies: float = Field(ge=0, le=1)
    """Share of the replies without any difference."""

    def __str__(self) -> str:
        return (
            f"{self.candidate} against {self.reference}, {self.prompts} held-out prompts: "
            f"{self.agreeing_tokens:.2%} of {self.tokens} tokens agree, "
            f"{self.identical_replies:.1%} of the replies are identical"
        )


def compare(
    reference: str, candidate: str, expected: Sequence[Sequence[int]], chosen: Sequence[Sequence[int]]
) -> Agreement:
    """Count where two models agree.

    Args:
        reference: Name of the model that is trusted.
        candidate: Name of the other one.
        expected: The reference's choices, one sequence for each reply.
        chosen: The candidate's, with the same lengths.
    """
    replies = [
        [left == right for left, right in zip(*pair, strict=True)] for pair in zip(expected, chosen, strict=True)
    ]
    tokens = sum(map(len, replies))
    return Agreement(
        reference=reference,
        candidate=candidate,
        prompts=len(replies),
        tokens=tokens,
        agreeing_tokens=sum(map(sum, replies)) / tokens,
        identical_replies=sum(map(all, replies)) / len(replies),
    )


def conclude(agreement: Agreement, folder: Path | None, minimum: float | None) -> Agreement:
    """Print the agreement, write it to ``folder`` and hold it against the minimum.

    Raises:
        ArtistMindError: Fewer tokens agree than demanded.
    """
    print(agreement)
    if folder:
        (folder / AGREEMENT_NAME).write_text(agreement.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if minimum is not None and agreement.agreeing_tokens < minimum:
        raise ArtistMindError(f"{agreement.agreeing_tokens:.2%} of the tokens agree, {minimum:.2%} were demanded")
    return agreement


def load_model(path: str, device: str, dtype: str = "auto") -> Any:
    """A causal language model ready to answer; a quantised one as its configuration says.

    Raises:
        ConfigurationError: Nothing that Transformers can load lies there.
    """
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, device_map={"": device}).eval()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: no model can be loaded: {' '.join(str(error).split())[:200]}") from error


def reference_turns(model: Any, tokenizer: Any, check: Check) -> tuple[Turn, ...]:
    """The held-out prompts with the greedy replies of ``model``."""
    prompts = held_out_prompts(check.character, check.prompts)
    if not prompts:
        raise ConfigurationError(f"character {check.character} has no held-out user lines to compare replies on")
    return tuple(_turn(model, tokenizer, prompt, check.reply_tokens) for prompt in prompts)


def _turn(model: Any, tokenizer: Any, messages: Messages, reply_tokens: int) -> Turn:
    import torch

    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    ).to(model.device)
    with torch.no_grad():
        output = model.generate(**inputs, max_new_tokens=reply_tokens, do_sample=False)
    prompt = inputs["input_ids"][0].tolist()
    reply = output[0, len(prompt) :].tolist()
    return Turn(prompt, reply, next_tokens(model, prompt, reply))


def next_tokens(model: Any, prompt: list[int], reply: list[int]) -> list[int]:
    """The model's most likely token at each position of ``reply``, given what stands before it."""
    import torch

    tokens = torch.tensor([prompt + reply], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=tokens, logits_to_keep=len(reply) + 1).logits
    choices: list[int] = logits[0, :-1].argmax(-1).tolist()
    return choices


def compare_model(turns: Sequence[Turn], reference: str, path: Path, device: str, name: str) -> Agreement:
    """The agreement of the model in ``path``, reported as ``name``, with what the reference said."""
    model = load_model(str(path), device)
    chosen = [next_tokens(model, turn.prompt, turn.reply) for turn in turns]
    return compare(reference, name, [turn.choices for turn in turns], chosen)


def compare_served(turns: Sequence[Turn], reference: str, endpoint: str, name: str) -> Agreement:
    """The agreement of a model that vLLM serves with what the reference said.

    Raises:
        Unavailable: Nothing answers at ``endpoint``.
        ArtistMindError: The server refused, or cannot say what it thinks of a given reply.
    """

    async def ask() -> list[list[int]]:
        async with PatientHttp(endpoint, PATIENCE_S, os.environ.get(KEY_VARIABLE)) as http:
            return [await served_next_tokens(http, name, turn) for turn in turns]

    return compare(reference, name, [turn.choices for turn in turns], asyncio.run(ask()))


async def served_next_tokens(http: PatientHttp, name: str, turn: Turn) -> list[int]:
    """As ``next_tokens``, of a served model, through OpenAI's completions with vLLM's ``prompt_logprobs``."""
    body = {
        "model": name,
        "prompt": turn.prompt + turn.reply,
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 1,
    }
    answer = await http.call("POST", "/completions", body)
    try:
        positions = answer["choices"][0]["prompt_logprobs"][len(turn.prompt) :]
        return [_most_likely(position) for position in positions]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ArtistMindError("the server gives no prompt_logprobs: ask vLLM itself, no gateway before it") from error


def _most_likely(position: dict[str, dict[str, Any]]) -> int:
    """The first-ranked token id; beside it stands the token that was given, whatever its rank."""
    return int(min(position, key=lambda token: position[token]["rank"]))


def add_check_options(parser: argparse.ArgumentParser, character: str | None = None) -> None:
    """The settings of a check; without a ``character`` note, naming one is required."""
    parser.add_argument("--character", required=character is None, help=character or "whose prompts are asked")
    parser.add_argument("--prompts", type=positive, default=32, help="held-out prompts to compare replies on")
    parser.add_argument("--reply-tokens", type=positive, default=64, help="length of the replies at most")
    parser.add_argument("--min-agreement", type=_share, help="share of agreeing tokens below which it is an error")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 …")


def check_of(options: argparse.Namespace, character: str) -> Check:
    """The check that the command line asks for."""
    check_device(options.device)
    return Check(character, options.prompts, options.reply_tokens, options.min_agreement, options.device)


def check_device(device: str) -> None:
    """Refuse a device that torch does not know or this machine does not have."""
    import torch

    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigurationError(f"--device {device}: torch knows no such device; write cpu or cuda:1") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(f"--device {device}: this machine has {torch.cuda.device_count()} GPUs; use cpu")


def positive(text: str) -> int:
    """A whole number from 1 on, as argparse takes it."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def check_writable(out: Path) -> None:
    """Refuse a place that no folder can be made at, before the work that it is to take."""
    parent = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigurationError(f"--out {out}: nothing can be written to {parent}")


def _share(text: str) -> float:
    if not 0 <= (share := float(text)) <= 1:
        raise argparse.ArgumentTypeError("between 0 and 1")
    return share


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, compare, report. 2: the settings are wrong; 1: the check failed."""
    parser = argparse.ArgumentParser(prog="python -m train_jobs.agreement", description=__doc__.splitlines()[0])
    parser.add_argument("--reference", required=True, help="folder or name of the model that is trusted")
    candidate = parser.add_mutually_exclusive_group(required=True)
    candidate.add_argument("--candidate", type=Path, help="folder of the model to compare")
    candidate.add_argument("--endpoint", help="OpenAI address of a vLLM server, such as http://127.0.0.1:8000/v1")
    parser.add_argument("--served-model", help="name of the model or adapter at the endpoint")
    parser.add_argument("--out", type=Path, help=f"folder that takes {AGREEMENT_NAME}")
    add_check_options(parser)
    options = parser.parse_args(arguments)
    if options.endpoint and not options.served_model:
        parser.error("--endpoint needs --served-model")
    try:
        setup_logging(get_settings())
        _run(options)
    except ArtistMindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    return 0


def _run(options: argparse.Namespace) -> Agreement:
    from transformers import AutoTokenizer

    check = check_of(options, options.character)
    if options.candidate and not options.candidate.is_dir():
        raise ConfigurationError(f"--candidate {options.candidate}: there is no such folder")
    if options.out:
        check_writable(options.out)
        options.out.mkdir(parents=True, exist_ok=True)
    path = get_settings().model_path(options.reference)
    turns = reference_turns(load_model(path, check.device), AutoTokenizer.from_pretrained(path), check)
    name = Path(path).name
    if options.endpoint:
        found = compare_served(turns, name, options.endpoint, options.served_model)
    else:
        found = compare_model(turns, name, options.candidate, check.device, options.candidate.name)
    return conclude(found, options.out, check.minimum)


if __name__ == "__main__":
    raise SystemExit(main())
