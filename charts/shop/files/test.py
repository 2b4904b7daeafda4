"""Creates an order, sees its invoice follow, deletes it: `helm test` runs this in the cluster."""

# ruff: noqa: INP001, S310, T201  (a program of its own; its URLs come from the chart; it prints)

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

ORDERS, INVOICES = sys.argv[1:3]
DEADLINE_SECONDS = 30.0

Body = dict[str, Any]


def call(method: str, url: str, body: Body | None = None) -> Body:
    """One request; a refusal fails the test and prints why."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("TOKEN"):
        headers["Authorization"] = f"Bearer {token.strip()}"
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            text = reply.read().decode()
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {url}: {error.code} {error.read().decode()[:500]}")
    print(method, url, reply.status, text[:300], flush=True)
    answer: Body = json.loads(text) if text else {}
    return answer


def wait_until_ready(service: str) -> None:
    """The first tries may fail: NetworkPolicies learn of a new pod a moment after its start."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{service}/readyz", timeout=10).close()
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"{service} is not ready within {DEADLINE_SECONDS} s: {error}")
            print(service, error, flush=True)
            time.sleep(1)
        else:
            return


def wait_for_invoice(user: str, total: str, status: str) -> None:
    """Until the invoice service shows an invoice of this user with this total and status."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        page = call("GET", f"{INVOICES}/invoices?user_id={user}")
        if any(float(i["total"]) == float(total) and i["status"] == status for i in page["items"]):
            return
        time.sleep(0.5)
    sys.exit(f"no invoice of {total} that is {status} within {DEADLINE_SECONDS} s")


def main() -> None:
    """Create, look, delete, look."""
    wait_until_ready(ORDERS)
    wait_until_ready(INVOICES)
    user = str(uuid.uuid4())
    wanted = {"user_id": user, "item_id": str(uuid.uuid4()), "quantity": 3, "value": "2.50"}
    order = call("POST", f"{ORDERS}/orders", wanted)
    wait_for_invoice(user, "7.50", "created")
    call("DELETE", f"{ORDERS}/orders/{order['id']}")
    wait_for_invoice(user, "7.50", "deleted")
    print("the invoice followed its order")


main()
