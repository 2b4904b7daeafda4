"""Tilt's built-ins as far as the Tiltfile uses them: each records what it was called with."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import starlark

ROOT = Path(__file__).resolve().parents[2]
RECORDED = (
    "allow_k8s_contexts",
    "docker_build",
    "k8s_resource",
    "k8s_yaml",
    "local",
    "local_resource",
    "secret_settings",
    "version_settings",
    "watch_file",
)
PRELUDE = """
config = struct(define_bool=_define_bool, parse=_parse)
TRIGGER_MODE_MANUAL = "manual"
_renaming = []

def workload_to_resource_function(function):
    _renaming.append(function)

def resource_of(workload):
    return _renaming[0](struct(name = workload))
"""
Call = dict[str, Any]


class Failed(Exception):
    """The Tiltfile called fail()."""


@dataclass
class Tilt:
    """One execution of the Tiltfile: against which context, with which arguments, and what came."""

    context: str = "kind-shop"
    arguments: dict[str, Any] = field(default_factory=dict)
    calls: dict[str, list[Call]] = field(default_factory=lambda: defaultdict(list))
    executed: starlark.FrozenModule | None = None

    def execute(self, path: Path = ROOT / "Tiltfile") -> Tilt:
        """Run the file and return what it has recorded."""
        module = starlark.Module()
        for name in RECORDED:
            module.add_callable(name, self._recorder(name))
        for name, answer in self._answers().items():
            module.add_callable(name, answer)
        extensions = [starlark.LibraryExtension.StructType]
        names = starlark.Globals.extended_by(extensions)
        dialect = starlark.Dialect.extended()
        starlark.eval(module, starlark.parse("prelude", PRELUDE, dialect), names)
        starlark.eval(module, starlark.parse(path.name, path.read_text(), dialect), names)
        self.executed = module.freeze()
        return self

    def resource_of(self, workload: str) -> str:
        """What the Tiltfile calls a workload."""
        assert self.executed is not None
        return str(self.executed.call("resource_of", workload))

    def named(self, call: str, name: str) -> Call:
        """The one call whose first argument is ``name``."""
        (found,) = (each for each in self.calls[call] if each["first"] == name)
        return found

    def _recorder(self, name: str) -> Any:
        def record(*positional: Any, **named: Any) -> None:
            self.calls[name].append(
                {"first": positional[0] if positional else None, "all": positional, **named}
            )

        return record

    def _answers(self) -> dict[str, Any]:
        """The built-ins whose result the Tiltfile passes on; a result says what it was made of."""

        def fail(message: str) -> None:
            raise Failed(message)

        return {
            "k8s_context": lambda: self.context,
            "_define_bool": lambda name, usage="": None,
            "_parse": lambda: self.arguments,
            "fail": fail,
            "helm": lambda chart, **options: {"chart": chart, **options},
            "sync": lambda local, remote: {"sync": local, "to": remote},
            "fall_back_on": lambda paths: {"fall_back_on": paths},
            "port_forward": lambda local, remote, **options: {
                "port": local,
                "to": remote,
                **options,
            },
            "link": lambda url, name: {"url": url, "name": name},
        }
