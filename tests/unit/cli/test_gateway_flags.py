"""`hookstead gateway`: what its flags for authentication refuse before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookstead.cli.main import main


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--kubeconfig", "/nonexistent/config"), "/nonexistent/config: No such file"),
        (("--kubeconfig", "{folder}/empty"), "not a kubeconfig"),
        (("--kubeconfig", "{folder}/bad-ca"), "certificates cannot be used"),
        (("--auth-audience", ""), "expected an audience"),
        (("--auth-audience", "two words"), "expected an audience"),
    ],
)
def test_an_api_server_that_cannot_be_reached_by_what_is_given_is_a_usage_error(
    flags: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "bad-ca").write_text(
        '{"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], '
        '"users": [{"name": "u", "user": {"token": "t"}}], '
        '"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", '
        '"certificate-authority-data": "bm9uZQ=="}}]}'
    )
    store = ("--store", f"sqlite:{tmp_path / 'store.db'}")
    assert main(["gateway", *store, *(flag.format(folder=tmp_path) for flag in flags)]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "store.db").exists()
