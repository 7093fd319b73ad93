"""Runs or checks each fenced block of a page, by its language.

A block after `<!-- run -->` is really run, line by line, as a person would; what serves goes on in
the background until the page is done. A block after `<!-- output: COMMAND -->` has to look like
what that command wrote.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer.main
from processes import Program, Programs, free_port, until
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser
from sybil.typing import Evaluator

from windflower.agent.__main__ import parse as parse_agent
from windflower.cli.main import app
from windflower.settings import Settings

ROOT: Final = Path(__file__).parents[2]
LANGUAGES: Final = ("python", "json", "toml", "sh", "text")

FOREIGN: Final = frozenset(
    {
        *("aws", "docker", "pip", "pytest"),
        *("cat", "export", "kill", "mkdir", "sleep"),
        *("install", "journalctl", "systemctl", "useradd"),
        *("flower-superexec", "flower-superlink", "flower-supernode", "flwr"),
        "openssl",  # run in tests/e2e/test_site.py
        "ruff",
    }
)
"""Programs of others, which the pages may name and nobody here checks."""

_BETWEEN: Final = frozenset({"&", "&&", ";", "|", "||"})
_HERE_DOCUMENT: Final = re.compile(r"<<'?(\w+)'?$")
_NUMBER: Final = re.compile(r"\b[0-9a-f]{8,}\b|\d+(\.\d+)?")


# ------------------------------------------------------------------------------- commands


def commands(source: str) -> Iterator[list[str]]:
    """Yield the simple commands of a shell script, without assignments and keywords."""
    lines = iter(source.replace("\\\n", " ").splitlines())
    for line in lines:
        if found := _HERE_DOCUMENT.search(line):
            while next(lines) != found.group(1):
                pass
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        yield from filter(None, map(_simple, _split(list(words))))


def _split(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in words:
        if word in _BETWEEN:
            yield command
            command = []
        else:
            command.append(word)
    yield command


def _simple(words: list[str]) -> list[str]:
    while words and (words[0] in ("do", "done") or re.match(r"\w+=", words[0])):
        words = words[1:]
    return [] if words[:1] == ["for"] else words


def check_command(words: list[str]) -> None:
    """Raise unless a command is one that somebody can give."""
    program, *arguments = words
    match program:
        case "windflower":
            check_windflower(arguments)
        case "make":
            targets = re.findall(r"^([a-z -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(arguments) <= set(" ".join(targets).split())
        case "python" | "python3":
            assert arguments[0] == "-m" or _is_there(arguments[0]), words
        case "node":
            assert _is_there(arguments[0]), words
        case ".":
            assert arguments == [".venv/bin/activate"]
        case _:
            assert Path(program).name in FOREIGN, f"{program}: what is this?"


def check_windflower(arguments: list[str]) -> None:
    """Raise unless our own command line takes these arguments."""
    if arguments[0] == "agent":
        parse_agent(arguments[1:])
        return
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    while below := getattr(command, "commands", None):
        if not rest and command.invoke_without_command:
            return
        command = below[rest.pop(0)]
    command.make_context("windflower", rest)


def _is_there(path: str) -> bool:
    return any((folder / path).exists() for folder in (ROOT, *(ROOT / "examples").iterdir()))


def shape(line: str) -> str:
    """Return a line with every number and every hash made alike."""
    return re.sub(r" +", " ", _NUMBER.sub("#", line)).strip()


# ---------------------------------------------------------------------------------- pages


class Stage:
    """Where a page's commands are run: a home of its own, a broker, and what they left running.

    Args:
        programs: starts processes, and ends them after the test.
        apps: the folder of small Flower apps.
    """

    def __init__(self, programs: Programs, apps: Path) -> None:
        self._programs = programs
        self._places = {"APP_DIR": str(apps / "averaging"), "GATEWAY": "127.0.0.1"}
        self._outputs: dict[str, str] = {}
        folder = programs.folder / "bin"
        folder.mkdir()
        shim = folder / "windflower"
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m windflower.cli.main "$@"\n')
        shim.chmod(0o755)
        self._environment = {
            "PATH": os.pathsep.join([str(folder), os.environ["PATH"], "/usr/sbin"]),
            "HOME": str(programs.folder),
            "XDG_STATE_HOME": str(programs.folder / "state"),
        }

    def run(self, line: str) -> None:
        """Run a command to its end, or until it serves."""
        words = shlex.split(self._placed(line))
        match words[1]:
            case "serve":
                serving = self._start(words)
                until(lambda: "The gateway serves." in serving.out, line)
            case "agent":
                self._start(words)
                self._start([word.replace("watch-03", "watch-04") for word in words])
                until(self._hears_both, line)
            case _:
                program = self._start(words)
                assert 0 == program.wait(), program.err
                self._outputs[line] = program.out

    def output(self, line: str) -> str:
        """Return what a command wrote that was run before."""
        return self._outputs[line]

    def _start(self, words: list[str]) -> Program:
        name = f"{words[1]}-{len(list(self._programs.folder.glob('*.out')))}"
        return self._programs.start(*words, name=name, **self._environment)

    def _placed(self, line: str) -> str:
        if "HOST" in line and "HOST" not in self._places:
            self._places["HOST"] = self._programs.mosquitto()[1].removeprefix("mqtt://")
            self._places["8777"] = str(free_port())
        for place, value in self._places.items():
            line = line.replace(place, value)
        return line

    def _hears_both(self) -> bool:
        program = self._start(["windflower", "devices", "ls", "--format", "json"])
        assert 0 == program.wait(), program.err
        return {"watch-03", "watch-04"} <= {d["device"] for d in program.last["devices"]}


class Page:
    """One page and its blocks.

    Args:
        path: the page.
        stage: where its commands are run; None only checks them.
    """

    def __init__(self, path: Path, stage: Stage | None = None) -> None:
        self._stage = stage
        evaluators: dict[str, Evaluator] = {
            "python": PythonEvaluator(),
            "json": self._json,
            "toml": self._toml,
            "sh": self._sh,
            "text": self._text,
        }
        parsers = [CodeBlockParser(name, evaluators[name]) for name in LANGUAGES]
        self._document = Sybil(parsers).parse(path)

    def examples(self) -> list[Example]:
        """Return the blocks, in order."""
        return list(self._document.examples())

    def runs(self) -> bool:
        """Return whether any block is to be run."""
        return any(_marker(example) == "run" for example in self.examples())

    def _json(self, example: Example) -> None:
        json.loads(example.parsed)

    def _toml(self, example: Example) -> None:
        keys = tomllib.loads(example.parsed)
        if example.parsed.startswith("# windflower.toml"):
            assert set(keys) <= set(Settings.model_fields)

    def _sh(self, example: Example) -> None:
        subprocess.run(["bash", "-n"], input=example.parsed, text=True, check=True)
        for words in commands(example.parsed):
            check_command(words)
        if _marker(example) == "run" and self._stage is not None:
            for line in example.parsed.strip().splitlines():
                self._stage.run(line)

    def _text(self, example: Example) -> None:
        kind, _, command = _marker(example).partition(": ")
        if kind == "output" and self._stage is not None:
            written = set(map(shape, self._stage.output(command).splitlines()))
            shown = list(map(shape, example.parsed.splitlines()))
            assert [] == [line for line in shown if line not in written], written


def _marker(example: Example) -> str:
    """Return what the comment before a block asks for."""
    line = example.document.text[: example.start].rstrip().rpartition("\n")[2]
    found = re.fullmatch(r"<!-- (.+) -->", line)
    return found.group(1) if found else ""
