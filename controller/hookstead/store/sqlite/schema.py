"""The tables of the embedded store, and how an older file becomes a present one.

Rows are numbered in time: `seq >> TIME_BITS` is at or after the millisecond in which the row was made, and never
falls, so that an age or a `since` is a range of the primary key and needs no index. Events, deliveries and attempts
draw from one sequence; the deliveries of an event are the `endpoints` numbers behind it (replays aside).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import apsw

from hookstead.store.errors import SchemaTooNew, StoreRefused

APPLICATION_ID: Final = 0x484B5344  # "HKSD"
TIME_BITS: Final = 10
RECENT_SLOTS: Final = 20

_VERSION_1: Final = """
CREATE TABLE endpoints (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, uid TEXT NOT NULL, gone INTEGER NOT NULL DEFAULT 0,
  UNIQUE (name, uid)
) STRICT;

CREATE TABLE events (
  seq INTEGER PRIMARY KEY, id ANY NOT NULL UNIQUE, type TEXT NOT NULL, channels TEXT NOT NULL,
  accepted_ms INTEGER NOT NULL, endpoints INTEGER NOT NULL, timestamp BLOB NOT NULL, source TEXT, traceparent TEXT,
  digest BLOB NOT NULL, data BLOB
) STRICT;
CREATE INDEX events_type ON events (type, seq);

CREATE TABLE callers (
  event_seq INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, digest BLOB NOT NULL, event_id ANY NOT NULL,
  endpoints INTEGER NOT NULL
) STRICT;

CREATE TABLE deliveries (
  seq INTEGER PRIMARY KEY, id ANY NOT NULL UNIQUE, event_seq INTEGER NOT NULL, endpoint_id INTEGER NOT NULL,
  type TEXT NOT NULL, status INTEGER NOT NULL, cancel_reason INTEGER, attempt_count INTEGER NOT NULL,
  schedule_position INTEGER NOT NULL, payload_format INTEGER NOT NULL, origin INTEGER NOT NULL,
  in_order INTEGER NOT NULL, manual_due_ms INTEGER, created_ms INTEGER NOT NULL, next_attempt_ms INTEGER,
  completed_ms INTEGER, replay_id INTEGER
) STRICT;
CREATE INDEX deliveries_due ON deliveries (endpoint_id, next_attempt_ms, seq) WHERE status = 0;
CREATE INDEX deliveries_due_aside ON deliveries (endpoint_id, next_attempt_ms, seq) WHERE status = 0 AND in_order = 0;
CREATE INDEX deliveries_manual ON deliveries (endpoint_id, manual_due_ms, seq) WHERE manual_due_ms IS NOT NULL;
CREATE INDEX deliveries_endpoint ON deliveries (endpoint_id, status, seq, in_order);
CREATE INDEX deliveries_open ON deliveries (status, seq) WHERE status <> 1;
CREATE INDEX deliveries_ended ON deliveries (status, completed_ms) WHERE completed_ms IS NOT NULL;
CREATE INDEX deliveries_replayed ON deliveries (event_seq) WHERE origin = 2;
CREATE INDEX deliveries_of_replay ON deliveries (replay_id, status) WHERE replay_id IS NOT NULL;

CREATE TABLE replays (
  id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, name TEXT NOT NULL, phase TEXT NOT NULL,
  position INTEGER NOT NULL DEFAULT 0, selecting INTEGER NOT NULL DEFAULT 1, selected INTEGER NOT NULL DEFAULT 0,
  delivered INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, started_ms INTEGER NOT NULL,
  completed_ms INTEGER
) STRICT;

CREATE TABLE attempts (
  seq INTEGER PRIMARY KEY, delivery_seq INTEGER NOT NULL, number INTEGER NOT NULL, started_ms INTEGER NOT NULL,
  duration_ms INTEGER NOT NULL, trigger INTEGER NOT NULL, succeeded INTEGER NOT NULL, status_code INTEGER NOT NULL,
  error INTEGER, message TEXT NOT NULL, next_attempt_ms INTEGER, response_body BLOB
) STRICT;
CREATE INDEX attempts_delivery ON attempts (delivery_seq, number);

CREATE TABLE recent (
  endpoint_id INTEGER NOT NULL, slot INTEGER NOT NULL, attempt_seq INTEGER NOT NULL,
  PRIMARY KEY (endpoint_id, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE lanes (endpoint_id INTEGER PRIMARY KEY, state BLOB NOT NULL) STRICT;

CREATE TABLE counts (
  endpoint_id INTEGER PRIMARY KEY, accepted INTEGER NOT NULL, pending INTEGER NOT NULL, delivered INTEGER NOT NULL,
  dead_lettered INTEGER NOT NULL, cancelled INTEGER NOT NULL, retired_delivered INTEGER NOT NULL DEFAULT 0,
  retired_dead_lettered INTEGER NOT NULL DEFAULT 0, retired_cancelled INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE hours (
  hour INTEGER NOT NULL, endpoint_id INTEGER NOT NULL, succeeded INTEGER NOT NULL, failed INTEGER NOT NULL,
  dead_lettered INTEGER NOT NULL, PRIMARY KEY (hour, endpoint_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE buckets (
  start_ms INTEGER PRIMARY KEY, accepted INTEGER NOT NULL, delivered INTEGER NOT NULL, failed INTEGER NOT NULL,
  dead_lettered INTEGER NOT NULL, latencies BLOB NOT NULL
) STRICT;

CREATE TABLE blobs (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

Migration = Callable[[apsw.Connection], None]


def _create(connection: apsw.Connection) -> None:
    connection.execute(_VERSION_1)


def _remember_absence(connection: apsw.Connection) -> None:
    """Since when a replay's object is gone: its row may go some day."""
    connection.execute("ALTER TABLE replays ADD COLUMN gone_ms INTEGER")


MIGRATIONS: Final[tuple[Migration, ...]] = (_create, _remember_absence)
"""Entry n makes version n + 1 out of version n. An entry that was released is never edited."""


def require_ours(connection: apsw.Connection, name: str, *, versions: int = len(MIGRATIONS)) -> int:
    """The schema version of the file, 0 for a new one. Reads only.

    Raises SchemaTooNew, and StoreRefused for a database of somebody else.
    """
    found = int(connection.pragma("user_version"))
    owner = int(connection.pragma("application_id"))
    if owner != APPLICATION_ID and (owner or found or connection.pragma("schema_version")):
        raise StoreRefused(
            f"store {name}: this SQLite database was not written by Hookstead; choose another path for --store"
        )
    if found > versions:
        raise SchemaTooNew(
            f"store {name}: its schema has version {found}, this Hookstead knows versions up to {versions}; "
            "start the newer Hookstead that wrote it, or restore a backup from before the upgrade"
        )
    return found


def migrate(connection: apsw.Connection, name: str, *, migrations: tuple[Migration, ...] = MIGRATIONS) -> int:
    """Bring the file to the present version, one transaction per step; returns the version that it had.

    Raises as `require_ours` does.
    """
    found = require_ours(connection, name, versions=len(migrations))
    for version, step in enumerate(migrations[found:], start=found + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            step(connection)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return found
