"""What an audit says in the end, for people and for programs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from order.fields import BODY
from tandem.audit.facts import Difference, DifferenceKind, Fact, Findings, Step

_KINDS: Final = {
    DifferenceKind.MISSING_HERE: "missing_order",
    DifferenceKind.MISSING_THERE: "missing_invoice",
    DifferenceKind.THERE_BEHIND: "invoice_behind",
    DifferenceKind.THERE_AHEAD: "invoice_ahead",
}
"""The kinds that are called otherwise of orders; the others have their own names."""


@dataclass(slots=True)
class Report:
    """An audit's findings and what was done about them."""

    findings: Findings
    repaired: dict[UUID, str] = field(default_factory=dict)
    not_repaired: dict[UUID, str] = field(default_factory=dict)

    @property
    def remaining(self) -> list[Difference]:
        """The differences that are still there."""
        return [
            difference
            for difference in self.findings.differences
            if difference.subject_id not in self.repaired
        ]

    def to_json(self) -> str:
        """Return the report as one JSON document."""
        document = {
            "orders": self.findings.here,
            "invoices": self.findings.there,
            "pending": self.findings.pending,
            "equal": not self.remaining,
            "differences": [self._entry(each) for each in self.findings.differences],
        }
        return json.dumps(document, indent=2)

    def to_text(self) -> str:
        """Return the report for a person."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        found = self.findings
        yield f"{found.here} orders, {found.there} invoices, {found.pending} on their way"
        for difference in found.differences:
            yield f"order {difference.subject_id}: {difference.detail}"
            for step in difference.history:
                yield f"  {_line(step)}"
            if difference.subject_id in self.repaired:
                yield f"  repaired: {self.repaired[difference.subject_id]}"
            if difference.subject_id in self.not_repaired:
                yield f"  not repaired: {self.not_repaired[difference.subject_id]}"
        yield f"{len(self.remaining)} differences" if self.remaining else "equal"

    def _entry(self, difference: Difference) -> dict[str, Any]:
        order_id = difference.subject_id
        return {
            "order_id": str(order_id),
            "kind": _KINDS.get(difference.kind, difference.kind.value),
            "detail": difference.detail,
            "order": _fact(difference.here),
            "invoice": _fact(difference.there),
            "history": [_step(step) for step in difference.history],
            "repaired": self.repaired.get(order_id),
            "not_repaired": self.not_repaired.get(order_id),
        }


def _line(step: Step) -> str:
    ended = "" if step.finished_at is None else f", finished {step.finished_at.isoformat()}"
    return (
        f"version {step.version} {step.kind} {step.state.value}, operation {step.id},"
        f" begun {step.created_at.isoformat()}{ended}"
    )


def _fact(fact: Fact | None) -> dict[str, Any] | None:
    if fact is None:
        return None
    return {
        "version": fact.version,
        "status": fact.status,
        **BODY.as_json(fact.content),
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "operation_id": str(step.id),
        "kind": step.kind,
        "state": step.state.value,
        "version": step.version,
        "created_at": step.created_at.isoformat(),
        "finished_at": None if step.finished_at is None else step.finished_at.isoformat(),
        "detail": step.detail,
    }
