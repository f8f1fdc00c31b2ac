"""`hookstead gateway --auth kubernetes` as a process, under its namespaced Role, against the real API server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from builders import endpoint, event_type
from cluster.apiserver import ApiServer
from faults.gateway_process import Answer, Home, Life, home, until
from hookstead.gateway.authorize import Permission

ROLE: Final = Path(__file__).parent / "rbac" / "gateway.yaml"
AUDIENCE: Final = "hookstead.dev"
ISSUER: Final = "https://kubernetes.default.svc"
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
OBJECTS: Final = (endpoint("acme"), event_type("order-created", "order.created"), event_type("user-born", "user.born"))
SHORT: Final = """
from hookstead.gateway import access_reviews, token_judges
access_reviews.GRANT_SECONDS = token_judges.VERIFIED_SECONDS = 2.0
access_reviews.REFUSAL_SECONDS = 0.1
"""
"""A preface for a gateway that remembers for 2 s: a test cannot wait a minute."""


def rule(permission: Permission, *names: str) -> dict[str, Any]:
    """The rule of a Role that allows it: for these names, or for all."""
    resource = {"apiGroups": ["hookstead.dev"], "resources": [permission.rbac_resource], "verbs": [permission.verb]}
    return {**resource, "resourceNames": list(names)} if names else resource


def creates(group: str, resource: str) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": [resource], "verbs": ["create"]}


@dataclass
class Cluster:
    """One namespace of an API server, and the accounts in it."""

    server: ApiServer
    namespace: str

    def account(self, name: str, *rules: dict[str, Any]) -> str:
        """A ServiceAccount bound to a Role of its own with these rules; a token of our audience."""
        self.server.request(
            "POST", f"/api/v1/namespaces/{self.namespace}/serviceaccounts", {"metadata": {"name": name}}
        )
        if rules:
            subject = {"kind": "ServiceAccount", "name": name, "namespace": self.namespace}
            self.bind(name, subject, f"system:serviceaccount:{self.namespace}:{name}", rules)
        return self.token(name)

    def bind(self, name: str, subject: dict[str, str], user: str, rules: Iterable[dict[str, Any]]) -> None:
        """Wait until the API server's cache of roles has it."""
        rules = list(rules)
        place = f"{RBAC}/namespaces/{self.namespace}"
        self.server.request("POST", f"{place}/roles", {"metadata": {"name": name}, "rules": rules})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        self.server.request(
            "POST", f"{place}/rolebindings", {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
        )
        self.wait(lambda: all(self.allows(user, one) for one in rules))

    def allows(self, user: str, wanted: dict[str, Any]) -> bool:
        resource, _, subresource = wanted["resources"][0].partition("/")
        attributes = {
            "namespace": self.namespace,
            "group": wanted["apiGroups"][0],
            "verb": wanted["verbs"][0],
            "resource": resource,
            "subresource": subresource,
            "name": wanted.get("resourceNames", [""])[0],
        }
        body = {"spec": {"user": user, "resourceAttributes": attributes}}
        review = self.server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
        return bool(review["status"]["allowed"])

    def wait(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def token(self, name: str, *, audiences: tuple[str, ...] = (AUDIENCE,)) -> str:
        return self.server.service_account_token(self.namespace, name, audiences=audiences)

    def kubeconfig(self) -> Path:
        """The gateway's own, with no right but its Role's."""
        self.server.kubectl("apply", "-f", ROLE, namespace=self.namespace)
        user = f"system:serviceaccount:{self.namespace}:hookstead-gateway"
        reviews = {
            "apiGroups": ["authorization.k8s.io"],
            "resources": ["localsubjectaccessreviews"],
            "verbs": ["create"],
        }
        self.wait(lambda: self.allows(user, reviews))
        config = json.loads(self.server.kubeconfig(namespace=self.namespace).read_text())
        config["users"][0]["user"] = {"tokenFile": str(self.own_token)}
        path = self.server.directory / f"{self.namespace}.json"
        path.write_text(json.dumps(config))
        self.renew()
        return path

    @property
    def own_token(self) -> Path:
        return self.server.directory / f"{self.namespace}.token"

    def renew(self) -> None:
        """Give the gateway a new token of its own, as the kubelet does."""
        self.own_token.write_text(self.server.service_account_token(self.namespace, "hookstead-gateway"))

    def forged(self, name: str, key: str | bytes | None = None, *, kid: str = "", **claims: Any) -> str:
        """A token that the API server would have made, but for what is given here."""
        genuine = self.token(name)
        header = jwt.get_unverified_header(genuine)
        body = jwt.decode(genuine, options={"verify_signature": False}) | claims
        signer = key or (self.server.directory / "service-account.key").read_bytes()
        return jwt.encode(body, signer, algorithm="RS256", headers={"kid": kid or header["kid"]})


@asynccontextmanager
async def gateway(cluster: Cluster, folder: Path, *flags: str, preface: str = "") -> AsyncIterator[Life]:
    async with home(folder, *OBJECTS) as place:
        yield await start(place, cluster, *flags, preface=preface)


async def start(place: Home, cluster: Cluster, *flags: str, preface: str = "") -> Life:
    config = ("--kubeconfig", str(cluster.kubeconfig()), "--namespace", cluster.namespace)
    return await place.start("--auth", "kubernetes", *config, *flags, preface=preface)


async def publish(life: Life, token: str, event: str) -> Answer:
    return await call(life, token, "POST", "/v1/events", json={"type": event, "data": {"n": 1}})


async def call(life: Life, token: str | None, method: str, url: str, **more: Any) -> Answer:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return await life.call(method, url, headers=headers, **more)


def private_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


async def test_rbac_says_which_service_may_publish_which_event_type(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    cluster = Cluster(api_server, namespace)
    shop = cluster.account("shop", rule(Permission.PUBLISH, "order-created"))
    anything = cluster.account("anything", rule(Permission.PUBLISH))
    stranger = cluster.account("stranger")
    mark = api_server.audit_mark()
    async with gateway(cluster, tmp_path) as life:
        assert (await publish(life, shop, "order.created")).status == 202
        refused = await publish(life, shop, "user.born")
        assert (refused.status, refused.body["type"]) == (403, "https://hookstead.dev/problems/forbidden")
        assert {key: refused.body[key] for key in ("verb", "resource", "name", "namespace")} == {
            "verb": "publish",
            "resource": "webhookeventtypes",
            "name": "user-born",
            "namespace": namespace,
        }
        undeclared = await publish(life, shop, "undeclared.type")
        assert (undeclared.status, "name" in undeclared.body) == (403, False)
        assert "declares" in undeclared.body["detail"]
        assert [(await publish(life, anything, event)).status for event in ("user.born", "undeclared.type")] == [
            202,
            202,
        ]
        assert (await publish(life, stranger, "order.created")).status == 403

        items: list[dict[str, Any]] = [
            {"type": event, "data": {}} for event in ("order.created", "user.born", "x.y", "order.created")
        ]
        batch = await call(life, shop, "POST", "/v1/events/batch", json=items)
        assert (batch.status, [item["status"] for item in batch.body["items"]]) == (202, [202, 403, 403, 202])
        assert "shop" in batch.body["items"][1]["detail"]

    own = f"system:serviceaccount:{namespace}:hookstead-gateway"
    reviews = f"/apis/authorization.k8s.io/v1/namespaces/{namespace}/localsubjectaccessreviews"
    asked = {(entry.verb, entry.uri, entry.code) for entry in api_server.audit_entries(since=mark) if entry.user == own}
    assert asked == {
        ("get", "/.well-known/openid-configuration", 200),
        ("get", "/openid/v1/jwks", 200),
        ("create", reviews, 201),
    }


async def test_a_token_that_is_not_right_in_every_respect_is_a_401(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    cluster = Cluster(api_server, namespace)
    good = cluster.account("shop", rule(Permission.PUBLISH))
    now = int(time.time())
    bad = {
        "audience": cluster.token("shop", audiences=("elsewhere.dev",)),
        "expired": cluster.forged("shop", exp=now - 60),
        "not valid yet": cluster.forged("shop", nbf=now + 60),
        "issuer": cluster.forged("shop", iss="https://elsewhere.example"),
        "signature": cluster.forged("shop", private_key()),
        "key": cluster.forged("shop", kid="unknown"),
        "no ServiceAccount's": cluster.forged("shop", sub="alice"),
        "no JSON Web Token": api_server.tokens["alice"],
        "audience hookstead": api_server.service_account_token(namespace, "shop"),
    }
    async with gateway(cluster, tmp_path) as life:
        assert (await publish(life, good, "order.created")).status == 202
        assert (await publish(life, cluster.forged("shop", exp=now + 60), "order.created")).status == 202
        assert (await publish(life, cluster.token("shop", audiences=("a", AUDIENCE)), "order.created")).status == 202
        for why, token in bad.items():
            answer = await publish(life, token, "order.created")
            assert (answer.status, answer.body["type"].rpartition("/")[2]) == (401, "unauthenticated"), why
            assert why in answer.body["detail"]
            assert "invalid_token" in answer.headers["WWW-Authenticate"]
        nobody = await call(life, None, "POST", "/v1/events", json={"type": "order.created", "data": {}})
        assert (nobody.status, "error=" in nobody.headers["WWW-Authenticate"]) == (401, False)
        assert "Bearer TOKEN" in nobody.body["detail"]


CALLS: Final[dict[tuple[str, str], tuple[Permission, str, int]]] = {
    ("GET", "/v1/environment"): (Permission.READ, "", 200),
    ("GET", "/v1/endpoints"): (Permission.READ, "", 200),
    ("GET", "/v1/endpoints/acme"): (Permission.READ, "acme", 200),
    ("GET", "/v1/catalog"): (Permission.READ, "", 200),
    ("POST", "/v1/endpoints/acme/diagnose"): (Permission.READ, "acme", 400),  # let in, and then without a question
    ("GET", "/v1/activity"): (Permission.READ, "", 200),
    ("GET", "/v1/deliveries"): (Permission.READ_DELIVERIES, "", 200),
    ("GET", "/v1/deliveries?endpoint=acme"): (Permission.READ_DELIVERIES, "acme", 200),
    ("GET", "/v1/deliveries/{delivery}"): (Permission.READ_DELIVERIES, "acme", 200),
    ("GET", "/v1/deliveries/dlv_unknown"): (Permission.READ_DELIVERIES, "", 404),
    ("GET", "/v1/events"): (Permission.READ_PAYLOADS, "", 200),
    ("GET", "/v1/events/{event}"): (Permission.READ_PAYLOADS, "", 200),
    ("POST", "/v1/deliveries/{delivery}/redeliver"): (Permission.REDELIVER, "acme", 202),
    ("POST", "/v1/endpoints/acme/test"): (Permission.TEST, "acme", 200),
    ("DELETE", "/v1/events/{event}/payload"): (Permission.ERASE_PAYLOADS, "", 204),
}


async def test_every_call_needs_its_own_verb_for_its_endpoint_or_for_all(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    cluster = Cluster(api_server, namespace)
    shop = cluster.account("shop", rule(Permission.PUBLISH))
    wide = {one: cluster.account(f"wide-{one.name.lower().replace('_', '-')}", rule(one)) for one in Permission}
    narrow = cluster.account("narrow", *(rule(one, "acme") for one in Permission))
    elsewhere = cluster.account("elsewhere", *(rule(one, "other") for one in Permission))
    async with gateway(cluster, tmp_path) as life:
        event = (await publish(life, shop, "order.created")).body["id"]
        reader = wide[Permission.READ_DELIVERIES]
        delivery = (await call(life, reader, "GET", "/v1/deliveries")).body["items"][0]["id"]
        for (method, template), (permission, name, status) in CALLS.items():
            url = template.format(event=event, delivery=delivery)
            for other, token in wide.items():
                expected = status if other is permission else 403
                if other is permission and method == "DELETE":
                    continue
                assert (await call(life, token, method, url)).status == expected, (method, url, other)
            assert (await call(life, elsewhere, method, url)).status == 403
            assert (await call(life, narrow, method, url)).status == (status if name else 403), (method, url)
        with_bodies = cluster.account(
            "auditor", rule(Permission.READ_DELIVERIES), rule(Permission.READ_PAYLOADS, "acme")
        )
        attempts = (await call(life, with_bodies, "GET", f"/v1/deliveries/{delivery}")).body["attempts"]
        assert attempts
        erased = await call(life, wide[Permission.ERASE_PAYLOADS], "DELETE", f"/v1/events/{event}/payload")
        assert erased.status == 204


async def test_under_token_review_any_kind_of_token_counts(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    cluster = Cluster(api_server, namespace)
    shop = cluster.account("shop", rule(Permission.PUBLISH))
    cluster.bind("alice", {"kind": "User", "name": "alice"}, "alice", [rule(Permission.PUBLISH, "order-created")])
    cluster_role = {"metadata": {"name": namespace}, "rules": [creates("authentication.k8s.io", "tokenreviews")]}
    api_server.request("POST", f"{RBAC}/clusterroles", cluster_role)
    subject = {"kind": "ServiceAccount", "name": "hookstead-gateway", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace}
    binding = {"metadata": {"name": namespace}, "roleRef": reference, "subjects": [subject]}
    api_server.request("POST", f"{RBAC}/clusterrolebindings", binding)
    async with gateway(cluster, tmp_path, "--token-review") as life:
        assert (await publish(life, shop, "order.created")).status == 202
        assert (await publish(life, api_server.tokens["alice"], "order.created")).status == 202
        assert (await publish(life, api_server.tokens["alice"], "user.born")).status == 403
        for token in (
            "nonsense",
            cluster.token("shop", audiences=("elsewhere.dev",)),
            api_server.service_account_token(namespace, "shop"),
            cluster.forged("shop", private_key()),
        ):
            assert (await publish(life, token, "order.created")).status == 401


async def test_rights_and_keys_are_followed_and_an_absent_api_server_grants_nothing_new(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    folder.mkdir()
    with ApiServer(directory=folder, controller_manager=False) as server:
        cluster = Cluster(server, server.create_namespace("shop"))
        token = cluster.account("shop", rule(Permission.PUBLISH, "order-created"))
        other = cluster.account("other", rule(Permission.PUBLISH))
        async with gateway(cluster, tmp_path, preface=SHORT) as life:
            assert (await publish(life, token, "order.created")).status == 202

            # Away: who was judged lately goes on for a while, everybody else waits.
            server.kill()
            assert (await publish(life, token, "order.created")).status == 202
            undecided = await publish(life, other, "order.created")
            assert (undecided.status, undecided.body["type"].rpartition("/")[2]) == (503, "authorization-unavailable")
            assert int(undecided.headers["Retry-After"]) >= 1
            assert (await publish(life, "nonsense", "order.created")).status == 401

            async def forgotten() -> bool:
                return (await publish(life, token, "order.created")).status == 503

            await until(forgotten, what="the end of what was remembered")

            # Back, with another key: tokens of the former one are nobody's.
            (server.directory / "service-account.key").write_bytes(private_key())
            server.restart()
            cluster.renew()
            fresh = cluster.token("shop")

            async def taken() -> bool:
                return (await publish(life, fresh, "order.created")).status == 202

            await until(taken, what="a token of the new key")
            assert (await publish(life, other, "order.created")).status == 401

            # Revoked: seen within the time that rights are remembered.
            server.request("DELETE", f"{RBAC}/namespaces/shop/rolebindings/shop")

            async def revoked() -> bool:
                return (await publish(life, fresh, "order.created")).status == 403

            began = asyncio.get_running_loop().time()
            await until(revoked, what="the end of the right")
            assert asyncio.get_running_loop().time() - began < 10
            assert "authorization_unavailable" in life.log
            assert "authorization_available" in life.log
            assert token not in life.log
