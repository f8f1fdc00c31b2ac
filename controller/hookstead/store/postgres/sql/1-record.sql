-- Attempts in: their rows, what becomes of their deliveries, roll-ups and lane states, in one statement. Every change
-- of a delivery is compare-and-set: where one is not as the caller knew it, HS002 is raised, nothing is changed, and
-- the caller looks again. Locks are taken in the order of the row numbers, in which `seqs_` are given. `ended_of_` with
-- `ended_as_`: the endpoint and the end of each that was pending and is no longer. `lane_states_`: first those of the
-- endpoints in `lanes_`, then those of the endpoints of these names.
CREATE FUNCTION hookstead.record_1(
  owner_ bigint, batch_ bigint, lease_ interval,
  seqs_ bigint[], was_ smallint[], counted_ integer[], stood_ integer[], due_ bigint[], ended_ bigint[],
  becomes_ smallint[], reasons_ smallint[], counts_ integer[], positions_ integer[], nexts_ bigint[], ends_ bigint[],
  answered_ boolean[], ended_of_ bigint[], ended_as_ smallint[],
  delivery_ bigint[], endpoint_ bigint[], number_ integer[], started_ bigint[], duration_ bigint[], trigger_
  smallint[], succeeded_ boolean[],
  status_code_ integer[], error_ smallint[], message_ text[], next_ bigint[], body_ bytea[],
  hours_ bigint[], hour_endpoints_ bigint[], hour_succeeded_ bigint[], hour_failed_ bigint[], hour_dead_ bigint[],
  starts_ bigint[], delivered_ bigint[], failed_ bigint[], dead_ bigint[],
  latency_starts_ bigint[], classes_ smallint[], tallies_ bigint[],
  lanes_ bigint[], lane_names_ text[], lane_uids_ text[], lane_states_ bytea[]
) RETURNS boolean LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_nestloop = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
  expected_ bigint;
  changed_ bigint := 0;
  gone_ bigint;
  numbers_ bigint[];
BEGIN
  PERFORM hookstead.durable_1();
  IF NOT hookstead.fence_1(owner_, batch_, lease_) THEN
    RETURN false;
  END IF;

  IF cardinality(seqs_) > 0 THEN
    IF 0 = ANY (becomes_) OR 0 <> ANY (was_) THEN  -- else one statement does it, in the same order: no bitmaps
      PERFORM FROM hookstead.pending p WHERE p.seq = ANY (seqs_) ORDER BY p.seq FOR UPDATE;
    END IF;
    expected_ := cardinality(seqs_);
    IF 0 <> ANY (was_) THEN
      expected_ := expected_ - hookstead.record_ended_1(
        seqs_, was_, counted_, ended_, becomes_, reasons_, counts_, positions_, ends_);
    END IF;
    IF 0 = ANY (becomes_) THEN
      UPDATE hookstead.pending p SET attempt_count = i.count, schedule_position = i.position, next_attempt_ms = i.next,
        taken = CASE WHEN p.taken = owner_ THEN 0 ELSE p.taken END
      FROM unnest(seqs_, was_, counted_, stood_, due_, becomes_, counts_, positions_, nexts_)
        AS i (seq, was, counted, stood, due, becomes, count, position, next)
      WHERE p.seq = ANY (seqs_) AND p.seq = i.seq AND i.was = 0 AND i.becomes = 0 AND p.attempt_count = i.counted
        AND p.schedule_position = i.stood AND p.next_attempt_ms = i.due;
      GET DIAGNOSTICS changed_ = ROW_COUNT;
    END IF;
    WITH gone AS (
      DELETE FROM hookstead.pending p
      USING unnest(seqs_, was_, counted_, stood_, due_, becomes_, reasons_, counts_, positions_, ends_)
        AS i (seq, was, counted, stood, due, becomes, reason, count, position, end_ms)
      WHERE p.seq = ANY (seqs_) AND p.seq = i.seq AND i.was = 0 AND i.becomes <> 0 AND p.attempt_count = i.counted
        AND p.schedule_position = i.stood AND p.next_attempt_ms = i.due
      RETURNING p.seq, p.id, p.event_seq, p.endpoint_id, p.type, i.becomes, i.reason, i.count, i.position,
        p.payload_format, p.origin, p.in_order, p.created_ms, i.end_ms, p.replay_id
    )
    INSERT INTO hookstead.ended (seq, id, event_seq, endpoint_id, type, status, cancel_reason, attempt_count,
      schedule_position, payload_format, origin, in_order, created_ms, completed_ms, replay_id)
    SELECT * FROM gone;
    GET DIAGNOSTICS gone_ = ROW_COUNT;
    IF changed_ + gone_ <> expected_ THEN
      RAISE EXCEPTION 'a delivery has changed' USING ERRCODE = 'HS002';
    END IF;

    IF true = ANY (answered_) THEN
      DELETE FROM hookstead.requests q WHERE q.seq = ANY (
        ARRAY(SELECT i.seq FROM unnest(seqs_, answered_) AS i (seq, answered) WHERE i.answered));
    END IF;
    IF true = ANY (answered_) OR 0 <> ANY (was_) THEN
      DELETE FROM hookstead.claims k WHERE k.seq = ANY (seqs_) AND k.owner = owner_;
    END IF;

    numbers_ := ARRAY(SELECT nextval('hookstead.attempt_numbers')
                      FROM generate_series(0, (cardinality(delivery_) - 1) / 1024));
    INSERT INTO hookstead.attempts (seq, delivery_seq, endpoint_id, number, started_ms, ended_ms, duration_ms, trigger,
      succeeded, status_code, error, message, next_attempt_ms, response_body)
    SELECT numbers_[1 + i.n / 1024] + i.n % 1024, i.delivery, i.endpoint, i.number, i.started, i.started + i.duration,
      i.duration, i.trigger, i.succeeded, i.status_code, i.error, i.message, i.next, i.body
    FROM (SELECT generate_series(0, cardinality(delivery_) - 1) AS n, unnest(delivery_) AS delivery,
            unnest(endpoint_) AS endpoint, unnest(number_) AS number, unnest(started_) AS started,
            unnest(duration_) AS duration, unnest(trigger_) AS trigger, unnest(succeeded_) AS succeeded,
            unnest(status_code_) AS status_code, unnest(error_) AS error, unnest(message_) AS message,
            unnest(next_) AS next, unnest(body_) AS body) i;
  END IF;

  IF cardinality(lane_names_) > 0 THEN
    lanes_ := lanes_ || hookstead.endpoint_ids_1(lane_names_, lane_uids_);
  END IF;
  INSERT INTO hookstead.journal (owner, batch, ended_of, ended_as, hours, hour_endpoints, hour_succeeded, hour_failed,
    hour_dead, starts, delivered, failed, dead, latency_starts, classes, latencies, lane_of, lane_states)
  VALUES (owner_, batch_, ended_of_, ended_as_, hours_, hour_endpoints_, hour_succeeded_, hour_failed_,
    hour_dead_, starts_, delivered_, failed_, dead_, latency_starts_, classes_, tallies_, lanes_, lane_states_);
  RETURN true;
END $$;

-- The rare case: attempts of deliveries that had ended (by hand, or ended while they were under way). Returns how many.
CREATE FUNCTION hookstead.record_ended_1(
  seqs_ bigint[], was_ smallint[], counted_ integer[], ended_ bigint[], becomes_ smallint[], reasons_ smallint[],
  counts_ integer[], positions_ integer[], ends_ bigint[]
) RETURNS bigint LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_nestloop = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
  of_ bigint[] := ARRAY(SELECT i.seq FROM unnest(seqs_, was_) AS i (seq, was) WHERE i.was <> 0);
BEGIN
  PERFORM FROM hookstead.ended h WHERE h.seq = ANY (of_) ORDER BY h.seq FOR UPDATE;
  IF EXISTS (
    SELECT FROM unnest(seqs_, was_, counted_, ended_) AS i (seq, was, counted, ended)
    LEFT JOIN LATERAL (SELECT * FROM hookstead.ended h WHERE h.seq = i.seq OFFSET 0) h ON true
    WHERE i.was <> 0
      AND (h.seq IS NULL OR h.status <> i.was OR h.attempt_count <> i.counted OR h.completed_ms <> i.ended)
  ) OR EXISTS (SELECT FROM hookstead.pending p WHERE p.seq = ANY (of_)) THEN
    RAISE EXCEPTION 'a delivery has changed' USING ERRCODE = 'HS002';
  END IF;
  INSERT INTO hookstead.tallies AS c (endpoint_id, side, delivered, dead_lettered, cancelled)
  SELECT h.endpoint_id, 1, count(*) FILTER (WHERE i.becomes = 1) - count(*) FILTER (WHERE i.was = 1),
    count(*) FILTER (WHERE i.becomes = 2) - count(*) FILTER (WHERE i.was = 2),
    count(*) FILTER (WHERE i.becomes = 3) - count(*) FILTER (WHERE i.was = 3)
  FROM unnest(seqs_, was_, becomes_) AS i (seq, was, becomes)
  CROSS JOIN LATERAL (SELECT * FROM hookstead.ended h WHERE h.seq = i.seq OFFSET 0) h
  WHERE i.was <> 0 AND i.was <> i.becomes GROUP BY 1 ORDER BY 1
  ON CONFLICT (endpoint_id, side) DO UPDATE SET delivered = c.delivered + excluded.delivered,
    dead_lettered = c.dead_lettered + excluded.dead_lettered, cancelled = c.cancelled + excluded.cancelled;
  UPDATE hookstead.ended h SET status = i.becomes, cancel_reason = i.reason, attempt_count = i.count,
    schedule_position = i.position, completed_ms = i.end_ms
  FROM unnest(seqs_, was_, becomes_, reasons_, counts_, positions_, ends_)
    AS i (seq, was, becomes, reason, count, position, end_ms)
  WHERE i.was <> 0 AND h.seq = i.seq AND h.seq = ANY (of_);
  RETURN cardinality(of_);
END $$;

-- Adds up what these members' batches did to counters, roll-ups and lanes. Whoever dies in between leaves all as it was.
CREATE FUNCTION hookstead.fold_1(owners_ bigint[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  WITH taken AS (
    DELETE FROM hookstead.journal j WHERE j.owner = ANY (owners_) RETURNING j.*
  ), made AS (
    INSERT INTO hookstead.tallies AS c (endpoint_id, side, accepted, pending)
    SELECT m, 0, count(*), count(*) FROM taken j, unnest(j.made_of) m GROUP BY 1 ORDER BY 1
    ON CONFLICT (endpoint_id, side) DO UPDATE SET accepted = c.accepted + excluded.accepted,
      pending = c.pending + excluded.pending
  ), ended AS (
    INSERT INTO hookstead.tallies AS c (endpoint_id, side, pending, delivered, dead_lettered, cancelled)
    SELECT e.of, 1, -count(*), count(*) FILTER (WHERE e.as_ = 1), count(*) FILTER (WHERE e.as_ = 2),
      count(*) FILTER (WHERE e.as_ = 3)
    FROM taken j, unnest(j.ended_of, j.ended_as) AS e (of, as_) GROUP BY 1 ORDER BY 1
    ON CONFLICT (endpoint_id, side) DO UPDATE SET pending = c.pending + excluded.pending,
      delivered = c.delivered + excluded.delivered, dead_lettered = c.dead_lettered + excluded.dead_lettered,
      cancelled = c.cancelled + excluded.cancelled
  ), lanes AS (
    INSERT INTO hookstead.lanes AS l (endpoint_id, state)
    SELECT DISTINCT ON (s.of) s.of, s.state FROM taken j, unnest(j.lane_of, j.lane_states) AS s (of, state)
    ORDER BY s.of, j.batch DESC
    ON CONFLICT (endpoint_id) DO UPDATE SET state = excluded.state
  ), hours AS (
    INSERT INTO hookstead.hours AS o (hour, endpoint_id, succeeded, failed, dead_lettered)
    SELECT h.hour, h.endpoint_id, sum(h.succeeded), sum(h.failed), sum(h.dead)
    FROM taken j, unnest(j.hours, j.hour_endpoints, j.hour_succeeded, j.hour_failed, j.hour_dead)
      AS h (hour, endpoint_id, succeeded, failed, dead) GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (hour, endpoint_id) DO UPDATE SET succeeded = o.succeeded + excluded.succeeded,
      failed = o.failed + excluded.failed, dead_lettered = o.dead_lettered + excluded.dead_lettered
  ), buckets AS (
    INSERT INTO hookstead.buckets AS b (start_ms, part, accepted, delivered, failed, dead_lettered)
    SELECT s.start_ms, j.owner % 64, coalesce(sum(s.accepted), 0), coalesce(sum(s.delivered), 0),
      coalesce(sum(s.failed), 0), coalesce(sum(s.dead), 0)
    FROM taken j, unnest(j.starts, j.accepted, j.delivered, j.failed, j.dead)
      AS s (start_ms, accepted, delivered, failed, dead)
    GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (start_ms, part) DO UPDATE SET accepted = b.accepted + excluded.accepted,
      delivered = b.delivered + excluded.delivered, failed = b.failed + excluded.failed,
      dead_lettered = b.dead_lettered + excluded.dead_lettered
  )
  INSERT INTO hookstead.latencies AS l (start_ms, part, class, count)
  SELECT s.start_ms, j.owner % 64, s.class, sum(s.count)
  FROM taken j, unnest(j.latency_starts, j.classes, j.latencies) AS s (start_ms, class, count)
  GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
  ON CONFLICT (start_ms, part, class) DO UPDATE SET count = l.count + excluded.count;
END $$;
