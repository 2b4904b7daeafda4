"""The variables every dashboard offers, and the label matchers that apply them."""

from __future__ import annotations

from typing import Final

from tools.dashboards.grafana import Variable

NAMESPACE: Final = Variable(
    "namespace", "Namespace", 'label_values(up{job=~"order|invoice"}, namespace)'
)
SERVICE: Final = Variable("job", "Service", 'label_values(up{job=~"order|invoice"}, job)')
LOCK: Final = Variable("lock", "Lock class", "label_values(fencelock_held, lock)")

SERVICES: Final = 'namespace=~"$namespace", job=~"$job"'
# Probes and documentation are not what a user asks for.
REQUESTS: Final = f'{SERVICES}, route=~"/(orders|invoices|operations).*"'
LOCKS: Final = f'{SERVICES}, lock=~"$lock"'
