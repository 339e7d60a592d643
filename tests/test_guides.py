"""The documentation's code runs, and its generated pages are those of the files.

A page's blocks run in order in one session. A comment before a block,
`<!-- test: num_steps = 200 -->`, shrinks an assignment in it for the test.
"""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "docs" / "start.md",
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
    ROOT / "README.md",
]
BLOCK = re.compile(r"((?:<!-- test: .*? -->\n)*)```python\n(.*?)```", re.DOTALL)
OPTIONAL = ("rejax", "stable_baselines3")  # the extra "bench"
SHRINK = re.compile(r"<!-- test: (\w+) = (.*?) -->")


def shrunk(comments: str, code: str) -> str:
    """A block with the assignments that its comments name replaced."""
    for name, value in SHRINK.findall(comments):
        code, number = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", code)
        assert number == 1, f"{name}: expected one assignment, found {number}"
    return code


# Their calls are those of `tests/hardviews`, of `tests/jaxrl_se/test_defaults.py`,
# `test_from_log.py`, `test_shaping.py`, those of single agents, and the page `start`;
# each compiles for ten to thirty seconds.
SLOW = ("agents", "evolve", "from_a_log", "hard_views", "reward_networks")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] * (path.stem in SLOW))
        for path in PAGES
    ],
    ids=lambda path: path.stem,
)
def test_code_of_the_page_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    session, left_out = {"__name__": "__main__"}, set()
    text = path.read_text()
    for block in BLOCK.finditer(text):
        comments, code = block.groups()
        missing = {
            name
            for name in OPTIONAL
            if f" {name} import " in code or f"import {name}\n" in code
            if importlib.util.find_spec(name) is None
        }
        left_out |= missing
        if not missing:
            above = "\n" * text.count(
                "\n", 0, block.start(2)
            )  # for the lines of errors
            exec(compile(above + shrunk(comments, code), str(path), "exec"), session)
    if left_out:
        pytest.skip(f"blocks that need {', '.join(sorted(left_out))} were left out")


def test_every_shrinking_comment_stands_before_a_block():
    for path in PAGES:
        text = path.read_text()
        found = sum(comments.count("test:") for comments, _ in BLOCK.findall(text))
        assert found == text.count("<!-- test:"), path


def loaded(name: str):
    """A script of the documentation, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_the_gallery_is_that_of_the_shipped_files():
    gallery = loaded("make_gallery")
    assert (ROOT / "docs" / "gallery.md").read_text() == gallery.text()


def test_the_diagrams_are_those_of_their_script():
    diagrams = loaded("make_diagrams")
    for name, diagram in diagrams.DIAGRAMS.items():
        assert (diagrams.FOLDER / f"{name}.svg").read_text() == diagram.svg()


def test_pictures_and_pages_of_links_exist():
    """Also in what is no page of the site: READMEs."""
    link = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/**/*.md")]
    missing = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in pages
        for target in link.findall(path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert not missing, "\n".join(missing)
