"""An app is a folder that says what it is."""

import re
from pathlib import Path

import pytest

from windflower.errors import AppError, ConfigError
from windflower.flower.app_folder import AppFolder, fuse, parse_config

APP = Path(__file__).parents[2] / "apps" / "averaging"
EXAMPLE = Path(__file__).parents[3] / "examples" / "01-smartwatch"


def test_an_app_says_what_it_is() -> None:
    app = AppFolder.read(APP)

    assert ("averaging", "averaging.server_app:app", "averaging.client_app:app") == (
        app.name,
        app.server,
        app.client,
    )
    assert 2 == app.config["num-server-rounds"]
    assert app.prepare is None
    assert "prepare.py" == AppFolder.read(EXAMPLE).prepare


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "it has no pyproject.toml"),
        ("= x", "is not TOML"),
        ("[project]\nname = 'x'\n", r"has no \[tool.flwr.app\]"),
        ("[tool.flwr.app]\npublisher = 'x'\n", "lacks serverapp"),
        (
            "[tool.flwr.app.components]\nserverapp = 'a:b'\nclientapp = 'ab'\n",
            "lacks clientapp",
        ),
    ],
)
def test_what_is_no_app_is_said_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(AppError, match=message) as caught:
        AppFolder.read(tmp_path)

    assert 1 == len(str(caught.value).splitlines())


def test_config_may_stand_in_a_file_as_with_flower(tmp_path: Path) -> None:
    app, file = AppFolder.read(APP), tmp_path / "config.toml"
    file.write_text("numbers = 7\n")

    assert {"numbers": 7, "fraction": 0.5} == app.override([str(file), "fraction=0.5"])
    for missing, message in ((tmp_path / "no.toml", "cannot be read"), (APP, "is not key=value")):
        with pytest.raises(ConfigError, match=message):
            app.override([str(missing)])


def test_config_is_read_as_flower_reads_it() -> None:
    text = """a=1 b=2.5 c=true d="two words" e='x=y' f.g=3"""
    expected = {"a": 1, "b": 2.5, "c": True, "d": "two words", "e": "x=y", "f.g": 3}

    assert expected == parse_config(text, key="c")
    assert {} == parse_config("  ", key="c")


@pytest.mark.parametrize("text", ["a", "a=", "a=b c", "=1", "a=1 a=2"])
def test_what_is_no_config_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not key=value"):
        parse_config(text, key="c")


def test_overrides_are_checked_against_the_apps_own() -> None:
    app = AppFolder.read(APP)

    assert {"numbers": 5, "timeout-s": 7} == app.override(["numbers=5", "timeout-s=7"])
    assert {"timeout-s": 7.0, "text": "x"} == fuse(
        {"timeout-s": 1.0, "text": "x"}, {"timeout-s": 7}
    )
    with pytest.raises(ConfigError, match="averaging has no option 'rounds'"):
        app.override(["rounds=1"])
    with pytest.raises(ConfigError, match="numbers takes int in averaging, not True"):
        app.override(["numbers=true"])


def test_a_component_that_is_no_python_is_said_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = = 2\n")
    components = "[tool.flwr.app.components]\nserverapp = 'a:x'\nclientapp = 'b.c:x'\n"
    (tmp_path / "pyproject.toml").write_text(components)

    with pytest.raises(AppError, match=r"a\.py, line 2: invalid syntax: mend it"):
        AppFolder.read(tmp_path)


def test_a_quote_in_a_text_is_escaped_as_in_toml() -> None:
    assert {"a": 'x" y', "b": "it's"} == parse_config('a="x\\" y" b="it\'s"', key="run-config")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('["flwr>=1.31"]', '["torch >= two"]', "asks for 'torch >= two', which is no requirement"),
        ("[tool.flwr.app]", "[tool.windflower.simulation]\nprepare = 3\n[tool.flwr.app]",
         "prepare takes the name of a script, not 3"),
    ],
)  # fmt: skip
def test_what_a_pyproject_says_wrong_is_named(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = (APP / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(text.replace(old, new))
    with pytest.raises(AppError, match=re.escape(said)):
        AppFolder.read(tmp_path)
