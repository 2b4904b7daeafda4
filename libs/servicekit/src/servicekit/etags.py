"""Entity tags: a resource's version as a strong ETag, and the two conditional headers."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from pydantic import WithJsonSchema
from starlette.datastructures import Headers

from servicekit.problems import PreconditionFailed, ValidationFailed

# How ``format_etag`` writes a version: "01" is another tag than "1", and no row has version 0.
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
# RFC 9110, section 8.8.3; without the obs-text octets, which no tag of ours contains.
_TAG = re.compile(r'\s*(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e]*)"\s*(?:,|$)')
_TAG_PATTERN = r'(W/)?"[!#-~]*"'
TagsHeader = Annotated[
    str,
    WithJsonSchema({"type": "string", "pattern": rf"^(\*|{_TAG_PATTERN}(, ?{_TAG_PATTERN})*)$"}),
]
"""A conditional header as the API's document describes it; the parser says what is wrong."""


def format_etag(version: int) -> str:
    """Return the strong entity tag of a version, for example ``"3"`` with its quotes."""
    return f'"{version}"'


@dataclass(frozen=True, slots=True)
class EntityTags:
    """The tags of an ``If-Match`` or ``If-None-Match`` header."""

    wildcard: bool
    strong: frozenset[str]
    weak: frozenset[str]

    def match_strongly(self, version: int) -> bool:
        """Tell whether ``If-Match`` holds for this version (strong comparison)."""
        return self.wildcard or str(version) in self.strong

    def match_weakly(self, version: int) -> bool:
        """Tell whether ``If-None-Match`` names this version (weak comparison)."""
        return self.match_strongly(version) or str(version) in self.weak

    def only_version(self) -> int | None:
        """Return the version if the header names exactly one strong tag with a number."""
        if self.wildcard or self.weak or len(self.strong) != 1:
            return None
        return next(iter(self.versions()), None)

    def versions(self) -> frozenset[int]:
        """Return the versions that the strong tags name; other tags name none."""
        return frozenset(int(tag) for tag in self.strong if _VERSION.fullmatch(tag))

    def canonical(self) -> str:
        """Return a text that is the same for headers of the same meaning."""
        if self.wildcard:
            return "*"
        tags = [f'"{tag}"' for tag in self.strong] + [f'W/"{tag}"' for tag in self.weak]
        return ",".join(sorted(tags))


def parse_entity_tags(value: str, *, header: str) -> EntityTags:
    """Parse the value of a conditional header.

    Args:
        value: the header's value, ``*`` or a list of entity tags.
        header: the header's name, for the message.

    Raises:
        ValidationFailed: it is neither.
    """
    if value.strip() == "*":
        return EntityTags(wildcard=True, strong=frozenset(), weak=frozenset())
    strong: set[str] = set()
    weak: set[str] = set()
    position = 0
    while position < len(value):
        match = _TAG.match(value, position)
        if match is None:
            raise ValidationFailed.of(header, 'must be * or entity tags in quotes, such as "3"')
        (weak if match["weak"] else strong).add(match["opaque"])
        position = match.end()
    if not strong and not weak:
        raise ValidationFailed.of(header, "must not be empty")
    return EntityTags(wildcard=False, strong=frozenset(strong), weak=frozenset(weak))


def entity_tags_of(headers: Headers, *, header: str) -> EntityTags | None:
    """Return what a conditional header says, all of its lines together (RFC 9110, 5.3).

    Raises:
        ValidationFailed: it is neither ``*`` nor a list of entity tags.
    """
    lines = headers.getlist(header)
    return parse_entity_tags(", ".join(lines), header=header) if lines else None


def conditional(header: str, description: str) -> Any:  # noqa: ANN401 (as FastAPI's Depends)
    """Return the dependency that is what a conditional header of the request says, or None.

    Args:
        header: its name.
        description: what it does, for the API's document.
    """

    async def tags_of(
        request: Request,
        line: Annotated[
            TagsHeader | None, Header(alias=header.lower(), description=description)
        ] = None,
    ) -> EntityTags | None:
        # FastAPI hands over one line of a header; all of them count.
        return None if line is None else entity_tags_of(request.headers, header=header)

    return Depends(tags_of)


def require_match(tags: EntityTags | None, version: int) -> None:
    """See that ``If-Match`` holds for what is read; it is evaluated before ``If-None-Match``.

    Raises:
        PreconditionFailed: it names other versions.
    """
    if tags is not None and not tags.match_strongly(version):
        raise PreconditionFailed(
            "It is not at a version that If-Match names.", headers={"ETag": format_etag(version)}
        )


def refuse_if_none_match(headers: Headers) -> None:
    """Refuse a change under ``If-None-Match``, whose answer would have to be 412 if it holds.

    Changes know ``If-Match``; ignoring the other would make a change that was not wanted.

    Raises:
        PreconditionFailed: the header is ``*``: what is to be changed exists.
        ValidationFailed: it names tags.
    """
    tags = entity_tags_of(headers, header="If-None-Match")
    if tags is None:
        return
    if tags.wildcard:
        raise PreconditionFailed("If-None-Match: * demands that there is nothing to change yet.")
    raise ValidationFailed.of("If-None-Match", "is for reading; a change knows If-Match")
