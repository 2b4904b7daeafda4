"""The names of the failpoints on an initiator's way through one change."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """One name for each boundary between two steps, in the order in which a request passes them."""

    before_lock: str
    after_lock: str
    before_intent: str
    in_intent: str
    after_intent: str
    before_send: str
    after_send: str
    before_completion: str
    in_completion: str
    after_completion: str
    before_release: str
    after_release: str
    before_reply: str

    @classmethod
    def of(cls, service: str) -> "Points":
        """Return the points of a service, ``<service>.<point>`` each."""
        return cls(**{each.name: f"{service}.{each.name}" for each in fields(cls)})

    def names(self) -> tuple[str, ...]:
        """Return all names, in the order in which one request passes them."""
        return tuple(getattr(self, each.name) for each in fields(self))
