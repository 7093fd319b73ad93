"""A gateway finds its stack by its settings, and its key in the stack."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from cloud import Cloud

from windflower.adapters.aws.shared_secret import shared_secret
from windflower.compose import open_gateway
from windflower.errors import ConfigError
from windflower.settings import load_settings


async def test_gateways_that_begin_at_once_sign_with_one_key(tables: Cloud) -> None:
    service, other = tables.tables(), replace(tables.names, fleet="other")
    drawn = await asyncio.gather(*(shared_secret(service, tables.names, "k") for _ in range(5)))

    assert 1 == len(set(drawn))
    assert 32 == len(drawn[0])
    assert drawn[0] == await shared_secret(service, tables.names, "k")
    assert drawn[0] != await shared_secret(service, other, "k")


async def test_a_stack_that_is_not_deployed_is_said_so(tables: Cloud) -> None:
    elsewhere = replace(tables.names, journal="another-journal")
    with pytest.raises(ConfigError, match="is the stack deployed"):
        await shared_secret(tables.tables(), elsewhere, "k")


async def test_without_credentials_one_is_told_what_to_do(
    tables: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no AWS credentials"):
        await shared_secret(tables.tables(), tables.names, "k")


async def test_a_setting_that_is_missing_is_named(tmp_path: Path) -> None:
    settings = load_settings(place="aws", state=tmp_path, aws_region="eu-west-1")
    with pytest.raises(ConfigError, match="aws_fleet"):
        async with open_gateway(settings):
            pass
