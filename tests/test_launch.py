"""A stage restarts itself under the launcher in LAUNCH."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

STAGE = """
import os
import stages
if "LAUNCH" in os.environ:
    stages.run(None, launched=True)
print(os.environ.get("WORD"), *sys.argv[1:])
"""


def call(launch: str, tmp_path) -> subprocess.CompletedProcess[str]:
    """A stage whose file and argument have names that a shell would split."""
    file = tmp_path / "a stage.py"
    file.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r}){STAGE}")
    return subprocess.run(
        [sys.executable, str(file), "a folder/$HOME"],
        env=os.environ | {"LAUNCH": launch},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("launch", "word"),
    [
        ("nice -n 1", "None"),
        ("env 'WORD=two words' nice", "two words"),
        ("torchrun --nproc-per-node 1 --no-python", "None"),
    ],
)
def test_the_launcher_starts_the_same_command_without_launch(launch, word, tmp_path, monkeypatch):
    programs = os.path.dirname(sys.executable)
    monkeypatch.setenv("PATH", programs, prepend=os.pathsep)
    done = call(launch, tmp_path)
    assert done.returncode == 0 and done.stdout == f"{word} a folder/$HOME\n", done.stderr


@pytest.mark.parametrize(
    ("launch", "reason"),
    [("no-such-launcher -n 4", "No such file or directory"), ("nice 'n", "No closing quotation")],
)
def test_a_launcher_that_cannot_be_started_is_named(launch, reason, tmp_path):
    done = call(launch, tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: LAUNCH: {launch!r} cannot be started: {reason}\n"
