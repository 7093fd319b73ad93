"""`windflower`: runs Flower apps on a fleet of devices that are reached over MQTT."""

import json
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from windflower import __version__
from windflower.cli.aws import app as aws_app
from windflower.cli.exit_codes import code_of
from windflower.errors import ConfigError, StoreUnavailable, WindflowerError

if TYPE_CHECKING:
    from windflower.settings import Settings

# With rich, which typer takes where it is, --help takes twice as long as all else together.
typer.core.HAS_RICH = False

app = typer.Typer(
    name="windflower",
    help="Run any Flower app, unchanged, on devices that are reached over MQTT.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"max_content_width": 120},
)
devices_app = typer.Typer(help="The fleet's devices.", no_args_is_help=True)
app.add_typer(devices_app, name="devices")
runs_app = typer.Typer(help="Runs, the latest first.")
app.add_typer(runs_app, name="runs")
config_app = typer.Typer(help="The gateway's settings.", no_args_is_help=True)
app.add_typer(config_app, name="config")
models_app = typer.Typer(help="The model that the fleet is to have.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(aws_app, name="aws")


class Format(StrEnum):
    """How a command answers: for people, or one JSON object on one line."""

    DEFAULT = "default"
    JSON = "json"


class Place(StrEnum):
    """Where the fleet is."""

    LOCAL = "local"
    MEMORY = "memory"
    AWS_OFFLINE = "aws-offline"


StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="The folder in which everything is kept.", show_default=False),
]
FormatOption = Annotated[Format, typer.Option("--format", help="default or json.")]
BrokerOption = Annotated[
    str | None,
    typer.Option(
        "--broker", help="An MQTT broker: mqtt[s]://[user:password@]host[:port][/prefix]."
    ),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN_ID", help="The run, as `runs` lists it.")]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, help="What all random sources derive from.")
]


def main() -> None:
    """Run the command line; errors of ours are one line, and an exit code of the table."""
    if sys.argv[1:2] == ["agent"]:  # a program of its own: it stays small
        from windflower.agent.__main__ import main as agent  # noqa: PLC0415

        sys.argv = ["windflower agent", *sys.argv[2:]]
        sys.exit(agent())
    try:
        app()
    except WindflowerError as error:
        sys.stderr.write(f"windflower: {error}\n")
        sys.exit(error.exit_code)
    except OSError as error:  # a folder of somebody else, a full disk
        sys.stderr.write(f"windflower: {error}\n")
        sys.exit(StoreUnavailable.exit_code)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,  # noqa: FBT002
) -> None:
    if version:
        typer.echo(f"windflower {__version__}")
        raise typer.Exit


@app.command("agent", context_settings={"ignore_unknown_options": True}, add_help_option=False)
def _agent() -> None:
    """Serve one device, or a crew of simulated ones."""


@app.command()
def demo(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of training.")] = 20,
    devices: Annotated[int, typer.Option(min=2, help="Devices, one person each.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = 1,
    place: Annotated[Place, typer.Option(help="Where the fleet is.")] = Place.LOCAL,
    chaos: Annotated[  # noqa: FBT002
        bool, typer.Option(help="Kill devices, broker, gateway and run meanwhile.")
    ] = False,
    stay: Annotated[  # noqa: FBT002
        bool, typer.Option(help="Go on with rounds, the page up, until Ctrl-C.")
    ] = False,
    state: StateOption = None,
    output: FormatOption = Format.DEFAULT,
) -> None:
    """Watch ten people's watches learn together, on this machine.

    Between them and the gateway is a real MQTT broker.
    """
    from windflower.cli.demo import show_demo  # noqa: PLC0415

    folder = _settings(state=state).state
    run = show_demo(
        rounds=rounds,
        devices=devices,
        seed=seed,
        place=place.value,
        state=folder,
        has_chaos=chaos,
        stays=stay,
        is_json=output is Format.JSON,
    )
    _finish(run, output)


class Checked(StrEnum):
    """What `doctor` looks at."""

    LOCAL = "local"
    AWS = "aws"


@app.command()
def doctor(
    place: Annotated[Checked, typer.Option(help="Where the fleet is.")] = Checked.LOCAL,
    key: Annotated[str, typer.Option(help="On AWS: the fleet's UniqueKey.")] = "windflower",
    region: Annotated[str | None, typer.Option(help="On AWS: the region.")] = None,
    state: StateOption = None,
    output: FormatOption = Format.DEFAULT,
) -> None:
    """Say what is not ready for a run, and what to do about it."""
    import asyncio  # noqa: PLC0415 - a seventh of the time that --help takes

    from windflower.cli.doctor import examine  # noqa: PLC0415

    looking = examine(
        _settings(state=state),
        is_aws=place is Checked.AWS,
        key=key,
        region=region,
        is_json=output is Format.JSON,
    )
    raise typer.Exit(0 if asyncio.run(looking) else 1)


@app.command("run")
def run_app(
    folder: Annotated[Path, typer.Argument(help="A Flower app's folder.")] = Path(),
    devices: Annotated[
        int | None,
        typer.Option(min=0, help="Simulate so many devices (10 where no gateway runs)."),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option("-c", "--run-config", help="key=value ... of the app, or a .toml file."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take the so many freshest devices.")
    ] = None,
    seed: SeedOption = None,
    strict: Annotated[  # noqa: FBT002
        bool, typer.Option(help="Wait for every chosen device; no deadline, no quorum.")
    ] = False,
    deadline: Annotated[
        float | None, typer.Option(help="Seconds that a phase waits at most.")
    ] = None,
    quorum: Annotated[
        str | None, typer.Option(help="Good replies that close a phase: 8, or a share: 0.8.")
    ] = None,
    over_select: Annotated[
        float | None, typer.Option(help="Ask so many more devices than the app, as a share.")
    ] = None,
    min_replies: Annotated[
        str | None, typer.Option(help="Good replies without which the run is suspended.")
    ] = None,
    wait_for_offline: Annotated[
        bool | None, typer.Option(help="Wait for devices that are known to be offline.")
    ] = None,
    wait_devices: Annotated[
        float | None, typer.Option(help="Seconds to wait for enough devices (60).")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this run, which was suspended or killed.")
    ] = None,
    lenient: Annotated[  # noqa: FBT002
        bool, typer.Option(help="With --resume: accept other values in phases that are closed.")
    ] = False,
    publish: Annotated[  # noqa: FBT002
        bool, typer.Option(help="Give the model to the fleet when the run ended well.")
    ] = False,
    events: Annotated[  # noqa: FBT002
        bool, typer.Option(help="Write every event to standard error, one JSON line each.")
    ] = False,
    broker: BrokerOption = None,
    state: StateOption = None,
    output: FormatOption = Format.DEFAULT,
) -> None:
    """Run a Flower app on the fleet.

    It goes through the gateway that runs, or through one for this run.
    """
    from windflower.cli.run import check_resume, given_policy, show_run  # noqa: PLC0415
    from windflower.pipeline.job import JobRequest  # noqa: PLC0415

    settings = _settings(state=state, broker=broker)
    policy = given_policy(
        is_strict=strict or None,
        deadline_s=deadline,
        quorum=quorum,
        over_select=over_select,
        min_replies=min_replies,
        wait_for_offline=wait_for_offline,
        wait_devices_s=wait_devices,
    )
    if lenient and resume is None:
        raise ConfigError("--lenient goes with --resume", key="lenient")
    if resume is not None:
        check_resume({"run-config": config, "seed": seed, "devices": devices, **policy})
    request = JobRequest(
        app=folder,
        state=settings.state,
        overrides=config or [],
        seed=seed,
        policy=policy,
        devices=devices,
        limit=limit,
        broker=settings.broker,
        resume=resume,
        is_lenient=lenient,
        publishes=publish,
    )
    _finish(show_run(request, is_json=output is Format.JSON, has_events=events), output)


@app.command()
def serve(
    broker: BrokerOption = None,
    blobs: Annotated[str | None, typer.Option(help="Where blobs are: HOST:PORT.")] = None,
    blobs_url: Annotated[str | None, typer.Option(help="How devices reach blobs.")] = None,
    page: Annotated[str | None, typer.Option(help="Where the page is: HOST:PORT.")] = None,
    state: StateOption = None,
    output: FormatOption = Format.DEFAULT,
) -> None:
    """Run the fleet's gateway until Ctrl-C."""
    from windflower.cli.serve import serve_gateway  # noqa: PLC0415

    settings = _settings(
        state=state,
        broker=broker,
        blobs=blobs,
        blobs_url=blobs_url,
        page=page,
    )
    serve = serve_gateway(settings, is_json=output is Format.JSON)
    _run_until_signal(lambda: serve)


@devices_app.command("ls")
def list_devices(
    limit: Annotated[int | None, typer.Option(min=1, help="Show the so many freshest.")] = None,
    state: StateOption = None,
    output: FormatOption = Format.DEFAULT,
) -> None:
    """List devices, the one that was heard last first."""
    from windflower.cli.devices import show_devices  # noqa: PLC0415

    show_devices(_settings(state=state).state, limit=limit, is_json=output is Format.JSON)


@config_app.command("show")
def show_config(
    origin: Annotated[bool, typer.Option(help="Say where each value came from.")] = False,  # noqa: FBT002
    state: StateOption = None,
    output: FormatOption = Format.DEFAULT,
) -> None:
    """Show the settings as a gateway that is started here would have them."""
    from windflower.cli.config import show_settings  # noqa: PLC0415

    show_settings(state, has_origin=origin, is_json=output is Format.JSON)


@models_app.command("publish")
def publish_model(
    run: RunArgument, state: StateOption = None, output: FormatOption = Format.DEFAULT
) -> None:
    """Give a run's model to the fleet.

    A device that sleeps is sent it when it wakes.
    """
    from windflower.cli.models import publish  # noqa: PLC0415

    _finish(publish(_state(state), run, is_json=output is Format.JSON), output)


@models_app.command("rollback")
def roll_back_model(
    to: Annotated[
        str | None, typer.Argument(metavar="[PUBLICATION]", help="As `models ls` shows it.")
    ] = None,
    state: StateOption = None,
    output: FormatOption = Format.DEFAULT,
) -> None:
    """Give an earlier model to the fleet again.

    It is the one before, or the one that is named.
    """
    from windflower.cli.models import rollback  # noqa: PLC0415

    _finish(rollback(_state(state), to, is_json=output is Format.JSON), output)


@models_app.command("ls")
def list_models(state: StateOption = None, output: FormatOption = Format.DEFAULT) -> None:
    """List published models, the one to have first, and who has which."""
    from windflower.cli.models import show_models  # noqa: PLC0415

    _finish(show_models(_state(state), is_json=output is Format.JSON), output)


@models_app.command("fetch")
def fetch_model(
    device: Annotated[str, typer.Argument(metavar="DEVICE_ID", help="The device.")],
    out: Annotated[Path | None, typer.Option("--out", help="The file, an .npz.")] = None,
    state: StateOption = None,
    output: FormatOption = Format.DEFAULT,
) -> None:
    """Fetch the model that a device uses."""
    from windflower.cli.models import fetch  # noqa: PLC0415

    _finish(fetch(_state(state), device, out, is_json=output is Format.JSON), output)


@devices_app.command("show")
def show_device(
    device: Annotated[str, typer.Argument(metavar="DEVICE_ID", help="The device.")],
    state: StateOption = None,
    output: FormatOption = Format.DEFAULT,
) -> None:
    """Show one device: presence, labels, model, answers.

    Its last failure is shown in full.
    """
    from windflower.cli.devices import show_device  # noqa: PLC0415

    show_device(_state(state), device, is_json=output is Format.JSON)


@runs_app.callback(invoke_without_command=True)
def list_runs(
    context: typer.Context, state: StateOption = None, output: FormatOption = Format.DEFAULT
) -> None:
    """List runs, the latest first."""
    if context.invoked_subcommand is None:
        list_all_runs(state, output)


@runs_app.command("ls")
def list_all_runs(state: StateOption = None, output: FormatOption = Format.DEFAULT) -> None:
    """List runs, the latest first."""
    from windflower.cli.runs import show_runs  # noqa: PLC0415

    _finish(show_runs(_state(state), is_json=output is Format.JSON), output)


@app.command()
def logs(
    run: RunArgument,
    stream: Annotated[bool, typer.Option(help="Go on until the run is over.")] = False,  # noqa: FBT002
    state: StateOption = None,
    output: FormatOption = Format.DEFAULT,
) -> None:
    """Show what happened in a run, one line an event."""
    from windflower.cli.logs import show_logs  # noqa: PLC0415

    is_json = output is Format.JSON
    _finish(show_logs(_state(state), run, is_followed=stream, is_json=is_json), output)


@runs_app.command("show")
def show_run(
    run: RunArgument, state: StateOption = None, output: FormatOption = Format.DEFAULT
) -> None:
    """Show what a run asked, who answered, what it came to.

    No gateway is needed.
    """
    from windflower.cli import runs  # noqa: PLC0415

    _finish(runs.show_run(_state(state), run, is_json=output is Format.JSON), output)


@app.command()
def report(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option(help="The folder of the two files (the run's own).")
    ] = None,
    state: StateOption = None,
    output: FormatOption = Format.DEFAULT,
) -> None:
    """Write what a run came to as one HTML file and one CSV.

    No gateway is needed.
    """
    from windflower.cli.runs import write_report  # noqa: PLC0415

    _finish(write_report(_state(state), run, out, is_json=output is Format.JSON), output)


@runs_app.command("stop")
def stop_run(
    run: RunArgument, state: StateOption = None, output: FormatOption = Format.DEFAULT
) -> None:
    """End an open run for good.

    It cannot be resumed, and its devices forget it.
    """
    from windflower.cli.runs import end_run  # noqa: PLC0415

    _finish(end_run(_state(state), run, is_json=output is Format.JSON), output)


@app.command()
def bundle(
    folder: Annotated[Path, typer.Argument(metavar="APP_DIR", help="A Flower app's folder.")],
    output: FormatOption = Format.DEFAULT,
) -> None:
    """Show what of an app goes to devices, and its digest.

    A device's owner can allow an app by it: windflower agent --allow-app DIGEST.
    """
    from windflower.cli.bundle import describe, shown  # noqa: PLC0415

    described = describe(folder)
    typer.echo(json.dumps(described) if output is Format.JSON else shown(described))


@app.command()
def verify(
    run: RunArgument, state: StateOption = None, output: FormatOption = Format.DEFAULT
) -> None:
    """Execute a finished run once more, and compare the bits.

    It is told what its journal holds. No gateway is needed.
    """
    from windflower.cli.runs import show_verdict  # noqa: PLC0415

    _finish(show_verdict(_state(state), run, is_json=output is Format.JSON), output)


def _state(given: Path | None) -> Path:
    return _settings(state=given).state


def _settings(**given: object) -> "Settings":
    """Read settings; say which variables of the environment are taken for settings and are none."""
    from windflower.settings import ignored_variables, load_settings  # noqa: PLC0415

    for name, meant in ignored_variables().items():
        hint = f": is {meant} meant?" if meant else ", see `windflower config show`"
        typer.echo(f"windflower: {name} is no setting and is ignored{hint}", err=True)
    return load_settings(**given)


def _finish(work: Coroutine[Any, Any, dict[str, Any]], output: Format) -> None:
    """Run a command to its end, print its JSON as the last line, and exit with its code."""
    try:
        answer = _run_until_signal(lambda: work)
    except (WindflowerError, OSError) as error:
        if output is Format.JSON:
            typer.echo(json.dumps({"success": False, "error-message": str(error)}))
        raise
    if output is Format.JSON:
        typer.echo(json.dumps(answer))
    raise typer.Exit(0 if answer["success"] else code_of(answer.pop("error-type", "")))


def _run_until_signal(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:  # noqa: ANN401
    """Run a coroutine; the first Ctrl-C or SIGTERM cancels it, so that it ends every child."""
    import asyncio  # noqa: PLC0415 - as above

    from windflower.adapters.local.signals import KILLED, stop_on_signal  # noqa: PLC0415

    async def watch() -> Any:  # noqa: ANN401 - as the coroutine
        task = asyncio.ensure_future(work())
        stop_on_signal(task.cancel)
        return await task

    try:
        return asyncio.run(watch())
    except asyncio.CancelledError:
        raise typer.Exit(KILLED) from None


if __name__ == "__main__":
    main()
