"""How much memory a training process needs: counted where it can be counted, bounded where it depends on kernels.

    weights      4-bit: linear layers but the output layer x (4 + 8/64 + 32/(64 x 256)) / 8 bytes, that is 0.516
                 (NF4 in blocks of 64 with 8-bit constants, whose own 32-bit constants stand for 256 of them:
                 QLoRA, arXiv 2305.14314, section 3), or without ``double_quant`` (4 + 32/64) / 8 = 0.5625 bytes;
                 everything else in 16 bits; unquantised: all in the base's dtype
    adapter      rank x (inputs + outputs) of each adapted layer, 4 bytes (2 and a 4-byte copy with DeepSpeed)
    gradients    4 bytes for each adapted weight, twice with several workers (the buckets that they exchange), divided
                 by the workers with ZeRO
    optimiser    8 bytes for each adapted weight, 2 where its name says 8bit; divided by the workers with ZeRO
    activations  of a layer and token, what the backward pass reads: 2 bytes x (8 hidden + 3 queries + 4 keys
                 + 4 intermediate), and for the adapters their inputs once in 4 bytes, twice with dropout; ``eager``
                 attention adds three score matrices. Without checkpointing all layers, with it one layer and the
                 2-byte inputs of all. The counting follows Korthikanti et al., arXiv 2205.05198, section 4
    logits       TRL scores tiles of 4,096 tokens x 32,768 words at most: logits and two copies in 4 bytes
    overhead     CUDA's context and a tenth on activations; on a CPU Python with its libraries and twice the
                 activations: its allocator keeps blocks of all lengths that came by (the shipped adapters' runs were
                 seen with 4.4 to 6.4 GiB where 1.7 GiB of activations are counted)

ZeRO-3 divides weights by the workers and adds two blocks, gathered in 16 bits. The estimate is an upper one on
purpose; the logged ``memory_gib`` is the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

from train_jobs.qlora.config import QLoraConfig

GIB = 1024**3
NF4_BYTES = (4 + 32 / 64) / 8
NF4_BYTES_DOUBLE = (4 + 8 / 64 + 32 / (64 * 256)) / 8
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
LOGIT_TOKENS, LOGIT_WORDS, LOGIT_COPIES = 4096, 32768, 3
CUDA_BYTES = 1.0 * GIB
PYTHON_BYTES = 1.25 * GIB
FRAGMENTATION, KEPT_BLOCKS = 0.1, 2.0
MOMENT_BYTES, MOMENT_BYTES_8BIT = 8, 2


@dataclass(frozen=True, slots=True)
class Shape:
    """A base's and its adapter's sizes, as counted on the ``meta`` device."""

    linear_weights: int
    """Weights of the linear layers that are held in 4 bits."""

    other_weights: int
    """Embeddings, the output layer and norms."""

    adapter_weights: int
    adapted_inputs: int
    """Input features of the adapted layers of one block, summed."""

    layers: int
    hidden: int
    intermediate: int
    queries: int
    """Attention heads x their size."""

    keys: int
    """Key-value heads x their size."""

    heads: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of one training process."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    overhead: float

    @property
    def total(self) -> float:
        return sum(getattr(self, part) for part in self.__slots__)

    @property
    def gib(self) -> float:
        return self.total / GIB

    def line(self) -> str:
        """The parts, largest first, in GiB."""
        parts = sorted(((getattr(self, part) / GIB, part) for part in self.__slots__), reverse=True)
        return ", ".join(f"{part} {gib:.1f}" for gib, part in parts if gib >= 0.05)


def estimate(config: QLoraConfig, shape: Shape) -> MemoryEstimate:
    """Memory of one process at its largest batch, ``batch_size`` rows of ``max_length`` tokens."""
    shared = config.least_workers if config.deepspeed_stage else 1
    buckets = 2 if config.most_workers > 1 and not config.deepspeed_stage else 1
    adapter_bytes = 6 if config.deepspeed_stage else 4
    moments = MOMENT_BYTES_8BIT if "8bit" in config.optimizer else MOMENT_BYTES
    activations = _activations(config, shape)
    tokens = min(config.batch_size * config.max_length, LOGIT_TOKENS)
    return MemoryEstimate(
        weights=_weights(config, shape),
        adapter=shape.adapter_weights * adapter_bytes,
        gradients=shape.adapter_weights * 4 * buckets / shared,
        optimizer=shape.adapter_weights * moments / shared,
        activations=activations,
        logits=LOGIT_COPIES * 4 * tokens * min(shape.vocabulary, LOGIT_WORDS),
        overhead=overhead(config, activations),
    )


def overhead(config: QLoraConfig, activations: float) -> float:
    """What a process takes besides what is counted, in bytes."""
    if config.use_gpu:
        return CUDA_BYTES + FRAGMENTATION * activations
    return PYTHON_BYTES + KEPT_BLOCKS * activations


def fits_in_16_bits(config: QLoraConfig, shape: Shape, gpu_gib: float | None) -> bool:
    """Whether the base without quantisation fits for answering prompts, as it is served; unknown GPUs are trusted."""
    size = BYTES[config.dtype] * (shape.linear_weights + shape.other_weights)
    return gpu_gib is None or size + CUDA_BYTES <= (1 - FRAGMENTATION) * gpu_gib * GIB


def checkpoint_bytes(config: QLoraConfig, shape: Shape) -> float:
    """One checkpoint on disk: the adapter and the optimiser's moments."""
    moments = MOMENT_BYTES_8BIT if "8bit" in config.optimizer else MOMENT_BYTES
    return shape.adapter_weights * (4 + moments)


def _weights(config: QLoraConfig, shape: Shape) -> float:
    size = BYTES[config.dtype]
    in_4_bits = NF4_BYTES_DOUBLE if config.double_quant else NF4_BYTES
    linear = shape.linear_weights * (in_4_bits if config.quantize else size)
    held = linear + shape.other_weights * size
    if config.deepspeed_stage != 3:
        return held
    block = shape.linear_weights / shape.layers
    return held / config.least_workers + 2 * block * size


def _activations(config: QLoraConfig, shape: Shape) -> float:
    tokens = config.batch_size * config.max_length
    size = BYTES[config.dtype]
    read_back = size * (8 * shape.hidden + 3 * shape.queries + 4 * shape.keys + 4 * shape.intermediate)
    adapters = 4 * shape.adapted_inputs * (2 if config.dropout else 1)
    scores = 3 * size * shape.heads * config.max_length if config.attention == "eager" else 0
    layer = tokens * (read_back + adapters + scores)
    if config.gradient_checkpointing:
        return layer + shape.layers * tokens * size * shape.hidden
    return layer * shape.layers
