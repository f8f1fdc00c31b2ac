"""The figures of the contract, as it writes them: tests beside this one use the names, and would follow a slip."""

from __future__ import annotations

import pytest

from hookstead.delivery import pacing, ports, retry
from hookstead.gateway import envelope, ingest, json_bytes, parameters
from hookstead.gateway.http1 import Limits
from hookstead.gateway.options import GatewayOptions
from hookstead.resources.kinds import DEFAULT_SCHEDULE_SECONDS
from hookstead.store.sqlite import files, retention

HOUR_MS = 3_600_000
MIB = 1_048_576


@pytest.mark.parametrize(
    ("sentence", "found", "written"),
    [
        ("waits between attempts", DEFAULT_SCHEDULE_SECONDS, (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)),
        ("±20 % jitter", retry.JITTER, 0.2),
        ("Retry-After, at most 24 h", retry.RETRY_AFTER_CAP_MS, 24 * HOUR_MS),
        ("a burst of a tenth of a second", pacing.BURST_SECONDS, 0.1),
        ("the run of failures is ≥10 long", pacing.CIRCUIT_FAILURES, 10),
        ("and began ≥30 s ago", pacing.CIRCUIT_RUN_MS, 30_000),
        ("one probe after 30 s", pacing.FIRST_PROBE_SECONDS, 30),
        ("doubling to 10 min", pacing.LAST_PROBE_SECONDS, 600),
        ("at most 16 KiB of a response", ports.RESPONSE_BODY_LIMIT, 16_384),
        ("the caller's id is kept ≥24 h", retention.CALLER_IDS_KEPT_MS >= 24 * HOUR_MS, True),
        ("a day of retention", retention.DAY_MS, 24 * HOUR_MS),
        ("up to 1,000 events in a batch", ingest.MAX_ITEMS, 1000),
        ("≤64 channels", envelope.MAX_CHANNELS, 64),
        ("an id of 1–256", envelope.MAX_ID, 256),
        ("a name of 1–128", envelope.MAX_NAME, 128),
        ("nesting over 256", json_bytes.MAX_DEPTH, 256),
        ("1 MiB an event", GatewayOptions(store="").max_event_bytes, MIB),
        ("16 MiB a batch", GatewayOptions(store="").max_batch_bytes, 16 * MIB),
        ("--drain-seconds (25)", GatewayOptions(store="").drain_seconds, 25),
        ("headers 10 s", Limits().header_seconds, 10),
        ("body 30 s", Limits().body_seconds, 30),
        ("--min-free-bytes, 256 MiB", files.MIN_FREE_BYTES, 256 * MIB),
        ("limit 50 by default", parameters.DEFAULT_LIMIT, 50),
        ("250 at most", parameters.MAX_LIMIT, 250),
    ],
)
def test_a_figure_is_the_contracts(sentence: str, found: object, written: object) -> None:
    assert found == written, sentence
