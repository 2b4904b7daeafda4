"""What one process of a service has once, made by its entry point and handed to ``create_app``."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from servicekit.failpoints import Failpoints
from servicekit.lifecycle import Lifecycle
from servicekit.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Runtime:
    """The process-wide parts that are not about orders or invoices."""

    service: str
    version: str
    lifecycle: Lifecycle
    registry: CollectorRegistry
    telemetry: Telemetry
    failpoints: Failpoints

    @classmethod
    def of_process(cls, *, service: str, version: str, failpoints: Failpoints) -> "Runtime":
        """Return the runtime of a real process, traced as the environment says."""
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        return cls(
            service=service,
            version=version,
            lifecycle=Lifecycle(),
            registry=registry,
            telemetry=Telemetry.from_environment(service=service, version=version),
            failpoints=failpoints,
        )

    @classmethod
    def bare(cls, *, service: str, failpoints: Failpoints) -> "Runtime":
        """Return a runtime without tracing, as tests use it."""
        return cls(
            service=service,
            version="0",
            lifecycle=Lifecycle(),
            registry=CollectorRegistry(),
            telemetry=Telemetry(None),
            failpoints=failpoints,
        )
