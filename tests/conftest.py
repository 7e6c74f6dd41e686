"""Fixtures of several test files."""

import logging
import shlex

import pytest

from dlcore import cli, config
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


@pytest.fixture
def traces(caplog, monkeypatch):
    """How often functions were traced so far."""
    monkeypatch.setattr(config, "log_traces", True)
    caplog.set_level(logging.WARNING, logger="dlcore")
    return lambda: sum("tracing" in record.message for record in caplog.records)
