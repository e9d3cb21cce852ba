"""The shipped graph and cluster files, against the schemas of those who will read them."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from apps.chat.args import ChatArgs
from core.settings import PROJECT_ROOT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")
GRAPHS = ("serve_local.yaml", "serve_deploy.yaml")


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / name).read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def launcher_schema() -> dict[str, Any]:
    import ray.autoscaler

    path = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    schema: dict[str, Any] = json.loads(path.read_text())
    return schema


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_is_a_serve_configuration_whose_code_is_there(name):
    from ray.serve.schema import ServeDeploySchema

    deployed = ServeDeploySchema.model_validate(read(name))
    assert deployed.applications
    for application in deployed.applications:
        module, _, attribute = application.import_path.partition(":")
        builder = getattr(importlib.import_module(module), attribute)
        assert callable(builder)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graphs_arguments_are_ours(name):
    for application in read(name)["applications"]:
        args = ChatArgs.model_validate(application["args"])
        assert args.prompt.max_prompt_tokens < args.generator.max_model_len


@pytest.mark.parametrize("name", GRAPHS)
def test_every_key_of_the_arguments_is_checked(name):
    args = read(name)["applications"][0]["args"]
    for section in args:
        wrong = copy.deepcopy(args)
        wrong[section]["no_such_key"] = 1
        with pytest.raises(ValidationError, match=rf"{section}\.no_such_key"):
            ChatArgs.model_validate(wrong)


def test_the_local_graph_stays_on_this_machine_and_the_deployed_one_asks_for_keys():
    local, deployed = (read(name) for name in GRAPHS)
    assert local["http_options"]["host"] == "127.0.0.1"
    assert deployed["http_options"]["host"] == "0.0.0.0"
    assert deployed["applications"][0]["args"]["gateway"]["require_keys"] is True


def test_both_graphs_are_one_application_with_other_settings():
    paths = {read(name)["applications"][0]["import_path"] for name in GRAPHS}
    assert paths == {"apps.chat.app:build_app"}


def test_the_cluster_file_fits_rays_launcher(launcher_schema):
    import jsonschema

    jsonschema.validate(read("cluster.yaml"), launcher_schema)


def test_an_unknown_key_of_the_cluster_file_is_refused(launcher_schema):
    import jsonschema

    wrong = read("cluster.yaml") | {"max_wokers": 3}
    with pytest.raises(jsonschema.ValidationError, match="max_wokers"):
        jsonschema.validate(wrong, launcher_schema)


def test_the_cluster_has_a_cpu_head_and_autoscaled_gpu_workers():
    cluster = read("cluster.yaml")
    head = cluster["available_node_types"][cluster["head_node_type"]]
    workers = [node for name, node in cluster["available_node_types"].items() if name != cluster["head_node_type"]]
    assert head.get("max_workers", 0) == 0
    assert workers
    for worker in workers:
        assert worker["min_workers"] < worker["max_workers"] <= cluster["max_workers"]
