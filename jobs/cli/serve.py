"""`riverrank serve`: slates, lists and records by HTTP."""

from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import UsageError

from .flags import ITEMS, KAFKA, REDIS, Flag, configured

HOST, PORT = Flag("serve.host", "--host", "HOST"), Flag("serve.port", "--port", "PORT")
KEYS = Flag("serve.keys_file", "--keys-file", "FILE")


@configured(HOST, PORT, KEYS, ITEMS, KAFKA, REDIS)
def serve(config: Config) -> None:
    """Serve slates and lists from Redis, and take events and items for Kafka, by HTTP, until Ctrl-C or SIGTERM. What is
    away when it starts may come later. /docs lists what there is.
    """
    if not (config.redis.url or config.kafka.bootstrap):
        raise UsageError("nothing to serve: give --redis URL to read slates, --kafka HOST:PORT to take events, or both")
    from riverrank.jobs.config import preflight
    from riverrank.jobs.serving.http import server
    from riverrank.jobs.serving.page.service import Page

    preflight.check_readable(config)
    with Page(config) as page:
        server.serve(config, page.routes)
