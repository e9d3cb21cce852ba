"""The row stages on a real local Ray: any number of workers gives the same rows, and a killed worker loses none."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from core.errors import ArtistMindError
from core.settings import PROJECT_ROOT, Settings, get_settings
from data_pipelines.build import Result, prepare
from data_pipelines.config import FilterConfig, parse_config
from data_pipelines.ray_data import connected, run_rows
from data_pipelines.row_stages import StageSpec
from data_pipelines.rows import Row
from data_pipelines.sources.written import seeds
from data_pipelines.store import open_version
from personas.loader import PersonaLibrary

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            patch.delenv(name)
        with connected(2):
            yield


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("ARTISTMIND_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


def spec(base: str = "models/base") -> StageSpec:
    root = PROJECT_ROOT
    return StageSpec("haneul", FilterConfig(), root / "personas" / "cards", root / "evaluation", str(root / base))


def hand_written() -> list[Row]:
    library = PersonaLibrary(PROJECT_ROOT / "personas" / "cards")
    return seeds(library.get("haneul"), "Apache-2.0").rows


def build(settings: Settings, workers: int) -> Result:
    values = {
        "character": "haneul",
        "counts": {"persona": 40, "worldview": 20, "safety": 20},
        "workers": workers,
        "sources": {"grammar": {"enabled": False}, "facts": False},
    }
    return prepare(parse_config(values, "test"), settings).run()


def test_one_worker_and_two_make_the_same_version(settings: Settings) -> None:
    one, two = build(settings, workers=1), build(settings, workers=2)
    assert (one.manifest.name, two.manifest.name) == ("haneul@v1", "haneul@v2")
    assert one.manifest.content_hash == two.manifest.content_hash
    assert one.manifest.stages == two.manifest.stages
    first, second = open_version("haneul@v1", settings), open_version("haneul@v2", settings)
    assert first.rows("train") == second.rows("train")
    assert 0 < len(first.rows("validation")) <= 8


def test_a_killed_worker_loses_no_row() -> None:
    rows = hand_written()
    expected = run_rows(rows, spec(), workers=2)
    killed: list[int] = []
    over = threading.Event()
    killer = threading.Thread(target=_kill_one_worker, args=(killed, over), daemon=True)
    killer.start()
    found = run_rows(rows, spec(), workers=2)
    over.set()
    killer.join()
    assert killed, "no worker was seen at work"
    assert found == expected
    assert len(found) == len(rows)


def test_what_is_wrong_with_the_settings_comes_back_from_the_workers_in_one_line() -> None:
    with pytest.raises(ArtistMindError, match="no tokenizer of"):
        run_rows(hand_written()[:3], spec(base="models/nothing"), workers=1)


def _kill_one_worker(killed: list[int], over: threading.Event) -> None:
    """End the first worker of our own Ray that is filtering."""
    while not over.is_set() and not killed:
        for process in psutil.Process().children(recursive=True):
            try:
                if "run_batch" in " ".join(process.cmdline()):
                    process.send_signal(signal.SIGKILL)
                    killed.append(process.pid)
                    return
            except psutil.Error:
                continue
        time.sleep(0.01)
