"""Configuration of the reference trainings: YAML files under ``configs/`` and ``key=value`` overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_pipelines.grammar.recipe import Recipe, Shares
from train_jobs import config

CONFIGS = Path(__file__).parent / "configs"

ConfigT = TypeVar("ConfigT", bound=BaseModel)


COPYING_FIRST = Recipe(
    shares=Shares(seeds=0.02, facts=0.2, told=0.3, drills=0.2, recall=0.23),
    made_up=0.5,
    alone=0.9,
    max_history=1,
    fan_section=0.2,
    distractors=0.15,
    unanswered=0.0,
    noise=0.1,
    brief=1.0,
)
"""Short conversations whose replies repeat what was just said: answering from the context is learnt first or late."""


class TokenizerConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    output: Path = Path("models/base")
    """Folder that the tokenizer's files are written to."""

    latin_merges: int = Field(default=512, ge=0)
    """How many merges are learned from the Latin words of the corpus."""

    min_count: int = Field(default=2, ge=1)
    """How often a character outside the fixed set must occur to get a token of its own."""


class Shape(BaseModel):
    """The decoder that is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal["llama", "mistral", "qwen3"] = "llama"
    """Family, as engines know it; all take the same sizes here. Not ``qwen2``: for that one Transformers puts Qwen's
    own way of cutting words in place of the one in ``tokenizer.json``."""

    hidden: int = 320
    """Width of the residual stream."""

    layers: int = 6
    """Number of blocks."""

    heads: int = 5
    """Attention heads; ``hidden / heads`` must be a head size that the CPU engine supports (32, 64, 80, …)."""

    inner: int = 768
    """Width of the feed-forward layers."""

    positions: int = 2048
    """Longest context that the configuration declares."""

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError("hidden must be a multiple of heads")
        return self


class Stage(BaseModel):
    """A part of the run with one row length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    until: float = Field(gt=0, le=1)
    """Progress (0 to 1) at which the stage ends."""

    length: int = 512
    """Tokens in a row."""

    rows: int = 8
    """Rows in a step."""

    recipe: Recipe = Recipe()
    """How its conversations are composed."""


class BaseConfig(BaseModel):
    """The chat model's training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: Path = Path("models/base")
    """Where the finished model goes."""

    tokenizer: Path | None = None
    """Folder with the tokenizer; unset: ``output``, which must hold it already."""

    run_dir: Path = Path("outputs/reference/base")
    """Log and checkpoints."""

    shape: Shape = Shape()
    """Architecture."""

    stages: tuple[Stage, ...] = (
        Stage(until=0.25, length=256, rows=16, recipe=COPYING_FIRST),
        Stage(until=0.85, length=640, rows=7, recipe=Recipe(max_history=4, brief=0.75)),
        Stage(until=1.0, length=1024, rows=4, recipe=Recipe(max_history=12, brief=0.1)),
    )
    """Row lengths over the run; short rows first because attention is the dearest part on a CPU."""

    minutes: float = Field(default=120, gt=0)
    """Wall-clock budget; the learning rate falls with whatever of the two budgets is nearer its end."""

    steps: int = Field(default=1_000_000, gt=0)
    """Step budget."""

    matrix_lr: float = 0.01
    """Muon's rate for the matrices inside the blocks."""

    embedding_lr: float = 0.005
    """AdamW's rate for embeddings and norms."""

    weight_decay: float = 0.1
    """Decoupled decay of the matrices."""

    warmup: float = 0.01
    """Share of the run over which the rates rise."""

    decay_from: float = 0.45
    """Progress at which the rates begin to fall linearly, to ``final_rate`` of their peak."""

    final_rate: float = 0.02
    """Share of the peak rate at the end."""

    context_weight: float = Field(default=0.12, ge=0, le=1)
    """Weight of the loss on tokens that the model will not have to say itself."""

    slot_weight: float = Field(default=4.0, ge=1)
    """Weight of the loss on the tokens of a reply that repeat a value from the context or from earlier turns."""

    mix: dict[str, float] = Field(
        default_factory=lambda: {
            "haneul": 0.22,
            "mir": 0.19,
            "hotaru": 0.15,
            "kelron": 0.17,
            "casual": 0.09,
            "polite": 0.07,
            "formal": 0.04,
            "small_talk": 0.03,
            "text": 0.04,
        }
    )
    """Share of documents from each source; sources that are not there are left out."""

    copy_share: float = 0.35
    """Share of copy sequences at the start; falls to ``copy_floor`` by a fifth of the run."""

    copy_floor: float = 0.03
    """Share of copy sequences afterwards."""

    small_talk: Path | None = None
    """CSV with the columns Q and A; public small talk as one more polite voice."""

    graft: bool = True
    """Write the copying circuit into the fresh model (``graft.py``)."""

    seed: int = 7
    """Seed of weights and data."""

    threads: int = 2
    """Torch threads."""

    log_every: int = 20
    """Steps between log lines."""

    eval_every: int = 1000
    """Steps between validations, probes and samples."""

    checkpoint_minutes: float = 2
    """Minutes between checkpoints."""

    resume: bool = False
    """Go on from the last checkpoint in ``run_dir``."""

    samples: int = 6
    """Held-out prompts per character whose replies are logged at each validation."""

    probes: int = 48
    """Recall questions per probe."""

    @model_validator(mode="after")
    def _graft_fits(self) -> Self:
        if self.graft and self.shape.architecture == "qwen3":
            raise ValueError("graft: qwen3 normalises queries and keys, which the circuit does not; set graft=false")
        return self


class EmbedderConfig(BaseModel):
    """The embedder's training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: Path = Path("models/embedder")
    """Where the finished embedder goes."""

    tokenizer: Path = Path("models/base")
    """Folder with the tokenizer whose vocabulary is used."""

    run_dir: Path = Path("outputs/reference/embedder")
    """Log."""

    hidden: int = 256
    """Width, and the size of the vectors."""

    layers: int = 4
    """Number of blocks."""

    heads: int = 4
    """Attention heads."""

    inner: int = 640
    """Width of the feed-forward layers."""

    positions: int = 514
    """Rows of the position table: two more than the longest input."""

    length: int = 96
    """Tokens after which training texts are cut."""

    pairs: int = 96
    """Pairs in a step; the other pairs are the negatives."""

    minutes: float = Field(default=11, gt=0)
    """Wall-clock budget."""

    steps: int = Field(default=1_000_000, gt=0)
    """Step budget."""

    learning_rate: float = 0.002
    """AdamW's peak rate for embeddings, norms and biases."""

    matrix_lr: float = 0.01
    """Muon's peak rate for the matrices."""

    small_talk: Path | None = None
    """CSV with the columns Q and A; public small talk as further pairs."""

    temperature: float = 0.05
    """Of the contrastive loss."""

    sparse_weight: float = 0.3
    """Weight of the loss on the lexical vectors."""

    precision: Literal["float16", "bfloat16"] = "float16"
    """In which the weights are saved."""

    seed: int = 7
    """Seed of weights and data."""

    threads: int = 2
    """Torch threads."""


class RerankerConfig(BaseModel):
    """The reranker's training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: Path = Path("models/reranker")
    """Where the finished reranker goes."""

    embedder: Path = Path("models/embedder")
    """Model whose tokenizer and word vectors it starts from."""

    layers: int = Field(default=3, ge=3)
    """Blocks; the first three start out comparing the two texts."""

    positions: int = 514
    """Rows of the position table: two more than the longest input, which is FlagReranker's default then."""

    length: int = 224
    """Tokens of question and passage together in training; longer passages are cut."""

    questions: int = 8
    """Questions in a step."""

    negatives: int = 7
    """Passages beside the right one, at most."""

    minutes: float = Field(default=10, gt=0)
    """Wall-clock budget."""

    steps: int = Field(default=1_000_000, gt=0)
    """Step budget."""

    learning_rate: float = 0.002
    """AdamW's peak rate for embeddings, norms and biases."""

    matrix_lr: float = 0.003
    """Muon's peak rate for the matrices; at 0.01 what was written down is washed away (docs/log.md)."""

    precision: Literal["float16", "bfloat16"] = "float16"
    """In which the weights are saved."""

    seed: int = 7
    """Seed of new weights and data."""

    threads: int = 2
    """Torch threads."""


def load_config(model: type[ConfigT], name: str, overrides: Sequence[str] = ()) -> ConfigT:
    """``configs/<name>.yaml``, or a path, with ``key=value`` overrides."""
    path = Path(name) if name.endswith(".yaml") else CONFIGS / f"{name}.yaml"
    return config.load_config(model, path, overrides)
