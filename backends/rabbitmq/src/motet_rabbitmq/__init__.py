"""The RabbitMQ adapter of Motet: quorum queues and streams of one broker, and no other store."""
