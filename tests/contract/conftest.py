"""One `hookstead dev` and one receiver per worker; each test has names of its own on it.

Modules stay whole on one worker, so that what a module applies is applied once.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from contract.fleet import Fleet
from contract.processes import Dev, Environment, Receiver, environment
from contract.site import Site
from store.postgres_fixtures import Databases, databases, private_server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contract.processes import NewStore, Serve
    from store.postgres_server import PostgresServer

__all__ = ["databases"]

HERE = Path(__file__).parent
GATEWAYS: Final = int(os.environ.get("CONTRACT_GATEWAYS", "0"))
"""Serve every environment by so many gateways on PostgreSQL, rather than by `hookstead dev`."""
SHARED: Final = frozenset({"site", "module_site"})
_sites = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Markers of this folder."""
    config.addinivalue_line("markers", "dev_alone: about `hookstead dev` itself, or its store's files")
    config.addinivalue_line("markers", "one_process: about a process, whoever else is on the same database")
    config.addinivalue_line("markers", "two_gateways: served by `hookstead dev`, and by two gateways on PostgreSQL")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """By how many gateways it is served. Always said, since what is shared is kept as long as nothing else is said."""
    if "gateways" in metafunc.fixturenames:
        counts = [GATEWAYS]
        if metafunc.definition.get_closest_marker("dev_alone"):
            counts = [0]
        elif metafunc.definition.get_closest_marker("one_process"):
            counts = [min(GATEWAYS, 1)]
        elif not GATEWAYS and on_two_gateways(metafunc):
            counts = [0, 2]
        ids = ["two-gateways" if len(counts) > 1 and count else pytest.HIDDEN_PARAM for count in counts]
        metafunc.parametrize("gateways", counts, indirect=True, ids=ids)


def on_two_gateways(metafunc: pytest.Metafunc) -> bool:
    """Of a module that is marked, the tests that share an environment. One that starts its own bears the mark itself:
    gateways cost a second of CPU each to start."""
    if not SHARED.isdisjoint(metafunc.fixturenames):
        return metafunc.definition.get_closest_marker("two_gateways") is not None
    return any(mark.name == "two_gateways" for mark in metafunc.definition.own_markers)


@pytest.hookimpl(tryfirst=True)  # before xdist looks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A group for xdist per module; what else is served by two gateways is one, with one server."""
    for item in items:
        if HERE in item.path.parents and not any(item.iter_markers("xdist_group")):
            callspec = getattr(item, "callspec", None)
            beside = not GATEWAYS and callspec is not None and callspec.params.get("gateways")
            name = "two-gateways" if beside else item.path.stem
            item.add_marker(pytest.mark.xdist_group(f"contract-{name}"))


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """A receiver; paths are the tests' own."""
    running = Receiver()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def gateways(request: pytest.FixtureRequest) -> int:
    """How many serve an environment, on PostgreSQL; 0: `hookstead dev` with its own store."""
    count: int = request.param
    return count


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """As for `tests/store`, but with room for the connections of a dozen gateways."""
    yield from private_server(max_connections="200")


@pytest.fixture(scope="session")
def new_store(gateways: int, request: pytest.FixtureRequest) -> NewStore:
    """An SQLite file in the folder, or an empty database."""
    if not gateways:
        return lambda folder: f"sqlite:{folder / 'store.db'}"
    places: Databases = request.getfixturevalue("databases")
    return lambda folder: places.url(asyncio.run(places.create()))


@pytest.fixture(scope="session")
def serve(gateways: int, new_store: NewStore) -> Serve:
    """Serves a new environment: `serve(home, *flags, objects=…)`, until it is closed."""

    def start(home: Path, *flags: str, objects: Iterable[dict[str, Any]] | None = None) -> Environment:
        if not gateways:
            return Dev(home, *flags, objects=objects)
        return Fleet(home, *flags, objects=objects, store=new_store(home), count=gateways)

    return start


@pytest.fixture(scope="session")
def shared_dev(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An enabled environment that warns, with two retries a second apart."""
    defaults = {"retry": {"scheduleSeconds": [1, 1]}, "timeoutSeconds": 5}
    with serve(tmp_path_factory.mktemp("dev"), objects=[environment(deliveryDefaults=defaults)]) as dev:
        yield dev


@pytest.fixture
def site(shared_dev: Environment, receiver: Receiver) -> Iterator[Site]:
    """Endpoints of this test alone on the shared process; what it applied is deleted afterwards."""
    own = Site(shared_dev, receiver, f"t{next(_sites)}")
    yield own
    own.clear()


@pytest.fixture(scope="module")
def module_site(shared_dev: Environment, receiver: Receiver) -> Iterator[Site]:
    """As `site`, for a whole module."""
    own = Site(shared_dev, receiver, f"m{next(_sites)}")
    yield own
    own.clear()


@pytest.fixture
def own_dev(serve: Serve, tmp_path: Path, receiver: Receiver) -> Iterator[Any]:
    """Serves environments of one test's own: `own_dev(*flags, **spec of the environment)` gives a Site."""
    started: list[Environment] = []

    def start(*flags: str, objects: Any = None, **spec: Any) -> Site:
        found = [environment(**spec)] if objects is None else objects
        dev = serve(tmp_path / f"dev{len(started)}", *flags, objects=found)
        started.append(dev)
        return Site(dev, receiver, f"o{next(_sites)}")

    yield start
    for dev in started:
        dev.close()
