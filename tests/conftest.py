"""Fixtures of several test files."""

import shlex

import pytest

from dlcore import cli
from plan_runs import large_teams


@pytest.fixture
def teams():
    """Runs of any size may have teams of up to 8 threads."""
    with large_teams():
        yield


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Run a command in this process, in a folder of its own; return exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(command):
        status = cli.main(shlex.split(command))
        out, err = capfd.readouterr()
        return status, out, err

    return run
