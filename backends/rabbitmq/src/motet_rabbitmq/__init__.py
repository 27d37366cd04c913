"""The RabbitMQ adapter of Motet: quorum queues of one broker, and no other store."""

from motet_rabbitmq.backend import RabbitBackend, open

__all__ = ["RabbitBackend", "open"]
