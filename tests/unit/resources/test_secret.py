from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass

import pytest

from hookstead.resources.secret import Secret

KEY = Secret(b"whsec_topsecret")


@dataclass(frozen=True)
class Holder:
    key: Secret


@pytest.mark.parametrize("text", [repr(KEY), str(KEY), f"{KEY}", f"{KEY:>5}", repr(Holder(KEY)), repr([KEY])])
def test_every_way_to_print_a_secret_prints_stars(text: str) -> None:
    assert "topsecret" not in text
    assert "***" in text


def test_reveal_gives_the_bytes() -> None:
    assert KEY.reveal() == b"whsec_topsecret"


def test_secrets_are_equal_and_hash_by_their_bytes() -> None:
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
    assert len({Secret(b"a"), Secret(b"a"), Secret(b"b")}) == 2


def test_an_empty_secret_is_false() -> None:
    assert not Secret(b"")
    assert KEY


def test_a_secret_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="cannot be changed"):
        KEY._value = b"x"


def test_a_secret_is_neither_pickled_nor_written_as_json() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KEY)
    with pytest.raises(TypeError):
        json.dumps(KEY)


def test_a_copy_is_no_way_out() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy(KEY)
