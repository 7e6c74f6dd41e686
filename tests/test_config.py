"""What the build says of itself."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import dlcore as dl
from dlcore import _native


def test_versions_agree():
    """pyproject.toml, dlcore.h and the package."""
    assert dl.__version__ == importlib.metadata.version("dlcore") == _native.version()


def test_config_names_what_is_in_use(capsys):
    info = dl.config_info()
    assert info["isa"] in info["isa available"].split()
    assert info["bfloat16"] in ("amx", "native", "emulated")
    assert int(info["threads"]) == dl.get_num_threads() >= 1
    assert int(info["openmp"]) >= 201511
    dl.show_config()
    out = capsys.readouterr().out
    assert all(value in out for value in info.values())


def test_header_and_library_are_where_they_are_said_to_be():
    assert Path(dl.get_include(), "dlcore.h").is_file()
    assert list(Path(dl.get_library_dir()).glob("libdlcore.*"))


def test_every_public_name_resolves():
    assert all(getattr(dl, name) is not None for name in dir(dl))
