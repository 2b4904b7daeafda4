"""Entity tags as in RFC 9110."""

import pytest

from servicekit.etags import format_etag, parse_entity_tags
from servicekit.problems import ValidationFailed


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
