"""LoRA adapters: their files, their versions' states, and which one answers a fan."""

from adapters.manifest import AdapterManifest
from adapters.rollout import AdapterState, AdapterVersion, RolloutTable, fan_bucket
from adapters.store import AdapterStore

__all__ = ["AdapterManifest", "AdapterState", "AdapterStore", "AdapterVersion", "RolloutTable", "fan_bucket"]
