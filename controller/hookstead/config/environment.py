"""The environment object: the switch, the defaults, and the ranges that may be opened."""

from __future__ import annotations

import msgspec

from hookstead.config.addresses import parse_allowed
from hookstead.config.model import (
    EgressPolicy,
    EnvironmentConfig,
    RetentionPolicy,
    StatusReporting,
    Verdict,
)
from hookstead.config.verdicts import GOOD, Rejected, identity_of, refusal, refused
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import DeliverySpec, EgressSpec, Environment, EnvironmentSpec, Switch


def compile_environment_object(
    item: Environment | Rejected, *, last_valid: EnvironmentConfig | None, allow_loopback: bool
) -> tuple[EnvironmentConfig, DeliverySpec]:
    """The environment in force, and the delivery defaults that its endpoints inherit.

    An environment that is edited into something invalid keeps its last valid form under its new verdict; without
    one it counts as Disabled.
    """
    verdict = _judge(item, allow_loopback=allow_loopback)
    if not isinstance(item, Rejected) and verdict.is_accepted:
        return _compiled(item, verdict), item.spec.delivery_defaults
    kept = last_valid or EnvironmentConfig(identity=identity_of(item), verdict=verdict)
    kept = msgspec.structs.replace(kept, identity=identity_of(item), verdict=verdict)
    return kept, kept.delivery_defaults


def _judge(item: Environment | Rejected, *, allow_loopback: bool) -> Verdict:
    if isinstance(item, Rejected):
        return refusal(item)
    allowed = parse_allowed(item.spec.egress.allowed_cidrs, allow_loopback=allow_loopback)
    if isinstance(allowed, str):
        return refused(Reason.INVALID_SPEC, f"spec.egress.{allowed}")
    return GOOD


def _compiled(item: Environment, verdict: Verdict) -> EnvironmentConfig:
    spec: EnvironmentSpec = item.spec
    return EnvironmentConfig(
        identity=identity_of(item),
        verdict=verdict,
        state=spec.state,
        display_name=spec.display_name,
        suspend_after_seconds=spec.suspend_after_seconds,
        event_validation=spec.event_validation,
        egress=_egress(spec.egress),
        retention=RetentionPolicy(
            payload_days=spec.retention.payload_days,
            attempt_days=spec.retention.attempt_days,
            dead_letter_days=spec.retention.dead_letter_days,
        ),
        status_reporting=StatusReporting(
            delivery_log=spec.status_reporting.delivery_log,
            delivery_log_limit=spec.status_reporting.delivery_log_limit,
            period_seconds=spec.status_reporting.period_seconds,
        ),
        delivery_defaults=spec.delivery_defaults,
    )


def _egress(spec: EgressSpec) -> EgressPolicy:
    opened = spec.allowed_cidrs if spec.private_networks is Switch.ALLOW else ()
    return EgressPolicy(plaintext_http=spec.plaintext_http is Switch.ALLOW, allowed_cidrs=tuple(sorted(opened)))
