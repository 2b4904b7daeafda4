"""What `make up` tells a person: the URLs, and a curl for each thing to try."""

from __future__ import annotations

from devkit.layout import Layout

TEMPLATE = """
The shop is open.
  orders    {order_url}      try it in the browser: {order_url}/docs
  invoices  {invoice_url}      try it in the browser: {invoice_url}/docs

Paste these into another terminal, one after the other:

  # create an order: its invoice is made with it, total = quantity x value
  order=$(curl -sS {order_url}/orders -H 'Content-Type: application/json' -d '{{"user_id": \
"7d7e5d2c-3c1f-4c57-9a0e-2f2d5c1e8a11", "item_id": "0b9f8f4e-54b5-4d0e-8a55-6a3c1d1f7b22", \
"quantity": 2, "value": "9.50"}}' | sed 's/.*"id":"\\([^"]*\\)".*/\\1/'); echo $order

  # read both sides
  curl -sS {order_url}/orders/$order; echo
  invoice=$(curl -sS {order_url}/orders/$order | sed 's/.*"invoice_id":"\\([^"]*\\)".*/\\1/')
  curl -sS {invoice_url}/invoices/$invoice; echo

  # update: both sides or neither (204)
  curl -sS -w '%{{http_code}}\\n' -X PATCH {order_url}/orders/$order \
-H 'Content-Type: application/json' \
-d "{{\\"update_time\\": \\"$(date -u +%Y-%m-%dT%H:%M:%S.999999Z)\\", \\"quantity\\": 5}}"
  curl -sS {invoice_url}/invoices/$invoice; echo

  # change the invoice directly, without the lock: refused (409)
  curl -sS -w '\\n%{{http_code}}\\n' -X PATCH {invoice_url}/invoices/$invoice \
-H 'Content-Type: application/json' -d '{{"total": "1.00"}}'

  # delete on both sides (204)
  curl -sS -w '%{{http_code}}\\n' -X DELETE {order_url}/orders/$order
  curl -sS {invoice_url}/invoices/$invoice; echo

Or watch it being driven: make demo
Ctrl-C stops everything.
"""


def guide(layout: Layout) -> str:
    """The text for a shop that runs at these addresses."""
    return TEMPLATE.format(order_url=layout.order_url, invoice_url=layout.invoice_url)
