"""What can be set, once: by flag, else by environment, else in a file, else as it is here."""

import os
import shlex
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from windflower.errors import ConfigError


def default_state() -> Path:
    """Return the user's state folder (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "windflower"


def settings_file() -> Path:
    """Return the file of settings: WINDFLOWER_CONFIG, else windflower.toml in this folder."""
    return Path(os.environ.get("WINDFLOWER_CONFIG") or "windflower.toml")


_PREFIX: Final = "WINDFLOWER_"


class Settings(BaseSettings):
    """A gateway's settings. Each can be given as WINDFLOWER_NAME."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    @field_validator("hooks", mode="before")
    @classmethod
    def _lines(cls, given: object) -> object:
        return tuple(filter(None, given.split("\n"))) if isinstance(given, str) else given

    @field_validator("hooks")
    @classmethod
    def _can_be_told(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for hook in given:
            is_address = hook.startswith(("http://", "https://"))
            if not (urlsplit(hook).hostname if is_address else shlex.split(hook)):
                raise ValueError(f"{hook!r} is neither a program nor a web address")
        return given

    @field_validator("sinks", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        return tuple(given.split()) if isinstance(given, str) else given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags win over the environment, and that over the file."""
        del dotenv_settings, file_secret_settings
        file = TomlConfigSettingsSource(settings_cls, toml_file=settings_file())
        return init_settings, env_settings, file

    state: Path = Field(default_factory=default_state)
    """The one folder in which everything is kept: journal, blobs, keys, runs."""

    private: bool = False
    """Whether this gateway was started for one run and ends with it; `windflower run` says so."""

    broker: str | None = None
    """An MQTT broker, mqtt[s]://[user:password@]host[:port][/prefix]; what follows the host is put
    before every topic. None starts one on loopback, and `:1883` starts it on that port."""

    broker_ca: Path | None = None
    """Certificates that the broker's is checked against; the system's by default."""

    broker_certificate: Path | None = None
    """Our own certificate, for brokers that ask for one."""

    broker_key: Path | None = None
    """The key of our own certificate."""

    place: Literal["local", "aws"] = "local"
    """Where the fleet is: at a broker, or behind AWS IoT Core. The latter needs all that begins
    with `aws_`: the stack's outputs say it, and a task of the stack has it in its environment."""

    aws_region: str | None = None
    """The region of the stack."""

    aws_fleet: str | None = None
    """The stack's UniqueKey; the fleet's journal is kept under it."""

    aws_bucket: str | None = None
    """The bucket of apps, models and updates."""

    aws_prefix: str | None = None
    """What begins the name of every object of ours; the UniqueKey and a slash by default."""

    aws_responses_table: str | None = None
    """The table into which a rule writes replies."""

    aws_fleet_table: str | None = None
    """The table into which a rule writes heartbeats."""

    aws_journal_table: str | None = None
    """The table that holds what a gateway must not forget."""

    aws_transfer_role: str | None = None
    """The ARN of the role that signs the URLs of devices."""

    keep_days: Annotated[float, Field(gt=0)] = 30.0
    """For so many days a finished run can be verified; then only what it came to is kept. A run
    that nobody resumes for as long is ended."""

    keep_gb: Annotated[float, Field(gt=0)] = 20.0
    """What finished runs rest on takes at most so many GiB; the oldest go first."""

    resume_gb: Annotated[float, Field(gt=0)] = 20.0
    """What an open run keeps so that it can be begun again takes at most so many GiB. Where that
    ends, updates whose aggregate is kept go first; if that is not enough, the run goes on and
    cannot be begun again."""

    blobs: str = ":0"
    """Where devices can reach blobs, HOST:PORT. Without a host it is 127.0.0.1 beside a broker on
    this machine, else the address of this machine from which the broker is reached. Port 0 takes a
    free one, and the same again after a restart."""

    blobs_url: str | None = None
    """How devices reach blobs, where that is not `http://` and what `blobs` says."""

    page: str = ":0"
    """Where the page and `/metrics` are, HOST:PORT; without a host only this machine can look.
    Port 0 takes a free one, and the same again after a restart. Another address than this machine's
    own needs a `page_token`."""

    page_token: str | None = None
    """What has to be known by whoever looks; None lets everybody on this machine look."""

    hooks: Annotated[tuple[str, ...], NoDecode] = ()
    """Who is told when a run is over or suspended and when a device is lost: programs, which find
    the event on their standard input as one line of JSON, and web addresses, to which it is
    POSTed. In the environment, one a line."""

    sinks: Annotated[tuple[str, ...], NoDecode] = ()
    """Where a run's measurements go too: `jsonl:FILE`, `csv:FILE`, `tensorboard:FOLDER`,
    `mlflow:FOLDER` or `mlflow:URI`. In the environment, with spaces between them."""

    @field_validator("page", "blobs")
    @classmethod
    def _listens(cls, given: str) -> str:
        host_and_port(given)
        return given

    @field_validator("broker")
    @classmethod
    def _has_port(cls, given: str | None) -> str | None:
        own_broker_port(given)
        return given


def is_set_by_hand(key: str) -> bool:
    """Return whether people set this; the others are said by a stack, or by `windflower run`."""
    return key != "private" and not key.startswith("aws_")


def own_broker_port(broker: str | None) -> int | None:
    """Return where the broker that we start listens, 0 for a free port; None: it is not ours.

    Raises:
        ValueError: `broker` begins with a colon, and no port follows.
    """
    if broker is None:
        return 0
    return host_and_port(broker)[1] if broker.startswith(":") else None


def host_and_port(given: str) -> tuple[str, int]:
    """Read `HOST:PORT`; the host may be missing, and stands in brackets where it is IPv6.

    Raises:
        ValueError: it is something else.
    """
    try:
        parts = urlsplit(f"//{given}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if port is None or parts.netloc != given or parts.username is not None:
        raise ValueError(f"{given!r} is not HOST:PORT or :PORT, with a port up to 65535")
    return parts.hostname or "", port


def load_settings(**given: object) -> Settings:
    """Read settings; what is None was not given.

    Raises:
        ConfigError: names the key and where its value came from.
    """
    flags = {key: value for key, value in given.items() if value is not None}
    try:
        settings = Settings(**flags)  # type: ignore[arg-type]
        return settings.model_copy(update={"state": settings.state.expanduser().absolute()})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "settings"
        source, says = _source(key, flags), first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            near = get_close_matches(key, Settings.model_fields, n=1)
            says = "no setting has this name" + (f": is {near[0]} meant?" if near else "")
        raise ConfigError(f"{source}: {says}", key=key, source=source) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{settings_file()} is not TOML: {error}", key="config") from error


_OTHERS: Final = frozenset({"CONFIG", "NODE_CONFIG", "AGENT_FLAGS"})
"""Variables with our prefix that are no settings: the file's name, and what systemd tells."""


def ignored_variables() -> dict[str, str | None]:
    """Return variables of the environment that look like settings and are none.

    They may be misspelled. They are no error, because others name variables too: Kubernetes one for
    each service. What begins with WINDFLOWER_AWS_ is a stack's to say.

    Returns:
        the variable that may be meant, by name.
    """
    known = {_variable(key) for key in Settings.model_fields}
    others = {_variable(name) for name in _OTHERS}
    found = {name for name in os.environ if name.startswith(_PREFIX)} - known - others
    return {
        name: next(iter(get_close_matches(name, known, n=1, cutoff=0.85)), None)
        for name in sorted(found)
        if not name.startswith(_variable("aws_"))
    }


def origins(**given: object) -> dict[str, str]:
    """Return where each setting came from, as a person would look for it.

    Args:
        **given: as for `load_settings`.
    """
    flags = {key: value for key, value in given.items() if value is not None}
    file = settings_file()
    written = tomllib.loads(file.read_text()) if file.is_file() else {}
    return {
        key: "default" if _is_default(key, flags, written) else _source(key, flags)
        for key in Settings.model_fields
    }


def _is_default(key: str, flags: Mapping[str, object], written: Mapping[str, object]) -> bool:
    return key not in flags and key not in written and _variable(key) not in os.environ


def _variable(key: str) -> str:
    return f"{_PREFIX}{key.upper()}"


def _source(key: str, flags: Mapping[str, object]) -> str:
    """Return where a value came from, as a person would look for it."""
    if key in flags:
        return f"--{key.replace('_', '-')}"
    return _variable(key) if _variable(key) in os.environ else f"{key} in {settings_file()}"
