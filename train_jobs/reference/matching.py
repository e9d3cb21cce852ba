"""A cross-encoder that starts out comparing: words of the question with words of the passage.

Small encoders do not find out by themselves in minutes that a word stands in both texts (docs/log.md). So the weights
that see it are written down, and training begins there:

- block 0: one head carries each token's predecessor along; one finds the same token in the other text;
- block 1: one head finds the same pair of neighbours in the other text;
- block 2: two heads add up for the first token what was found, one for the question and one for the passage.

Tokens without a match look at the first token, the sink, so that "found" is what a head does not spend on it. The
idea of writing such heads by hand is that of ``graft.py``; here the coordinates are ours, so nothing is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from core.errors import ConfigurationError

CONTENT = 128
"""Coordinates that say which token it is."""
PAIRS = 24
"""Turning pairs of coordinates that say where it stands."""
BEFORE = 30
"""Coordinates that say which token stands before it."""
POSITION_AT = CONTENT
BEFORE_AT = POSITION_AT + 2 * PAIRS
SEGMENT = BEFORE_AT + BEFORE
FIRST = SEGMENT + 1
FOUND_TOKEN, FOUND_PAIR = FIRST + 1, FIRST + 2
SUMS = FIRST + 3
WIDTH_NEEDED = SUMS + 4

SHARPNESS = 15.0
"""Logits between a match and none."""
SEGMENT_SIZE = 3.0
FIRST_SIZE = (CONTENT + SEGMENT_SIZE**2) ** 0.5
"""So that the norms treat the first token, which has no content, like all others."""
SIGNAL = 4.0
"""What a head writes where it found something; the other coordinates are about one."""
QUIET = 0.3
"""What is left of the random weights that write into all coordinates."""
SINK = {1: 0.5, 2: 0.3}
"""What the first token weighs more than a match in the same text, for names of one part and of two."""
SEED = 7


@dataclass(slots=True)
class Head:
    """One attention head, written by rows; a row is a coordinate of the head."""

    attention: Any
    index: int
    size: int
    used: int = 0

    def clear(self) -> None:
        rows = self._rows()
        for part in (self.attention.self.query, self.attention.self.key, self.attention.self.value):
            part.weight[rows] = 0
            part.bias[rows] = 0
        self.attention.output.dense.weight[:, rows] = 0

    def compare(self, queries: Tensor, keys: Tensor, logits: float) -> None:
        """Add ``logits`` times ``(queries @ state) · (keys @ state)`` to the scores; rows × width."""
        strength = (abs(logits) * self.size**0.5) ** 0.5
        rows = self._take(len(queries))
        self.attention.self.query.weight[rows] = strength * queries * (1 if logits > 0 else -1)
        self.attention.self.key.weight[rows] = strength * keys

    def prefer(self, keys: Tensor, logits: float) -> None:
        """Add ``logits`` times ``keys @ state`` to the score of every key, whoever asks."""
        rows = self._take(1)
        self.attention.self.query.bias[rows] = logits * self.size**0.5
        self.attention.self.key.weight[rows] = keys

    def write(self, read: Tensor, to: int, gain: float, constant: float = 0.0) -> None:
        """Write ``gain`` × (``read @ state`` + ``constant``) of what is looked at to coordinates from ``to`` on."""
        rows = slice(self._rows().stop - len(read), self._rows().stop)
        self.attention.self.value.weight[rows] = read
        self.attention.self.value.bias[rows] = constant
        self.attention.output.dense.weight[to : to + len(read), rows] = gain * torch.eye(len(read))

    def _take(self, count: int) -> slice:
        start = self.index * self.size + self.used
        self.used += count
        if self.used > self.size:
            raise ConfigurationError(f"a head of {self.size} coordinates is too small for the comparing circuit")
        return slice(start, start + count)

    def _rows(self) -> slice:
        return slice(self.index * self.size, (self.index + 1) * self.size)


def build_matcher(embeddings: Tensor, tokenizer: Any, layers: int, positions: int) -> Any:
    """A sequence classifier with one label whose first three blocks compare two texts.

    Args:
        embeddings: Word vectors to take the meaning from, tokens × width.
        tokenizer: Marks the texts with token types 0 and 1.
        layers: Blocks, at least three.
        positions: Rows of the position table: two more than the longest input.
    """
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    width = embeddings.shape[1]
    if layers < 3 or width < WIDTH_NEEDED:
        raise ConfigurationError(
            f"the reranker needs 3 blocks and a width of {WIDTH_NEEDED}, not {layers} and {width}"
        )
    torch.manual_seed(SEED)
    model = XLMRobertaForSequenceClassification(
        XLMRobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 64),
            intermediate_size=5 * width // 2,
            max_position_embeddings=positions,
            type_vocab_size=2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
            num_labels=1,
            id2label={0: "relevance"},
            label2id={"relevance": 0},
            attn_implementation="eager",
        )
    )
    with torch.no_grad():
        _write_embeddings(model.roberta.embeddings, embeddings, tokenizer)
        for layer in model.roberta.encoder.layer:
            layer.output.dense.weight *= QUIET
        for block in range(3):
            _write_heads(model.roberta.encoder.layer[block].attention, block, _coordinates(model, tokenizer, block))
    _keep_comparing(model.roberta)
    return model


def _keep_comparing(encoder: Any) -> None:
    """What is compared with what stays as written: logits that large turn over at small changes (docs/log.md)."""
    for part in (encoder.embeddings.position_embeddings, encoder.embeddings.token_type_embeddings):
        part.requires_grad_(False)
    for layer in encoder.encoder.layer[:2]:
        for part in (layer.attention.self.query, layer.attention.self.key):
            part.requires_grad_(False)


def _write_embeddings(table: Any, words: Tensor, tokenizer: Any) -> None:
    """Which token, where and in which text, each in coordinates of its own."""
    content = _spread(words.float(), CONTENT)
    content[tokenizer.cls_token_id] = 0
    for part in (table.word_embeddings, table.position_embeddings, table.token_type_embeddings):
        part.weight.zero_()
    table.word_embeddings.weight[:, :CONTENT] = content
    table.word_embeddings.weight[tokenizer.cls_token_id, FIRST] = FIRST_SIZE
    table.word_embeddings.weight[tokenizer.cls_token_id, SEGMENT] = -SEGMENT_SIZE  # belongs to neither text
    table.token_type_embeddings.weight[:, SEGMENT] = torch.tensor([SEGMENT_SIZE, -SEGMENT_SIZE])
    at = torch.arange(table.position_embeddings.weight.shape[0])[:, None] * _speeds()
    table.position_embeddings.weight[:, POSITION_AT:BEFORE_AT] = 2**0.5 * torch.cat([at.cos(), at.sin()], dim=1)


def _speeds() -> Tensor:
    """Radians per token; mixed, so that a neighbour looks as different as any other place."""
    return torch.linspace(0.3, 2.9, PAIRS)


def _spread(words: Tensor, count: int) -> Tensor:
    """Words by their ``count`` main directions, all equally strong and turned at random.

    Every part that a head compares by itself is equally long for all words: a match is worth the same for each.
    """
    directions, _, _ = torch.linalg.svd(words - words.mean(0), full_matrices=False)
    turn, _ = torch.linalg.qr(torch.randn(count, count))
    parts = (directions[:, :count] @ turn).split((BEFORE, BEFORE, count - 2 * BEFORE), dim=1)
    return torch.cat([functional.normalize(part, dim=1) * part.shape[1] ** 0.5 for part in parts], dim=1)


def _coordinates(model: Any, tokenizer: Any, block: int) -> Tensor:
    """Rows that read each coordinate of the states before ``block``, as large as the content was before the norms."""
    usual = torch.randint(len(tokenizer), (8, 100))
    usual[:, 0] = tokenizer.cls_token_id
    texts = (torch.arange(100) >= 40).long().expand(8, -1)
    states = model.roberta(input_ids=usual, token_type_ids=texts, output_hidden_states=True).hidden_states[block]
    scale = states[:, 1:, :CONTENT].norm(dim=-1).mean() / CONTENT**0.5
    every = torch.eye(states.shape[-1]) / scale
    every[FIRST] *= scale * FIRST_SIZE / states[:, 0, FIRST].mean()
    return every


def _write_heads(attention: Any, block: int, every: Tensor) -> None:
    """The heads of one block; ``every`` row reads one coordinate."""
    size = attention.self.attention_head_size
    first_head, second_head = (Head(attention, index, size) for index in range(2))
    tokens, position, before = every[:CONTENT], every[POSITION_AT:BEFORE_AT], every[BEFORE_AT:SEGMENT]
    segment, first = every[SEGMENT : SEGMENT + 1] / SEGMENT_SIZE, every[FIRST : FIRST + 1] / FIRST_SIZE
    if block == 0:
        first_head.clear()
        unit = (2 * PAIRS) ** -0.5
        first_head.compare(_turned(position) * unit, position * unit, 2 * SHARPNESS)
        first_head.write(tokens[:BEFORE], BEFORE_AT, 1 / float(every[0, 0]))
        second_head.clear()
        _find(second_head, tokens[: 2 * BEFORE], 1, segment, first, FOUND_TOKEN)
    elif block == 1:
        first_head.clear()
        _find(first_head, torch.cat([tokens[:BEFORE], before]), 2, segment, first, FOUND_PAIR)
    else:
        for place, head in enumerate((first_head, second_head)):
            head.clear()
            head.prefer(-segment if place else segment, SHARPNESS)
            head.write(every[[FOUND_TOKEN, FOUND_PAIR]], SUMS + 2 * place, 1.0)


def _find(head: Head, names: Tensor, parts: int, segment: Tensor, first: Tensor, to: int) -> None:
    """Look for the same name, whose ``parts`` weigh one each, in the other text; without one, at the sink."""
    head.compare(names / (len(names) / parts) ** 0.5, names / (len(names) / parts) ** 0.5, SHARPNESS)
    head.compare(segment, segment, -SHARPNESS)
    head.prefer(first, SHARPNESS * (parts + SINK[parts]))
    head.write(-first, to, SIGNAL, constant=1.0)


def _turned(position: Tensor) -> Tensor:
    """Rows that read the place before: each pair turned back by its speed."""
    cosines, sines = position[:PAIRS], position[PAIRS:]
    cos, sin = _speeds().cos()[:, None], _speeds().sin()[:, None]
    return torch.cat([cos * cosines + sin * sines, cos * sines - sin * cosines])
