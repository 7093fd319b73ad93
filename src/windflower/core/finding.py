"""What a check found, for whoever has to mend it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        subject: what was looked at.
        is_well: whether a run can go well with it.
        says: what was found, in one line.
        fix: what to do; empty where there is nothing to do. What is well and has one is a warning.
    """

    subject: str
    is_well: bool
    says: str
    fix: str = ""

    @property
    def level(self) -> str:
        """How bad it is: ok, warning or problem."""
        if not self.is_well:
            return "problem"
        return "warning" if self.fix else "ok"

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "subject": self.subject,
            "is-well": self.is_well,
            "level": self.level,
            "says": self.says,
            "fix": self.fix,
        }
