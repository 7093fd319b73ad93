"""Where a broker is, as a person writes it."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from windflower.adapters.local.tcp_ports import in_url
from windflower.errors import ConfigError, LocalProtocolError
from windflower.wire.topics import Topics


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker is and who we are to it: `mqtt[s]://[user[:password]@]host[:port][/prefix]`.

    What follows the host is put before every topic, for fleets that share a broker. `alpn` is what
    to ask for where one port speaks several protocols, as 443 of AWS IoT Core.
    """

    host: str
    port: int
    is_tls: bool = False
    user: str | None = None
    password: str | None = None
    topic_prefix: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    alpn: str | None = None

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        alpn: str | None = None,
    ) -> "BrokerAddress":
        """Read a URL; raises ConfigError, whose text holds no password."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # its text may hold a part of a password
            raise _no_address(url) from None
        prefix = unquote(parts.path).removeprefix("/").removesuffix("/")
        if "@" in prefix + parts.query + parts.fragment:
            raise ConfigError(
                "the broker's address has a password with / ? or # in it: write %2F %3F %23",
                key="broker",
            )
        is_more = parts.query or parts.fragment
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or is_more:
            raise _no_address(url)
        try:
            Topics(prefix)
        except LocalProtocolError as error:
            raise ConfigError(f"what follows the broker's host: {error}", key="broker") from error
        is_tls = parts.scheme == "mqtts"
        return cls(
            parts.hostname,
            port or (8883 if is_tls else 1883),
            is_tls,
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            topic_prefix=prefix,
            ca=ca,
            certificate=certificate,
            key=key,
            alpn=alpn,
        )

    @property
    def place(self) -> tuple[str, int, str]:
        """Where messages go: host, port, and what is put before topics."""
        return self.host, self.port, self.topic_prefix

    @property
    def topics(self) -> Topics:
        """How topics are spelled there."""
        return Topics(self.topic_prefix)

    def __str__(self) -> str:
        """Return the address without its password."""
        return self._written(quote(self.user or "", safe=""))

    @property
    def url(self) -> str:
        """The address with its password."""
        words = [word for word in (self.user, self.password) if word is not None]
        return self._written(":".join(quote(word, safe="") for word in words))

    def _written(self, user: str) -> str:
        at = "@" if user else ""
        path = f"/{quote(self.topic_prefix)}" if self.topic_prefix else ""
        scheme = "mqtts" if self.is_tls else "mqtt"
        return f"{scheme}://{user}{at}{in_url(self.host)}:{self.port}{path}"


def _no_address(url: str) -> ConfigError:
    shown = url.rpartition("@")[2]
    return ConfigError(
        f"{shown!r} is no broker address: write mqtt://host:1883 or"
        " mqtts://user:password@host:8883",
        key="broker",
    )
