"""What a command's exit code says: after sysexits.h, in one table."""

from typing import Final

from windflower import errors

OK: Final = 0
USAGE: Final = 2

TABLE: Final[tuple[tuple[type[errors.WindflowerError], int, str], ...]] = (
    (errors.NotEnoughDevices, 75, "fewer devices than needed were online: start more, or wait"),
    (errors.RunError, 65, "the run ended without its result: its reason is in the last line"),
    (errors.AppError, 65, "the Flower app cannot be run: the message says what to mend"),
    (errors.ConfigError, 78, "a setting is wrong: the message names it"),
    (errors.PortTaken, 78, "a port is in use: choose another"),
    (errors.FleetTaken, 73, "another gateway works on this state folder"),
    (errors.IdentityTaken, 73, "another agent runs under this device id"),
    (errors.RefusedError, 77, "the broker refuses: check user, password and permissions"),
    (errors.TransportError, 69, "the broker, the gateway or the blob store does not answer"),
    (errors.WindflowerError, 70, "something that should not happen: please report it"),
)


def code_of(name: str) -> int:
    """Return the code for the error of a run that ended, by its type's name."""
    kind = getattr(errors, name, errors.RunFailed)
    return next(code for base, code, _ in TABLE if issubclass(kind, base))


def exit_code(error: errors.WindflowerError) -> int:
    """Return the code for an error: that of the first line that fits."""
    return next(code for kind, code, _ in TABLE if isinstance(error, kind))
