"""What the address of a store may say, and how it is shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstead.store.address import has_password, is_postgres, require_database, shown, sqlite_file
from hookstead.store.errors import StoreRefused


@pytest.mark.parametrize(
    ("url", "as_shown", "secret"),
    [
        ("sqlite:/var/lib/store.db", "sqlite:/var/lib/store.db", False),
        ("postgresql://host/name", "postgresql://host/name", False),
        ("postgres://user@host:5432/name", "postgresql://host:5432/name", False),
        ("postgresql://user:word@host/name?sslmode=require", "postgresql://host/name", True),
        ("postgresql://user:@host/name", "postgresql://host/name", True),
        ("postgresql://user@[::1]:5432/name", "postgresql://[::1]:5432/name", False),
        ("postgresql://user@a:1,b:2/name?target_session_attrs=read-write", "postgresql://a:1,b:2/name", False),
        ("postgresql:///name?host=/run/postgresql", "postgresql:///name", False),
        ("postgresql://host/name?user=u&Password=word", "postgresql://host/name", True),
        ("postgresql://host/name?sslkey=k&sslpassword=word", "postgresql://host/name", True),
        ("mysql://user:word@host/name", "***", False),
    ],
)
def test_an_address_is_shown_without_user_password_and_settings(url: str, as_shown: str, secret: bool) -> None:
    assert (shown(url), has_password(url)) == (as_shown, secret)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:pass/word@host/name",
        "postgresql://user:pass?word@host/name",
        "postgresql://user:pass#word@host/name",
        "postgresql://user:pass@word@host/name",
        "postgresql://user:pass[word@host/name",
        "postgresql://user:pass]word@host/name",
        "postgresql://user:1234?word@host/name",
    ],
)
def test_an_address_in_which_the_password_has_no_clear_end_is_refused_and_shown_nowhere(url: str) -> None:
    with pytest.raises(StoreRefused, match="%2F") as refused:
        require_database(url)
    for text in (str(refused.value), repr(refused.value.__cause__), shown(url)):
        assert "pass" not in text.replace("password", "")
        assert "1234" not in text
    assert has_password(url)


@given(
    user=st.text(st.characters(codec="utf-8"), min_size=1),
    password=st.text(st.characters(codec="utf-8"), min_size=1),
)
def test_any_password_that_is_percent_encoded_is_told_from_the_host(user: str, password: str) -> None:
    url = f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@db.example:5432/hookstead"
    require_database(url)
    assert shown(url) == "postgresql://db.example:5432/hookstead"
    assert has_password(url)


@given(st.text())
def test_whatever_is_given_for_a_database_is_refused_or_shown_without_what_stands_before_the_host(text: str) -> None:
    url = f"postgresql://{text}"
    assert is_postgres(url)
    try:
        require_database(url)
    except StoreRefused:
        assert shown(url) == "postgresql://***"
    else:
        assert "@" not in shown(url)


@pytest.mark.parametrize("url", ["sqlite:store.db", "sqlite://store.db"])
def test_a_file_is_named_with_or_without_slashes(url: str) -> None:
    assert sqlite_file(url) == Path("store.db")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:", "a file is needed"),
        ("sqlite::memory:", "a file is needed"),
        ("mysql://user:word@host/name", r"^--store mysql:…: expected sqlite:PATH or postgresql://"),
        ("host=h password=word", r"^--store expected sqlite:PATH"),
        ("", r"^--store expected sqlite:PATH"),
    ],
)
def test_what_is_no_file_is_refused_without_repeating_it(url: str, says: str) -> None:
    with pytest.raises(StoreRefused, match=says) as refused:
        sqlite_file(url)
    assert "word" not in str(refused.value)
