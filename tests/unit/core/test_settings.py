import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from core.settings import PROJECT_ROOT, Settings


def test_environment_wins_over_defaults(monkeypatch):
    monkeypatch.setenv("ARTISTMIND_PORT", "9123")
    assert Settings().port == 9123


def test_a_port_out_of_range_is_refused(monkeypatch):
    monkeypatch.setenv("ARTISTMIND_PORT", "70000")
    with pytest.raises(ValidationError, match="65535"):
        Settings()


def test_models_are_found_by_shipped_name_path_and_hub_name(tmp_path: Path):
    settings = Settings(models_dir=tmp_path)
    (tmp_path / "base").mkdir()
    assert settings.model_path("base") == str(tmp_path / "base")
    assert settings.model_path(str(tmp_path)) == str(tmp_path)
    assert settings.model_path("Qwen/Qwen2.5-0.5B-Instruct") == "Qwen/Qwen2.5-0.5B-Instruct"


def test_relative_paths_are_taken_from_the_project():
    assert Settings(home=Path("elsewhere")).home_dir == PROJECT_ROOT / "elsewhere"


def test_core_is_light_and_opens_nothing_on_import():
    """Importing core must not pull an engine in, nor touch the network or a file of ours."""
    script = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('opened a socket on import')\n"
        "socket.socket.connect = refuse\n"
        "import core.contracts, core.errors, core.logs, core.settings\n"
        "heavy = {'ray', 'torch', 'vllm', 'transformers', 'redis', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=PROJECT_ROOT)
