"""`kubectl hooks secret ENDPOINT`: which keys sign an endpoint's deliveries; what they are, and a new one, if asked."""

from __future__ import annotations

import base64
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import yaml

from hookstead.cli.flags import Argument, Arity, Command, Flag, UsageError, whole
from hookstead.cli.hooks.connection import CONNECTION, OUTPUT, cluster
from hookstead.cli.hooks.kubectl import Kubectl
from hookstead.cli.hooks.names import (
    API_VERSION,
    ENDPOINT,
    ENDPOINTS,
    GROUP,
    SECRET_LABEL,
    SIGNING_KEY,
    signing_secret_name,
)
from hookstead.cli.outcome import OK, CommandError, say
from hookstead.cli.table import Column, Item, moment, show

if TYPE_CHECKING:
    import argparse

KEY_BYTES: Final = 32
KEYS_LIMIT: Final = 4
"""`maxItems` of spec.signing.keys."""
OVERLAP_SECONDS: Final = 86_400

COMMAND: Final = Command(
    prog="kubectl hooks secret",
    summary=(
        "Show which keys sign an endpoint's deliveries. Reads the API server, with your own rights.\n"
        "Key material is printed only with --show."
    ),
    epilog=(
        "To rotate: --rotate makes a Secret with a new key and prints the spec.signing that belongs into the\n"
        "endpoint's manifest: the new key first, the others until --overlap has passed. Put it into Git, give the\n"
        "receiver the new key (--show), and remove the old one when it has expired. --apply also patches the\n"
        "endpoint at once."
    ),
    arguments=(Argument(name="ENDPOINT", help="name of the endpoint"),),
    flags=(
        Flag(
            name="show",
            arity=Arity.SWITCH,
            default=False,
            help="print what receivers verify with, a key a line (whsec_…, or public: whpk_…); needs get on secrets",
        ),
        Flag(name="rotate", arity=Arity.SWITCH, default=False, help="make a new key; needs create on secrets"),
        Flag(name="apply", arity=Arity.SWITCH, default=False, help="with --rotate: patch the endpoint at once"),
        Flag(
            name="overlap",
            metavar="SECONDS",
            default=OVERLAP_SECONDS,
            parse=whole(minimum=0, maximum=366 * 86_400, unit="seconds"),
            help="with --rotate: for how long the present keys sign as well, in seconds",
        ),
        *CONNECTION,
        OUTPUT,
    ),
)


def run(given: argparse.Namespace) -> int:
    """List the keys, show them, or make one."""
    if given.apply and not given.rotate:
        raise UsageError("kubectl hooks secret: --apply belongs to --rotate")
    if given.show and given.rotate:
        raise UsageError("kubectl hooks secret: --show and --rotate: give one of them")
    kubectl = cluster(given, instead="under `hookstead dev`, generated keys are in its --state-dir.")
    endpoint = kubectl.json("get", ENDPOINTS, given.endpoint.rpartition("/")[2])
    now = datetime.now(UTC)
    if given.rotate:
        return _rotate(kubectl, endpoint, given, now=now)
    items = keys_of(endpoint, now=now)
    if given.show:
        items = [{**item, "material": _material(kubectl, item)} for item in items if item["signs"]]
        if given.output in (None, "wide"):
            print("\n".join(item["material"] for item in items))
            return OK
    show(items, KEYS, output=given.output, name=lambda item: f"secret/{item['secret']}")
    return OK


def keys_of(endpoint: Item, *, now: datetime) -> list[Item]:
    """The endpoint's keys in order, the generated one where it names none."""
    name = str(endpoint["metadata"]["name"])
    named = (endpoint["spec"].get("signing") or {}).get("keys")
    generated = {"id": SIGNING_KEY, "secretKeyRef": {"name": signing_secret_name(name), "key": SIGNING_KEY}}
    return [
        {
            "id": key["id"],
            "secret": key["secretKeyRef"]["name"],
            "key": key["secretKeyRef"]["key"],
            "signs": "notAfterTime" not in key or moment(key["notAfterTime"]) > now,
            "notAfterTime": key.get("notAfterTime"),
        }
        for key in (named or [generated])
    ]


def _material(kubectl: Kubectl, item: Item) -> str:
    """What a receiver verifies with. Raises CommandError; no message shows any of it."""
    data = kubectl.json("get", "secret", item["secret"]).get("data") or {}
    where = f"Secret {item['secret']}, key {item['key']}"
    if item["key"] not in data:
        raise CommandError(f"{where}: there is no such key in it")
    try:
        text = base64.b64decode(data[item["key"]], validate=True)
        return verification_key(text)
    except ValueError as problem:  # no base64, no key; the message shows nothing of it
        raise CommandError(f"{where}: {problem}") from problem


def verification_key(text: bytes) -> str:
    """`whsec_…` as it is; of an ed25519 key, `whsk_…`, the public half. Raises ValueError, CommandError."""
    try:
        from hookstead.config.key_material import Ed25519Key, parse_key_material
    except ImportError as missing:  # the plugin alone, without compiled modules
        trimmed = text.strip()
        if not trimmed.startswith(b"whsec_"):
            raise CommandError("the public half of an ed25519 key needs the whole of Hookstead installed") from missing
        return trimmed.decode("ascii")
    key = parse_key_material(text)
    if isinstance(key, Ed25519Key):
        return "whpk_" + base64.b64encode(key.public).decode("ascii")
    return text.strip().decode("ascii")


def _rotate(kubectl: Kubectl, endpoint: Item, given: argparse.Namespace, *, now: datetime) -> int:
    name = str(endpoint["metadata"]["name"])
    stamp = f"{now:%Y%m%d%H%M%S}"
    secret_name = f"{name[:40].rstrip('-.')}-signing-{stamp}"
    keys = rotated(endpoint, secret_name, key_id=f"k{stamp}", now=now, overlap=timedelta(seconds=given.overlap))
    # Over stdin: an argument would show in the list of processes.
    kubectl.run("create", "--filename=-", stdin=json.dumps(secret_manifest(endpoint, secret_name)))
    say(f"secret/{secret_name} created")
    signing = {"spec": {"signing": {"keys": keys}}}
    if given.apply:
        kubectl.run("patch", ENDPOINTS, name, "--type=merge", f"--patch={json.dumps(signing)}")
        say(f"webhookendpoint.{GROUP}/{name} patched; a sync from Git undoes that, unless this is there as well:")
    else:
        say(f"put this into the manifest of webhookendpoint.{GROUP}/{name}:")
    print(yaml.safe_dump(signing, sort_keys=False), end="")
    return OK


def rotated(
    endpoint: Item, secret_name: str, *, key_id: str, now: datetime, overlap: timedelta
) -> list[dict[str, Any]]:
    """`spec.signing.keys` with a new key first and an end for the others. Raises CommandError where it has no room."""
    end = now + overlap
    old = [item for item in keys_of(endpoint, now=now) if item["signs"]]
    if len(old) >= KEYS_LIMIT:
        raise CommandError(
            f"webhookendpoint.{GROUP}/{endpoint['metadata']['name']} has {len(old)} keys that sign, and {KEYS_LIMIT} "
            "are the most: remove one first"
        )
    kept = [
        {
            "id": item["id"],
            "secretKeyRef": {"name": item["secret"], "key": item["key"]},
            "notAfterTime": f"{_earlier(end, item['notAfterTime']).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        for item in old
    ]
    return [{"id": key_id, "secretKeyRef": {"name": secret_name, "key": SIGNING_KEY}}, *kept]


def _earlier(end: datetime, stated: str | None) -> datetime:
    return end if stated is None else min(end, moment(stated))


def secret_manifest(endpoint: Item, name: str) -> dict[str, Any]:
    """A Secret with a new key, which goes with its endpoint."""
    material = "whsec_" + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")
    owner = endpoint["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": {SECRET_LABEL: "true"},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": ENDPOINT,
                    "name": owner["name"],
                    "uid": owner["uid"],
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "type": "Opaque",
        "stringData": {SIGNING_KEY: material},
    }


KEYS: Final = (
    Column("ID", lambda item: item["id"]),
    Column("SECRET", lambda item: item["secret"]),
    Column("KEY", lambda item: item["key"]),
    Column("SIGNS", lambda item: str(item["signs"])),
    Column("NOT-AFTER", lambda item: item["notAfterTime"]),
)
