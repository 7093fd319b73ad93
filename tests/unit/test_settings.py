"""A setting comes from a flag, else the environment, else the file; an error names which."""

import os
from pathlib import Path

import pytest

from windflower.cli.config import show_settings
from windflower.errors import ConfigError
from windflower.settings import (
    Settings,
    host_and_port,
    ignored_variables,
    is_set_by_hand,
    load_settings,
    origins,
    own_broker_port,
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WINDFLOWER_STATE", raising=False)


def test_the_defaults_need_nothing() -> None:
    settings = load_settings()

    assert "windflower" == settings.state.name
    assert (None, ":0", ":0") == (settings.broker, settings.blobs, settings.page)


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "windflower.toml").write_text('broker = "mqtt://file"\nblobs = ":1"\n')
    monkeypatch.setenv("WINDFLOWER_BROKER", "mqtt://environment")
    monkeypatch.setenv("WINDFLOWER_STATE", "/a")

    assert "mqtt://environment" == load_settings(broker=None).broker
    assert "mqtt://flag" == load_settings(broker="mqtt://flag").broker
    assert (":1", Path("/a")) == (load_settings().blobs, load_settings().state)


@pytest.mark.parametrize("by", ["flag", "environment", "file"])
def test_a_wrong_value_is_named_with_its_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: str
) -> None:
    flags: dict[str, object] = {}
    if by == "flag":
        flags["blobs"] = ":70000"
    elif by == "environment":
        monkeypatch.setenv("WINDFLOWER_BLOBS", "many")
    else:
        (tmp_path / "windflower.toml").write_text('blobs = "a:b"\n')
    expected = {
        "flag": "--blobs: ",
        "environment": "WINDFLOWER_BLOBS: ",
        "file": "blobs in windflower.toml: ",
    }
    with pytest.raises(ConfigError) as caught:
        load_settings(**flags)

    assert str(caught.value).startswith(expected[by])
    assert "HOST:PORT" in str(caught.value)
    assert "blobs" == caught.value.key


@pytest.mark.parametrize(
    ("given", "read"),
    [(":0", ("", 0)), ("a.example:80", ("a.example", 80)), ("[::1]:65535", ("::1", 65535))],
)
def test_where_to_listen_is_read(given: str, read: tuple[str, int]) -> None:
    assert read == host_and_port(given)


@pytest.mark.parametrize(
    "given", ["", "a", "a:", "::1", ":65536", ":-1", "a:1/b", "u@a:1", ":a", "[a:1"]
)
def test_where_nobody_can_listen_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        host_and_port(given)


def test_a_broker_of_our_own_can_have_a_port() -> None:
    assert (0, 1883, None) == tuple(map(own_broker_port, (None, ":1883", "mqtt://a:1")))
    with pytest.raises(ConfigError, match="HOST:PORT"):
        load_settings(broker=":many")


def test_a_variable_that_no_setting_has_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WINDFLOWER_")]:
        monkeypatch.delenv(name)
    for name in ("STATE", "CONFIG", "NODE_CONFIG", "AGENT_FLAGS", "AWS_RESULTS"):
        monkeypatch.setenv(f"WINDFLOWER_{name}", "x")
    assert {} == ignored_variables()
    monkeypatch.setenv("WINDFLOWER_BROKR", "mqtt://a")
    monkeypatch.setenv("WINDFLOWER_SERVICE_HOST", "10.0.0.1")

    expected = {"WINDFLOWER_BROKR": "WINDFLOWER_BROKER", "WINDFLOWER_SERVICE_HOST": None}
    assert expected == ignored_variables()


def test_an_unknown_key_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "windflower.toml").write_text("brokr = 1\n")
    with pytest.raises(ConfigError, match=r"brokr in windflower\.toml"):
        load_settings()


def test_a_file_that_is_not_toml_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text("= =")
    monkeypatch.setenv("WINDFLOWER_CONFIG", "mine.toml")
    with pytest.raises(ConfigError, match=r"mine\.toml is not TOML"):
        load_settings()


def test_each_setting_says_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "windflower.toml"
    file.write_text("resume_gb = 5.0\nkeep_days = 3.0\n")
    monkeypatch.setenv("WINDFLOWER_CONFIG", str(file))
    monkeypatch.setenv("WINDFLOWER_KEEP_DAYS", "4")
    found = origins(state=tmp_path)

    assert "--state" == found["state"]
    assert f"resume_gb in {file}" == found["resume_gb"]
    assert "WINDFLOWER_KEEP_DAYS" == found["keep_days"]
    assert {"default"} == {found[k] for k in found.keys() - {"state", "resume_gb", "keep_days"}}
    assert set(Settings.model_fields) == set(found)


def test_what_is_shown_holds_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WINDFLOWER_BROKER", "mqtts://us:secret@broker.example")
    monkeypatch.setenv("WINDFLOWER_PAGE_TOKEN", "also-secret")
    for is_json in (True, False):
        show_settings(None, has_origin=True, is_json=is_json)
        shown = capsys.readouterr().out
        assert "secret" not in shown
        assert "mqtts://us@broker.example:8883" in shown
        assert "WINDFLOWER_BROKER" in shown


def test_few_settings_are_left_to_people() -> None:
    """Where one more is needed, another one has to go."""
    assert 15 == sum(map(is_set_by_hand, Settings.model_fields))


def test_what_a_stack_says_is_shown_where_it_says_something(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WINDFLOWER_AWS_REGION", "eu-west-1")
    show_settings(None, has_origin=False, is_json=False)
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()]

    assert 16 == len(shown)
    assert "aws_region" in shown


@pytest.mark.parametrize("hook", ["", "  ", "http://", "https:///path"])
def test_a_hook_that_is_none_is_refused_before_anybody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    file = tmp_path / "windflower.toml"
    file.write_text(f"hooks = ['true', '{hook}']\n")
    monkeypatch.setenv("WINDFLOWER_CONFIG", str(file))
    with pytest.raises(ConfigError, match="neither a program nor a web address"):
        load_settings()


def test_a_setting_that_is_misspelled_is_named_with_the_one_that_may_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "windflower.toml"
    file.write_text("resume_bg = 5.0\n")
    monkeypatch.setenv("WINDFLOWER_CONFIG", str(file))
    with pytest.raises(ConfigError, match=r"resume_bg in .*: no setting .*resume_gb meant"):
        load_settings()
