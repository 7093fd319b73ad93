"""`windflower doctor`: what is not ready for a run, and what to do about it."""

import json
import sys
from collections.abc import AsyncIterator

from windflower.cli.patience import patience
from windflower.compose import StateFolder
from windflower.core.finding import Finding
from windflower.errors import ConfigError, GatewayUnavailable
from windflower.pipeline.check_up import Running, check_up
from windflower.settings import Settings


async def examine(
    settings: Settings, *, is_aws: bool, key: str, region: str | None, is_json: bool
) -> bool:
    """Show every finding as it comes; return whether all is well."""
    found: list[Finding] = []
    with patience("looking"):
        async for finding in _findings(settings, is_aws=is_aws, key=key, region=region):
            found.append(finding)
            if not is_json:
                _show(finding)
    is_well = all(finding.is_well for finding in found)
    if is_json:
        answer = {"success": is_well, "findings": [finding.to_json() for finding in found]}
        sys.stdout.write(json.dumps(answer) + "\n")
    return is_well


async def _findings(
    settings: Settings, *, is_aws: bool, key: str, region: str | None
) -> AsyncIterator[Finding]:
    async for finding in check_up(settings, _running(settings)):
        if not is_aws or finding.subject != "broker":
            yield finding
    if not is_aws:
        return
    try:
        from windflower.adapters.aws import check_up as aws  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            f"the place aws needs more packages: pip install 'windflower[aws]' ({error.name})",
            key="place",
        ) from error
    async for finding in aws.check_up(key, region):
        yield finding


def _running(settings: Settings) -> Running | None:
    """Return what the gateway on this state folder says, if one runs there."""
    state = StateFolder(settings.state)
    try:
        return Running(state.gateway(), state.line().devices())
    except GatewayUnavailable:
        return None


def _show(finding: Finding) -> None:
    sys.stdout.write(f"{finding.level:<7}  {finding.subject}: {finding.says}\n")
    if finding.fix:
        sys.stdout.write(f"         do: {finding.fix}\n")
    sys.stdout.flush()
