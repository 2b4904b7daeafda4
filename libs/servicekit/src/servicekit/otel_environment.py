"""Puts ``OTEL_*`` variables right before OpenTelemetry is imported, which reads them as it is.

A wrong one ends a process there with a traceback. Traces are not worth a service that does not
start, so what cannot be used is left out, and said in one line each.
"""

import math
import os
from collections.abc import Iterator, MutableMapping
from importlib.metadata import entry_points
from typing import Final

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TIMEOUTS: Final = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
_COMPRESSIONS: Final = ("OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION")
_BATCHING: Final = (
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
)
_FILES: Final = ("OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_")
_CERTIFICATES: Final = tuple(f"{prefix}CERTIFICATE" for prefix in _FILES)
# The exporter over HTTP is made with requests, which lets these win over what it was told.
_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# The SDK's own default (opentelemetry.sdk.trace.export).
_QUEUE, _BATCH = 2048, 512


def tidy(environment: MutableMapping[str, str]) -> list[str]:
    """Leave out or complete what OpenTelemetry would not take, and return a line for each."""
    # One generation of names in all spans: FastAPI's are of the stable one already.
    environment.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
    complaints = [*_tidy_propagators(environment), *_tidy_numbers(environment)]
    complaints += [*_tidy_batches(environment), *_tidy_exporter(environment)]
    return [*complaints, *_tidy_files(environment), *_tidy_trust(environment)]


def _tidy_propagators(environment: MutableMapping[str, str]) -> Iterator[str]:
    name = "OTEL_PROPAGATORS"
    given = [each.strip() for each in environment.get(name, "").split(",") if each.strip()]
    installed = {point.name for point in entry_points(group="opentelemetry_propagator")}
    wrong = [each for each in given if each != "none" and each not in installed]
    if not wrong:
        return
    kept = ",".join(each for each in given if each not in wrong)
    if kept:
        environment[name] = kept
    else:
        del environment[name]
    have = ", ".join(sorted(installed))
    yield (
        f"{name}: {', '.join(wrong)} is not installed ({have} are): left out, "
        f"{kept or 'tracecontext,baggage'} is used"
    )


def _tidy_numbers(environment: MutableMapping[str, str]) -> Iterator[str]:
    rules: list[tuple[str, float, float]] = [
        (name, 0, math.inf) for name in environment if _is_limit(name)
    ]
    rules += [(name, 1, math.inf) for name in _BATCHING]
    rules += [(name, 0.001, math.inf) for name in _TIMEOUTS]
    rules += [("OTEL_TRACES_SAMPLER_ARG", 0, 1)]
    for name, least, most in rules:
        value = environment.get(name, "").strip()
        if not value or _within(value, least, most, whole=least == int(least) and most > 1):
            continue
        del environment[name]
        yield f"{name}: not a number that can be used: left out, the default holds"


def _is_limit(name: str) -> bool:
    return name.startswith("OTEL_") and name.endswith(("_COUNT_LIMIT", "_LENGTH_LIMIT"))


def _within(value: str, least: float, most: float, *, whole: bool) -> bool:
    try:
        number: float = int(value) if whole else float(value)
    except ValueError:
        return False
    return math.isfinite(number) and least <= number <= most


def _tidy_batches(environment: MutableMapping[str, str]) -> Iterator[str]:
    """A batch larger than the queue is refused by the SDK."""
    queue = int(environment.get("OTEL_BSP_MAX_QUEUE_SIZE") or _QUEUE)
    if int(environment.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") or _BATCH) > queue:
        environment["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] = str(queue)
        yield f"OTEL_BSP_MAX_EXPORT_BATCH_SIZE: more than the queue holds: {queue} is used"


def _tidy_exporter(environment: MutableMapping[str, str]) -> Iterator[str]:
    name = "OTEL_TRACES_EXPORTER"
    if environment.get(name, "").strip() not in {"", "otlp", "console", "none"}:
        environment[name] = "none"
        yield f"{name}: neither otlp nor console nor none: nothing is traced"
    for name in _ENDPOINTS:
        value = environment.get(name, "").strip()
        if value and "://" not in value:
            environment[name] = f"http://{value}"
            yield f"{name}: has no scheme: http:// is used"
    for name in _COMPRESSIONS:
        if environment.get(name, "").strip().lower() not in {"", "none", "gzip", "deflate"}:
            del environment[name]
            yield f"{name}: neither gzip nor deflate nor none: left out"


def _tidy_files(environment: MutableMapping[str, str]) -> Iterator[str]:
    """Half of an identity makes gRPC abort the process; a file that is not there is half of one."""
    for prefix in _FILES:
        identity = [f"{prefix}CLIENT_CERTIFICATE", f"{prefix}CLIENT_KEY"]
        for name in (f"{prefix}CERTIFICATE", *identity):
            if environment.get(name) and not os.access(environment[name], os.R_OK):
                yield f"{name}: {environment.pop(name)} cannot be read: left out"
        given = [name for name in identity if environment.get(name)]
        if len(given) == 1:
            del environment[given[0]]
            yield f"{given[0]}: nothing without the other of {' and '.join(identity)}: left out"


def _tidy_trust(environment: MutableMapping[str, str]) -> Iterator[str]:
    told = next((name for name in _CERTIFICATES if environment.get(name)), None)
    for name in _BUNDLES:
        if told and environment.pop(name, ""):
            yield f"{name}: would win over {told}: left out"
