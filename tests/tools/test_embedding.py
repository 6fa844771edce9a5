"""The code that docs/embedding.md shows is the code that tests/install compiles."""

import re

import pytest

from program import ROOT

DOCUMENT = (ROOT / "docs" / "embedding.md").read_text()
BLOCKS = re.findall(r"(?:^<!-- (\S+) -->\n)?^```(\w+)\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
CODE = [(path, code) for path, language, code in BLOCKS if language in ("c", "cpp", "cmake")]
COMPILERS = ("CMakeLists.txt", "c/CMakeLists.txt", "check")
COMPILED = "".join((ROOT / "tests" / "install" / name).read_text() for name in COMPILERS)


def lines(code, indent=""):
    return "".join(indent + line if line.strip() else line for line in code.splitlines(keepends=True))


@pytest.mark.parametrize("path, code", CODE, ids=[f"{path}-{i}" for i, (path, _) in enumerate(CODE)])
def test_block_stands_in_its_file(path, code):
    assert path.startswith("tests/install/"), f"no comment says which file this is from:\n{code}"
    text = (ROOT / path).read_text()
    assert any(lines(code, indent) in text for indent in ("", "  ", "    ")), f"{path} does not contain:\n{code}"
    name = path.split("/")[-1]
    assert name == "CMakeLists.txt" or re.search(rf"\b{name.split('.')[0]}\b", COMPILED), f"nothing compiles {path}"


def test_every_block_is_seen():
    assert len(BLOCKS) == DOCUMENT.count("\n```") / 2 and CODE
    assert {language for _, language, _ in BLOCKS} <= {"c", "cpp", "cmake", "sh"}
