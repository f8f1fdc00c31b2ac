"""What `kubectl`-side tools make of an object: the published rules of kstatus, and what they ask of a controller.

The rules: sigs.k8s.io/cli-utils, pkg/kstatus/status (`checkGenericProperties`, `checkReadyCondition`), which Flux, kpt
and others follow for custom resources.
"""

from __future__ import annotations

from typing import Any, Final

CURRENT, IN_PROGRESS, FAILED, TERMINATING = "Current", "InProgress", "Failed", "Terminating"
STALLED_REASONS: Final = {
    "InvalidSpec",
    "SchemaInvalid",
    "SampleInvalid",
    "FilterInvalid",
    "DuplicateChannelName",
    "DuplicateEventType",
}
"""The contract's list: what only an edit mends. All else that is not Ready waits."""
ENDED: Final = {"Complete", "Failed"}
"""Conditions that end a replay; a failed one is Stalled whatever its reason, since it never runs again."""


def kstatus(body: dict[str, Any]) -> str:
    """The one word, by the published rules in their order."""
    metadata, status = body["metadata"], body.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return TERMINATING
    observed = status.get("observedGeneration")
    if observed is not None and observed != metadata.get("generation"):
        return IN_PROGRESS
    for item in status.get("conditions") or ():
        if item["type"] == "Reconciling" and item["status"] == "True":
            return IN_PROGRESS
        if item["type"] == "Stalled" and item["status"] == "True":
            return FAILED
    for item in status.get("conditions") or ():
        if item["type"] == "Ready":
            return CURRENT if item["status"] == "True" else IN_PROGRESS
    return CURRENT


def faults(body: dict[str, Any], before: dict[str, Any] | None = None) -> list[str]:
    """What is wrong with an object's status by itself, and against an earlier form of the same object; often nothing.

    By the convention for abnormal-true conditions and the contract: Reconciling and Stalled are present only while True
    and never together; one of them stands there exactly while Ready is not True, with its reason.
    """
    status = body.get("status") or {}
    conditions = status.get("conditions") or []
    if not conditions:
        return [] if status.get("observedGeneration") == -1 else ["a status that was written has no condition"]
    said = {item["type"]: item for item in conditions}
    found = [] if len(said) == len(conditions) else ["a condition stands there twice"]
    found += _of_generation(body, conditions)
    ready = said.get("Ready")
    abnormal = [said[name] for name in ("Reconciling", "Stalled") if name in said]
    if ready is None:
        return [*found, "Ready is missing"]
    if any(item["status"] != "True" for item in abnormal):
        found.append("Reconciling or Stalled stands there without being True")
    if len(abnormal) != (ready["status"] != "True"):
        found.append(f"Ready is {ready['status']} beside {[item['type'] for item in abnormal]}")
    if any(item["reason"] != ready["reason"] for item in abnormal):
        found.append("Reconciling or Stalled gives another reason than Ready")
    ended = bool(ENDED & said.keys())
    if abnormal and not ended and (abnormal[0]["type"] == "Stalled") != (ready["reason"] in STALLED_REASONS):
        found.append(f"{abnormal[0]['type']} for {ready['reason']}")
    if (kstatus(body) == CURRENT) != (ready["status"] == "True" and _observed(body)):
        found.append(f"kstatus says {kstatus(body)} while Ready is {ready['status']}")
    if before is not None:
        found += _transitions(before, body)
    return found


def _observed(body: dict[str, Any]) -> bool:
    return bool(body["status"]["observedGeneration"] == body["metadata"]["generation"])


def _of_generation(body: dict[str, Any], conditions: list[dict[str, Any]]) -> list[str]:
    observed, generation = body["status"].get("observedGeneration"), body["metadata"]["generation"]
    if observed is None or observed > generation:
        return [f"observedGeneration {observed} of generation {generation}"]
    others = {item["type"] for item in conditions if item.get("observedGeneration") != observed}
    return [f"{sorted(others)} are of another generation than the status"] if others else []


def _transitions(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """`lastTransitionTime` changes with the status of a condition and with nothing else."""
    if before["metadata"]["uid"] != after["metadata"]["uid"]:
        return []
    old = {item["type"]: item for item in (before.get("status") or {}).get("conditions") or ()}
    found = []
    for item in after["status"]["conditions"]:
        was = old.get(item["type"])
        if was is None or was["status"] != item["status"]:
            continue
        if was["lastTransitionTime"] != item["lastTransitionTime"]:
            found.append(f"{item['type']} moved its transition time without a transition")
    observed = (before.get("status") or {}).get("observedGeneration", -1)
    if after["status"]["observedGeneration"] < observed:
        found.append("observedGeneration went back")
    return found
