-- Events in. One statement, so that the lock of `numbering` never waits for a client.
--
-- Plans here are made once per connection, perhaps when a table was empty, and must be right when it has grown. So no
-- function leaves the planner a choice of joins: what is looked up row by row is LATERAL with OFFSET 0 (or a scalar
-- subquery), which is an index look-up for each row whatever the statistics say; what is found by a list is = ANY; and
-- arrays are joined by a hash, or by place (side by side in the list of a SELECT, which costs less than in its FROM). And
-- a plan is kept: where a table is large, the server would rather make a new one at each call, for the lengths of its
-- arrays, which costs more than the statement.

-- Makes `batch_` the member's last batch and prolongs its lease; false where it is already, that is, where a
-- connection broke between the commit and its answer. Raises HS001 where the membership is lost.
CREATE FUNCTION hookstead.fence_1(owner_ bigint, batch_ bigint, lease_ interval) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  UPDATE hookstead.members SET batch = batch_, result = NULL, lease_until = clock_timestamp() + lease_
  WHERE owner = owner_ AND batch < batch_;
  IF FOUND THEN
    RETURN true;
  END IF;
  PERFORM FROM hookstead.members WHERE owner = owner_;
  IF FOUND THEN
    RETURN false;
  END IF;
  RAISE EXCEPTION 'member % has lost its lease', owner_ USING ERRCODE = 'HS001';
END $$;

-- A commit that is answered must be on the disk, whatever the role's default.
CREATE FUNCTION hookstead.durable_1() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
END $$;

-- How far numbers may be ahead of their rows' time, once a row is so far: doubled, so that it seldom changes.
CREATE FUNCTION hookstead.skew_1(skew_ bigint, ahead_ bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN CASE WHEN ahead_ > skew_ THEN greatest(ahead_, 2 * skew_) ELSE skew_ END;

-- The numbers of these endpoints, in their order; those that are new get one.
CREATE FUNCTION hookstead.endpoint_ids_1(names_ text[], uids_ text[]) RETURNS bigint[] LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
  found_ bigint[];
BEGIN
  LOOP
    found_ := ARRAY(
      SELECT (SELECT e.id FROM hookstead.endpoints e WHERE e.name = x.name AND e.uid = x.uid)
      FROM unnest(names_, uids_) AS x (name, uid));
    IF array_position(found_, NULL) IS NULL THEN
      RETURN found_;
    END IF;
    INSERT INTO hookstead.endpoints (name, uid)
    SELECT x.name, x.uid FROM unnest(names_, uids_, found_) AS x (name, uid, id) WHERE x.id IS NULL ORDER BY 1, 2
    ON CONFLICT DO NOTHING;
  END LOOP;
END $$;

-- First a row with the number of the first event and the endpoints' numbers; the others follow it by `offsets_`, each
-- with room for its deliveries. Then one for each event whose caller's key was there before: what is known of the first
-- with it; its numbers are left out. No row at all where the batch was committed before. A caller's key is given at most
-- once. `oldest_`, `newest_`: bounds of `at_`; `extent_`: how many numbers all need. `known_ids_`: the endpoints' numbers
-- as they were told with this `forgotten_`, null where one is unknown. That says which server told it, too: one that took
-- over may lack an endpoint that the one before had made, and give its number to another.
CREATE FUNCTION hookstead.accept_1(
  owner_ bigint, batch_ bigint, lease_ interval,
  oldest_ bigint, newest_ bigint, extent_ bigint, keyed_ bigint,
  ids_ bytea[], types_ text[], channels_ text[], at_ bigint[], endpoints_ integer[], stamps_ bytea[], sources_ text[],
  traceparents_ text[], datas_ bytea[], keys_ bytea[], digests_ bytea[], offsets_ integer[],
  names_ text[], uids_ text[], known_ids_ bigint[], forgotten_ bigint,
  event_ integer[], place_ integer[], delivery_ids_ bytea[], endpoint_ integer[], formats_ smallint[], claimed_
    boolean[]
) RETURNS TABLE (
  n integer, seq bigint, event_id bytea, digest bytea, endpoints integer, endpoint_ids bigint[], forgotten bigint
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  seqs_ bigint[];
  endpoint_ids_ bigint[];
  first_ bigint;
  new_ bigint := 0;
  known_ bigint := 0;
  starts_ bigint[];
  accepted_ bigint[];
BEGIN
  PERFORM hookstead.durable_1();
  IF NOT hookstead.fence_1(owner_, batch_, lease_) THEN
    RETURN;
  END IF;
  UPDATE hookstead.numbering o
  SET last = greatest(o.last + 1, newest_ << 10) + extent_ - 1,
    skew_ms = hookstead.skew_1(o.skew_ms, (greatest(o.last + 1, newest_ << 10) + extent_ - 1 >> 10) - oldest_)
  RETURNING o.last - extent_ + 1, ((extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint << 8) + o.forgotten
  INTO first_, forgotten;
  IF forgotten = forgotten_ AND array_position(known_ids_, NULL) IS NULL THEN
    endpoint_ids_ := known_ids_;
  ELSE
    endpoint_ids_ := hookstead.endpoint_ids_1(names_, uids_);
  END IF;
  seqs_ := ARRAY(SELECT first_ + x FROM unnest(offsets_) x);
  seq := first_; endpoint_ids := endpoint_ids_;
  RETURN NEXT;
  endpoint_ids := NULL;

  IF keyed_ > 0 THEN
    BEGIN  -- most keys are new, and ON CONFLICT looks each up before it is inserted
      INSERT INTO hookstead.callers (key, event_seq, digest, event_id, endpoints)
      SELECT x.key, x.seq, x.digest, x.id, x.endpoints
      FROM (SELECT unnest(keys_) AS key, unnest(seqs_) AS seq, unnest(digests_) AS digest, unnest(ids_) AS id,
              unnest(endpoints_) AS endpoints) x
      WHERE x.key IS NOT NULL;
      new_ := keyed_;
    EXCEPTION WHEN unique_violation THEN
      INSERT INTO hookstead.callers (key, event_seq, digest, event_id, endpoints)
      SELECT x.key, x.seq, x.digest, x.id, x.endpoints
      FROM unnest(keys_, seqs_, digests_, ids_, endpoints_) AS x (key, seq, digest, id, endpoints)
      WHERE x.key IS NOT NULL ON CONFLICT DO NOTHING;
      GET DIAGNOSTICS new_ = ROW_COUNT;
    END;
    IF new_ < keyed_ THEN
      FOR n, seq, event_id, digest, endpoints IN
        SELECT k.n::integer, c.event_seq, c.event_id, c.digest, c.endpoints
        FROM unnest(keys_, seqs_) WITH ORDINALITY AS k (key, seq, n)
        CROSS JOIN LATERAL (SELECT * FROM hookstead.callers c WHERE c.key = k.key OFFSET 0) c
        WHERE c.event_seq <> k.seq
      LOOP
        known_ := known_ + 1;
        seqs_[n] := -1;
        RETURN NEXT;
      END LOOP;
      IF new_ + known_ < keyed_ THEN  -- one was forgotten between the two
        RAISE EXCEPTION 'a caller''s key is gone' USING ERRCODE = 'serialization_failure';
      END IF;
    END IF;
    IF new_ > 0 THEN
      INSERT INTO hookstead.caller_batches (last_seq, count, keys) VALUES (first_ + extent_ - 1, new_,
        ARRAY(SELECT x.key FROM unnest(keys_, seqs_) AS x (key, seq) WHERE x.key IS NOT NULL AND x.seq > 0));
    END IF;
  END IF;

  INSERT INTO hookstead.events (seq, id, type, channels, accepted_ms, endpoints, stamp, source, traceparent, data)
  SELECT x.seq, x.id, x.type, x.channels, x.at, x.endpoints, x.stamp, x.source, x.traceparent, x.data
  FROM (SELECT unnest(seqs_) AS seq, unnest(ids_) AS id, unnest(types_) AS type, unnest(channels_) AS channels,
          unnest(at_) AS at, unnest(endpoints_) AS endpoints, unnest(stamps_) AS stamp, unnest(sources_) AS source,
          unnest(traceparents_) AS traceparent, unnest(datas_) AS data) x
  WHERE x.seq > 0;

  IF cardinality(event_) > 0 THEN
    INSERT INTO hookstead.pending (seq, id, event_seq, endpoint_id, type, attempt_count, schedule_position,
      payload_format, origin, in_order, created_ms, next_attempt_ms, maker, taken, ticket)
    SELECT seqs_[d.event] + d.place, d.id, seqs_[d.event], endpoint_ids_[d.endpoint], types_[d.event], 0, 0,
      d.format, 0, true, at_[d.event], at_[d.event], owner_, CASE WHEN d.claimed THEN owner_ ELSE 0 END, -batch_
    FROM (SELECT unnest(event_) AS event, unnest(place_) AS place, unnest(delivery_ids_) AS id,
            unnest(endpoint_) AS endpoint, unnest(formats_) AS format, unnest(claimed_) AS claimed) d
    WHERE seqs_[d.event] > 0;
  END IF;

  IF oldest_ / 10000 = newest_ / 10000 THEN
    starts_ := ARRAY[newest_ - newest_ % 10000];
    accepted_ := ARRAY[cardinality(ids_) - (keyed_ - new_)];
  ELSE
    starts_ := ARRAY(SELECT x.at - x.at % 10000 FROM unnest(seqs_, at_) AS x (seq, at) WHERE x.seq > 0);
    accepted_ := array_fill(1::bigint, ARRAY[cardinality(starts_)]);
  END IF;
  INSERT INTO hookstead.journal (owner, batch, made_of, starts, accepted) VALUES (owner_, batch_,
    ARRAY(SELECT endpoint_ids_[d.endpoint] FROM unnest(event_, endpoint_) AS d (event, endpoint)
          WHERE seqs_[d.event] > 0), starts_, accepted_);
END $$;
