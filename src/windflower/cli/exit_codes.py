"""What a command's exit code says: after sysexits.h, in one table."""

from typing import Final

from windflower import errors

TABLE: Final[tuple[tuple[type[errors.WindflowerError], str], ...]] = (
    (errors.NotEnoughDevices, "fewer devices than needed were online: start more, or wait"),
    (errors.RunDiverged, "a run that was begun again asks for something else: mend the app"),
    (errors.NotEnoughRoom, "the gateway's disk is full: make room, then --resume"),
    (errors.RunSuspended, "the run stopped and nothing is lost: go on with --resume"),
    (errors.RunError, "the run ended without its result: its reason is in the last line"),
    (errors.AppError, "the Flower app cannot be run: the message says what to mend"),
    (errors.ConfigError, "a setting is wrong: the message names it"),
    (errors.PortTaken, "a port is in use: choose another"),
    (errors.FleetTaken, "another gateway works on this state folder"),
    (errors.IdentityTaken, "another agent runs under this device id"),
    (errors.RefusedError, "the broker refuses: check user, password and permissions"),
    (errors.TransportError, "the broker, the gateway or the blob store does not answer"),
    (errors.WindflowerError, "something that should not happen: please report it"),
)


def code_of(name: str) -> int:
    """Return the code for the error of a run that ended, by its type's name."""
    kind: type[errors.WindflowerError] = getattr(errors, name, errors.RunFailed)
    return kind.exit_code
