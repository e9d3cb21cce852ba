"""Keeps a graph for as long as its owner lives: ``up`` at once, ``down`` when standard input ends.

    python tests/e2e/keeper.py <log> <seconds that up may take> <flags of up…>

The owner holds the other end of standard input. However it ends (done, failed, interrupted, killed), the kernel
closes that end, and everything that was started is stopped. Prints the exit code of ``up`` on a line.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from pathlib import Path

_COMMAND = [sys.executable, "-m", "cli.main"]


def main(log: Path, limit_s: float, flags: list[str]) -> int:
    with log.open("ab") as output:
        up = subprocess.Popen([*_COMMAND, "up", *flags], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        owner = threading.Thread(target=_wait_for_the_owner, args=[up])
        owner.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            up.wait(limit_s)
        up.terminate()  # does nothing to a start that has ended
        print(up.wait(60), flush=True)
        owner.join()
        return subprocess.call([*_COMMAND, "down"], stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def _wait_for_the_owner(up: subprocess.Popen[bytes]) -> None:
    sys.stdin.buffer.read()
    if up.poll() is None:
        up.terminate()  # a start that nobody waits for any more undoes itself


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
