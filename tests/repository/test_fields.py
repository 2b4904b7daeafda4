"""A field of an order that its invoice shows is added in the six files that CONTRIBUTING names."""

import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.together.processes import Nursery
from tests.together.shop import Shop, Templates, new_order, now

from devkit.servers import PostgresServer, RedisServer

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("apps/order/src", "apps/invoice/src")
ORDER, INVOICE = ("apps/order/src/order", "apps/invoice/src/invoice")
MOST_FILES = 6

MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "gift"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("{table}", sa.Column("gift_note", sa.Text()))
"""
ASKED = """gift_note: str | None = Field(
        None, max_length=200, pattern=r"^[^\\x00]*$", exclude_if=lambda note: note is None
    )
"""
AFTER = {  # file: what is written after which lines of it
    f"{ORDER}/domain.py": (
        (r"class Body:\n    .*\n", "    gift_note: str | None = None\n"),
        (r"class Create:\n    .*\n", "    gift_note: str | None = None\n"),
        (r"class Update:\n    .*\n", "    gift_note: str | None = None\n"),
        (r"INVOICED: Final = \(", '"gift_note", '),
        (r"item_id=command.item_id,\n", "        gift_note=command.gift_note,\n"),
        (
            r"replace\(\n        order.body,\n",
            "        gift_note=command.gift_note or order.body.gift_note,\n",
        ),
    ),
    f"{ORDER}/schemas.py": (
        (r"class OrderIn\(_Request\):\n    .*\n", f"    {ASKED}"),
        (r"class OrderPatch\(_Request\):\n    .*\n", f"    {ASKED}"),
        (r"class OrderOut\(BaseModel\):\n    .*\n", "    gift_note: str | None\n"),
    ),
    f"{INVOICE}/domain.py": ((r"class Body:\n    .*\n", "    gift_note: str | None = None\n"),),
    f"{INVOICE}/schemas.py": (
        (r"class InvoiceCreation\(_Strict\):\n    .*\n", "    gift_note: str | None = None\n"),
        (r"class InvoiceUpdate\(_Strict\):\n    .*\n", "    gift_note: str | None = None\n"),
        (r"class InvoiceDocument\(BaseModel\):\n    .*\n", "    gift_note: str | None\n"),
    ),
}
MIGRATED = {f"{ORDER}/migrations/versions": "orders", f"{INVOICE}/migrations/versions": "invoices"}


def add_the_field(folder: Path) -> None:
    """Do in a copy of the sources what a person would."""
    for name, changes in AFTER.items():
        source = (folder / name).read_text()
        for lines, more in changes:
            found = list(re.finditer(lines, source))
            assert len(found) == 1, f"{lines} is {len(found)} times in {name}"
            source = source[: found[0].end()] + more + source[found[0].end() :]
        (folder / name).write_text(source)
    for name, table in MIGRATED.items():
        versions = folder / name
        head = max(path.name for path in versions.glob("[0-9]*.py"))[:4]
        (versions / "gift.py").write_text(MIGRATION.format(head=head, table=table))


def test_no_more_files_than_six_are_touched_and_contributing_names_each() -> None:
    page = (REPOSITORY / "CONTRIBUTING.md").read_text()
    (row,) = [line for line in page.splitlines() if "that its invoice shows" in line]
    named = {name.rstrip("/") for name in re.findall(r"`(apps/[^`]+)`", row)}
    assert named == {*AFTER, *MIGRATED}
    assert len(named) <= MOST_FILES


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where Python finds services that have the field."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copytree(
            REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    add_the_field(folder)
    return {"PYTHONPATH": os.pathsep.join(str(folder / name) for name in SOURCES)}


@pytest.fixture(scope="module")
def migrated(sources: dict[str, str], postgres_server: PostgresServer) -> Templates:
    made = Templates(f"order_gift_{uuid.uuid4().hex}", f"invoice_gift_{uuid.uuid4().hex}")
    for service, name in (("order", made.order), ("invoice", made.invoice)):
        url = {f"{service.upper()}_DATABASE_URL": postgres_server.create_database(name)}
        run(service, "migrate", sources | url)
    return made


def run(program: str, *arguments: object) -> str:
    """Run one of the services' commands; the last argument is its environment."""
    *words, environment = arguments
    assert isinstance(environment, dict)
    done = subprocess.run(
        [sys.executable, "-m", program, *map(str, words)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def shop(
    sources: dict[str, str],
    migrated: Templates,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    tmp_path: Path,
) -> Iterator[Shop]:
    with (
        Nursery(sources) as nursery,
        Shop(
            tmp_path,
            nursery=nursery,
            postgres=postgres_server,
            redis_server=redis_server,
            templates=migrated,
        ) as started,
    ):
        yield started


def test_the_field_is_on_both_sides_also_after_a_crash_and_the_audit_compares_it(
    shop: Shop, sources: dict[str, str]
) -> None:
    with httpx.Client(base_url=shop.order.url, timeout=20.0, trust_env=False) as client:
        order = client.post("/orders", json={**new_order(), "gift_note": "For Ada"}).json()
        plain = client.post("/orders", json=new_order()).json()
        assert (order["gift_note"], plain["gift_note"]) == ("For Ada", None)
        assert noted(shop, order) == ("For Ada", "For Ada")
        assert noted(shop, plain) == (None, None)
        dying = shop.replica().start(failpoints="order.after_send=kill")
        asked = {"update_time": now(), "gift_note": "For Grace"}
        with pytest.raises(httpx.TransportError):
            client.patch(f"{dying.url}/orders/{order['id']}", json=asked)
        shop.wait_settled()
        assert noted(shop, order) == ("For Grace", "For Grace")
    audit = ("--order-url", shop.order.url, "--invoice-url", shop.invoice.url)
    assert run("order", "audit", *audit, sources).splitlines()[-1] == "equal"
    shop.invoice_look.rows(
        "UPDATE invoices SET gift_note = 'For nobody' WHERE gift_note = 'For Grace' RETURNING id"
    )
    with pytest.raises(AssertionError, match="gift_note For Grace in the order, For nobody in the"):
        run("order", "audit", *audit, sources)


def noted(shop: Shop, order: dict[str, Any]) -> tuple[str | None, str | None]:
    """What both services say of an order's note."""
    pages = (
        f"{shop.order.url}/orders/{order['id']}",
        f"{shop.invoice.url}/invoices/{order['invoice_id']}",
    )
    here, there = (httpx.get(page, timeout=20.0, trust_env=False).json() for page in pages)
    return here["gift_note"], there["gift_note"]
