-- Several processes on one database: who is there, who delivers for which slot, what the others did.
--
-- A member's row is locked by each of its statements that writes, if only against its removal (FOR KEY SHARE); so
-- nothing of a member commits behind its removal. Nobody waits for another member's row: one that is locked is alive.

-- All that members had, given back; whoever calls it holds the locks of their rows.
CREATE FUNCTION hookstead.forget_1(owners_ bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hookstead.fold_1(owners_);
  DELETE FROM hookstead.claims k WHERE k.owner = ANY (owners_);
  DELETE FROM hookstead.claimers c WHERE c.owner = ANY (owners_);
  UPDATE hookstead.slots s SET owner = NULL WHERE s.owner = ANY (owners_);
  DELETE FROM hookstead.members m WHERE m.owner = ANY (owners_);
END $$;

CREATE FUNCTION hookstead.leave_1(owner_ bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM hookstead.members WHERE owner = owner_ FOR UPDATE;
  PERFORM hookstead.forget_1(ARRAY[owner_]);
  PERFORM pg_notify('hookstead', '*');
END $$;

CREATE FUNCTION hookstead.stay_1(owner_ bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM hookstead.members WHERE owner = owner_ FOR KEY SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'member % has lost its lease', owner_ USING ERRCODE = 'HS001';
  END IF;
END $$;

-- Removes those of these members whose lease has lapsed and is still the one that the caller saw. Returns them.
CREATE FUNCTION hookstead.remove_1(owner_ bigint, owners_ bigint[], leases_ timestamptz[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
  found_ bigint[];
BEGIN
  PERFORM hookstead.stay_1(owner_);
  found_ := ARRAY(
    SELECT m.owner FROM hookstead.members m
    WHERE m.owner = ANY (owners_) AND m.owner <> owner_ AND m.lease_until < clock_timestamp()
      AND m.lease_until = leases_[array_position(owners_, m.owner)]
    ORDER BY m.owner FOR UPDATE SKIP LOCKED);
  PERFORM hookstead.forget_1(found_);
  RETURN found_;
END $$;

-- Takes those of these slots that are free. Durable: a slot must not be free again after a crash of the database.
CREATE FUNCTION hookstead.take_1(owner_ bigint, slots_ smallint[]) RETURNS TABLE (slot smallint, term bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  free_ smallint[];
BEGIN
  PERFORM hookstead.durable_1();
  PERFORM hookstead.stay_1(owner_);
  free_ := ARRAY(
    SELECT s.slot FROM hookstead.slots s WHERE s.slot = ANY (slots_) AND s.owner IS NULL
    ORDER BY s.slot FOR UPDATE SKIP LOCKED);
  RETURN QUERY UPDATE hookstead.slots s SET owner = owner_, term = s.term + 1 WHERE s.slot = ANY (free_)
    RETURNING s.slot, s.term;
END $$;

-- Gives slots away that are held since these terms: what an old statement that comes late gives away is held no more.
-- `leaving_`: the member wants no others for them until it looks again.
CREATE FUNCTION hookstead.let_go_1(owner_ bigint, slots_ smallint[], terms_ bigint[], leaving_ boolean) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hookstead.stay_1(owner_);
  PERFORM hookstead.fold_1(ARRAY[owner_]);
  UPDATE hookstead.slots s SET owner = NULL
  WHERE s.owner = owner_ AND s.slot = ANY (slots_) AND s.term = terms_[array_position(slots_, s.slot)];
  IF leaving_ THEN
    UPDATE hookstead.members SET ready = false WHERE owner = owner_ AND ready;
  END IF;
  PERFORM pg_notify('hookstead', '*');
END $$;

CREATE FUNCTION hookstead.ready_1(owner_ bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE hookstead.members SET ready = true WHERE owner = owner_;
  PERFORM pg_notify('hookstead', '*');
END $$;

-- What there is and what is new, as of one moment (STABLE: one snapshot for all of it). `since_`: numbers from which on
-- is new, ascending; what is between two of them is told apart by `place`, 1 for the first. NULL: nothing is.
--
-- `kind` 0: the last number (`n`). 1: a member (`id`), its lease, whether it has not lapsed, whether it takes slots.
-- 2: the slots of a member, or of nobody (`id` NULL), with their terms. 3: deliveries (`n`) of an endpoint. 4: another
-- thing that was done to endpoints. What is read is what is new: by the number, behind the mark. Members and slots are
-- in a `whole_` look only.
CREATE FUNCTION hookstead.look_1(owner_ bigint, since_ bigint[], whole_ boolean) RETURNS TABLE (
  kind integer, id bigint, lease_until timestamptz, alive boolean, ready boolean, slots smallint[], terms bigint[],
  names text[], uids text[], place integer, n bigint, event_id bytea
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY SELECT 0, NULL::bigint, NULL::timestamptz, NULL::boolean, NULL::boolean, NULL::smallint[], NULL::bigint[],
    NULL::text[], NULL::text[], NULL::integer, o.last, NULL::bytea FROM hookstead.numbering o;
  IF whole_ THEN
    RETURN QUERY SELECT 1, m.owner, m.lease_until, m.lease_until >= clock_timestamp(), m.ready, NULL::smallint[],
      NULL::bigint[], NULL::text[], NULL::text[], NULL::integer, NULL::bigint, NULL::bytea FROM hookstead.members m;
    RETURN QUERY SELECT 2, s.owner, NULL::timestamptz, NULL::boolean, NULL::boolean, array_agg(s.slot), array_agg(s.term),
      NULL::text[], NULL::text[], NULL::integer, NULL::bigint, NULL::bytea FROM hookstead.slots s GROUP BY s.owner;
  END IF;
  IF since_ IS NULL THEN
    RETURN;
  END IF;
  RETURN QUERY SELECT 3, NULL::bigint, NULL::timestamptz, NULL::boolean, NULL::boolean, NULL::smallint[],
    NULL::bigint[], ARRAY[e.name], ARRAY[e.uid], a.place, a.n, NULL::bytea
  FROM (
    SELECT p.endpoint_id, width_bucket(p.seq, since_) AS place, count(*) AS n FROM hookstead.pending p
    WHERE p.seq >= since_[1] AND p.maker <> owner_ GROUP BY 1, 2) a
  CROSS JOIN LATERAL (SELECT * FROM hookstead.endpoints e WHERE e.id = a.endpoint_id OFFSET 0) e;
  RETURN QUERY SELECT 4, NULL::bigint, NULL::timestamptz, NULL::boolean, NULL::boolean, NULL::smallint[],
    NULL::bigint[], e.names, e.uids, width_bucket(d.seq, since_), d.made, d.event_id
  FROM hookstead.doings d
  CROSS JOIN LATERAL (
    SELECT array_agg(e.name ORDER BY e.id) AS names, array_agg(e.uid ORDER BY e.id) AS uids FROM hookstead.endpoints e
    WHERE e.id = ANY (d.endpoint_ids) OFFSET 0) e
  WHERE d.seq >= since_[1] AND d.owner <> owner_ AND e.names IS NOT NULL
  ORDER BY d.seq;
END $$;
