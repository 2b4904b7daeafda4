"""How orders follow what the invoice service has decided."""

from order import failpoints as points
from order.answers import OrderAnswers
from order.database import OrderDatabase
from order.deadlines import RequestDeadlines
from order.domain import Operation, Order
from order.metrics import Metrics
from servicekit.failpoints import Failpoints
from tandem.initiator import Completions


class PostgresCompletions(Completions[Operation, Order]):
    """Finishes operations in the order database.

    Args:
        database: the order database.
        failpoints: where tests make it fail.
        metrics: counts what became of operations.
        timeout_seconds: limit for one completion where the request brings none.
    """

    def __init__(
        self,
        database: OrderDatabase,
        *,
        failpoints: Failpoints,
        metrics: Metrics,
        timeout_seconds: float = 15.0,
    ) -> None:
        super().__init__(
            database,
            answers=OrderAnswers(),
            observer=metrics,
            points=points.POINTS,
            failpoints=failpoints,
            deadlines=RequestDeadlines(),
            timeout_seconds=timeout_seconds,
        )
