"""A Flower app as a folder: its pyproject and its configuration.

Nothing here imports flwr or the app.
"""

import ast
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from windflower.core.policy import RoundPolicy
from windflower.errors import AppError, ConfigError
from windflower.flower.privacy import noisy_name
from windflower.flower.requirements import checked

ConfigValue = bool | int | float | str


@dataclass(frozen=True, slots=True)
class AppFolder:
    """A Flower app that can be run.

    Attributes:
        path: the folder.
        name: the project's name.
        server: the ServerApp, as "module:attribute".
        client: the ClientApp, as "module:attribute".
        requires: the packages that it says it needs, as its pyproject has them.
        include: what alone goes to devices, as patterns of gitignore; None for all.
        exclude: what does not.
        config: the run configuration's defaults, nested keys joined by dots.
        prepare: a script that makes data folders for simulated devices, if the app has one.
        policy: what its rounds wait for, `[tool.windflower]` in its pyproject.
        noise: what draws noise that must stay secret, None where nothing does.
    """

    path: Path
    name: str
    server: str
    client: str
    requires: tuple[str, ...] = ()
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    config: Mapping[str, ConfigValue] = field(default_factory=dict)
    prepare: str | None = None
    policy: RoundPolicy = field(default_factory=RoundPolicy)
    noise: str | None = None

    @classmethod
    def read(cls, path: Path) -> "AppFolder":
        """Read an app's pyproject.toml.

        Raises:
            AppError: this folder is no Flower app; the message says what is missing. Or a
                component is no Python; the message says where.
            ConfigError: `[tool.windflower]` says what nobody understands.
        """
        file = path / "pyproject.toml"
        if not file.is_file():
            raise AppError(f"{path} is no Flower app: it has no pyproject.toml")
        try:
            project = tomllib.loads(file.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise AppError(f"{file} is not TOML: {error}") from error
        app = _table(project, "tool", "flwr", "app")
        if not app:
            raise AppError(f"{file} has no [tool.flwr.app]: {path} is no Flower app")
        components = _table(app, "components")
        server, client = (_component(file, components, n) for n in ("serverapp", "clientapp"))
        _check_syntax(path, server)
        _check_syntax(path, client)
        return cls(
            path=path,
            name=str(_table(project, "project").get("name") or path.name),
            server=server,
            client=client,
            requires=checked(_texts(file, _table(project, "project"), "dependencies") or ()),
            include=_texts(file, app, "fab-include"),
            exclude=_texts(file, app, "fab-exclude") or (),
            config=dict(_flatten(_table(app, "config"))),
            prepare=_prepare(file, _table(project, "tool", "windflower", "simulation")),
            policy=make_policy(_table(project, "tool", "windflower"), source=str(file)),
            noise=_noise(path, _table(project, "tool", "windflower")),
        )

    def override(self, pairs: list[str]) -> dict[str, ConfigValue]:
        """Read overrides of the run configuration, as Flower spells them.

        Args:
            pairs: each `key=value ...`, or the path of a TOML file.

        Raises:
            ConfigError: neither of these, a key that the app does not have, or another type.
        """
        overrides: dict[str, ConfigValue] = {}
        for text in pairs:
            pairs_of = _read_config if text.endswith(".toml") else parse_config
            overrides |= pairs_of(text, key="run-config")
        for key, value in overrides.items():
            self._check(key, value)
        return overrides

    def _check(self, key: str, value: ConfigValue) -> None:
        if key not in self.config:
            known = ", ".join(sorted(self.config)) or "none"
            raise ConfigError(f"{self.name} has no option {key!r}; it has: {known}", key=key)
        default = self.config[key]
        is_number = isinstance(default, float) and isinstance(value, int)
        if type(value) is not type(default) and not (is_number and not isinstance(value, bool)):
            wanted = type(default).__name__
            raise ConfigError(f"{key} takes {wanted} in {self.name}, not {value!r}", key=key)


def parse_config(text: str, *, key: str) -> dict[str, ConfigValue]:
    """Read `a=1 b="two"`: TOML values, separated by spaces, as Flower's command line takes them.

    Raises:
        ConfigError: something else.
    """
    lines = "\n".join(_split_outside_quotes(text))
    try:
        return dict(_flatten(tomllib.loads(lines)))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f'{text!r} is not key=value (texts in quotes: name="a b"): {error}', key=key
        ) from error


def _read_config(path: str, *, key: str) -> dict[str, ConfigValue]:
    try:
        return dict(_flatten(tomllib.loads(Path(path).expanduser().read_text())))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", key=key) from error


def make_policy(table: Mapping[str, Any], *, source: str) -> RoundPolicy:
    """Read what rounds wait for; what the table does not say is as it is by default.

    Raises:
        ConfigError: a key that nobody knows, or a value that is none of its kind.
    """
    given = {k: v for k, v in table.items() if k not in ("simulation", "private")}
    for key, value in given.items():
        check = _POLICY.get(key)
        if check is None:
            known = ", ".join(_POLICY)
            raise ConfigError(f"{source}: [tool.windflower] has {known}, not {key}", key=key)
        wanted, is_right = check
        if not is_right(value):
            raise ConfigError(f"{source}: {key} takes {wanted}, not {value!r}", key=key)
    return RoundPolicy(**given)


def _noise(folder: Path, table: Mapping[str, Any]) -> str | None:
    """Return why an app's random sources are secret; what its pyproject says wins."""
    private = table.get("private")
    if private is None:
        return noisy_name(folder)
    return "private = true" if private is True else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:  # noqa: ANN401 - TOML has any
    return _is_number(value) and (value >= 1 if isinstance(value, int) else 0 < value <= 1)


_POLICY: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "deadline_s": ("seconds", lambda v: _is_number(v) and v > 0),
    "quorum": ("a number of devices, or a share up to 1.0", _is_count),
    "over_select": ("a share, such as 0.3", lambda v: _is_number(v) and v >= 0),
    "min_replies": ("a number of devices, or a share up to 1.0", lambda v: v == 0 or _is_count(v)),
    "wait_devices_s": ("seconds", lambda v: _is_number(v) and v >= 0),
    "wait_for_offline": ("true or false", lambda v: isinstance(v, bool)),
}


def fuse(defaults: Mapping[str, ConfigValue], given: Mapping[str, Any]) -> dict[str, ConfigValue]:
    """Put overrides over defaults; an int given for a float becomes one."""
    fused = dict(defaults)
    for key, value in given.items():
        fused[key] = float(value) if isinstance(fused.get(key), float) else value
    return fused


# ----------------------------------------------------------------------------------- reading


def _table(value: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        value = value.get(key, {})
        if not isinstance(value, dict):
            return {}
    return dict(value)


def _component(file: Path, components: Mapping[str, Any], name: str) -> str:
    text = components.get(name)
    if not isinstance(text, str) or text.count(":") != 1:
        raise AppError(f'{file}: [tool.flwr.app.components] lacks {name} = "module:attribute"')
    return text


def _prepare(file: Path, table: Mapping[str, Any]) -> str | None:
    prepare = table.get("prepare")
    if prepare is not None and not isinstance(prepare, str):
        raise AppError(f"{file}: prepare takes the name of a script, not {prepare!r}")
    return prepare


def _texts(file: Path, table: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """Return a list of texts; None where there is none."""
    texts = table.get(name)
    if texts is None:
        return None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise AppError(f"{file}: {name} takes a list of texts, not {texts!r}")
    return tuple(texts)


def _check_syntax(folder: Path, component: str) -> None:
    """Refuse a mistake in a component here, before each device of the fleet says so."""
    file = folder / Path(*component.split(":", maxsplit=1)[0].split(".")).with_suffix(".py")
    if not file.is_file():
        return  # a package, or something that is installed: said when it is imported
    try:
        ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        raise AppError(f"{file}, line {error.lineno}: {error.msg}: mend it") from error
    except ValueError as error:
        raise AppError(f"{file} is no Python: {error}") from error


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, ConfigValue]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            yield f"{prefix}{key}", value
        else:
            raise AppError(f"run configuration {prefix}{key} is a {type(value).__name__}")


def _split_outside_quotes(text: str) -> Iterator[str]:
    word, quote, is_escaped = "", "", False
    for character in text.strip():
        if is_escaped:
            is_escaped = False
        elif character == "\\" and quote == '"':
            is_escaped = True
        elif character in "\"'" and quote in ("", character):
            quote = "" if quote else character
        if character.isspace() and not quote:
            if word:
                yield word
            word = ""
        else:
            word += character
    if word:
        yield word
