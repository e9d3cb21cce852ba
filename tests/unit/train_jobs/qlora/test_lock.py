"""Two jobs of one name never write to one run's folder at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from core.errors import ConfigurationError

pytest.importorskip("ray.train")

from train_jobs.qlora.lock import LOCK_FILE, HoldRunFolder, wait_until_free


def test_a_free_folder_is_not_waited_for_and_stays_free(tmp_path: Path) -> None:
    wait_until_free(tmp_path, patience_s=0)
    wait_until_free(tmp_path, patience_s=0)


def test_a_held_folder_is_an_error_that_names_the_run(tmp_path: Path) -> None:
    holder = HoldRunFolder(tmp_path)
    wait_until_free(tmp_path, patience_s=0)
    for _ in range(2):
        holder.after_report(None, [], None)
    with pytest.raises(ConfigurationError, match=tmp_path.name):
        wait_until_free(tmp_path, patience_s=0.3)


def test_a_second_controller_ends_at_its_first_checkpoint(tmp_path: Path) -> None:
    with FileLock(tmp_path / LOCK_FILE), pytest.raises(Timeout):
        HoldRunFolder(tmp_path).after_report(None, [], None)
