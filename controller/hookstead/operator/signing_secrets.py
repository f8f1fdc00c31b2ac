"""Generated signing keys: the Secret `<endpoint>-signing` of an endpoint that names no keys of its own."""

from __future__ import annotations

import base64
import logging
import secrets
from typing import TYPE_CHECKING, Any, Final

from hookstead.config.compile import signing_secret_name
from hookstead.operator.kube import Conflict, KubeClient, KubeError, core_path
from hookstead.resources.kinds import API_VERSION, SECRET_LABEL, Kind

if TYPE_CHECKING:
    from hookstead.config.model import Identity

KEY: Final = "key"
KEY_BYTES: Final = 32

log: Final = logging.getLogger(__name__)


async def create_signing_secret(kube: KubeClient, endpoint: Identity, *, namespace: str) -> dict[str, Any] | None:
    """Create the endpoint's Secret; the object, or None where the name is taken. Raises KubeError."""
    try:
        body: dict[str, Any] = await kube.create(
            core_path("secrets", namespace), manifest(endpoint, key=secrets.token_bytes(KEY_BYTES))
        )
    except Conflict:
        return None
    except KubeError as error:
        log.warning(
            "the signing Secret was not created",
            extra={"action": "signing-secret", "endpoint": endpoint.name, "error": str(error)},
        )
        raise
    log.info("created a signing Secret", extra={"action": "signing-secret", "endpoint": endpoint.name})
    return body


def manifest(endpoint: Identity, *, key: bytes) -> dict[str, Any]:
    """The Secret, owned by the endpoint so that it goes with it.

    `blockOwnerDeletion: false`: true would need the right to update finalizers, and deletion never waits for us.
    """
    material = "whsec_" + base64.b64encode(key).decode("ascii")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": signing_secret_name(endpoint.name),
            "labels": {SECRET_LABEL: "true", "app.kubernetes.io/managed-by": "hookstead"},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": Kind.ENDPOINT.value,
                    "name": endpoint.name,
                    "uid": endpoint.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "type": "Opaque",
        "data": {KEY: base64.b64encode(material.encode("ascii")).decode("ascii")},
    }
