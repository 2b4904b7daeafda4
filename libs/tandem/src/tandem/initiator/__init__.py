"""The side that begins: intent, delivery, completion, and whatever finishes what is left."""

from tandem.initiator.changes import Changes
from tandem.initiator.completion import Completions
from tandem.initiator.database import Database
from tandem.initiator.delivery import Delivery
from tandem.initiator.finishing import Finishing
from tandem.initiator.intent import Intents
from tandem.initiator.journal import Journal
from tandem.initiator.points import Points
from tandem.initiator.reconciler import Reconciler
from tandem.initiator.schema import Dated, Schema
from tandem.initiator.wakeup import WakeUp

__all__ = [
    "Changes",
    "Completions",
    "Database",
    "Dated",
    "Delivery",
    "Finishing",
    "Intents",
    "Journal",
    "Points",
    "Reconciler",
    "Schema",
    "WakeUp",
]
