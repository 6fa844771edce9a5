"""Blocks of docs/meg.md do what it says, on a small recording made here."""

import json
import re
import shlex
import shutil

import pytest

mne = pytest.importorskip("mne")

import small_meg  # noqa: E402
from conftest import ROOT  # noqa: E402

from shrinkwarp.mne._command import main  # noqa: E402

TEXT = (ROOT / "docs/meg.md").read_text()


@pytest.fixture
def subject(tmp_path, monkeypatch):
    """The folder that the page is read in."""
    monkeypatch.chdir(tmp_path)
    raw = small_meg.raw(*small_meg.write_problem(tmp_path, "subject"), 220)
    evoked = mne.EvokedArray(raw.get_data(stop=60), raw.info, tmin=-0.1, nave=4, comment="tone")
    mne.write_evokeds("subject-ave.fif", evoked)
    raw.save("subject_raw.fif")
    return tmp_path


def test_python(subject):
    names = {}
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, "docs/meg.md", "exec"), names)
    assert (subject / "subject-lh.stc").exists() and (subject / "subject-rh.stc").exists()


def commands(block):
    for line in block.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "shrinkwarp-meg" and main(arguments) == 0


def test_commands(subject):
    commands(shell_blocks()[0])
    written = {path.name for path in subject.iterdir() if path.suffix in (".stc", ".html")}
    assert written == {"sources-lh.stc", "sources-rh.stc", "sources.html", "raw-lh.stc", "raw-rh.stc"}


def test_a_table(subject, capfd):
    (table,) = re.findall(r"^```csv\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    (subject / "recordings.csv").write_text(table)
    commands(shell_blocks()[1])
    assert capfd.readouterr().out.count("done before") == 3
    assert {path.name for path in (subject / "results").iterdir()} == {
        f"{name}{ending}" for name in ("tone", "raw") for ending in ("-lh.stc", "-rh.stc", ".html", ".status.json")}
    assert json.loads((subject / "results/raw.status.json").read_text())["options"]["alpha"] == 30
    assert "2 recordings: 2 done" in (subject / "recordings-group.html").read_text()


def test_a_bids_data_set(subject):
    for number in ("01", "02"):
        folder = subject / f"study/derivatives/mne-bids-pipeline/sub-{number}/meg"
        folder.mkdir(parents=True)
        for suffix in ("fwd", "ave", "cov"):
            shutil.copy(f"subject-{suffix}.fif", folder / f"sub-{number}_task-tone_{suffix}.fif")
    commands(shell_blocks()[2])
    out = subject / "study/derivatives/shrinkwarp"
    assert (out / "sub-02/meg/sub-02_task-tone_ave-lasso-lh.stc").exists()
    assert "2 recordings: 2 done" in (out / "task-tone_ave-group.html").read_text()


def shell_blocks():
    blocks = re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    return blocks
