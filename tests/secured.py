"""Services that ask who is there, and what stands between: Kafka with TLS and SASL, and TLS or time before any."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from riverrank.jobs.dev import services
from tokens import TokenIssuer

USER, PASSWORD = "app", "gehe;im'7"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class Authority:
    """Who signs certificates: its own in `ca`, in `cert` and `key` one for `host`, and in `keystore` both of these, PEM
    files below `folder`.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        folder.mkdir(exist_ok=True)
        authority = trustme.CA()
        issued = authority.issue_cert(host)
        self.ca, self.cert, self.key, self.keystore = (
            folder / f"{name}.pem" for name in ("ca", "cert", "key", "keystore")
        )
        authority.cert_pem.write_to_path(self.ca)
        self.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.keystore.write_bytes(self.key.read_bytes() + self.cert.read_bytes())


class SecuredBroker(services.KafkaBroker):
    """A broker that is spoken to plainly at `port`, with TLS and SASL at `secured_port`, and with TLS by whoever has a
    certificate of the same authority at `certified_port`. Where there is an issuer, its tokens let in as well.
    """

    def __init__(self, authority: Authority, issuer: TokenIssuer | None = None) -> None:
        super().__init__()
        self.issuer = issuer
        self.authority, self.secured_port, self.certified_port = authority, services.free_port(), services.free_port()

    def answers(self, mechanism: str, username: str, password: str, folder: Path) -> dict[str, str]:
        """The settings of [kafka] by which a job comes in at `secured_port`; the password in a file of `folder`."""
        (folder / "password").write_text(f"{password}\n", "utf-8")
        return {
            "bootstrap": f"127.0.0.1:{self.secured_port}",
            "security": "SASL_SSL",
            "mechanism": mechanism,
            "username": username,
            "password_file": str(folder / "password"),
            "ca_file": str(self.authority.ca),
        }

    def _users(self) -> list[str]:
        """USER, by SCRAM; PLAIN stands in the broker's own properties."""
        return [
            word
            for mechanism in MECHANISMS[1:]
            for word in ("--add-scram", f"{mechanism}=[name={USER},iterations=4096,password={PASSWORD}]")
        ]

    def _java_options(self) -> list[str]:
        return [] if self.issuer is None else self.issuer.java_options()

    def _properties(self, data: Path, controller: int) -> dict[str, object]:
        properties = super()._properties(data, controller)
        for listeners in ("listeners", "advertised.listeners"):
            properties[listeners] = (
                f"{properties[listeners]},SASL_SSL://127.0.0.1:{self.secured_port},SSL://127.0.0.1:{self.certified_port}"
            )
        modules = "org.apache.kafka.common.security"
        plain = f'{modules}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        return properties | {
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": ",".join([*MECHANISMS, *(["OAUTHBEARER"] if self.issuer else [])]),
            **(self.issuer.broker_properties("listener.name.sasl_ssl.oauthbearer") if self.issuer else {}),
            "listener.name.sasl_ssl.plain.sasl.jaas.config": plain,
            **{
                f"listener.name.sasl_ssl.{mechanism.lower()}.sasl.jaas.config": f"{modules}.scram.ScramLoginModule "
                "required;"
                for mechanism in MECHANISMS[1:]
            },
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.authority.keystore,
            "ssl.client.auth": "none",
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.ssl.ssl.truststore.type": "PEM",
            "listener.name.ssl.ssl.truststore.location": self.authority.ca,
        }


@contextmanager
def in_front_of(
    port: int, authority: Authority | None = None, delay: float = 0.0, own_port: int = 0, certified: bool = False
) -> Iterator[int]:
    """A port, `own_port` if there is one, that hands on what it hears to `port`, each way so many seconds later; it
    speaks TLS where there is an authority, with its certificate, and where `certified` to who has one of it as well.
    """
    context = None
    if authority is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(authority.cert, authority.key)
        if certified:
            context.load_verify_locations(authority.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    loop, own_port = asyncio.new_event_loop(), own_port or services.free_port()

    async def hand_on(heard: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await heard.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        handing = loop.create_task(hand_on(heard, writer))
        data = b"-"
        while data:
            try:
                data = await reader.read(1 << 16)
            except OSError:  # that side went away, which the other is to hear of
                data = b""
            heard.put_nowait((loop.time() + delay, data))
        await handing

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        beyond: tuple[Any, Any] = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, beyond[1]), pump(beyond[0], writer))

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", own_port, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield own_port
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
