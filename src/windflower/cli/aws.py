"""`windflower aws`: a fleet on AWS, from an empty account to an empty account."""

import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from windflower.errors import ConfigError

app = typer.Typer(help="A fleet behind AWS IoT Core.", no_args_is_help=True)

tasks = typer.Typer(help="What the stack's tasks run; not for people.", no_args_is_help=True)
app.add_typer(tasks, name="task", hidden=True)

KeyOption = Annotated[
    str, typer.Option("--key", help="The fleet's UniqueKey, which is its stack's name too.")
]
RegionOption = Annotated[
    str | None, typer.Option(help="The region; else AWS_REGION, else your profile's.")
]


def _tell(text: str) -> None:
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


@app.command()
def deploy(
    key: KeyOption = "windflower",
    region: RegionOption = None,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="Name=value of the template.")
    ] = None,
    greengrass: Annotated[  # noqa: FBT002
        bool, typer.Option("--greengrass", help="Also the agent, as a component for cores.")
    ] = False,
    requirements: Annotated[
        Path | None, typer.Option(help="What apps need on a core, for pip.")
    ] = None,
    wheels: Annotated[
        Path | None, typer.Option(help="Wheels of it all, for cores without PyPI.")
    ] = None,
) -> None:
    """Make the stack, or change it.

    What is not given stays as it was.
    """
    given = dict(_pair(text) for text in parameter or [])
    if (requirements or wheels) and not greengrass:
        raise ConfigError("--requirements and --wheels go with --greengrass", key="greengrass")

    async def deployed(fleet: Any) -> dict[str, Any]:  # noqa: ANN401 - a CloudFleet, which is slow to import
        from windflower.adapters.aws.component import component_zip  # noqa: PLC0415 - an extra

        component = component_zip(requirements, wheels) if greengrass else None
        return dict(await fleet.deploy(given, _tell, component=component))

    _run(deployed, key, region)


@app.command()
def status(key: KeyOption = "windflower", region: RegionOption = None) -> None:
    """Show the stack, its devices and its last executions."""
    _run(lambda fleet: fleet.status(), key, region)


@app.command("run")
def run_app(
    folder: Annotated[Path, typer.Argument(help="A Flower app's folder.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Flags of `windflower run`, after --.")
    ] = None,
    key: KeyOption = "windflower",
    region: RegionOption = None,
    simulated: Annotated[
        int | None, typer.Option(min=0, max=40, help="Simulate so many devices meanwhile.")
    ] = None,
    dry_run: Annotated[  # noqa: FBT002
        bool, typer.Option("--dry-run", help="Upload the app, and show what would be started.")
    ] = False,
) -> None:
    """Upload an app, start the pipeline, and wait for its report."""

    async def started(fleet: Any) -> dict[str, Any]:  # noqa: ANN401 - a CloudFleet, which is slow to import
        request = await fleet.request(folder, arguments or [], simulated=simulated)
        return request if dry_run else dict(await fleet.run(request, _tell))

    _run(started, key, region)


@app.command()
def logs(
    key: KeyOption = "windflower",
    region: RegionOption = None,
    devices: Annotated[bool, typer.Option(help="Those of the simulated devices.")] = False,  # noqa: FBT002
) -> None:
    """Write what the last tasks wrote."""
    _run(lambda fleet: fleet.logs(print, of_devices=devices), key, region)


@app.command("add-device")
def add_device(
    device: Annotated[str, typer.Argument(metavar="DEVICE_ID", help="The device's name.")],
    folder: Annotated[Path, typer.Option("--out", help="Where its files are written.")] = Path(),
    key: KeyOption = "windflower",
    region: RegionOption = None,
    core: Annotated[  # noqa: FBT002
        bool, typer.Option("--core", help="It is a Greengrass core, and has a thing already.")
    ] = False,
) -> None:
    """Make a device known, and write its certificate and its key."""

    async def added(fleet: Any) -> dict[str, Any]:  # noqa: ANN401 - a CloudFleet, which is slow to import
        return dict(await (fleet.add_core(device) if core else fleet.add_device(device, folder)))

    _run(added, key, region)


@app.command()
def destroy(
    key: KeyOption = "windflower",
    region: RegionOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,  # noqa: FBT002
    objects: Annotated[  # noqa: FBT002
        bool, typer.Option(help="Also what is ours in a bucket of your own.")
    ] = False,
) -> None:
    """Remove the fleet from the account.

    That is: what runs, things, certificates, objects, images, and the stack.
    """
    _run(
        lambda fleet: fleet.destroy(_tell, is_rehearsal=dry_run, takes_objects=objects),
        key,
        region,
    )


@tasks.command("run")
def run_task() -> None:
    """Run what the pipeline asks for."""
    from windflower.pipeline import cloud_task  # noqa: PLC0415 - an extra

    _serve(cloud_task.run_task)


@tasks.command("devices")
def devices_task() -> None:
    """Serve simulated devices."""
    from windflower.pipeline import cloud_task  # noqa: PLC0415 - an extra

    _serve(cloud_task.devices_task)


def _serve(task: Callable[[Mapping[str, str]], Coroutine[Any, Any, int]]) -> None:
    """Run a task; SIGTERM, by which Fargate stops it, cancels it."""
    import asyncio  # noqa: PLC0415 - --help is faster without

    from windflower.adapters.local.signals import stop_on_signal  # noqa: PLC0415

    async def work() -> int:
        current = asyncio.current_task()
        assert current is not None  # noqa: S101 - we are in one
        stop_on_signal(current.cancel)
        return await task(os.environ)

    raise typer.Exit(asyncio.run(work()))


def _run(
    work: Callable[[Any], Coroutine[Any, Any, dict[str, Any]]], key: str, region: str | None
) -> None:
    """Do one thing with a fleet, and write its answer as JSON."""
    import asyncio  # noqa: PLC0415 - as above

    try:
        from windflower.adapters.aws.cloud_fleet import open_fleet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            f"windflower aws needs more packages: pip install 'windflower[aws]' ({error.name})",
            key="aws",
        ) from error

    from windflower.cli.patience import patience  # noqa: PLC0415 - as above

    async def done() -> dict[str, Any]:
        async with open_fleet(key, region) as fleet:
            return await work(fleet)

    with patience("waiting for AWS"):
        answer = asyncio.run(done())
    typer.echo(json.dumps(answer, indent=2))
    raise typer.Exit(0 if answer["success"] else 1)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--parameter {text}: write Name=value", key="parameter")
    return name, value
