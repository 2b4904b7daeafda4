"""Creates an order, sees its invoice follow, deletes it: what `helm test` runs inside the cluster."""

import json
import sys
import time
import urllib.error
import urllib.request
import uuid

ORDERS, INVOICES = sys.argv[1:3]
DEADLINE_SECONDS = 30.0


def call(method: str, url: str, body: dict | None = None) -> dict:
    """One request; a refusal fails the test and prints why."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            answer = reply.read()
            print(method, url, reply.status, answer.decode()[:300], flush=True)
            return json.loads(answer) if answer else {}
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {url}: {error.code} {error.read().decode()[:500]}")


def wait_for_invoice(total: str, status: str) -> None:
    """The invoice of this run's user, as the invoice service tells it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        page = call("GET", f"{INVOICES}/invoices?user_id={user}")
        if any(float(i["total"]) == float(total) and i["status"] == status for i in page["items"]):
            return
        time.sleep(0.5)
    sys.exit(f"no invoice of {total} that is {status} within {DEADLINE_SECONDS} s")


user = str(uuid.uuid4())
order = call(
    "POST",
    f"{ORDERS}/orders",
    {"user_id": user, "item_id": str(uuid.uuid4()), "quantity": 3, "value": "2.50"},
)
wait_for_invoice("7.50", "created")
call("DELETE", f"{ORDERS}/orders/{order['id']}")
wait_for_invoice("7.50", "deleted")
print("the invoice followed its order")
