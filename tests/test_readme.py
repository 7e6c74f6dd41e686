"""What the README shows works as shown. Its first two commands, which install, are for .ci/run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dlcore import _native

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.isa_independent


def code_blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def only(blocks: list[str], part: str = "") -> str:
    """The one block that holds ``part``."""
    (block,) = (block for block in blocks if part in block)
    return block


def has_compiler() -> bool:
    try:
        return subprocess.run(["cc", "--version"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def shell(tmp_path):
    """Runs shell commands in an empty folder, with ``python`` and ``dlcore`` those under test."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, call in (("python", ""), ("dlcore", "-m dlcore")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        program.chmod(0o755)
    folder = tmp_path / "empty"
    folder.mkdir()

    def run(commands: str, **files: str) -> str:
        for name, text in files.items():
            (folder / name.replace("_", ".")).write_text(text)
        done = subprocess.run(
            ["sh", "-e", "-c", commands],
            cwd=folder,
            env=os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=600,  # for a hang
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Warning" not in done.stderr, done.stderr
        return done.stdout

    return run


def test_the_set_up_commands_come_first():
    assert code_blocks("sh")[:2] == [
        "pip install '.[cli]' && dlcore train\n",
        "pip install '.[test]' && pytest\n",
    ]


def test_python_examples_run_in_order_and_learn(shell):
    blocks = code_blocks("python")
    output = shell("python example.py", example_py="\n".join(blocks))
    accuracies = [float(a) for a in re.findall(r"^test accuracy (\S+)$", output, re.MULTILINE)]
    assert len(accuracies) == len(blocks) >= 2
    assert min(accuracies) >= 0.95


@pytest.mark.skipif(not has_compiler(), reason="there is no C compiler")
def test_c_example_compiles_and_prints_what_is_shown(shell):
    commands = only(code_blocks("sh"), "cc demo.c")
    assert shell(commands, demo_c=only(code_blocks("c"))) == only(code_blocks("text"), "11")


def test_info_names_the_instruction_set_that_is_forced(shell):
    commands = only(code_blocks("sh"), "dlcore info")
    isa = re.search(r"DLCORE_ISA=(\S+) dlcore info", commands).group(1)
    if isa not in _native.isa_available():
        pytest.skip(f"this machine does not run {isa}")
    as_chosen, as_forced = re.findall(r"^isa +(\S+)$", shell(commands), re.MULTILINE)
    assert (as_chosen, as_forced) == (_native.isa_name(), isa)


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    targets += re.findall(r"(?:bench|tests|csrc)/[\w/]+\.\w+", README)
    assert len(targets) >= 5
    assert [target for target in targets if not (ROOT / target).exists()] == []
