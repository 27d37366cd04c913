"""The RabbitMQ adapter of Motet: quorum queues of one broker, and no other store."""

from motet_rabbitmq.backend import RabbitBackend, open
from motet_rabbitmq.crashes import FAILPOINTS

__all__ = ["FAILPOINTS", "RabbitBackend", "open"]
