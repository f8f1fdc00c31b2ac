-- What people and configuration ask for: cancellation, redelivery, erasure, a clock that went back.

-- Lets the other members know. Whoever calls it holds the lock of `numbering`.
CREATE FUNCTION hookstead.note_1(owner_ bigint, now_ bigint, endpoint_ids_ bigint[], made_ bigint, event_id_ bytea)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  last_ bigint;
BEGIN
  UPDATE hookstead.numbering SET last = greatest(last + 1, now_ << 10) RETURNING last INTO last_;
  INSERT INTO hookstead.doings (seq, owner, endpoint_ids, made, event_id)
  VALUES (last_, owner_, endpoint_ids_, made_, event_id_);
END $$;

-- Pending deliveries end as Cancelled. Returns those that did.
CREATE FUNCTION hookstead.end_pending_1(seqs_ bigint[], reason_ smallint, now_ bigint)
RETURNS TABLE (name text, uid text, id bytea) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH gone AS (
    DELETE FROM hookstead.pending p WHERE p.seq = ANY (seqs_)
    RETURNING p.seq, p.id, p.event_seq, p.endpoint_id, p.type, p.attempt_count, p.schedule_position, p.payload_format,
      p.origin, p.in_order, p.created_ms, p.replay_id, p.taken, p.ticket
  ), under_way AS (
    INSERT INTO hookstead.claims (seq, endpoint_id, owner, manual, ticket)
    SELECT g.seq, g.endpoint_id, g.taken, false, g.ticket FROM gone g
    WHERE g.taken <> 0 AND (SELECT m.owner FROM hookstead.members m WHERE m.owner = g.taken) IS NOT NULL
    ORDER BY 1 ON CONFLICT DO NOTHING
  ), put AS (
    INSERT INTO hookstead.ended (seq, id, event_seq, endpoint_id, type, status, cancel_reason, attempt_count,
      schedule_position, payload_format, origin, in_order, created_ms, completed_ms, replay_id)
    SELECT g.seq, g.id, g.event_seq, g.endpoint_id, g.type, 3, reason_, g.attempt_count, g.schedule_position,
      g.payload_format, g.origin, g.in_order, g.created_ms, now_, g.replay_id FROM gone g
  ), counted AS (
    INSERT INTO hookstead.tallies AS c (endpoint_id, side, pending, cancelled)
    SELECT g.endpoint_id, 1, -count(*), count(*) FROM gone g GROUP BY 1 ORDER BY 1
    ON CONFLICT (endpoint_id, side) DO UPDATE SET pending = c.pending + excluded.pending,
      cancelled = c.cancelled + excluded.cancelled
  )
  SELECT e.name, e.uid, g.id FROM gone g
  CROSS JOIN LATERAL (SELECT * FROM hookstead.endpoints e WHERE e.id = g.endpoint_id OFFSET 0) e;
END $$;

-- A share of an endpoint's pending deliveries; those that another transaction is at are left to the next call. The last
-- row is `done` with no id.
CREATE FUNCTION hookstead.cancel_1(
  owner_ bigint, batch_ bigint, lease_ interval, name_ text, uid_ text, reason_ smallint, now_ bigint, rows_ integer,
  gone_ boolean
) RETURNS TABLE (id bytea, done boolean) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
  endpoint_ bigint;
  seqs_ bigint[];
BEGIN
  PERFORM hookstead.durable_1();
  IF NOT hookstead.fence_1(owner_, batch_, lease_) THEN
    RETURN QUERY SELECT NULL::bytea, false;
    RETURN;
  END IF;
  SELECT e.id INTO endpoint_ FROM hookstead.endpoints e WHERE e.name = name_ AND e.uid = uid_;
  IF endpoint_ IS NOT NULL THEN
    seqs_ := ARRAY(SELECT p.seq FROM hookstead.pending p WHERE p.endpoint_id = endpoint_
                   ORDER BY p.next_attempt_ms, p.seq LIMIT rows_ FOR UPDATE SKIP LOCKED);
    RETURN QUERY SELECT c.id, false FROM hookstead.end_pending_1(seqs_, reason_, now_) c;
    IF EXISTS (SELECT FROM hookstead.pending p WHERE p.endpoint_id = endpoint_) THEN
      RETURN QUERY SELECT NULL::bytea, false;
      RETURN;
    END IF;
    DELETE FROM hookstead.requests q WHERE q.endpoint_id = endpoint_;
    UPDATE hookstead.endpoints e SET gone = gone_ WHERE e.id = endpoint_ AND e.gone <> gone_;
  END IF;
  RETURN QUERY SELECT NULL::bytea, true;
END $$;

-- Asks for one manual attempt. `erased`: there is no payload to send.
CREATE FUNCTION hookstead.request_1(owner_ bigint, batch_ bigint, lease_ interval, id_ bytea, now_ bigint)
RETURNS TABLE (name text, uid text, erased boolean) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  found_ record;
BEGIN
  PERFORM hookstead.durable_1();
  PERFORM hookstead.fence_1(owner_, batch_, lease_);
  -- Before anything is read: who drops a day's partition waits for its readers under this lock.
  PERFORM FROM hookstead.numbering FOR UPDATE;
  SELECT p.seq, p.endpoint_id, p.event_seq INTO found_ FROM hookstead.pending p WHERE p.id = id_;
  IF NOT FOUND THEN
    SELECT h.seq, h.endpoint_id, h.event_seq INTO found_ FROM hookstead.ended h WHERE h.id = id_;
    IF NOT FOUND THEN
      RETURN;
    END IF;
  END IF;
  -- The event is locked: neither an erasure nor the end of the delivery's retention comes in between.
  SELECT e.name, e.uid, v.data IS NULL INTO name, uid, erased
  FROM hookstead.events v, hookstead.endpoints e WHERE v.seq = found_.event_seq AND e.id = found_.endpoint_id
  FOR SHARE OF v;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF NOT erased THEN
    INSERT INTO hookstead.requests (seq, endpoint_id, event_seq, due_ms)
    VALUES (found_.seq, found_.endpoint_id, found_.event_seq, now_) ON CONFLICT DO NOTHING;
    PERFORM hookstead.note_1(owner_, now_, ARRAY[found_.endpoint_id], 0, NULL);
  END IF;
  RETURN NEXT;
END $$;

-- Removes payloads for good and cancels what was pending. Returns the deliveries that this touched. `owner_`: who lets
-- the others know of it, under the lock of the numbers; NULL where nothing was to be sent any more.
CREATE FUNCTION hookstead.withdraw_1(owner_ bigint, events_ bigint[], reason_ smallint, now_ bigint)
RETURNS TABLE (name text, uid text, id bytea, cancelled boolean) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  seqs_ bigint[];
BEGIN
  IF owner_ IS NOT NULL THEN
    PERFORM FROM hookstead.numbering FOR UPDATE;
  END IF;
  UPDATE hookstead.events v SET data = NULL, traceparent = NULL WHERE v.seq = ANY (events_);
  seqs_ := ARRAY(
    SELECT p.seq FROM unnest(events_) i
    CROSS JOIN LATERAL (SELECT * FROM hookstead.events v WHERE v.seq = i OFFSET 0) v
    CROSS JOIN LATERAL (
      SELECT * FROM hookstead.pending p WHERE p.seq > v.seq AND p.seq <= v.seq + v.endpoints OFFSET 0) p
    UNION
    SELECT p.seq FROM unnest(events_) i
    CROSS JOIN LATERAL (SELECT * FROM hookstead.pending p WHERE p.event_seq = i AND p.origin = 2 OFFSET 0) p
    ORDER BY 1);
  PERFORM FROM hookstead.pending p WHERE p.seq = ANY (seqs_) ORDER BY p.seq FOR UPDATE;
  IF owner_ IS NOT NULL THEN  -- numbered behind what was made before, all at once: as `note_1` would one by one
    WITH touched AS MATERIALIZED (
      SELECT v.id, t.endpoint_ids, row_number() OVER (ORDER BY t.event_seq) AS n FROM (
        SELECT x.event_seq, array_agg(DISTINCT x.endpoint_id) AS endpoint_ids FROM (
          SELECT p.event_seq, p.endpoint_id FROM hookstead.pending p WHERE p.seq = ANY (seqs_)
          UNION ALL
          SELECT q.event_seq, q.endpoint_id FROM hookstead.requests q WHERE q.event_seq = ANY (events_)) x
        GROUP BY 1) t
      CROSS JOIN LATERAL (SELECT * FROM hookstead.events v WHERE v.seq = t.event_seq OFFSET 0) v
    ), numbered AS (
      UPDATE hookstead.numbering o SET last = greatest(o.last + 1, now_ << 10) - 1 + (SELECT count(*) FROM touched)
      WHERE EXISTS (SELECT FROM touched) RETURNING o.last - (SELECT count(*) FROM touched) AS before
    )
    INSERT INTO hookstead.doings (seq, owner, endpoint_ids, made, event_id)
    SELECT o.before + t.n, owner_, t.endpoint_ids, 0, t.id FROM touched t, numbered o;
  END IF;
  RETURN QUERY SELECT c.name, c.uid, c.id, true FROM hookstead.end_pending_1(seqs_, reason_, now_) c;
  RETURN QUERY
  WITH gone AS (
    DELETE FROM hookstead.requests q WHERE q.event_seq = ANY (events_) RETURNING q.seq, q.endpoint_id
  )
  SELECT e.name, e.uid, NULL::bytea, false FROM gone g
  CROSS JOIN LATERAL (SELECT * FROM hookstead.endpoints e WHERE e.id = g.endpoint_id OFFSET 0) e;
END $$;

-- What is due after `now_` becomes due `step_` earlier, for the next `rows_` pending deliveries behind `after_`.
-- Returns the last one's number, NULL at the end. The same batch again returns what it returned.
CREATE FUNCTION hookstead.bring_forward_1(
  owner_ bigint, batch_ bigint, lease_ interval, step_ bigint, now_ bigint, after_ bigint, rows_ integer
) RETURNS bigint LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
  seqs_ bigint[];
  last_ bigint;
BEGIN
  PERFORM hookstead.durable_1();
  IF NOT hookstead.fence_1(owner_, batch_, lease_) THEN
    SELECT m.result INTO last_ FROM hookstead.members m WHERE m.owner = owner_;
    RETURN last_;
  END IF;
  IF after_ = 0 THEN
    UPDATE hookstead.requests q SET due_ms = now_ WHERE q.due_ms > now_;
  END IF;
  seqs_ := ARRAY(SELECT p.seq FROM hookstead.pending p WHERE p.seq > after_ ORDER BY p.seq LIMIT rows_ FOR UPDATE);
  UPDATE hookstead.pending p SET next_attempt_ms = p.next_attempt_ms - step_
  WHERE p.seq = ANY (seqs_) AND p.next_attempt_ms > now_;
  last_ := CASE WHEN cardinality(seqs_) < rows_ THEN NULL ELSE seqs_[rows_] END;
  UPDATE hookstead.members SET result = last_ WHERE owner = owner_;
  RETURN last_;
END $$;

-- Makes or re-arms a replay's deliveries and moves its position. Returns how many.
CREATE FUNCTION hookstead.advance_1(
  owner_ bigint, batch_ bigint, lease_ interval, uid_ text, endpoint_name_ text, endpoint_uid_ text, position_ bigint,
  selecting_ boolean, event_ids_ bytea[], ids_ bytea[], rearm_ boolean[], formats_ smallint[], due_ bigint[], now_
    bigint
) RETURNS bigint LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_nestloop = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
  replay_ bigint;
  endpoint_ bigint;
  made_ bigint;
  dead_ bigint[];
  rearmed_ bigint;
  last_ bigint;
BEGIN
  PERFORM hookstead.durable_1();
  IF NOT hookstead.fence_1(owner_, batch_, lease_) THEN
    SELECT m.result INTO made_ FROM hookstead.members m WHERE m.owner = owner_;
    RETURN made_;
  END IF;
  SELECT o.last INTO last_ FROM hookstead.numbering o FOR UPDATE;
  SELECT r.id INTO replay_ FROM hookstead.replays r WHERE r.uid = uid_ FOR UPDATE;
  endpoint_ := (hookstead.endpoint_ids_1(ARRAY[endpoint_name_], ARRAY[endpoint_uid_]))[1];

  WITH dead AS (
    DELETE FROM hookstead.ended h USING unnest(ids_, rearm_, due_) AS i (id, rearm, due)
    WHERE i.rearm AND h.id = ANY (ids_) AND h.id = i.id AND h.status = 2
      AND (SELECT v.seq FROM hookstead.events v WHERE v.seq = h.event_seq AND v.data IS NOT NULL) IS NOT NULL
    RETURNING h.seq, h.id, h.event_seq, h.endpoint_id, h.type, h.attempt_count, h.payload_format, h.created_ms, i.due
  ), put AS (
    INSERT INTO hookstead.pending (seq, id, event_seq, endpoint_id, type, attempt_count, schedule_position,
      payload_format, origin, in_order, created_ms, next_attempt_ms, replay_id, maker)
    SELECT d.seq, d.id, d.event_seq, d.endpoint_id, d.type, d.attempt_count, 0, d.payload_format, 2, false,
      d.created_ms, d.due, replay_, owner_ FROM dead d
  )
  SELECT array_agg(d.seq) INTO dead_ FROM dead d;
  rearmed_ := coalesce(cardinality(dead_), 0);
  -- Somebody may be at one, by hand: read behind the deletion, which a claim of it would have held up.
  UPDATE hookstead.pending p SET taken = k.owner, ticket = k.ticket FROM hookstead.claims k
  WHERE p.seq = ANY (dead_) AND k.seq = ANY (dead_) AND k.seq = p.seq;

  last_ := greatest(last_, (now_ << 10) - 1);
  WITH made AS (
    INSERT INTO hookstead.pending (seq, id, event_seq, endpoint_id, type, attempt_count, schedule_position,
      payload_format, origin, in_order, created_ms, next_attempt_ms, replay_id, maker)
    SELECT last_ + row_number() OVER (ORDER BY i.n), i.id, v.seq, endpoint_, v.type, 0, 0, i.format, 2, false, now_,
      i.due, replay_, owner_
    FROM unnest(event_ids_, ids_, rearm_, formats_, due_) WITH ORDINALITY AS i (event, id, rearm, format, due, n)
    CROSS JOIN LATERAL (
      SELECT * FROM hookstead.events v WHERE v.id = i.event AND v.data IS NOT NULL OFFSET 0) v
    WHERE NOT i.rearm
    RETURNING seq
  )
  SELECT count(*) INTO made_ FROM made;
  IF made_ > 0 THEN
    last_ := last_ + made_;
    UPDATE hookstead.numbering o SET last = last_, skew_ms = hookstead.skew_1(o.skew_ms, (last_ >> 10) - now_);
  END IF;

  IF made_ + rearmed_ > 0 THEN
    INSERT INTO hookstead.tallies AS c (endpoint_id, side, accepted, pending, dead_lettered)
    VALUES (endpoint_, 0, made_, made_ + rearmed_, -rearmed_)
    ON CONFLICT (endpoint_id, side) DO UPDATE SET accepted = c.accepted + excluded.accepted,
      pending = c.pending + excluded.pending, dead_lettered = c.dead_lettered + excluded.dead_lettered;
  END IF;
  IF rearmed_ > 0 THEN
    PERFORM hookstead.note_1(owner_, now_, ARRAY[endpoint_], rearmed_, NULL);
  END IF;
  UPDATE hookstead.replays SET position = position_, selecting = selecting_, selected = selected + made_ + rearmed_
  WHERE id = replay_;
  UPDATE hookstead.members SET result = made_ + rearmed_ WHERE owner = owner_;
  RETURN made_ + rearmed_;
END $$;
