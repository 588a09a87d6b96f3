"""Noise is made of the secret of whoever runs the job: without one, or without bounds, it is refused with the mend."""

import pytest
from riverrank.jobs.config import files
from riverrank.jobs.config.edges import PRIVACY_KEY_VARIABLE
from riverrank.jobs.config.schema import parse
from riverrank.jobs.errors import UsageError

ON = {"noise": {"epsilon": 1.0}}


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(PRIVACY_KEY_VARIABLE, "the secret of this shop")
    return "the secret of this shop"


def test_without_a_secret_noise_is_refused_and_nothing_else_is() -> None:
    with pytest.raises(UsageError, match=r"noise\.epsilon: .*privacy\.key_file or RIVERRANK_PRIVACY_KEY"):
        parse(ON)
    assert parse({}).behaviour.noise.key == b""


def test_noise_is_made_of_the_secret_which_nothing_prints(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse(ON)
    key = config.behaviour.noise.key
    assert len(key) == 64 and key != config.privacy.key()
    assert not any(word in repr(config) for word in (secret, key.hex(), repr(key)))
    monkeypatch.setenv(PRIVACY_KEY_VARIABLE, "another secret, of this shop")
    assert parse(ON).behaviour.noise.key != key
    assert parse({}).behaviour.noise.key == b"", "where there is no noise nothing is made of it"


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"signals": {"shards": 2}}, r"signals\.shards: expected 1 where there is noise, got 2"),
        ({"history": {"size": 8}}, r"noise\.contributions: expected less than history\.size \(8\)"),
        ({"job": {"state_ttl": "12h"}}, r"job\.state_ttl: expected at least noise\.window"),
    ],
)
@pytest.mark.usefixtures("secret")
def test_what_the_bound_cannot_be_read_off_is_refused(table: dict[str, dict[str, object]], fault: str) -> None:
    parse(table)
    with pytest.raises(UsageError, match=fault):
        parse(ON | table)


@pytest.mark.usefixtures("secret")
def test_without_the_accountant_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'riverrank\[privacy\]'"):
        parse(ON)
