"""The Serve graph, through the REST API of our Ray: the YAML file is what is deployed."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigurationError, SetupError
from core.settings import Settings

_PATH = "/api/serve/applications/"
_FAILED = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class _Busy(SetupError):
    """Ray's API does not answer now; on a machine under load it may in a moment."""


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """One deployment as Serve sees it."""

    name: str
    status: str
    message: str
    running: int
    wanted: int
    pids: tuple[int, ...]

    def __str__(self) -> str:
        state = self.status.lower() if self.running >= self.wanted else f"{self.running}/{self.wanted}"
        return f"{self.name} {state}"


@dataclass(frozen=True, slots=True)
class GraphState:
    """All applications of the graph, taken together."""

    status: str
    message: str
    deployments: tuple[DeploymentState, ...]

    @property
    def failure(self) -> str | None:
        """The failed part's own words, on one line; ``None`` while nothing has failed."""
        for deployment in self.deployments:
            if deployment.status in _FAILED:
                return f"{deployment.name}: {last_words(deployment.message)}"
        return last_words(self.message) if self.status in _FAILED else None

    def waiting_for(self) -> str:
        waiting = [str(deployment) for deployment in self.deployments if deployment.status != "HEALTHY"]
        retries = [last_words(d.message) for d in self.deployments if "Traceback" in d.message]
        if retries:
            waiting.append(f"(trying again: {retries[0]})")
        if not self.deployments:
            return "building the application"
        done = sum(deployment.status == "HEALTHY" for deployment in self.deployments)
        return f"{done}/{len(self.deployments)} healthy" + (f", waiting for {', '.join(waiting)}" if waiting else "")


def last_words(message: str) -> str:
    """The line of a traceback that names the error."""
    lines = [line.strip() for line in _COLOUR.sub("", message).splitlines() if line.strip()]
    errors = [
        line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt|Exit|Request|Timeout)\b.*:", line)
    ]
    return (errors or lines or ["it said nothing"])[-1]


def read_config(path: Path) -> dict[str, Any]:
    """The YAML file as a dictionary.

    Raises:
        ConfigurationError: it is missing, not YAML, or holds no application.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path} is not there: name the graph with --config") from error
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise ConfigurationError(f"{path} is not valid YAML: {where}") from error
    if not isinstance(content, dict) or not content.get("applications"):
        raise ConfigurationError(f"{path} has no `applications`: it is not a Ray Serve configuration")
    return content


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def with_address(config: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The configuration, listening where the settings say."""
    http = {**config.get("http_options", {}), "host": settings.host, "port": settings.port}
    return {"proxy_location": "HeadOnly", **config, "http_options": http}


class ServeApi:
    """Ray's REST API for Serve."""

    def __init__(self, dashboard_url: str, token: str) -> None:
        import httpx

        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=dashboard_url, headers=headers, timeout=30, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def answers(self) -> bool:
        import httpx

        try:
            return self._http.get(_PATH).is_success
        except httpx.HTTPError:
            return False

    def deploy(self, config: dict[str, Any]) -> None:
        """Hand the configuration to Serve; returns before anything runs.

        Raises:
            ConfigurationError: Serve refused it.
            SetupError: its controller does not answer.
        """
        import httpx

        try:
            response = self._http.put(_PATH, json=config, timeout=180)
        except httpx.HTTPError as error:
            raise SetupError("Serve's controller did not start: see `artistmind logs controller`") from error
        if not response.is_success:
            raise ConfigurationError(f"Serve refused the configuration: {last_words(response.text)}")

    def state(self) -> GraphState:
        """What runs now.

        Raises:
            SetupError: Ray does not answer.
        """
        import httpx

        try:
            response = self._http.get(_PATH)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise _Busy(f"Ray does not answer on {self._http.base_url}: see `artistmind logs ray`") from error
        return parse_state(response.json())

    def shut_down(self, timeout_s: float) -> None:
        """Let the replicas finish what they do and end; gives up quietly, since Ray ends them next."""
        import httpx

        try:
            self._http.delete(_PATH, timeout=timeout_s)
        except httpx.HTTPError:
            return


def parse_state(details: dict[str, Any]) -> GraphState:
    """Ray's answer, reduced to what is shown. Nothing deployed reads as ``NOT_STARTED``."""
    applications = list(details.get("applications", {}).values())
    deployments = [
        _deployment(deployment)
        for application in applications
        for deployment in application.get("deployments", {}).values()
    ]
    return GraphState(
        _worst([application["status"] for application in applications]),
        "\n".join(application.get("message") or "" for application in applications),
        tuple(deployments),
    )


def _worst(statuses: list[str]) -> str:
    unfinished = [status for status in statuses if status != "RUNNING"]
    failed = [status for status in unfinished if status in _FAILED]
    return (failed or unfinished or statuses or ["NOT_STARTED"])[0]


def _deployment(details: dict[str, Any]) -> DeploymentState:
    running = [replica for replica in details.get("replicas", []) if replica["state"] == "RUNNING"]
    return DeploymentState(
        details["name"],
        details["status"],
        details.get("message") or "",
        len(running),
        details.get("target_num_replicas") or 1,
        tuple(replica["pid"] for replica in running if replica.get("pid")),
    )


def wait_until_running(
    api: ServeApi, deadline: float, say: Callable[[str], None], ray_lives: Callable[[], bool]
) -> None:
    """Wait for the whole graph, telling what it waits for.

    Raises:
        SetupError: a part failed, Ray ended, or the deadline passed.
    """
    while True:
        if not ray_lives():
            raise SetupError("Ray ended while the graph was starting: see `artistmind logs ray`")
        waiting_for = "Ray's API, which is busy"
        with suppress(_Busy):
            state = api.state()
            if state.failure is not None:
                raise SetupError(f"the graph does not start: {state.failure}")
            if state.status == "RUNNING":
                return
            waiting_for = state.waiting_for()
        say(waiting_for)
        if time.monotonic() > deadline:
            raise SetupError(f"the graph was not ready in time ({waiting_for}): raise --timeout")
        time.sleep(0.5)
