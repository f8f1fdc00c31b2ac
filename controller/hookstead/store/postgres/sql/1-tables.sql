-- The tables. Rows are numbered in time, as in the embedded store: `seq >> 10` is at or after the millisecond in which
-- the row was made. Numbers of events and deliveries are taken under the lock of the one row of `numbering`, which is
-- held to the commit: whoever sees a number sees every lower one, so that a position in the numbers (a replay's, a
-- retention mark's) never passes a row that commits later.

-- `forgotten`: how often endpoints lost their numbers for good, so that whoever knows a number can tell that it holds
-- (on the server that told it).
CREATE TABLE hookstead.numbering (
  alone boolean PRIMARY KEY DEFAULT true CHECK (alone), last bigint NOT NULL DEFAULT 0,
  skew_ms bigint NOT NULL DEFAULT 0, forgotten bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO hookstead.numbering DEFAULT VALUES;

-- One row per process: its lease, the last of its batches that was committed, and whether it takes slots.
CREATE TABLE hookstead.members (
  owner bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, lease_until timestamptz NOT NULL,
  batch bigint NOT NULL DEFAULT 0, result bigint, ready boolean NOT NULL DEFAULT false
) WITH (fillfactor = 10);

-- Who delivers for which lot of endpoints. A slot is free or has a member; `term` counts its owners.
CREATE TABLE hookstead.slots (slot smallint PRIMARY KEY, owner bigint, term bigint NOT NULL DEFAULT 0)
WITH (fillfactor = 20);
INSERT INTO hookstead.slots (slot) SELECT generate_series(0, 255);

-- The last claiming statement of each member: a row of its own, so that claims do not wait for commits.
CREATE TABLE hookstead.claimers (owner bigint PRIMARY KEY, ticket bigint NOT NULL DEFAULT 0) WITH (fillfactor = 10);

CREATE TABLE hookstead.endpoints (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, uid text NOT NULL,
  gone boolean NOT NULL DEFAULT false, UNIQUE (name, uid)
);

CREATE TABLE hookstead.events (
  seq bigint PRIMARY KEY, id bytea NOT NULL, type text NOT NULL, channels text NOT NULL, accepted_ms bigint NOT NULL,
  endpoints integer NOT NULL, stamp bytea NOT NULL, source text, traceparent text, data bytea
) PARTITION BY RANGE (seq);

CREATE TABLE hookstead.callers (
  key bytea PRIMARY KEY, event_seq bigint NOT NULL, digest bytea NOT NULL, event_id bytea NOT NULL,
  endpoints integer NOT NULL
);

-- The keys of each batch, to be forgotten together: an index of `callers` by age would cost each event what this costs
-- a batch. `last_seq` is the batch's highest number.
CREATE TABLE hookstead.caller_batches (last_seq bigint NOT NULL, count integer NOT NULL, keys bytea[] NOT NULL)
WITH (toast_tuple_target = 8160);
ALTER TABLE hookstead.caller_batches ALTER keys SET STORAGE EXTERNAL;
CREATE INDEX caller_batches_age ON hookstead.caller_batches (last_seq);

-- Pending deliveries only: small and hot. An update of `next_attempt_ms`, which is indexed, stays on its page at least,
-- where there is room; a claim changes nothing that is indexed. `taken`: the member that is at it, void once that is no
-- member any more (`free_1`). `ticket`: the claiming statement that took it, or, below zero, the batch of events; so that
-- what was taken in a statement whose answer never came can be told from what is held, and given back.
CREATE TABLE hookstead.pending (
  seq bigint PRIMARY KEY, id bytea NOT NULL UNIQUE, event_seq bigint NOT NULL, endpoint_id bigint NOT NULL,
  type text NOT NULL, attempt_count integer NOT NULL, schedule_position integer NOT NULL,
  payload_format smallint NOT NULL, origin smallint NOT NULL, in_order boolean NOT NULL, created_ms bigint NOT NULL,
  next_attempt_ms bigint NOT NULL, replay_id bigint, maker bigint NOT NULL DEFAULT 0, taken bigint NOT NULL DEFAULT 0,
  ticket bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX pending_due ON hookstead.pending (endpoint_id, next_attempt_ms, seq);
CREATE INDEX pending_aside ON hookstead.pending (endpoint_id, next_attempt_ms, seq) WHERE NOT in_order;
CREATE INDEX pending_ordered ON hookstead.pending (endpoint_id, seq) WHERE in_order;
CREATE INDEX pending_replayed ON hookstead.pending (event_seq) WHERE origin = 2;
CREATE INDEX pending_of_replay ON hookstead.pending (replay_id) WHERE replay_id IS NOT NULL;

-- Deliveries that ended. Status 1 Delivered, 2 DeadLettered, 3 Cancelled.
CREATE TABLE hookstead.ended (
  seq bigint PRIMARY KEY, id bytea NOT NULL, event_seq bigint NOT NULL, endpoint_id bigint NOT NULL,
  type text NOT NULL, status smallint NOT NULL, cancel_reason smallint, attempt_count integer NOT NULL,
  schedule_position integer NOT NULL, payload_format smallint NOT NULL, origin smallint NOT NULL,
  in_order boolean NOT NULL, created_ms bigint NOT NULL, completed_ms bigint NOT NULL, replay_id bigint
) PARTITION BY RANGE (seq);
CREATE INDEX ended_endpoint ON hookstead.ended (endpoint_id, status, seq);
CREATE INDEX ended_completed ON hookstead.ended USING brin (completed_ms) WITH (pages_per_range = 16, autosummarize =
  on);
CREATE INDEX ended_open ON hookstead.ended (status, seq) WHERE status <> 1;
CREATE INDEX ended_replayed ON hookstead.ended (event_seq) WHERE origin = 2;
CREATE INDEX ended_of_replay ON hookstead.ended (replay_id) WHERE replay_id IS NOT NULL;

-- Manual requests, for pending and ended deliveries alike.
CREATE TABLE hookstead.requests (
  seq bigint PRIMARY KEY, endpoint_id bigint NOT NULL, event_seq bigint NOT NULL, due_ms bigint NOT NULL
);
CREATE INDEX requests_due ON hookstead.requests (endpoint_id, due_ms, seq);
CREATE INDEX requests_event ON hookstead.requests (event_seq);

-- Who is at which delivery, beside `pending.taken`: what serves a manual request (`manual`), and what ended while somebody
-- was at it. A claim ends with its owner's membership.
CREATE TABLE hookstead.claims (
  seq bigint PRIMARY KEY, endpoint_id bigint NOT NULL, owner bigint NOT NULL, manual boolean NOT NULL,
  ticket bigint NOT NULL
);

-- Whether a delivery that `taken_` was at may be claimed. `living_`: the next member's number, and all members': whoever
-- has that number or a higher one joined since they were read. (One that was joining just then has no slot yet.)
CREATE FUNCTION hookstead.free_1(taken_ bigint, living_ bigint[]) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN taken_ = 0 OR (taken_ <> ALL (living_) AND taken_ < living_[1]);

-- What members did for others to know of, beside new deliveries, whose rows say it by `seq` and `maker`: manual
-- requests, dead letters that are pending again (`made`), payloads that are gone (`event_id`). Numbered in one line with
-- deliveries, so that whoever has seen a number has seen all before it. Kept for an hour.
CREATE TABLE hookstead.doings (
  seq bigint PRIMARY KEY, owner bigint NOT NULL, endpoint_ids bigint[] NOT NULL, made bigint NOT NULL DEFAULT 0,
  event_id bytea
);

CREATE TABLE hookstead.replays (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, uid text NOT NULL UNIQUE, name text NOT NULL, phase text NOT NULL,
  position bigint NOT NULL DEFAULT 0, selecting boolean NOT NULL DEFAULT true, selected bigint NOT NULL DEFAULT 0,
  delivered bigint NOT NULL DEFAULT 0, failed bigint NOT NULL DEFAULT 0, started_ms bigint NOT NULL,
  completed_ms bigint, gone_ms bigint
);

-- Taken by the thousand: a statement asks once.
CREATE SEQUENCE hookstead.attempt_numbers INCREMENT 1024;
CREATE TABLE hookstead.attempts (
  seq bigint NOT NULL, delivery_seq bigint NOT NULL, endpoint_id bigint NOT NULL, number integer NOT NULL,
  started_ms bigint NOT NULL, ended_ms bigint NOT NULL, duration_ms bigint NOT NULL, trigger smallint NOT NULL,
  succeeded boolean NOT NULL, status_code integer NOT NULL, error smallint, message text NOT NULL,
  next_attempt_ms bigint, response_body bytea
) PARTITION BY RANGE (ended_ms);
CREATE INDEX attempts_delivery ON hookstead.attempts (delivery_seq, number);
CREATE INDEX attempts_endpoint ON hookstead.attempts (endpoint_id, seq);

CREATE TABLE hookstead.lanes (endpoint_id bigint PRIMARY KEY, state bytea NOT NULL) WITH (fillfactor = 50);

-- What batches did to the counters, roll-ups and lanes below, a row for each, until its member adds them up (`fold_1`):
-- changing some dozen rows in place with every batch costs as much as the deliveries do. Views put both together.
-- `made_of`: an endpoint for each new delivery; `ended_of` with `ended_as`: one for each pending delivery that ended.
-- `lane_of` with `lane_states`: where lanes are now. Whoever gives slots away is added up before, so that the lanes of
-- an endpoint are in one member's rows only, of which the highest `batch` is the last.
-- Arrays side by side, since one row is cheaper than many; a large one goes aside as it is, uncompressed.
CREATE TABLE hookstead.journal (
  owner bigint NOT NULL, batch bigint NOT NULL, made_of bigint[], ended_of bigint[], ended_as smallint[],
  hours bigint[], hour_endpoints bigint[], hour_succeeded bigint[], hour_failed bigint[], hour_dead bigint[],
  starts bigint[], accepted bigint[], delivered bigint[], failed bigint[], dead bigint[],
  latency_starts bigint[], classes smallint[], latencies bigint[], lane_of bigint[], lane_states bytea[]
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
ALTER TABLE hookstead.journal
  ALTER made_of SET STORAGE EXTERNAL, ALTER ended_of SET STORAGE EXTERNAL, ALTER ended_as SET STORAGE EXTERNAL,
  ALTER hours SET STORAGE EXTERNAL, ALTER hour_endpoints SET STORAGE EXTERNAL,
  ALTER hour_succeeded SET STORAGE EXTERNAL, ALTER hour_failed SET STORAGE EXTERNAL,
  ALTER hour_dead SET STORAGE EXTERNAL, ALTER starts SET STORAGE EXTERNAL, ALTER accepted SET STORAGE EXTERNAL,
  ALTER delivered SET STORAGE EXTERNAL, ALTER failed SET STORAGE EXTERNAL, ALTER dead SET STORAGE EXTERNAL,
  ALTER latency_starts SET STORAGE EXTERNAL, ALTER classes SET STORAGE EXTERNAL,
  ALTER latencies SET STORAGE EXTERNAL, ALTER lane_of SET STORAGE EXTERNAL, ALTER lane_states SET STORAGE EXTERNAL;

CREATE VIEW hookstead.lanes_now AS
SELECT DISTINCT ON (l.endpoint_id) l.endpoint_id, l.state FROM (
  SELECT endpoint_id, state, 0 AS batch FROM hookstead.lanes
  UNION ALL
  SELECT s.of, s.state, j.batch FROM hookstead.journal j, unnest(j.lane_of, j.lane_states) AS s (of, state)
) l ORDER BY l.endpoint_id, l.batch DESC;

-- What is counted of each endpoint. `side` says who counts: 0 whoever makes deliveries, 1 whoever ends them, 2 retention;
-- so that they seldom wait for another. A counter is the sum of its sides, and of what the journal has of it.
CREATE TABLE hookstead.tallies (
  endpoint_id bigint NOT NULL, side smallint NOT NULL, accepted bigint NOT NULL DEFAULT 0, pending bigint NOT NULL DEFAULT 0,
  delivered bigint NOT NULL DEFAULT 0, dead_lettered bigint NOT NULL DEFAULT 0, cancelled bigint NOT NULL DEFAULT 0,
  retired_delivered bigint NOT NULL DEFAULT 0, retired_dead_lettered bigint NOT NULL DEFAULT 0,
  retired_cancelled bigint NOT NULL DEFAULT 0, PRIMARY KEY (endpoint_id, side)
) WITH (fillfactor = 50);
CREATE VIEW hookstead.counts AS
SELECT endpoint_id, sum(accepted)::bigint AS accepted, sum(pending)::bigint AS pending,
  sum(delivered)::bigint AS delivered, sum(dead_lettered)::bigint AS dead_lettered,
  sum(cancelled)::bigint AS cancelled, sum(retired_delivered)::bigint AS retired_delivered,
  sum(retired_dead_lettered)::bigint AS retired_dead_lettered, sum(retired_cancelled)::bigint AS retired_cancelled
FROM (
  SELECT * FROM hookstead.tallies
  UNION ALL
  SELECT m, 0, 1, 1, 0, 0, 0, 0, 0, 0 FROM hookstead.journal j, unnest(j.made_of) m
  UNION ALL
  SELECT e.of, 1, 0, -1, (e.as_ = 1)::integer, (e.as_ = 2)::integer, (e.as_ = 3)::integer, 0, 0, 0
  FROM hookstead.journal j, unnest(j.ended_of, j.ended_as) AS e (of, as_)
) c GROUP BY endpoint_id;

CREATE TABLE hookstead.hours (
  hour bigint NOT NULL, endpoint_id bigint NOT NULL, succeeded bigint NOT NULL, failed bigint NOT NULL,
  dead_lettered bigint NOT NULL, PRIMARY KEY (hour, endpoint_id)
) WITH (fillfactor = 50);
CREATE VIEW hookstead.hours_now AS
SELECT * FROM hookstead.hours
UNION ALL
SELECT h.* FROM hookstead.journal j,
  unnest(j.hours, j.hour_endpoints, j.hour_succeeded, j.hour_failed, j.hour_dead) AS h;

-- `part`: members count in rows of their own, so that none waits for another.
CREATE TABLE hookstead.buckets (
  start_ms bigint NOT NULL, part smallint NOT NULL DEFAULT 0, accepted bigint NOT NULL DEFAULT 0,
  delivered bigint NOT NULL DEFAULT 0, failed bigint NOT NULL DEFAULT 0, dead_lettered bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (start_ms, part)
) WITH (fillfactor = 50);
CREATE VIEW hookstead.buckets_now AS
SELECT * FROM hookstead.buckets
UNION ALL
SELECT b.start_ms, j.owner % 64, coalesce(b.accepted, 0), coalesce(b.delivered, 0), coalesce(b.failed, 0),
  coalesce(b.dead, 0)
FROM hookstead.journal j, unnest(j.starts, j.accepted, j.delivered, j.failed, j.dead)
  AS b (start_ms, accepted, delivered, failed, dead);

CREATE TABLE hookstead.latencies (
  start_ms bigint NOT NULL, part smallint NOT NULL DEFAULT 0, class smallint NOT NULL, count bigint NOT NULL,
  PRIMARY KEY (start_ms, part, class)
) WITH (fillfactor = 50);
CREATE VIEW hookstead.latencies_now AS
SELECT * FROM hookstead.latencies
UNION ALL
SELECT l.start_ms, j.owner % 64, l.class, l.count
FROM hookstead.journal j, unnest(j.latency_starts, j.classes, j.latencies) AS l (start_ms, class, count);

CREATE TABLE hookstead.blobs (name text PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE hookstead.marks (name text PRIMARY KEY, value bigint NOT NULL) WITH (fillfactor = 50);

-- What no day's partition takes: rows of a clock that ran far ahead or back, and what outlived its day.
CREATE TABLE hookstead.events_rest PARTITION OF hookstead.events DEFAULT;
CREATE UNIQUE INDEX ON hookstead.events_rest (id);
CREATE TABLE hookstead.ended_rest PARTITION OF hookstead.ended DEFAULT;
CREATE UNIQUE INDEX ON hookstead.ended_rest (id);
CREATE TABLE hookstead.attempts_rest PARTITION OF hookstead.attempts DEFAULT;
