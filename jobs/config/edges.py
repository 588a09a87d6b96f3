"""Settings of the edges of the job: what it reads and writes, how it speaks to Kafka and Redis, how it runs.

A field says all there is to say of a setting: `fields` reads it from there.
"""

import hashlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta
from riverrank.jobs.errors import UsageError
from riverrank.operators.cache.urls import DEFAULT_PREFIX, DEFAULT_TIMEOUT_MS, DEFAULT_TTL_MS, masked
from riverrank.operators.settings import Count, Milliseconds, Section
from riverrank.state.outputs import OUTPUTS, Output

from .files import secret

if TYPE_CHECKING:
    from .tokens import Tokens

# Flink's connector holds Kafka's own classes under another name, and knows no others.
CONNECTORS_KAFKA = "org.apache.flink.kafka.shaded.org.apache.kafka"
CONNECTORS_LOGIN = f"{CONNECTORS_KAFKA}.common.security"
LOGIN_MODULES = {"PLAIN": "plain.PlainLoginModule", "OAUTHBEARER": "oauthbearer.OAuthBearerLoginModule"}
SCRAM_MODULE = "scram.ScramLoginModule"
KAFKA_PASSWORD_VARIABLE = "RIVERRANK_KAFKA_PASSWORD"
PRIVACY_KEY_VARIABLE = "RIVERRANK_PRIVACY_KEY"
LEAST_SECRET = 16  # characters
MOST_WATCHED = 8  # attributes that the page counts by, of items and of users
OWN_PROPERTIES = (  # of Kafka's clients, beside all that begins with OWN_GROUPS
    *("bootstrap.servers", "security.protocol", "group.id", "client.id.prefix", "auto.offset.reset"),
    *("enable.auto.commit", "isolation.level", "transactional.id", "partition.discovery.interval.ms"),
)
OWN_GROUPS = ("sasl.", "ssl.", "key.", "value.")

Interval = Annotated[int, Meta(ge=1, extra={"unit": "ms"})]  # a duration that is never none
Name = Annotated[str, Meta(min_length=1)]
Topic = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
OptionalTopic = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{0,249}$")]


def _with_outputs(base: type[Section], kind: Any, meaning: str, default: Callable[[Output], str]) -> Any:
    """`base` with a setting of each output besides, by the output's field."""
    fields = [
        (output.field, Annotated[kind, Meta(description=meaning.format(output.meaning))], default(output))
        for output in OUTPUTS.values()
    ]
    return msgspec.defstruct(f"{base.__name__}AndOutputs", fields, bases=(base,), module=__name__)


class _ByOutput(Section):
    """A table with a setting of each output."""

    if TYPE_CHECKING:

        def __getattr__(self, field: str) -> str:
            """What is set of an output, by its field."""

    def of(self, output: Output) -> str:
        """What is set of an output, "" for nothing."""
        return str(getattr(self, output.field))


class _Inputs(_ByOutput):
    events: Annotated[str, Meta(description="path of the events, in place of the topic; - is standard input")] = ""
    items: Annotated[str, Meta(description="path of the items, in place of the topic; - is standard input")] = ""


class _Topics(_ByOutput):
    bootstrap: Annotated[
        str, Meta(description="HOST:PORT of a broker, or several with commas between; none is no Kafka")
    ] = ""
    events: Annotated[Topic, Meta(description="topic of the events")] = "events"
    items: Annotated[OptionalTopic, Meta(description="topic of the items; none is no topic")] = "items"


if TYPE_CHECKING:  # a type checker knows no class that is made at run time
    _Paths = _Inputs
    _AllTopics = _Topics
else:
    _Paths = _with_outputs(_Inputs, str, "path for {}; - is standard output", lambda output: "")
    _AllTopics = _with_outputs(_Topics, OptionalTopic, "topic of the {}; none is no topic", lambda output: output.topic)


class FileSettings(_Paths):
    """Paths of JSON lines, gz by their ending; `-` is standard input or output, "" is none."""


class KafkaSettings(_AllTopics):
    """The broker and its topics; no `bootstrap`, no Kafka. The password is read when asked for, and kept nowhere."""

    group: Annotated[Name, Meta(description="consumer group of the events")] = "riverrank"
    start: Annotated[
        Literal["earliest", "latest", "committed"], Meta(description="where reading begins without a savepoint")
    ] = "earliest"
    delivery: Annotated[
        Literal["at-least-once", "exactly-once"],
        Meta(description="guarantee of what is written; exactly-once takes Kafka transactions"),
    ] = "at-least-once"
    bounded: Annotated[bool, Meta(description="whether to read to the topics' present end and stop")] = False
    transaction_prefix: Annotated[
        Name, Meta(description="prefix of the transactions' ids, one for each job on a broker")
    ] = "riverrank"
    security: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Meta(description="how the broker is spoken to")
    ] = "PLAINTEXT"
    mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"], Meta(description="mechanism of SASL")
    ] = "PLAIN"
    username: Annotated[str, Meta(description="user name for SASL; for OAUTHBEARER the client's id")] = ""
    password_file: Annotated[
        str,
        Meta(
            description="file that holds the SASL password, for OAUTHBEARER the client's secret; "
            "RIVERRANK_KAFKA_PASSWORD goes first"
        ),
    ] = ""
    token_url: Annotated[
        str, Meta(description="where OAUTHBEARER gets its tokens, https://HOST/PATH, by the client credentials grant")
    ] = ""
    token_scope: Annotated[
        str, Meta(description="scope that such a token is asked for with; none: the server's own")
    ] = ""
    ca_file: Annotated[str, Meta(description="PEM file of the authorities that sign the broker's certificate")] = ""
    client_file: Annotated[
        str, Meta(description="PEM file of the job's own key, not encrypted, and certificate, for a broker that asks")
    ] = ""
    properties: Annotated[
        dict[str, str],
        Meta(description="further properties of Kafka's Java client, as they are, for what the job reads and writes"),
    ] = msgspec.field(default_factory=dict)

    def password(self) -> str:
        """The SASL password: from the environment, else from `password_file`, else empty."""
        return os.environ.get(KAFKA_PASSWORD_VARIABLE) or secret("kafka.password_file", self.password_file)

    def java_properties(self) -> dict[str, str]:
        """The security settings as properties of Kafka's own client, which Flink's connector uses."""
        properties: dict[str, str] = {} if self.security == "PLAINTEXT" else {"security.protocol": self.security}
        if self.security.startswith("SASL"):
            module = LOGIN_MODULES.get(self.mechanism, SCRAM_MODULE)
            said = " ".join(f"{name}={_jaas_quoted(word)}" for name, word in self._login().items())
            properties["sasl.mechanism"] = self.mechanism
            properties["sasl.jaas.config"] = f"{CONNECTORS_LOGIN}.{module} required {said};"
            if self.mechanism == "OAUTHBEARER":
                handler = f"{CONNECTORS_LOGIN}.oauthbearer.OAuthBearerLoginCallbackHandler"
                properties |= {
                    "sasl.login.callback.handler.class": handler,
                    # Kafka's own choice asks for a class of a library that a client has no use for.
                    "sasl.oauthbearer.jwt.validator.class": f"{CONNECTORS_LOGIN}.oauthbearer.ClientJwtValidator",
                    "sasl.oauthbearer.token.endpoint.url": self.token_url,
                    "sasl.oauthbearer.header.urlencode": "true",  # as the standard has it
                }
        if self.security.endswith("SSL") and self.ca_file:
            properties |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": self.ca_file}
        if self.security.endswith("SSL") and self.client_file:
            properties |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": self.client_file}
        return {**self.properties, **properties}

    def java_options(self) -> list[str]:
        """What the Java of whatever reads or writes Kafka has to be started with: it asks no other URL for a token."""
        if not (self.security.startswith("SASL") and self.mechanism == "OAUTHBEARER"):
            return []
        return [f"-D{CONNECTORS_KAFKA}.sasl.oauthbearer.allowed.urls={self.token_url}"]

    def python_arguments(self) -> dict[str, Any]:
        """The broker and the security settings as arguments of any class of kafka-python."""
        arguments: dict[str, Any] = {"bootstrap_servers": self.bootstrap, "security_protocol": self.security}
        if tokens := self.tokens():
            arguments |= {"sasl_mechanism": self.mechanism, "sasl_oauth_token_provider": tokens}
        elif self.security.startswith("SASL"):
            arguments |= {"sasl_mechanism": self.mechanism, "sasl_plain_username": self.username}
            arguments["sasl_plain_password"] = self.password()
        if self.security.endswith("SSL") and self.ca_file:
            arguments["ssl_cafile"] = self.ca_file
        if self.security.endswith("SSL") and self.client_file:
            arguments["ssl_certfile"] = self.client_file
        return arguments

    def tokens(self) -> "Tokens | None":
        """Who asks for tokens, where they are the way in."""
        if not self.java_options():
            return None
        from .tokens import tokens_of  # noqa: PLC0415  kafka-python, which few commands need

        return tokens_of(self.token_url, self.username, self.password(), self.token_scope)

    def _login(self) -> dict[str, str]:
        """The options of Kafka's login module."""
        if self.mechanism != "OAUTHBEARER":
            return {"username": self.username, "password": self.password()}
        scope = {"scope": self.token_scope} if self.token_scope else {}
        return {"clientId": self.username, "clientSecret": self.password(), **scope}


class RedisSettings(Section):
    """Where slates are cached; no `url`, no cache. The URL's password is never printed."""

    url: Annotated[
        str,
        Meta(
            description="URL of the cache: redis://HOST:PORT/0, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/0 or "
            "redis+cluster://HOST:PORT,HOST:PORT, each with rediss for TLS; none is no cache; RIVERRANK_REDIS_URL goes "
            "first"
        ),
    ] = ""
    url_file: Annotated[str, Meta(description="file that holds the URL, in place of redis.url")] = ""
    prefix: Annotated[str, Meta(description="prefix of every key")] = DEFAULT_PREFIX
    timeout: Annotated[
        Interval, Meta(description="longest time for a write; half of it for connecting, or for a reply")
    ] = DEFAULT_TIMEOUT_MS

    def __repr__(self) -> str:
        return (
            f"RedisSettings(url={masked(self.url)!r}, url_file={self.url_file!r}, prefix={self.prefix!r}, "
            f"timeout={self.timeout})"
        )


class CacheSettings(Section):
    """How slates reach Redis."""

    ttl: Annotated[Interval, Meta(description="a cached slate expires after this; less than job.state_ttl")] = (
        DEFAULT_TTL_MS
    )
    depth: Annotated[
        int,
        Meta(
            ge=0,
            le=200,
            description="places of a slate in Redis, at most, for pages below the first; at least `slate.size`, and no "
            "more than candidates are found (`slate.candidates`); 0: those of the slate",
        ),
    ] = 0
    popular_every: Annotated[
        Interval, Meta(description="the slate of users who have none is refreshed at least this often")
    ] = 10_000
    lists: Annotated[
        float,
        Meta(
            ge=0.0,
            le=100.0,
            description="lists of what is like an item, or taken together with it, that are made for each answer, on "
            "average, of those that changed; 0: none, and none of what trends",
        ),
    ] = 0.1
    buckets: Annotated[int, Meta(ge=1, le=4096, description="groups of users that are written together")] = 16
    flush_every: Annotated[
        Interval, Meta(description="longest time that a slate waits for others to go to a quick Redis with")
    ] = 20
    drain: Annotated[
        Milliseconds, Meta(description="how long a bounded job waits, at its end, for a Redis that is away")
    ] = 120_000


class JobSettings(Section):
    """The Flink job."""

    name: Annotated[Name, Meta(description="name in Flink's own displays")] = "riverrank"
    parallelism: Annotated[Count, Meta(description="parallel instances of the per-user operators")] = 1
    max_parallelism: Annotated[
        int, Meta(ge=1, le=32_768, description="upper limit of it, which can never change after the first savepoint")
    ] = 128
    separate: Annotated[
        bool,
        Meta(
            description="answer in other slots, so in other interpreters, than what learns from all users: twice as "
            "many slots as the parallelism. An embedded run does wherever there are two cores"
        ),
    ] = False
    state: Annotated[
        str,
        Meta(
            description="folder that an embedded run keeps its state in, and goes on from; none: nothing outlives it. "
            "A cluster's is set in Flink's own configuration"
        ),
    ] = ""
    checkpoint_every: Annotated[Interval, Meta(description="time between two checkpoints")] = 10_000
    state_ttl: Annotated[
        Interval,
        Meta(
            description="the state of a user who was not seen for this long is dropped; at least allowed_lateness, and "
            "longer than cache.ttl where there is a cache"
        ),
    ] = 90 * 86_400_000


class ServeSettings(Section):
    """The HTTP service of `riverrank serve`."""

    host: Annotated[Name, Meta(description="address to listen on; 0.0.0.0 is all of the machine's")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="port to listen on; 0 is any that is free")] = 8000
    requests: Annotated[
        int, Meta(ge=1, le=10_000, description="requests at once; whoever comes above them is told to come later")
    ] = 256
    connections: Annotated[
        int, Meta(ge=1, le=100_000, description="open connections; those above them are refused")
    ] = 512
    timeout: Annotated[
        int, Meta(ge=100, extra={"unit": "ms"}, description="longest time for a request, beside serve.wait")
    ] = 5_000
    wait: Annotated[
        Milliseconds, Meta(description="longest time that a read waits for the slate that answers its `after`")
    ] = 1_000
    batch: Annotated[int, Meta(ge=1, le=10_000, description="records that are taken in one request")] = 500
    body: Annotated[int, Meta(ge=1_024, le=1 << 26, description="bytes of a request's body")] = 1 << 20
    headers: Annotated[int, Meta(ge=1_024, le=65_536, description="bytes of a request's address and headers")] = 16_384
    refresh: Annotated[
        Interval, Meta(description="how old what all reads share may be: the popular slate, and what is gone")
    ] = 1_000
    drain: Annotated[Interval, Meta(description="how long requests may go on once the service is told to end")] = 10_000
    keys_file: Annotated[
        str, Meta(description="file of the keys that callers must give, one a line; none: who reaches it may call it")
    ] = ""
    cors: Annotated[
        tuple[Name, ...], Meta(description='origins whose pages may call it, such as "https://shop.example"')
    ] = ()
    exposure: Annotated[
        tuple[Name, ...],
        Meta(
            max_length=MOST_WATCHED,
            description="attributes of items, or category, by which its page says who gets shown; none: those that "
            "fairness.floors names",
        ),
    ] = ()
    cohorts: Annotated[
        tuple[Name, ...],
        Meta(max_length=MOST_WATCHED, description="attributes of profiles by which its page says who is served well"),
    ] = ()
    log: Annotated[bool, Meta(description="whether each request is a line of the log, with the user's pseudonym")] = (
        False
    )


class PrivacySettings(Section):
    """What the job knows its users by."""

    key_file: Annotated[
        str,
        Meta(
            description="file that holds the secret with which ids of users are hashed to keys of the job's state; "
            "RIVERRANK_PRIVACY_KEY goes first. None: who guesses an id can see whether it is there. With another "
            "secret no state is found again"
        ),
    ] = ""

    def key(self) -> bytes:
        """What pseudonyms are made with: of the secret from the environment, else from `key_file`; empty for none.
        Raises `UsageError` where the file is absent, or the secret too short to be one.
        """
        given = os.environ.get(PRIVACY_KEY_VARIABLE)
        if not (given or self.key_file):
            return b""
        held = given.strip() if given else secret("privacy.key_file", self.key_file)
        if len(held) < LEAST_SECRET:
            raise UsageError(
                f"{PRIVACY_KEY_VARIABLE if given else 'privacy.key_file'}: expected a secret of {LEAST_SECRET} "
                f"characters or more, got {len(held)}; `openssl rand -hex 32` makes one"
            )
        return hashlib.blake2b(held.encode()).digest()


def _jaas_quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
