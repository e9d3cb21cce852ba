from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from apps.chat.args import ChatArgs, GeneratorArgs, Scaling
from apps.chat.generator import deployment_options, llm_config
from core.settings import PROJECT_ROOT, Settings


def args_of(name: str) -> ChatArgs:
    document = yaml.safe_load((PROJECT_ROOT / name).read_text(encoding="utf-8"))
    return ChatArgs.model_validate(document["applications"][0]["args"])


def test_one_cpu_machine():
    args = args_of("serve_local.yaml").generator
    config = llm_config(args, Settings())
    assert config["model_loading_config"]["model_source"].endswith("models/base")
    assert config["accelerator_config"] == {"kind": "cpu"}
    assert config["engine_kwargs"]["gpu_memory_utilization"] < 0.5
    assert config["engine_kwargs"]["enable_chunked_prefill"] is False
    options = deployment_options(args)
    assert options["ray_actor_options"]["runtime_env"]["env_vars"]["VLLM_CPU_KVCACHE_SPACE"] == "1"


def test_a_gpu_cluster():
    args = args_of("serve_deploy.yaml").generator
    config, options = llm_config(args, Settings()), deployment_options(args)
    assert config["engine_kwargs"]["tensor_parallel_size"] == 2
    assert config["engine_kwargs"]["quantization"] == "awq_marlin"
    assert config["accelerator_type"] == "L4"
    assert "accelerator_config" not in config
    assert options["autoscaling_config"]["max_replicas"] == 4
    assert args_of("serve_deploy.yaml").gateway.require_keys


def test_batching_of_tokens_is_off_and_adapter_slots_agree():
    config = llm_config(GeneratorArgs(max_loras=7), Settings())
    assert config["experimental_configs"] == {"stream_batching_interval_ms": 0}
    assert config["engine_kwargs"]["max_loras"] == config["lora_config"]["max_num_adapters_per_replica"] == 7


def test_a_base_by_hub_name_or_path_is_a_setting(tmp_path: Path):
    for model in ("Qwen/Qwen2.5-0.5B-Instruct", str(tmp_path)):
        config = llm_config(GeneratorArgs(model=model), Settings())
        assert config["model_loading_config"]["model_source"] == model


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"generator": {"modle": "base"}}, "modle"),
        ({"gatway": {}}, "gatway"),
        ({"generator": {"max_model_len": 512}, "prompt": {"max_prompt_tokens": 500}}, "max_prompt_tokens"),
        ({"gateway": {"scaling": {"min_replicas": 3, "max_replicas": 2}}}, "min_replicas"),
    ],
)
def test_wrong_args_are_named(args, named):
    with pytest.raises(ValidationError, match=named):
        ChatArgs.model_validate(args)


def test_every_deployment_has_its_own_bounds():
    options = Scaling(min_replicas=1, max_replicas=4, max_queued_requests=9).options()
    assert options["autoscaling_config"]["max_replicas"] == 4
    assert options["max_queued_requests"] == 9
