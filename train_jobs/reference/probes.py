"""What is measured while the base model trains: loss on held-out messages, copying, and samples to read."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from data_pipelines.grammar.composer import Composer
from data_pipelines.grammar.dialogue import Dialogue
from data_pipelines.grammar.voices import Voice
from train_jobs.reference.packing import Batch, Document, chat_document, collate

PER_BATCH = 16


@dataclass(frozen=True, slots=True)
class Report:
    """One validation: mean loss per reply token, share of recalled values, and some replies."""

    loss: float
    copied: dict[str, float]
    """Share of right answers by what is asked for: words from the context, from earlier turns, from passages."""

    samples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Probes:
    """Fixed conversations that the model is measured on."""

    tokenizer: Any
    held_out: tuple[Dialogue, ...]
    recall: dict[str, tuple[Dialogue, ...]]
    shown: tuple[Dialogue, ...]

    @staticmethod
    def of(tokenizer: Any, voices: Sequence[Voice], samples: int, recall: int) -> Probes:
        """Conversations from the held-out user lines of ``voices``; ``samples`` per character are shown."""
        held_out: list[Dialogue] = []
        shown: list[Dialogue] = []
        for voice in voices:
            if voice.intents:
                rng = random.Random(f"held-out:{voice.name}")
                found = Composer(voice).validation(rng, 48 if voice.seeds or voice.passages else 16)
                held_out += found
                shown += found[:samples] if voice.is_character else []
        return Probes(tokenizer, tuple(held_out), recall_probes(voices, recall), tuple(shown))

    def run(self, model: Any) -> Report:
        """Measure ``model`` as it is now."""
        model.eval()
        with torch.no_grad():
            loss = self._loss(model)
            copied = {kind: self._recalled(model, items) for kind, items in self.recall.items()}
            shown = self._replies(model, self.shown)
        model.train()
        prompts = [item.turns[-2] for item in self.shown]
        return Report(loss, copied, tuple(zip(prompts, shown, strict=True)))

    def _recalled(self, model: Any, items: Sequence[Dialogue]) -> float:
        replies = self._replies(model, items)
        hits = [
            all(value in reply for value in item.answer_slots) for item, reply in zip(items, replies, strict=True)
        ]
        return sum(hits) / max(1, len(hits))

    def _loss(self, model: Any) -> float:
        total, count = 0.0, 0.0
        for start in range(0, len(self.held_out), PER_BATCH):
            documents = [self._last_reply(item) for item in self.held_out[start : start + PER_BATCH]]
            length = max(len(document.ids) for document in documents)
            batch = collate([[document] for document in documents], length, self.tokenizer.pad_token_id)
            loss, weight = weighted_loss(model, batch)
            total += float(loss) * weight
            count += weight
        return total / max(1.0, count)

    def _last_reply(self, dialogue: Dialogue) -> Document:
        """The conversation with a loss on its last reply alone."""
        document = chat_document(self.tokenizer, dialogue.row()["messages"], 0.0)
        weights = list(document.weights)
        turn_start = self.tokenizer.convert_tokens_to_ids("<|im_start|>")
        last = max(index for index, token in enumerate(document.ids) if token == turn_start)
        return Document(document.ids, tuple([0.0] * last + weights[last:]))

    def _replies(self, model: Any, dialogues: Sequence[Dialogue]) -> list[str]:
        replies: list[str] = []
        for start in range(0, len(dialogues), PER_BATCH):
            prompts = [item.row()["messages"][:-1] for item in dialogues[start : start + PER_BATCH]]
            replies += greedy_replies(model, self.tokenizer, prompts)
        return replies


def recall_probes(voices: Sequence[Voice], count: int) -> dict[str, tuple[Dialogue, ...]]:
    """About ``count`` questions of each kind over all voices."""
    found: dict[str, list[Dialogue]] = {}
    talkers = [voice for voice in voices if voice.intents]
    for voice in talkers:
        rng = random.Random(f"probe:{voice.name}")
        for kind, items in Composer(voice).probes(rng, max(1, -(-count // len(talkers)))).items():
            found.setdefault(kind, []).extend(items)
    return {kind: tuple(items[:count]) for kind, items in found.items()}


def weighted_loss(model: Any, batch: Batch, generator: torch.Generator | None = None) -> tuple[torch.Tensor, float]:
    """Mean loss over the tokens that count, and how many those were.

    A token of weight ``w`` below one is kept with probability ``w`` instead of being scaled: the expectation is
    the same, and the output layer is computed for the kept tokens only. Weights above one scale.
    """
    states = model.model(input_ids=batch.inputs, attention_mask=batch.bias, use_cache=False).last_hidden_state
    draw = torch.rand(batch.weights.shape, generator=generator)
    kept = draw < batch.weights
    logits = model.lm_head(states[kept]).float()
    losses = functional.cross_entropy(logits, batch.targets[kept], reduction="none")
    factors = batch.weights[kept].clamp(min=1.0)
    return (losses * factors).sum() / factors.sum(), float(kept.sum())


def greedy_replies(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[dict[str, str]]], longest: int = 64
) -> list[str]:
    """The most likely reply to each prompt, with special tokens removed."""
    rows = [
        tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, return_dict=True)["input_ids"]
        for prompt in prompts
    ]
    width = max(len(row) for row in rows)
    padding = tokenizer.pad_token_id
    inputs = torch.tensor([[padding] * (width - len(row)) + row for row in rows])
    seen = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    output = model.generate(
        input_ids=inputs,
        attention_mask=seen,
        max_new_tokens=longest,
        do_sample=False,
        pad_token_id=padding,
        eos_token_id=tokenizer.eos_token_id,
    )
    return [str(text) for text in tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)]
