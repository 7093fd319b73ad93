"""What goes wrong is said in one clear line that names the cause, and by the exit code."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from processes import MOSQUITTO, Program, Programs, free_port, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def last_line(program: Program) -> str:
    return program.err.splitlines()[-1]


def run(programs: Programs, app: Path, *arguments: str) -> Program:
    state = programs.folder / "state"
    return programs.windflower("run", str(app), "--state", str(state), *arguments, name="run")


def test_no_broker_there(programs: Programs, apps: Path) -> None:
    broker = f"mqtt://127.0.0.1:{free_port()}"
    program = run(programs, apps / "averaging", "--broker", broker)

    assert 69 == program.wait()
    assert f"windflower: no MQTT broker answers at {broker}: connection refused" == last_line(
        program
    )


def test_an_agent_without_a_broker_says_so_and_goes_on_trying(programs: Programs) -> None:
    port = free_port()
    agent = programs.agent("d1", f"mqtt://127.0.0.1:{port}")
    until(lambda: "no MQTT broker answers" in agent.err, "the agent's complaint")
    _, broker = programs.mosquitto(port=port)
    heard = ["mosquitto_sub", "-u", "t", "-t", "flower/clients/d1", "-C", "1", "-W", "30"]
    if shutil.which("mosquitto_sub"):
        subprocess.run([*heard, "-p", str(port)], check=True, capture_output=True)
    assert broker in agent.err


def test_the_broker_refuses(programs: Programs, apps: Path) -> None:
    passwords = programs.folder / "passwords"
    passwords.write_text("")
    passwords.chmod(0o644)
    _, broker = programs.mosquitto("allow_anonymous false", f"password_file {passwords}")
    named = broker.replace("//", "//me:wrong@")
    program = run(programs, apps / "averaging", "--broker", named)
    agent = programs.agent("d1", named)

    assert 77 == program.wait()
    assert "refuses this client: not authorized; check user, password and permissions" in last_line(
        program
    )
    assert "wrong" not in program.err
    assert 77 == agent.wait()
    assert "refuses this client" in last_line(agent)


def test_an_app_without_its_table(programs: Programs, tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text('[project]\nname = "no-app"\n')
    program = run(programs, app)

    assert 65 == program.wait()
    expected = (
        f"windflower: {app / 'pyproject.toml'} has no [tool.flwr.app]: {app} is no Flower app"
    )
    assert expected == last_line(program)


def copy_of(app: Path, to: Path) -> Path:
    shutil.copytree(app, to)
    return to


def test_a_server_app_that_does_not_import(programs: Programs, apps: Path, tmp_path: Path) -> None:
    app = copy_of(apps / "averaging", tmp_path / "app")
    (app / "averaging" / "server_app.py").write_text("import no_such_package\n")
    program = run(programs, app, "--devices", "2")

    assert 65 == program.wait()
    assert "averaging.server_app:app does not import" in program.err
    assert "ModuleNotFoundError: No module named 'no_such_package'" in program.err


def test_a_client_app_that_does_not_import_shows_the_devices_traceback(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    app = copy_of(apps / "averaging", tmp_path / "app")
    (app / "averaging" / "client_app.py").write_text("import no_such_package\n")
    program = run(programs, app, "--devices", "2", "-c", "num-server-rounds=1")

    program.wait()
    assert "device-00 failed: averaging.client_app:app does not import" in program.err
    assert "ModuleNotFoundError: No module named 'no_such_package'" in program.err


def test_a_client_app_that_raises_shows_the_devices_traceback(
    programs: Programs, apps: Path
) -> None:
    program = run(
        programs, apps / "averaging", "--devices", "3", "-c", "fails-on=1 num-server-rounds=1"
    )

    program.wait()
    assert "device-01 failed: ValueError: device 1 was told to fail" in program.err
    assert "    Traceback (most recent call last):" in program.err


def test_too_few_devices(programs: Programs, apps: Path) -> None:
    _, broker = programs.mosquitto()
    agent = programs.agent("watch-00", broker, "--node-config", "partition-id=0")
    until(lambda: "agent-started" in agent.err, "the agent")
    program = run(
        programs,
        apps / "averaging",
        *("--broker", broker, "--limit", "3", "--wait-devices", "2"),
    )

    assert 75 == program.wait()
    assert "windflower: needs 3 devices, 1 online" == last_line(program)


def test_an_unknown_option_of_the_app(programs: Programs, apps: Path) -> None:
    program = run(programs, apps / "averaging", "-c", "rounds=3")

    assert 78 == program.wait()
    assert "windflower: averaging has no option 'rounds'; it has: " in last_line(program)


def test_an_option_of_another_type(programs: Programs, apps: Path) -> None:
    program = run(programs, apps / "averaging", "-c", "numbers='many'")

    assert 78 == program.wait()
    assert "windflower: numbers takes int in averaging, not 'many'" == last_line(program)


@pytest.mark.parametrize("option", ["--broker", "--blobs", "--page"])
def test_a_port_in_use(programs: Programs, tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        state = str(tmp_path / "state")
        program = programs.windflower("serve", "--state", state, option, f":{port}", name="serve")

        assert 78 == program.wait()
    assert port in last_line(program)
    assert "in use" in last_line(program)


def test_two_gateways_on_one_folder(programs: Programs, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    first = programs.windflower("serve", "--state", state, name="first")
    until(lambda: "The gateway serves" in first.out, "the first gateway")
    second = programs.windflower("serve", "--state", state, name="second")

    assert 73 == second.wait()
    assert "windflower: a gateway already runs on " in last_line(second)
    assert 130 == first.end()


def test_a_run_names_another_broker_than_its_gateway_uses(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    _, broker = programs.mosquitto()
    state = ("--state", str(tmp_path / "state"))
    gateway = programs.windflower(
        "serve", *state, "--broker", f"{broker}/site-4", "--format", "json", name="serve"
    )
    until(lambda: gateway.out, "the gateway")
    for named in (f"{broker}/site-5", broker, "mqtt://127.0.0.1:1/site-4", ":0"):
        started = programs.windflower(
            "run", str(apps / "averaging"), *state, "--broker", named, name="run"
        )

        assert 78 == started.wait()
        assert f"uses {broker}/site-4: stop it, or leave --broker out" in last_line(started)


def test_no_gateway_to_list_devices_from(programs: Programs, tmp_path: Path) -> None:
    program = programs.windflower("devices", "ls", "--state", str(tmp_path), name="ls")

    assert 69 == program.wait()
    assert "start one with `windflower serve`" in last_line(program)


def test_two_agents_with_one_id(programs: Programs, tmp_path: Path) -> None:
    _, broker = programs.mosquitto()
    state = str(tmp_path / "state")
    gateway = programs.windflower("serve", "--state", state, "--broker", broker, name="serve")
    until(lambda: "The gateway serves" in gateway.out, "the gateway")
    first = programs.agent("twin", broker)
    until(lambda: "agent-started" in first.err, "the first agent")
    second = programs.windflower(
        *("agent", "--broker", broker, "--device-id", "twin"),
        *("--state", str(tmp_path / "other"), "--interval", "0.5"),
        name="second",
    )

    assert 73 == second.wait()
    assert "another agent runs as twin: give each device its own --device-id" in last_line(second)
    assert first.process.poll() is None


def test_a_wrong_device_id(programs: Programs) -> None:
    agent = programs.agent("gateway", "mqtt://127.0.0.1:1")

    assert 78 == agent.wait()
    assert "windflower agent: --device-id: client 'gateway' is reserved" == last_line(agent)


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_a_hand_driven_run_that_nobody_answers_well_fails_and_says_so(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    run = programs.windflower(
        *("run", str(apps / "mixing"), "--devices", "2", "--state", str(tmp_path / "state")),
        *("-c", "fails=true num-server-rounds=2"),
        name="run",
    )

    assert 65 == run.wait(), run.err
    assert "failed: no device ever answered well, of 4 answers; the first says:" in run.err
    assert "ValueError: it was told to fail" in run.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--gateway-key", "zz", "--gateway-key: zz is no public key"),
        ("--ca", "/no/such.pem", "--ca: there is no file /no/such.pem"),
        ("--state", "/dev/null/state", "Not a directory"),
    ],
)
def test_an_agent_that_could_never_work_says_so(
    programs: Programs, flag: str, value: str, said: str
) -> None:
    agent = programs.windflower(
        *("agent", "--broker", "mqtt://127.0.0.1:1", "--device-id", "d1", flag, value),
        name="agent",
    )

    assert 78 == agent.wait()
    assert said in last_line(agent)
