-- Claims of several endpoints in one statement, each with its own bound (LATERAL), so that the backlog of one starves
-- no other. Without bitmaps: those would fetch and sort a whole backlog for its first few rows.
--
-- A claim is set on the delivery's row, which is locked, compared as it is now, and not waited for: two gateways can not
-- both take it. It needs no disk, since what a crash loses of it was void with its owner. A ticket that was used before,
-- or overtaken, claims nothing.
--
-- The last rows, one for each endpoint, have no delivery and say when the earliest that is left is due. They are read
-- anew, unlocked, so that a row which another transaction holds for a moment is not taken for absent.
CREATE FUNCTION hookstead.claim_1(
  owner_ bigint, ticket_ bigint, names_ text[], uids_ text[], now_ bigint[], limits_ integer[], bytes_ bigint[],
  ordered_ boolean[]
) RETURNS TABLE (
  n integer, next_due_ms bigint, seq bigint, manual boolean, id bytea, status smallint, attempt_count integer,
  schedule_position integer, next_attempt_ms bigint, completed_ms bigint, cancel_reason smallint,
  payload_format smallint, origin smallint, in_order boolean, event_id bytea, type text, channels text, stamp bytea,
  source text, traceparent text, data bytea, endpoint_id bigint
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
  living_ bigint[];
  ids_ bigint[];
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM FROM hookstead.members WHERE owner = owner_ FOR KEY SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'member % has lost its lease', owner_ USING ERRCODE = 'HS001';
  END IF;
  UPDATE hookstead.claimers SET ticket = ticket_ WHERE owner = owner_ AND ticket < ticket_;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  living_ := (SELECT s.last_value + 1 FROM hookstead.members_owner_seq s)
    || ARRAY(SELECT m.owner FROM hookstead.members m);
  ids_ := ARRAY(
    SELECT (SELECT e.id FROM hookstead.endpoints e WHERE e.name = x.name AND e.uid = x.uid)
    FROM unnest(names_, uids_) AS x (name, uid));

  IF true = ANY (ordered_) OR EXISTS (SELECT FROM hookstead.requests q WHERE q.endpoint_id = ANY (ids_)) THEN
    RETURN QUERY SELECT * FROM hookstead.claim_any_1(
      owner_, ticket_, living_, ids_, now_, limits_, bytes_, ordered_);
    RETURN;
  END IF;

  RETURN QUERY
  WITH sized AS (
    SELECT r.n, c.*, v.id AS event_id, v.channels, v.stamp, v.source, v.traceparent, v.data,
      row_number() OVER w AS place, sum(octet_length(v.data)) OVER w <= r.bytes AS fits
    FROM unnest(ids_, now_, limits_, bytes_) WITH ORDINALITY AS r (endpoint, now_ms, most, bytes, n)
    CROSS JOIN LATERAL (
      SELECT p.* FROM hookstead.pending p
      WHERE p.endpoint_id = r.endpoint AND p.next_attempt_ms <= r.now_ms AND hookstead.free_1(p.taken, living_)
      ORDER BY p.next_attempt_ms, p.seq LIMIT r.most FOR UPDATE SKIP LOCKED) c
    CROSS JOIN LATERAL (
      SELECT * FROM hookstead.events v WHERE v.seq = c.event_seq AND v.data IS NOT NULL OFFSET 0) v
    WINDOW w AS (PARTITION BY r.n ORDER BY c.next_attempt_ms, c.seq ROWS UNBOUNDED PRECEDING)
  ), put AS (
    UPDATE hookstead.pending p SET taken = owner_, ticket = ticket_
    WHERE p.seq = ANY (ARRAY(SELECT s.seq FROM sized s WHERE s.place = 1 OR s.fits))
  )
  SELECT s.n::integer, NULL::bigint, s.seq, false, s.id, 0::smallint, s.attempt_count, s.schedule_position,
    s.next_attempt_ms, NULL::bigint, NULL::smallint, s.payload_format, s.origin, s.in_order, s.event_id, s.type,
    s.channels, s.stamp, s.source, s.traceparent, s.data, s.endpoint_id
  FROM sized s WHERE s.place = 1 OR s.fits ORDER BY s.n, s.place;

  RETURN QUERY
  SELECT r.n::integer,
    (SELECT p.next_attempt_ms FROM hookstead.pending p WHERE p.endpoint_id = r.id AND hookstead.free_1(p.taken, living_)
     ORDER BY p.next_attempt_ms, p.seq LIMIT 1),
    NULL::bigint, NULL::boolean, NULL::bytea, NULL::smallint, NULL::integer, NULL::integer, NULL::bigint, NULL::bigint,
    NULL::smallint, NULL::smallint, NULL::smallint, NULL::boolean, NULL::bytea, NULL::text, NULL::text, NULL::bytea,
    NULL::text, NULL::text, NULL::bytea, r.id
  FROM unnest(ids_) WITH ORDINALITY AS r (id, n) WHERE r.id IS NOT NULL;
END $$;

-- The same where order is kept or something was asked for by hand. `list` is 0 for manual requests, 1 for the head of the
-- order, which counts for the limit before what stands aside of it, 2 for the rest.
CREATE FUNCTION hookstead.claim_any_1(
  owner_ bigint, ticket_ bigint, living_ bigint[], ids_ bigint[], now_ bigint[], limits_ integer[], bytes_ bigint[],
  ordered_ boolean[]
) RETURNS TABLE (
  n integer, next_due_ms bigint, seq bigint, manual boolean, id bytea, status smallint, attempt_count integer,
  schedule_position integer, next_attempt_ms bigint, completed_ms bigint, cancel_reason smallint,
  payload_format smallint, origin smallint, in_order boolean, event_id bytea, type text, channels text, stamp bytea,
  source text, traceparent text, data bytea, endpoint_id bigint
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
  ns_ integer[];
  seqs_ bigint[];
  manuals_ boolean[];
  events_ bigint[];
  endpoints_ bigint[];
  asked_ bigint[];
  free_ bigint[];
  got_ bigint[];
BEGIN
  WITH asked AS (
    SELECT * FROM unnest(ids_, now_, limits_, bytes_, ordered_) WITH ORDINALITY
      AS r (endpoint_id, now_ms, most, bytes, ordered, n) WHERE r.endpoint_id IS NOT NULL
  ), chosen AS (
    SELECT a.n, a.endpoint_id, a.bytes, c.list, c.due_ms, c.seq, c.event_seq
    FROM asked a CROSS JOIN LATERAL (
      SELECT * FROM (
        SELECT 0 AS list, q.due_ms, q.seq, q.event_seq FROM hookstead.requests q
        WHERE q.endpoint_id = a.endpoint_id AND q.due_ms <= a.now_ms
          AND (SELECT k.owner FROM hookstead.claims k WHERE k.seq = q.seq) IS NULL
          AND (SELECT p.seq FROM hookstead.pending p
               WHERE p.seq = q.seq AND NOT hookstead.free_1(p.taken, living_)) IS NULL
        ORDER BY q.due_ms, q.seq LIMIT a.most FOR UPDATE OF q SKIP LOCKED
      ) manual
      UNION ALL
      SELECT * FROM (
        SELECT 2 AS list, p.next_attempt_ms, p.seq, p.event_seq FROM hookstead.pending p
        WHERE NOT a.ordered AND p.endpoint_id = a.endpoint_id AND p.next_attempt_ms <= a.now_ms
          AND hookstead.free_1(p.taken, living_)
          AND (SELECT q.seq FROM hookstead.requests q WHERE q.seq = p.seq AND q.due_ms <= a.now_ms) IS NULL
        ORDER BY p.next_attempt_ms, p.seq LIMIT a.most FOR UPDATE OF p SKIP LOCKED
      ) due
      UNION ALL
      SELECT * FROM (
        SELECT 1 AS list, p.next_attempt_ms, p.seq, p.event_seq FROM hookstead.pending p
        WHERE a.ordered AND p.seq =
            (SELECT h.seq FROM hookstead.pending h WHERE h.endpoint_id = a.endpoint_id AND h.in_order
             ORDER BY h.seq LIMIT 1)
          AND p.next_attempt_ms <= a.now_ms AND hookstead.free_1(p.taken, living_)
          AND (SELECT q.seq FROM hookstead.requests q WHERE q.seq = p.seq AND q.due_ms <= a.now_ms) IS NULL
        FOR UPDATE OF p SKIP LOCKED
      ) head
      UNION ALL
      SELECT * FROM (
        SELECT 2 AS list, p.next_attempt_ms, p.seq, p.event_seq FROM hookstead.pending p
        WHERE a.ordered AND p.endpoint_id = a.endpoint_id AND NOT p.in_order AND p.next_attempt_ms <= a.now_ms
          AND hookstead.free_1(p.taken, living_)
          AND (SELECT q.seq FROM hookstead.requests q WHERE q.seq = p.seq AND q.due_ms <= a.now_ms) IS NULL
        ORDER BY p.next_attempt_ms, p.seq LIMIT a.most FOR UPDATE OF p SKIP LOCKED
      ) aside
      ORDER BY list, due_ms, seq LIMIT a.most
    ) c
  ), sized AS (
    SELECT c.*, least(c.list, 1) AS turn, row_number() OVER w AS place, sum(v.length) OVER w AS size
    FROM chosen c CROSS JOIN LATERAL (
      SELECT octet_length(v.data) AS length FROM hookstead.events v WHERE v.seq = c.event_seq AND v.data IS NOT NULL
      OFFSET 0) v
    WINDOW w AS (PARTITION BY c.n ORDER BY least(c.list, 1), c.due_ms, c.seq ROWS UNBOUNDED PRECEDING)
  )
  SELECT array_agg(s.n ORDER BY s.n, s.turn, s.due_ms, s.seq), array_agg(s.seq ORDER BY s.n, s.turn, s.due_ms, s.seq),
    array_agg(s.list = 0 ORDER BY s.n, s.turn, s.due_ms, s.seq),
    array_agg(s.event_seq ORDER BY s.n, s.turn, s.due_ms, s.seq),
    array_agg(s.endpoint_id ORDER BY s.n, s.turn, s.due_ms, s.seq)
  INTO ns_, seqs_, manuals_, events_, endpoints_
  FROM sized s WHERE s.place = 1 OR s.size <= s.bytes;

  -- What is asked for by hand has a row in `claims`; the delivery itself, pending or ended, is held and not waited for.
  asked_ := ARRAY(SELECT x.seq FROM unnest(seqs_, manuals_) AS x (seq, manual) WHERE x.manual);
  free_ := ARRAY(SELECT p.seq FROM hookstead.pending p
                 WHERE p.seq = ANY (asked_) AND hookstead.free_1(p.taken, living_) ORDER BY p.seq FOR UPDATE SKIP LOCKED);
  WITH held AS (
    SELECT f AS seq FROM unnest(free_) f
    UNION ALL
    SELECT * FROM (SELECT h.seq FROM hookstead.ended h WHERE h.seq = ANY (asked_) FOR KEY SHARE SKIP LOCKED) h
  ), put AS (
    INSERT INTO hookstead.claims (seq, endpoint_id, owner, manual, ticket)
    SELECT h.seq, endpoints_[array_position(seqs_, h.seq)], owner_, true, ticket_ FROM held h ORDER BY 1
    ON CONFLICT DO NOTHING RETURNING seq
  )
  SELECT array_agg(p.seq) INTO got_ FROM put p;
  UPDATE hookstead.pending p SET taken = owner_, ticket = ticket_
  WHERE p.seq = ANY (seqs_) AND (p.seq <> ALL (asked_) OR (p.seq = ANY (free_) AND p.seq = ANY (got_)));

  RETURN QUERY
  SELECT x.n, NULL::bigint, x.seq, x.manual, coalesce(p.id, h.id),
    CASE WHEN p.seq IS NULL THEN h.status ELSE 0::smallint END,
    coalesce(p.attempt_count, h.attempt_count), coalesce(p.schedule_position, h.schedule_position), p.next_attempt_ms,
    h.completed_ms, h.cancel_reason, coalesce(p.payload_format, h.payload_format), coalesce(p.origin, h.origin),
    coalesce(p.in_order, h.in_order), v.id, v.type, v.channels, v.stamp, v.source, v.traceparent, v.data, x.endpoint
  FROM unnest(ns_, seqs_, manuals_, events_, endpoints_) WITH ORDINALITY AS x (n, seq, manual, event_seq, endpoint,
    place)
  CROSS JOIN LATERAL (SELECT * FROM hookstead.events v WHERE v.seq = x.event_seq OFFSET 0) v
  LEFT JOIN LATERAL (SELECT * FROM hookstead.pending p WHERE p.seq = x.seq OFFSET 0) p ON true
  LEFT JOIN LATERAL (SELECT * FROM hookstead.ended h WHERE h.seq = x.seq AND p.seq IS NULL OFFSET 0) h ON true
  WHERE NOT x.manual OR x.seq = ANY (got_)
  ORDER BY x.place;

  RETURN QUERY
  SELECT r.n::integer, least(
    (SELECT q.due_ms FROM hookstead.requests q WHERE q.endpoint_id = r.id
       AND (SELECT k.owner FROM hookstead.claims k WHERE k.seq = q.seq AND k.manual) IS NULL
     ORDER BY q.due_ms LIMIT 1),
    CASE WHEN r.ordered THEN least(
      (SELECT h.next_attempt_ms FROM (
         SELECT p.seq, p.next_attempt_ms, p.taken FROM hookstead.pending p WHERE p.endpoint_id = r.id AND p.in_order
         ORDER BY p.seq LIMIT 1) h
       WHERE hookstead.free_1(h.taken, living_)),
      (SELECT p.next_attempt_ms FROM hookstead.pending p WHERE p.endpoint_id = r.id AND NOT p.in_order
         AND hookstead.free_1(p.taken, living_)
       ORDER BY p.next_attempt_ms, p.seq LIMIT 1))
    ELSE
      (SELECT p.next_attempt_ms FROM hookstead.pending p WHERE p.endpoint_id = r.id
         AND hookstead.free_1(p.taken, living_)
       ORDER BY p.next_attempt_ms, p.seq LIMIT 1)
    END),
    NULL::bigint, NULL::boolean, NULL::bytea, NULL::smallint, NULL::integer, NULL::integer, NULL::bigint, NULL::bigint,
    NULL::smallint, NULL::smallint, NULL::smallint, NULL::boolean, NULL::bytea, NULL::text, NULL::text, NULL::bytea,
    NULL::text, NULL::text, NULL::bytea, r.id
  FROM unnest(ids_, ordered_) WITH ORDINALITY AS r (id, ordered, n) WHERE r.id IS NOT NULL;
END $$;

CREATE FUNCTION hookstead.release_1(owner_ bigint, seqs_ bigint[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM FROM hookstead.pending p WHERE p.seq = ANY (seqs_) ORDER BY p.seq FOR UPDATE;
  UPDATE hookstead.pending p SET taken = 0 WHERE p.seq = ANY (seqs_) AND p.taken = owner_;
  DELETE FROM hookstead.claims k WHERE k.seq = ANY (seqs_) AND k.owner = owner_;
END $$;

-- Gives back what statements claimed whose answers never came; NULL: whatever this member holds. Looks at all that is
-- pending, and is not asked for otherwise.
CREATE FUNCTION hookstead.void_1(owner_ bigint, tickets_ bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM FROM hookstead.pending p WHERE p.taken = owner_ AND (tickets_ IS NULL OR p.ticket = ANY (tickets_))
  ORDER BY p.seq FOR UPDATE;
  UPDATE hookstead.pending p SET taken = 0
  WHERE p.taken = owner_ AND (tickets_ IS NULL OR p.ticket = ANY (tickets_));
  DELETE FROM hookstead.claims k WHERE k.owner = owner_ AND (tickets_ IS NULL OR k.ticket = ANY (tickets_));
END $$;
