"""`helm test`: publish an event as a producer does, read it back, and wait for its delivery if an endpoint is named.

Environment: GATEWAY (URL), TOKEN_FILE, TEST_STATE, TEST_TYPE, TEST_DATA (JSON), TEST_ENDPOINT (a name, or empty).
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

TRIES = 45
WAIT_SECONDS = 2
# Straight to the gateway, whatever proxy the cluster sets in pods.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(method, path, body=None):
    """Status and document of one call; (0, {…}) where nobody answers."""
    token = Path(os.environ["TOKEN_FILE"]).read_text(encoding="ascii").strip()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["GATEWAY"] + path, data, headers, method=method)
    try:
        with OPENER.open(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")
    except (OSError, ValueError) as error:
        return 0, {"detail": str(error)}


def disabled(status, answer):
    """Whether this is the refusal of an environment that is switched off."""
    return status == 403 and answer.get("type", "").endswith("/environment-disabled")


def publish():
    """The id of the event; None where the environment is Disabled, and shall be."""
    event = {"type": os.environ["TEST_TYPE"], "data": json.loads(os.environ["TEST_DATA"])}
    said = ""
    for _ in range(TRIES):  # rights and event types that were made a moment ago take a moment to count
        status, answer = ask("POST", "/v1/events", event)
        if status == 202:
            return answer["id"]
        if disabled(status, answer) and os.environ["TEST_STATE"] == "Disabled":
            return None
        before, said = said, f"{status} {answer.get('detail', answer)}"
        if said != before:
            print(f"Not accepted yet: {said}", flush=True)
        time.sleep(WAIT_SECONDS)
    sys.exit(f"The event was not accepted: {said}")


def delivered(event_id, endpoint):
    """The delivery of the event to the endpoint, once it succeeded."""
    for _ in range(TRIES):
        _, answer = ask("GET", f"/v1/events/{event_id}")
        found = [one for one in answer.get("deliveries", ()) if one["endpoint"] == endpoint]
        if any(one["status"] == "Delivered" for one in found):
            return
        time.sleep(WAIT_SECONDS)
    sys.exit(f"No delivery of {event_id} to {endpoint} succeeded: {found or 'the endpoint does not select the event'}")


def main():
    event_id = publish()
    if event_id is None:
        print("The environment is Disabled, and the gateway refused the event for it: gateway, token and rights work;")
        print("nothing was sent. Set environment.state to Enabled to send an event.")
        return
    print(f"Accepted, on stable storage: {event_id}")
    status, event = ask("GET", f"/v1/events/{event_id}")
    if status != 200 or event.get("data") != json.loads(os.environ["TEST_DATA"]):
        sys.exit(f"The event cannot be read back: {status} {event}")
    print(f"Read back, with {len(event['deliveries'])} deliveries.")
    if endpoint := os.environ["TEST_ENDPOINT"]:
        delivered(event_id, endpoint)
        print(f"Delivered to {endpoint}.")


main()
