"""What the course asks of a system."""

from typing import Protocol


class System(Protocol):
    """One way to run a Flower app on devices. What coordinates them is started with its making.

    Attributes:
        name: what the table calls it.
        runs: how often somebody had to start the run by hand.
        devices: the process of each device; what it started belongs to it.
    """

    name: str
    runs: int
    devices: list[int]

    def start(self) -> None:
        """Start the devices; return when all are there."""

    def submit(self) -> None:
        """Start a run of the app."""

    def kill(self) -> None:
        """Kill the one process that devices talk to, and start it again at once."""

    def crash(self) -> None:
        """Kill all that coordinates, the run included, and start again what starts by itself."""

    def look(self) -> None:
        """Do what somebody does who sees that nothing moves: begin a run again that is lost."""
