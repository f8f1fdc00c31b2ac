"""Identity in a folder of manifests: what keeps a uid, what makes a generation, what is another object."""

from __future__ import annotations

from hookstead.cli.ledger import Entry, Key, Ledger, Sighting, decode, encode
from hookstead.resources.kinds import Kind

ENDPOINT = Key(Kind.ENDPOINT, "default", "acme")
REPLAY = Key(Kind.REPLAY, "default", "again")


def _seen(ledger: Ledger, key: Key, digest: str, *, now_ms: int) -> tuple[Ledger, Entry]:
    after = ledger.observe((Sighting(key, digest),), now_ms=now_ms)
    entry = after.of(key)
    assert entry is not None
    return after, entry


def test_an_edit_keeps_the_uid_and_counts_one_generation() -> None:
    ledger, first = _seen(Ledger(), ENDPOINT, "a", now_ms=1)
    ledger, same = _seen(ledger, ENDPOINT, "a", now_ms=2)
    _, edited = _seen(ledger, ENDPOINT, "b", now_ms=3)
    assert same == first
    assert (edited.uid, edited.created_ms) == (first.uid, first.created_ms)
    assert (first.generation, edited.generation) == (1, 2)


def test_an_object_that_was_deleted_and_recreated_is_another_one() -> None:
    ledger, first = _seen(Ledger(), ENDPOINT, "a", now_ms=1)
    gone = ledger.observe((), now_ms=2)
    assert gone.of(ENDPOINT) is None
    _, again = _seen(gone, ENDPOINT, "a", now_ms=3)
    assert again.uid != first.uid
    assert again.generation == 1


def test_objects_of_one_name_but_another_kind_or_namespace_have_other_uids() -> None:
    keys = [ENDPOINT, ENDPOINT._replace(kind=Kind.CHANNEL), ENDPOINT._replace(namespace="prod")]
    ledger = Ledger().observe(tuple(Sighting(key, "a") for key in keys), now_ms=1)
    assert len({ledger.entries[entry].uid for entry in ledger.entries}) == 3


def test_a_replay_is_known_by_name_and_spec_even_after_the_state_was_lost() -> None:
    _, first = _seen(Ledger(), REPLAY, "a", now_ms=1)
    _, later = _seen(Ledger(), REPLAY, "a", now_ms=999)
    ledger, _ = _seen(Ledger(), REPLAY, "a", now_ms=1)
    _, edited = _seen(ledger, REPLAY, "b", now_ms=2)
    assert first.uid == later.uid
    assert edited.uid != first.uid


def test_a_saved_ledger_is_the_same_ledger() -> None:
    ledger, _ = _seen(Ledger(), ENDPOINT, "a", now_ms=1)
    assert decode(encode(ledger)) == ledger
