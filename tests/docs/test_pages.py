"""Every block, path, test, link and table of the pages is true."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from click import ClickException
from processes import MOSQUITTO, Programs

from docs.blocks import ROOT, Page, Stage, check_command, commands, shape
from windflower.cli.exit_codes import TABLE

TOP = [ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY")]
REST = [ROOT / f"{name}.md" for name in ("GLOSSARY", "CHANGELOG", "CODE_OF_CONDUCT")]
PAGES = [
    *TOP,
    *REST,
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
SOURCE = ROOT / "src" / "windflower"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def test_the_page_of_settings_is_made_of_their_types() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / "settings_page.py"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert made.stdout == (ROOT / "docs" / "settings.md").read_text()


# --------------------------------------------------------------------------------- blocks


@every_page
def test_every_block_of_a_page_is_true(
    page: Path, programs: Programs, apps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDFLOWER_STATE", str(programs.folder / "usual-state"))
    monkeypatch.chdir(ROOT)
    is_run = Page(page).runs()
    if is_run and MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    for example in Page(page, Stage(programs, apps) if is_run else None).examples():
        example.evaluate()


@every_page
def test_no_block_escapes(page: Path) -> None:
    fences = re.findall(r"^```(.*)$", page.read_text(), re.MULTILINE)
    languages = fences[::2]

    assert len(languages) == len(Page(page).examples())


def test_the_readmes_demo_looks_like_a_real_one(programs: Programs) -> None:
    state = str(programs.folder / "state")
    demo = programs.windflower("demo", "--rounds", "2", "--state", state, name="demo")
    assert 0 == demo.wait(), demo.err
    block = re.search(r"<!-- demo -->\n```text\n(.*?)```", TOP[0].read_text(), re.DOTALL)
    assert block is not None
    shown = [line for line in block.group(1).splitlines() if line != "..."]
    rounds = [line for line in demo.err.splitlines() if line.startswith("round ")]
    last = [line.replace(" over iotcore:", " over mosquitto:") for line in demo.out.splitlines()]

    assert list(map(shape, shown[-4:])) == list(map(shape, last))
    assert set(map(shape, shown[:-4])) == set(map(shape, rounds))


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "wire.md"],  # its words are the wire's, not commands
    ids=name_of,
)
def test_a_command_within_a_sentence_is_understood(page: Path) -> None:
    lines = re.findall(r"`((?:windflower|make|python3?) [^`]+)`", without_blocks(page))

    for words in (words for line in lines for words in commands(line)):
        check_command([*words, *_rest_of_an_agent(words)])


def _rest_of_an_agent(words: list[str]) -> list[str]:
    """Return what an agent must be told, where a page only names the command."""
    is_named = words[:2] == ["windflower", "agent"] and "--broker" not in words
    return ["--broker", "mqtt://HOST", "--device-id", "watch-03"] if is_named else []


@pytest.mark.parametrize(
    "line",
    [
        "windflower run APP_DIR --nope",
        "windflower devices list",
        "windflower agent --broker mqtt://HOST",
        "make everything",
        "python tools/no_such_file.py",
        "windflower demo && no-such-program",
    ],
)
def test_a_command_that_nobody_can_give_is_noticed(line: str) -> None:
    *before, last = commands(line)
    for words in before:
        check_command(words)

    with pytest.raises((AssertionError, KeyError, SystemExit, ClickException)):
        check_command(last)


@pytest.mark.parametrize(
    ("language", "block"),
    [("python", "assert 1 == 2"), ("json", "{"), ("toml", "# windflower.toml\nbrokers = 1")],
)
def test_a_block_that_is_false_is_noticed(tmp_path: Path, language: str, block: str) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"# A page\n\n```{language}\n{block}\n```\n")
    (example,) = Page(path).examples()

    with pytest.raises((AssertionError, ValueError)):
        example.evaluate()


# -------------------------------------------------------------------------- names and links


@every_page
def test_every_path_that_is_named_exists(page: Path) -> None:
    named = re.findall(
        r"`((?:src|tests|docs|examples|tools|bench)/[\w./-]*)(?:::\w+)?`", page.read_text()
    )

    assert [] == [path for path in named if not (ROOT / path).exists()]


@cache
def functions_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


@every_page
def test_every_test_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text())

    assert [] == [f"{path}::{name}" for path, name in named if name not in functions_in(path)]


def slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as they are made where pages are shown."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_blocks(page))
    inside = [link for link in links if not re.match(r"https?:", link)]

    for link in inside:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in slugs(target), link


# ---------------------------------------------------------------------------------- tables


def plan() -> Iterator[str]:
    """Yield the files and rooms of the plan, as paths below src/windflower."""
    block = re.search(r"```text\nsrc/windflower/\n(.*?)```", TOP[1].read_text(), re.DOTALL)
    assert block is not None
    above: list[str] = []
    for line in block.group(1).splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        above = [*above[:depth], name]
        yield "".join(above)


def test_the_plan_is_the_house() -> None:
    files = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py")}
    rooms = {str(p.parent.relative_to(SOURCE)) + "/" for p in SOURCE.rglob("*/__init__.py")} - {
        "./"
    }
    real = {file for file in files if not file.endswith("__init__.py")} | rooms

    assert sorted(real) == sorted(plan())


def test_the_exit_codes_are_the_codes() -> None:
    text = (ROOT / "docs" / "exit-codes.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.*) \|$", text, re.MULTILINE)

    assert [(kind.__name__, str(kind.exit_code), says) for kind, says in TABLE] == rows


def test_every_feature_of_the_original_has_its_row() -> None:
    text = (ROOT / "docs" / "original.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    ids = {
        number
        for row in rows
        for first, last in re.findall(r"\bF(\d\d)(?:-F(\d\d))?", row)
        for number in range(int(first), int(last or first) + 1)
    }

    assert set(range(1, 46)) == ids
    assert [] == [row for row in rows if row.endswith(" |  |")]


def test_every_feature_of_flower_names_its_test_and_every_such_test_is_named() -> None:
    text = (ROOT / "docs" / "flower.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    features = [row for row in rows if not row.endswith("| test |")]
    named = {test for row in features for test in re.findall(r"`tests/(\S+::\w+)` \|$", row)}
    files = sorted((ROOT / "tests" / "conformance").glob("test_*.py"))
    tests = {
        f"conformance/{file.name}::{name}"
        for file in files
        for name in functions_in(str(file.relative_to(ROOT)))
        if name.startswith("test_")
    }

    assert [] == [row for row in features if not re.search(r"`tests/\S+::\w+` \|$", row)]
    assert set() == tests - named


def test_the_licence_is_the_one_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = (ROOT / "LICENSE").read_text().split()

    assert ("Apache-2.0", ["LICENSE"]) == (project["license"], project["license-files"])
    assert ["Apache", "License", "Version", "2.0,", "January", "2004"] == words[:6]


# ----------------------------------------------------------------------------------- words


ALLOWED = {"OrderedClientManager", "_misc"}
"""Flower's own word for what the one extends, paho's own for what the other calls."""


def defined_names() -> Iterator[str]:
    for path in SOURCE.rglob("*.py"):
        yield path.stem
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        yield from (n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, kinds))


def test_words_that_say_nothing_name_nothing() -> None:
    text = (ROOT / "GLOSSARY.md").read_text()
    listed = re.search(r"too many things: ([a-z, ]+)\.", text)
    assert listed is not None
    unused = {form for word in listed.group(1).split(", ") for form in (word, f"{word}s")}

    found = {
        name
        for name in defined_names()
        if unused & {part.lower() for part in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)}
    }
    assert ALLOWED == found
