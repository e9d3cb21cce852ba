"""Serve's answers, reduced to what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli import graph
from core.errors import ConfigurationError, SetupError
from core.settings import Settings

TRACEBACK = """Deploying app 'chat' failed with exception:
Traceback (most recent call last):
  File "a.py", line 1, in build
ray.exceptions.RayTaskError(RuntimeError): \x1b[36mray::build()\x1b[39m (pid=1)
ValueError: the base model has no tokenizer
"""


def details(status: str, message: str = "", **deployments: tuple[str, str, int]) -> dict[str, Any]:
    return {
        "applications": {
            "chat": {
                "status": status,
                "message": message,
                "deployments": {
                    name: {
                        "name": name,
                        "status": state,
                        "message": said,
                        "target_num_replicas": 1,
                        "replicas": [{"state": "RUNNING", "pid": 10 + number} for number in range(running)],
                    }
                    for name, (state, said, running) in deployments.items()
                },
            }
        }
    }


def test_nothing_deployed_is_not_started() -> None:
    state = graph.parse_state({"applications": {}})
    assert (state.status, state.failure) == ("NOT_STARTED", None)


def test_waiting_names_the_deployments_that_are_not_there() -> None:
    state = graph.parse_state(details("DEPLOYING", Gateway=("HEALTHY", "", 1), Generator=("UPDATING", "", 0)))
    assert state.waiting_for() == "1/2 healthy, waiting for Generator 0/1"
    assert state.failure is None


def test_a_retry_is_told_but_is_no_failure_yet() -> None:
    state = graph.parse_state(details("DEPLOYING", Generator=("UPDATING", TRACEBACK, 0)))
    assert "trying again: ValueError: the base model has no tokenizer" in state.waiting_for()
    assert state.failure is None


@pytest.mark.parametrize("status", ["DEPLOY_FAILED", "UNHEALTHY"])
def test_a_failed_deployment_speaks_for_itself(status: str) -> None:
    state = graph.parse_state(details(status, "other words", Generator=(status, TRACEBACK, 0)))
    assert state.failure == "Generator: ValueError: the base model has no tokenizer"


def test_a_failed_build_has_only_the_applications_message() -> None:
    state = graph.parse_state(details("DEPLOY_FAILED", TRACEBACK))
    assert state.failure == "ValueError: the base model has no tokenizer"


def test_one_failed_application_outweighs_a_running_one() -> None:
    answer = details("RUNNING")
    answer["applications"]["other"] = details("DEPLOY_FAILED", "x")["applications"]["chat"]
    assert graph.parse_state(answer).status == "DEPLOY_FAILED"


def test_the_configuration_listens_where_the_settings_say() -> None:
    config = {"http_options": {"host": "0.0.0.0", "port": 1, "request_timeout_s": 9}, "applications": []}
    made = graph.with_address(config, Settings(port=8123))
    assert made["http_options"] == {"host": "127.0.0.1", "port": 8123, "request_timeout_s": 9}
    assert config["http_options"]["port"] == 1


@pytest.mark.parametrize("text", ["a: [", "just text", "proxy_location: HeadOnly", "applications: []"])
def test_what_is_no_serve_configuration_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"graph\.yaml"):
        graph.read_config(path)


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--config"):
        graph.read_config(tmp_path / "none.yaml")


class ScriptedServe:
    """Answers with one state after the other."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self._answers = list(answers)

    def state(self) -> graph.GraphState:
        return graph.parse_state(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])


def wait(serve: ScriptedServe, deadline: float = float("inf"), ray_lives: bool = True) -> list[str]:
    said: list[str] = []
    graph.wait_until_running(serve, deadline, said.append, lambda: ray_lives)
    return said


def test_waiting_ends_when_the_graph_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph.time, "sleep", lambda seconds: None)
    serve = ScriptedServe(details("DEPLOYING"), details("RUNNING", Gateway=("HEALTHY", "", 1)))
    assert wait(serve) == ["building the application"]


def test_waiting_gives_up_at_a_failure_a_dead_ray_and_the_deadline() -> None:
    with pytest.raises(SetupError, match="no tokenizer"):
        wait(ScriptedServe(details("DEPLOY_FAILED", TRACEBACK)))
    with pytest.raises(SetupError, match="Ray ended"):
        wait(ScriptedServe(details("DEPLOYING")), ray_lives=False)
    with pytest.raises(SetupError, match="--timeout"):
        wait(ScriptedServe(details("DEPLOYING")), deadline=0)
