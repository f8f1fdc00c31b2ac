-- Attempts in: their rows, what becomes of their deliveries, roll-ups and lane states, in one statement. Every change
-- of a delivery is compare-and-set: where one is not as the caller knew it, HS002 is raised, nothing is changed, and
-- the caller looks again. Locks are taken in the order of the row numbers.
CREATE FUNCTION hookstead.record_1(
  owner_ bigint, batch_ bigint, lease_ interval,
  seqs_ bigint[], was_ smallint[], counted_ integer[], stood_ integer[], due_ bigint[], ended_ bigint[],
  becomes_ smallint[], reasons_ smallint[], counts_ integer[], positions_ integer[], nexts_ bigint[], ends_ bigint[],
  answered_ boolean[],
  delivery_ bigint[], endpoint_ bigint[], number_ integer[], started_ bigint[], duration_ bigint[], trigger_
  smallint[], succeeded_ boolean[],
  status_code_ integer[], error_ smallint[], message_ text[], next_ bigint[], body_ bytea[],
  hours_ bigint[], hour_endpoints_ bigint[], hour_succeeded_ bigint[], hour_failed_ bigint[], hour_dead_ bigint[],
  starts_ bigint[], delivered_ bigint[], failed_ bigint[], dead_ bigint[],
  latency_starts_ bigint[], classes_ smallint[], tallies_ bigint[],
  lane_names_ text[], lane_uids_ text[], lane_states_ bytea[]
) RETURNS boolean LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_nestloop = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
  endpoint_ids_ bigint[];
BEGIN
  PERFORM hookstead.durable_1();
  IF NOT hookstead.fence_1(owner_, batch_, lease_) THEN
    RETURN false;
  END IF;

  IF cardinality(seqs_) > 0 THEN
    PERFORM FROM hookstead.pending p WHERE p.seq = ANY (seqs_) ORDER BY p.seq FOR UPDATE;
    IF EXISTS (
      SELECT FROM unnest(seqs_, was_, counted_, stood_, due_) AS i (seq, was, counted, stood, due)
      LEFT JOIN LATERAL (SELECT * FROM hookstead.pending p WHERE p.seq = i.seq OFFSET 0) p ON true
      WHERE i.was = 0 AND (p.seq IS NULL OR p.attempt_count <> i.counted OR p.schedule_position <> i.stood
                           OR p.next_attempt_ms <> i.due)
    ) OR EXISTS (
      SELECT FROM unnest(seqs_, was_) AS i (seq, was)
      WHERE i.was <> 0 AND (SELECT p.seq FROM hookstead.pending p WHERE p.seq = i.seq) IS NOT NULL
    ) THEN
      RAISE EXCEPTION 'a delivery has changed' USING ERRCODE = 'HS002';
    END IF;

    IF 0 <> ANY (was_) THEN  -- counters are counted twice then, and still locked in order
      PERFORM FROM hookstead.tallies c WHERE c.endpoint_id = ANY (endpoint_) AND c.side = 1 ORDER BY c.endpoint_id FOR UPDATE;
    END IF;
    UPDATE hookstead.pending p SET attempt_count = i.count, schedule_position = i.position, next_attempt_ms = i.next
    FROM unnest(seqs_, was_, becomes_, counts_, positions_, nexts_) AS i (seq, was, becomes, count, position, next)
    WHERE p.seq = ANY (seqs_) AND p.seq = i.seq AND i.was = 0 AND i.becomes = 0;

    WITH gone AS (
      DELETE FROM hookstead.pending p
      USING unnest(seqs_, was_, becomes_, reasons_, counts_, positions_, ends_)
        AS i (seq, was, becomes, reason, count, position, end_ms)
      WHERE p.seq = ANY (seqs_) AND p.seq = i.seq AND i.was = 0 AND i.becomes <> 0
      RETURNING p.seq, p.id, p.event_seq, p.endpoint_id, p.type, i.becomes, i.reason, i.count, i.position,
        p.payload_format, p.origin, p.in_order, p.created_ms, i.end_ms, p.replay_id
    ), put AS (
      INSERT INTO hookstead.ended (seq, id, event_seq, endpoint_id, type, status, cancel_reason, attempt_count,
        schedule_position, payload_format, origin, in_order, created_ms, completed_ms, replay_id)
      SELECT * FROM gone
    )
    INSERT INTO hookstead.tallies AS c (endpoint_id, side, pending, delivered, dead_lettered, cancelled)
    SELECT g.endpoint_id, 1, -count(*), count(*) FILTER (WHERE g.becomes = 1), count(*) FILTER (WHERE g.becomes = 2),
      count(*) FILTER (WHERE g.becomes = 3)
    FROM gone g GROUP BY 1 ORDER BY 1
    ON CONFLICT (endpoint_id, side) DO UPDATE SET pending = c.pending + excluded.pending,
      delivered = c.delivered + excluded.delivered, dead_lettered = c.dead_lettered + excluded.dead_lettered,
      cancelled = c.cancelled + excluded.cancelled;

    IF 0 <> ANY (was_) THEN
      PERFORM hookstead.record_ended_1(seqs_, was_, counted_, ended_, becomes_, reasons_, counts_, positions_, ends_);
    END IF;

    IF true = ANY (answered_) THEN
      DELETE FROM hookstead.requests q WHERE q.seq = ANY (
        ARRAY(SELECT i.seq FROM unnest(seqs_, answered_) AS i (seq, answered) WHERE i.answered));
    END IF;
    DELETE FROM hookstead.claims k WHERE k.seq = ANY (seqs_) AND k.owner = owner_;

    INSERT INTO hookstead.attempts (seq, delivery_seq, endpoint_id, number, started_ms, ended_ms, duration_ms, trigger,
      succeeded, status_code, error, message, next_attempt_ms, response_body)
    SELECT nextval('hookstead.attempt_numbers'), i.delivery, i.endpoint, i.number, i.started, i.started + i.duration,
      i.duration, i.trigger, i.succeeded, i.status_code, i.error, i.message, i.next, i.body
    FROM unnest(delivery_, endpoint_, number_, started_, duration_, trigger_, succeeded_, status_code_, error_,
    message_,
      next_, body_) AS i (delivery, endpoint, number, started, duration, trigger, succeeded, status_code, error,
      message,
      next, body);

    INSERT INTO hookstead.hours AS o (hour, endpoint_id, succeeded, failed, dead_lettered)
    SELECT * FROM unnest(hours_, hour_endpoints_, hour_succeeded_, hour_failed_, hour_dead_) ORDER BY 1, 2
    ON CONFLICT (hour, endpoint_id) DO UPDATE SET succeeded = o.succeeded + excluded.succeeded,
      failed = o.failed + excluded.failed, dead_lettered = o.dead_lettered + excluded.dead_lettered;

    INSERT INTO hookstead.buckets AS b (start_ms, part, delivered, failed, dead_lettered)
    SELECT x.start_ms, owner_ % 64, x.delivered, x.failed, x.dead
    FROM unnest(starts_, delivered_, failed_, dead_) AS x (start_ms, delivered, failed, dead) ORDER BY 1
    ON CONFLICT (start_ms, part) DO UPDATE SET delivered = b.delivered + excluded.delivered,
      failed = b.failed + excluded.failed, dead_lettered = b.dead_lettered + excluded.dead_lettered;
    INSERT INTO hookstead.latencies AS l (start_ms, part, class, count)
    SELECT x.start_ms, owner_ % 64, x.class, x.count
    FROM unnest(latency_starts_, classes_, tallies_) AS x (start_ms, class, count) ORDER BY 1, 3
    ON CONFLICT (start_ms, part, class) DO UPDATE SET count = l.count + excluded.count;
  END IF;

  IF cardinality(lane_names_) > 0 THEN
    endpoint_ids_ := hookstead.endpoint_ids_1(lane_names_, lane_uids_);
    INSERT INTO hookstead.lanes AS l (endpoint_id, state)
    SELECT * FROM unnest(endpoint_ids_, lane_states_) ORDER BY 1
    ON CONFLICT (endpoint_id) DO UPDATE SET state = excluded.state;
  END IF;
  RETURN true;
END $$;

-- The rare case: an attempt of a delivery that had ended (by hand, or ended while it was under way).
CREATE FUNCTION hookstead.record_ended_1(
  seqs_ bigint[], was_ smallint[], counted_ integer[], ended_ bigint[], becomes_ smallint[], reasons_ smallint[],
  counts_ integer[], positions_ integer[], ends_ bigint[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_nestloop = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
  PERFORM FROM hookstead.ended h WHERE h.seq = ANY (
    ARRAY(SELECT i.seq FROM unnest(seqs_, was_) AS i (seq, was) WHERE i.was <> 0)) ORDER BY h.seq FOR UPDATE;
  IF EXISTS (
    SELECT FROM unnest(seqs_, was_, counted_, ended_) AS i (seq, was, counted, ended)
    LEFT JOIN LATERAL (SELECT * FROM hookstead.ended h WHERE h.seq = i.seq OFFSET 0) h ON true
    WHERE i.was <> 0
      AND (h.seq IS NULL OR h.status <> i.was OR h.attempt_count <> i.counted OR h.completed_ms <> i.ended)
  ) THEN
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
  WHERE i.was <> 0 AND h.seq = i.seq AND h.seq = ANY (seqs_);
END $$;
