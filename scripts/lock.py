"""Make ``requirements/cpu.lock`` from ``cpu.in``: resolve, drop what breaks a CPU torch, write.

python scripts/lock.py
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
LEFT_OUT = frozenset({"torchvision", "torchaudio", "torchcodec"})
NEEDED_TO_BUILD = {"setuptools": "77.0.3"}
"""Not a dependency of anything, and absent from new environments; 77 is what the oldest sdist still builds with."""

HEADER = """\
# Every version of the CPU environment. Made by `make lock` from cpu.in; installed with --no-deps.
# torchvision, torchaudio and torchcodec are left out on purpose: their CUDA builds break a CPU torch and
# nothing here uses them.
"""


def resolve(wanted: Path) -> dict[str, Any]:
    """pip's report of what it would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--extra-index-url", CPU_WHEELS, "--report", str(report), "-r", str(wanted)]
        subprocess.run(command, check=True)
        return json.loads(report.read_text())


def pins(report: dict[str, Any]) -> list[str]:
    """``name==version``, sorted; local versions such as ``+cpu`` say how a wheel was built and are dropped."""
    versions = dict(NEEDED_TO_BUILD)
    for item in report["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        versions[name] = item["metadata"]["version"].partition("+")[0]
    return [f"{name}=={version}" for name, version in sorted(versions.items()) if name not in LEFT_OUT]


def main() -> None:
    lines = pins(resolve(REQUIREMENTS / "cpu.in"))
    (REQUIREMENTS / "cpu.lock").write_text(HEADER + "\n".join(lines) + "\n")
    print(f"{len(lines)} packages pinned in {REQUIREMENTS / 'cpu.lock'}")


if __name__ == "__main__":
    main()
