"""Every Python example of the README runs as pasted, and its files exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asv_bench import readme_table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_every_use_has_an_example():
    assert [title for title, _ in BLOCKS] == ["Convolution", "A layer", "Your own activation", "Training", "Inference"]
    assert README.count("```python") == len(BLOCKS)


@pytest.mark.parametrize(("title", "code"), BLOCKS, ids=[title for title, _ in BLOCKS])
def test_example_runs(title, code, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "NUMBACONV_QUIET": "1"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_files_that_are_named_exist():
    named = set(re.findall(r"`(numbaconv/[\w/.]+|asv_bench/[\w/.]+)`", README))
    named |= set(re.findall(r"\]\(((?!https?:)[^)#]+)\)", README))
    assert len(named) > 5
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_two_commands():
    assert "\npip install -e '.[demo]' && numbaconv demo\n" in README
    assert "\npip install -e '.[test]' && pytest\n" in README


def test_the_table_beside_pytorch_is_that_of_the_stored_results():
    """`python -m asv_bench.readme_table` makes it, and the table of means in the performance guide."""
    for path, text in readme_table.texts().items():
        assert path.read_text() == text, f"{path.name} and docs/peers*.json disagree"
