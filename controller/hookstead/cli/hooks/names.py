"""Names of the API that the plugin writes. A test holds them to the package's own.

The plugin is also handed out alone (`.ci/krew`), as pure Python: it imports nothing that brings compiled modules.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "hookstead.dev"
API_VERSION: Final = f"{GROUP}/v1alpha1"
ENDPOINT: Final = "WebhookEndpoint"
REPLAY: Final = "WebhookReplay"
ENDPOINTS: Final = f"webhookendpoints.{GROUP}"
CHANNELS: Final = f"webhookchannels.{GROUP}"
EVENT_TYPES: Final = f"webhookeventtypes.{GROUP}"
REPLAYS: Final = f"webhookreplays.{GROUP}"
REPLAY_SELECTS: Final = ("Failed", "Missed", "All")
RESUME_ANNOTATION: Final = f"{GROUP}/resume-requested-at"
SECRET_LABEL: Final = f"{GROUP}/endpoint-secret"
SIGNING_KEY: Final = "key"
"""The data key of a signing Secret, and the id of a generated key."""


def signing_secret_name(endpoint: str) -> str:
    """The Secret that is generated for an endpoint without keys of its own."""
    return f"{endpoint}-signing"
