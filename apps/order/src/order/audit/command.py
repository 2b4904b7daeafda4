"""``order audit``: compare both services, say where they disagree, and mend it if asked to."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from order import failpoints
from order.audit.databases import invoices_in, orders_in
from order.audit.facts import NOUNS
from order.audit.http_sources import HttpInvoices, HttpOrders, create_client
from order.audit.repair import OrdersAgain, fact_of
from order.audit.report import Report
from order.domain import Operation, Order
from order.metrics import Metrics
from order.models import operations_archive
from order.repository import ORDERS
from order.resources import Resources
from order.settings import Settings
from order.use_cases import create_use_cases
from servicekit import logging
from servicekit.auth.files import parse_credential
from servicekit.database import create_engine
from servicekit.failpoints import Failpoints
from servicekit.problems import Problem
from servicekit.runtime import Runtime
from tandem.audit.comparison import Comparison
from tandem.audit.databases import ThereInDatabase
from tandem.audit.mending import Mending, NotMended
from tandem.audit.sources import Here, SourceUnavailable, There

EQUAL: Final = 0
DIFFERENT: Final = 1
NOT_COMPARED: Final = 2

EPILOG: Final = """\
Safe on a live system: what seems to differ while operations are on their way is looked at again
until it stands still. An operation on its way for longer than --pending-after is a finding too.

exit status:
  0  both sides are equal, or were made equal by --repair
  1  they differ, or an operation is stuck
  2  they could not be compared

--repair finishes what is stuck, sends an invoice what it lacks, and restates an order whose total
the invoice has otherwise. It mends a difference completely, or says why not and writes nothing.

--repair needs the settings of the service itself: ORDER_DATABASE_URL, ORDER_REDIS_URL,
ORDER_INVOICE_URL and, where the invoice service wants an access token, ORDER_INVOICE_TOKEN_FILE.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    order_url: str
    invoice_url: str
    order_dsn: str | None
    invoice_dsn: str | None
    token_file: Path | None
    repair: bool
    as_json: bool
    pending_after_seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--order-url", default="http://127.0.0.1:3000", metavar="URL")
    parser.add_argument("--invoice-url", default="http://127.0.0.1:3001", metavar="URL")
    parser.add_argument(
        "--order-dsn", metavar="DSN", help="read orders from their database, not over HTTP"
    )
    parser.add_argument(
        "--invoice-dsn",
        metavar="DSN",
        help="read invoices from their database, and compare the operations' outcomes too",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the access token to show both services, of the scope shop:operator",
    )
    parser.add_argument("--repair", action="store_true", help="mend what can be mended")
    parser.add_argument(
        "--pending-after",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how old a pending operation must be to be a finding (default: 300)",
    )
    parser.add_argument("--json", action="store_true", help="write one JSON document")


def options_of(arguments: argparse.Namespace) -> Options:
    """Return the options that were given."""
    return Options(
        order_url=arguments.order_url,
        invoice_url=arguments.invoice_url,
        order_dsn=arguments.order_dsn,
        invoice_dsn=arguments.invoice_dsn,
        token_file=arguments.token_file,
        repair=arguments.repair,
        as_json=arguments.json,
        pending_after_seconds=arguments.pending_after,
    )


def run(options: Options) -> int:
    """Audit, print the report and return the exit status."""
    # The report alone goes to standard output.
    logging.configure(service="order-audit", level="warning", stream=sys.stderr)
    try:
        report = asyncio.run(audit(options))
    except SourceUnavailable as error:
        print(f"order audit: cannot compare: {error}", file=sys.stderr)  # noqa: T201 - for people
        return NOT_COMPARED
    print(report.to_json() if options.as_json else report.to_text())  # noqa: T201 - likewise
    return DIFFERENT if report.remaining else EQUAL


async def audit(options: Options) -> Report:
    """Compare, mend if asked to, and return what was found and done.

    Raises:
        SourceUnavailable: one side cannot be read.
        pydantic.ValidationError: the settings for a repair are missing or wrong.
    """
    async with _comparison(options) as comparison:
        report = Report(await comparison.run())
        if options.repair and report.findings.differences:
            async with _repair(options) as repair:
                await _mend_all(report, comparison, repair)
        return report


async def _mend_all(
    report: Report, comparison: Comparison, repair: Mending[Operation, Order]
) -> None:
    """Mend each difference, and believe it only when another look shows none."""
    for difference in report.findings.differences:
        try:
            done = await repair.mend(difference)
        except (NotMended, Problem) as error:
            report.not_repaired[difference.subject_id] = str(error)
            continue
        left = (await comparison.look(difference.subject_id)).differences
        if left:
            report.not_repaired[difference.subject_id] = f"{done}, but {left[0].detail}"
        else:
            report.repaired[difference.subject_id] = done


@asynccontextmanager
async def _comparison(options: Options) -> AsyncIterator[Comparison]:
    async with AsyncExitStack() as stack:
        orders: Here
        invoices: There
        outcomes: ThereInDatabase | None = None
        token = _token(options)
        if options.order_dsn is None:
            orders = HttpOrders(
                await stack.enter_async_context(create_client(options.order_url, token=token))
            )
        else:
            orders = orders_in(await _engine(stack, options.order_dsn))
        if options.invoice_dsn is None:
            client = await stack.enter_async_context(
                create_client(options.invoice_url, token=token)
            )
            invoices = HttpInvoices(client)
        else:
            invoices = outcomes = invoices_in(await _engine(stack, options.invoice_dsn))
        yield Comparison(
            orders,
            invoices,
            nouns=NOUNS,
            outcomes=outcomes,
            pending_at_most=timedelta(seconds=options.pending_after_seconds),
        )


def _token(options: Options) -> str | None:
    if options.token_file is None:
        return None
    try:
        return parse_credential(options.token_file.read_bytes())
    except OSError as error:
        raise SourceUnavailable(f"{options.token_file}: {error.strerror}") from error
    except ValueError as error:
        raise SourceUnavailable(f"{options.token_file}: {error}") from error


async def _engine(stack: AsyncExitStack, dsn: str) -> AsyncEngine:
    try:
        engine = create_engine(dsn, application_name="order-audit", pool_size=1)
    except ValueError as error:
        raise SourceUnavailable(str(error)) from error
    stack.push_async_callback(engine.dispose)
    return engine


@asynccontextmanager
async def _repair(options: Options) -> AsyncIterator[Mending[Operation, Order]]:
    """Put together what a repair needs: the service itself, without its server."""
    settings = Settings().model_copy(update={"invoice_url": options.invoice_url})
    runtime = Runtime.bare(service="order-audit", failpoints=Failpoints(failpoints.NAMES))
    resources = Resources.create(settings)
    async with resources.open():
        use_cases = create_use_cases(
            settings, runtime=runtime, resources=resources, metrics=Metrics(runtime.registry)
        )
        yield Mending(
            engine=resources.database.engine,
            schema=ORDERS,
            nouns=NOUNS,
            fact_of=fact_of,
            locks=use_cases.locks,
            delivery=use_cases.delivery,
            finishing=use_cases.finishing,
            restating=OrdersAgain(use_cases.changes),
            archive=operations_archive,
        )
