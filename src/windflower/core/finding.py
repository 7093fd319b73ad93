"""What a check found, for whoever has to mend it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        subject: what was looked at.
        is_well: whether it is as it should be.
        says: what was found, in one line.
        fix: what to do where it is not well; empty where there is nothing to do.
    """

    subject: str
    is_well: bool
    says: str
    fix: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "subject": self.subject,
            "is-well": self.is_well,
            "says": self.says,
            "fix": self.fix,
        }
