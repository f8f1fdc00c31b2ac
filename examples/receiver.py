"""A receiver for the quickstart: verifies every webhook that reaches http://127.0.0.1:9700 and prints it.

    python examples/receiver.py [--port 9700] [--keys .hookstead/secrets/default] [--fail PATH]

It needs the public package `standardwebhooks`. The keys are those that `hookstead dev` generated; a receiver of
your own has one, which you give it as a secret. `--fail /acme` answers 503 there, to watch a retry.
"""

from __future__ import annotations

import argparse
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def verified(body: bytes, headers: dict[str, str], keys: Path) -> tuple[str, object] | None:
    """The name of the key that fits and the payload; None when no key does."""
    for file in sorted(keys.glob("*/key")):
        try:
            return file.parent.name, Webhook(file.read_text().strip()).verify(body, headers)
        except WebhookVerificationError:
            continue
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the webhooks that arrive.")
    parser.add_argument("--port", type=int, default=9700)
    parser.add_argument("--keys", type=Path, default=Path(".hookstead/secrets/default"))
    parser.add_argument("--fail", action="append", default=[], metavar="PATH")
    options = parser.parse_args()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found = verified(body, headers, options.keys)
            status = 400 if found is None else 503 if self.path in options.fail else 204
            said = "NOT VERIFIED" if found is None else f"verified with {found[0]}: {json.dumps(found[1])}"
            print(f"{self.path} {headers.get('webhook-id')} answered {status}, {said}", flush=True)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: each request has its own line."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", options.port), Receiver)
    except OSError as error:
        sys.exit(
            f"cannot listen on 127.0.0.1:{options.port}: {error.strerror}. Give another --port, or stop the other."
        )
    with server:
        print(f"listening on http://127.0.0.1:{options.port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
