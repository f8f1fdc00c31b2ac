-- Claims of several endpoints in one statement, each with its own bound (LATERAL), so that the backlog of one starves
-- no other. Without bitmaps: those would fetch and sort a whole backlog for its first few rows.
--
-- A claim is a row whose key is the delivery: two gateways can not both insert it. It needs no disk, since what a crash
-- loses of it was void with its owner. The same ticket again, after a connection that broke, gives back what it claimed
-- before and claims anew; a ticket that was overtaken claims nothing.
--
-- `list` is 0 for manual requests, 1 for the head of the order, which counts for the limit before what stands aside of
-- it, 2 for the rest. The last rows, one for each endpoint, have no delivery and say when the earliest that is left is
-- due. They are read anew, unlocked, so that a row which another transaction holds for a moment is not taken for
-- absent.
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
  ns_ integer[];
  seqs_ bigint[];
  manuals_ boolean[];
  events_ bigint[];
  endpoints_ bigint[];
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM FROM hookstead.members WHERE owner = owner_ FOR KEY SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'member % has lost its lease', owner_ USING ERRCODE = 'HS001';
  END IF;
  UPDATE hookstead.claimers SET ticket = ticket_ WHERE owner = owner_ AND ticket < ticket_;
  IF NOT FOUND THEN
    PERFORM FROM hookstead.claimers WHERE owner = owner_ AND ticket = ticket_;
    IF NOT FOUND THEN
      RETURN;
    END IF;
    DELETE FROM hookstead.claims WHERE owner = owner_ AND ticket = ticket_;
  END IF;

  WITH asked AS (
    SELECT r.n::integer AS n, e.id AS endpoint_id, r.now_ms, r.most, r.bytes, r.ordered
    FROM unnest(names_, uids_, now_, limits_, bytes_, ordered_) WITH ORDINALITY
      AS r (name, uid, now_ms, most, bytes, ordered, n)
    CROSS JOIN LATERAL (SELECT * FROM hookstead.endpoints e WHERE e.name = r.name AND e.uid = r.uid OFFSET 0) e
  ), chosen AS (
    SELECT a.n, a.endpoint_id, a.bytes, c.list, c.due_ms, c.seq, c.event_seq
    FROM asked a CROSS JOIN LATERAL (
      SELECT * FROM (
        SELECT 0 AS list, q.due_ms, q.seq, q.event_seq FROM hookstead.requests q
        WHERE q.endpoint_id = a.endpoint_id AND q.due_ms <= a.now_ms
          AND (SELECT k.owner FROM hookstead.claims k WHERE k.seq = q.seq) IS NULL
        ORDER BY q.due_ms, q.seq LIMIT a.most FOR UPDATE OF q SKIP LOCKED
      ) manual
      UNION ALL
      SELECT * FROM (
        SELECT 2 AS list, p.next_attempt_ms, p.seq, p.event_seq FROM hookstead.pending p
        WHERE NOT a.ordered AND p.endpoint_id = a.endpoint_id AND p.next_attempt_ms <= a.now_ms
          AND (SELECT k.owner FROM hookstead.claims k WHERE k.seq = p.seq) IS NULL
          AND (SELECT q.seq FROM hookstead.requests q WHERE q.seq = p.seq AND q.due_ms <= a.now_ms) IS NULL
        ORDER BY p.next_attempt_ms, p.seq LIMIT a.most FOR UPDATE OF p SKIP LOCKED
      ) due
      UNION ALL
      SELECT * FROM (
        SELECT 1 AS list, p.next_attempt_ms, p.seq, p.event_seq FROM hookstead.pending p
        WHERE a.ordered AND p.seq =
            (SELECT h.seq FROM hookstead.pending h WHERE h.endpoint_id = a.endpoint_id AND h.in_order
             ORDER BY h.seq LIMIT 1)
          AND p.next_attempt_ms <= a.now_ms
          AND (SELECT k.owner FROM hookstead.claims k WHERE k.seq = p.seq) IS NULL
          AND (SELECT q.seq FROM hookstead.requests q WHERE q.seq = p.seq AND q.due_ms <= a.now_ms) IS NULL
        FOR UPDATE OF p SKIP LOCKED
      ) head
      UNION ALL
      SELECT * FROM (
        SELECT 2 AS list, p.next_attempt_ms, p.seq, p.event_seq FROM hookstead.pending p
        WHERE a.ordered AND p.endpoint_id = a.endpoint_id AND NOT p.in_order AND p.next_attempt_ms <= a.now_ms
          AND (SELECT k.owner FROM hookstead.claims k WHERE k.seq = p.seq) IS NULL
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

  INSERT INTO hookstead.claims (seq, endpoint_id, owner, manual, ticket)
  SELECT x.seq, x.endpoint, owner_, x.manual, ticket_ FROM unnest(seqs_, endpoints_, manuals_) AS x (seq, endpoint,
    manual)
  ORDER BY x.seq ON CONFLICT DO NOTHING;

  RETURN QUERY
  SELECT x.n, NULL::bigint, x.seq, x.manual, coalesce(p.id, h.id),
    CASE WHEN p.seq IS NULL THEN h.status ELSE 0::smallint END,
    coalesce(p.attempt_count, h.attempt_count), coalesce(p.schedule_position, h.schedule_position), p.next_attempt_ms,
    h.completed_ms, h.cancel_reason, coalesce(p.payload_format, h.payload_format), coalesce(p.origin, h.origin),
    coalesce(p.in_order, h.in_order), v.id, v.type, v.channels, v.stamp, v.source, v.traceparent, v.data, x.endpoint
  FROM unnest(ns_, seqs_, manuals_, events_, endpoints_) WITH ORDINALITY AS x (n, seq, manual, event_seq, endpoint,
    place)
  CROSS JOIN LATERAL (
    SELECT FROM hookstead.claims k WHERE k.seq = x.seq AND k.owner = owner_ AND k.ticket = ticket_ OFFSET 0) k
  CROSS JOIN LATERAL (SELECT * FROM hookstead.events v WHERE v.seq = x.event_seq OFFSET 0) v
  LEFT JOIN LATERAL (SELECT * FROM hookstead.pending p WHERE p.seq = x.seq OFFSET 0) p ON true
  LEFT JOIN LATERAL (SELECT * FROM hookstead.ended h WHERE h.seq = x.seq AND p.seq IS NULL OFFSET 0) h ON true
  ORDER BY x.place;

  RETURN QUERY
  SELECT r.n::integer, least(
    (SELECT q.due_ms FROM hookstead.requests q WHERE q.endpoint_id = e.id
       AND (SELECT k.owner FROM hookstead.claims k WHERE k.seq = q.seq AND k.manual) IS NULL
     ORDER BY q.due_ms LIMIT 1),
    CASE WHEN r.ordered THEN least(
      (SELECT h.next_attempt_ms FROM (
         SELECT p.seq, p.next_attempt_ms FROM hookstead.pending p WHERE p.endpoint_id = e.id AND p.in_order
         ORDER BY p.seq LIMIT 1) h
       WHERE (SELECT k.owner FROM hookstead.claims k WHERE k.seq = h.seq) IS NULL),
      (SELECT p.next_attempt_ms FROM hookstead.pending p WHERE p.endpoint_id = e.id AND NOT p.in_order
         AND (SELECT k.owner FROM hookstead.claims k WHERE k.seq = p.seq) IS NULL
       ORDER BY p.next_attempt_ms, p.seq LIMIT 1))
    ELSE
      (SELECT p.next_attempt_ms FROM hookstead.pending p WHERE p.endpoint_id = e.id
         AND (SELECT k.owner FROM hookstead.claims k WHERE k.seq = p.seq) IS NULL
       ORDER BY p.next_attempt_ms, p.seq LIMIT 1)
    END),
    NULL::bigint, NULL::boolean, NULL::bytea, NULL::smallint, NULL::integer, NULL::integer, NULL::bigint, NULL::bigint,
    NULL::smallint, NULL::smallint, NULL::smallint, NULL::boolean, NULL::bytea, NULL::text, NULL::text, NULL::bytea,
    NULL::text, NULL::text, NULL::bytea, e.id
  FROM unnest(names_, uids_, ordered_) WITH ORDINALITY AS r (name, uid, ordered, n)
  CROSS JOIN LATERAL (SELECT * FROM hookstead.endpoints e WHERE e.name = r.name AND e.uid = r.uid OFFSET 0) e;
END $$;

CREATE FUNCTION hookstead.release_1(owner_ bigint, seqs_ bigint[]) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  DELETE FROM hookstead.claims k WHERE k.seq = ANY (seqs_) AND k.owner = owner_;
END $$;

-- Gives back what statements claimed whose answers never came.
CREATE FUNCTION hookstead.void_1(owner_ bigint, tickets_ bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  DELETE FROM hookstead.claims k WHERE k.owner = owner_ AND k.ticket = ANY (tickets_);
END $$;
