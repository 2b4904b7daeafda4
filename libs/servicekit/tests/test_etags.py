"""Entity tags as in RFC 9110."""

import pytest
from starlette.datastructures import Headers

from servicekit.etags import (
    entity_tags_of,
    format_etag,
    parse_entity_tags,
    refuse_if_none_match,
)
from servicekit.problems import PreconditionFailed, ValidationFailed


@pytest.mark.parametrize("value", ['"3"', ' "3" ', '"1", "3"', '"1" ,"3"', "*"])
def test_a_strong_tag_in_any_place_matches_strongly(value: str) -> None:
    assert parse_entity_tags(value, header="If-Match").match_strongly(3)


@pytest.mark.parametrize("value", ['W/"3"', '"30"', '"4"', '""'])
def test_a_weak_or_another_tag_does_not_match_strongly(value: str) -> None:
    assert not parse_entity_tags(value, header="If-Match").match_strongly(3)


def test_a_weak_tag_matches_weakly() -> None:
    assert parse_entity_tags('W/"3"', header="If-None-Match").match_weakly(3)


@pytest.mark.parametrize("value", ["", "3", '"3', '3"', 'w/"3"', '"3" "4"', '"a b"', '*, "3"'])
def test_what_is_no_list_of_tags_is_refused_by_the_headers_name(value: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse_entity_tags(value, header="If-Match")
    assert caught.value.errors[0]["field"] == "If-Match"


@pytest.mark.parametrize(
    ("value", "version"),
    [(format_etag(12), 12), ("*", None), ('"1","2"', None), ('W/"1"', None), ('"x"', None)],
)
def test_a_header_names_one_version_or_none(value: str, version: int | None) -> None:
    assert parse_entity_tags(value, header="If-Match").only_version() == version


def test_headers_of_the_same_meaning_have_the_same_canonical_text() -> None:
    left, right = (
        parse_entity_tags(value, header="If-Match").canonical()
        for value in ('"2", W/"9","1"', 'W/"9" , "1","2"')
    )
    assert left == right


@pytest.mark.parametrize("tag", ["0", "01", "00", "1" * 5000, "1" * 10, "-1", "1.0"])
def test_a_tag_that_is_no_version_names_none(tag: str) -> None:
    tags = parse_entity_tags(f'"{tag}"', header="If-Match")
    assert (tags.versions(), tags.only_version()) == (frozenset(), None)


def test_all_lines_of_a_header_count_together() -> None:
    headers = Headers(raw=[(b"if-match", b'"9"'), (b"if-match", b'"1"')])
    tags = entity_tags_of(headers, header="If-Match")
    assert tags is not None
    assert tags.versions() == {1, 9}
    assert entity_tags_of(Headers(), header="If-Match") is None


def test_a_change_under_if_none_match_is_refused() -> None:
    with pytest.raises(PreconditionFailed):
        refuse_if_none_match(Headers({"If-None-Match": "*"}))
    with pytest.raises(ValidationFailed):
        refuse_if_none_match(Headers({"If-None-Match": '"1"'}))
    refuse_if_none_match(Headers())
