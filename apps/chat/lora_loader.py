"""Where Ray's LLM server finds an adapter: in our own store.

The only file that touches ``ray.llm._internal``: ``dynamic_lora_loading_path`` takes remote buckets only, so the
loader is injected instead (Ray 2.60).
"""

from __future__ import annotations

from ray.llm._internal.common.models import global_id_manager
from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig, LLMConfig
from ray.llm._internal.serve.utils.lora_serve_utils import LoraModelLoader

from adapters.store import AdapterStore
from core.settings import get_settings


class AdapterLoader(LoraModelLoader):
    """Resolves ``<persona>/<version>`` to the folder of the published adapter."""

    async def load_model_from_config(self, lora_model_id: str, llm_config: LLMConfig) -> DiskMultiplexConfig:
        store = AdapterStore(get_settings().adapter_roots)
        return DiskMultiplexConfig(
            model_id=lora_model_id,
            max_total_tokens=None,
            local_path=store.ref(lora_model_id).path,
            lora_assigned_int_id=global_id_manager.next(),
        )
