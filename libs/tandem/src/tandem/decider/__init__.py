"""The side that decides: each operation once, in the statement that makes the change."""

from tandem.decider.decision import Decision, DecisionPoint, Observer, Points, Unobserved
from tandem.decider.proposal import Answers, Proposal
from tandem.decider.records import PURGE_BATCH, Identity, Look, Record, Records

__all__ = [
    "PURGE_BATCH",
    "Answers",
    "Decision",
    "DecisionPoint",
    "Identity",
    "Look",
    "Observer",
    "Points",
    "Proposal",
    "Record",
    "Records",
    "Unobserved",
]
