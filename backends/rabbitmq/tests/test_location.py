"""What a URL says, and what is said of one that names no broker."""

from __future__ import annotations

import pytest

from motet.errors import BadBackend
from motet_rabbitmq.location import Location, locate


def test_a_url_without_anything_is_the_broker_of_this_machine() -> None:
    found = locate("amqp://")

    assert found.addresses == (("localhost", 5672),)
    assert (found.user, found.password, found.vhost) == ("guest", "guest", "/")
    assert (found.heartbeat, found.shards, found.secure) == (10, 8, False)


def test_several_brokers_are_named_in_one_url() -> None:
    found = locate("amqp://a,b:5673,[::1],[fe80::1]:5674/jobs")

    assert found.addresses == (("a", 5672), ("b", 5673), ("::1", 5672), ("fe80::1", 5674))
    assert found.vhost == "jobs"


def test_user_password_and_vhost_are_unquoted() -> None:
    found = locate("amqp://me%40here:p%2Fw%3A@host/a%2Fb")

    assert (found.user, found.password, found.vhost) == ("me@here", "p/w:", "a/b")


@pytest.mark.parametrize("path", ["", "/", "/%2F", "/%2f"])
def test_the_default_vhost_has_many_spellings(path: str) -> None:
    assert locate(f"amqp://host{path}").vhost == "/"


def test_tls_has_a_port_of_its_own_and_verifies() -> None:
    found = locate("amqps://host")
    context = found.tls()

    assert found.addresses == (("host", 5671),)
    assert context is not None
    assert context.check_hostname
    assert locate("amqp://host").tls() is None


def test_options_are_read() -> None:
    found = locate("amqps://host?heartbeat=3&shards=2&ca=ca.pem&cert=c.pem&key=k.pem")

    assert (found.heartbeat, found.shards) == (3, 2)
    assert (found.ca, found.pair) == ("ca.pem", ("c.pem", "k.pem"))


def test_no_password_is_told() -> None:
    found = locate("amqp://me:secret@host")

    assert "secret" not in found.name
    assert "secret" not in repr(found)
    with pytest.raises(BadBackend) as caught:
        locate("amqp://me:secret@host:port")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://host", "write amqp://"),
        ("amqp://host:port", "no host:port"),
        ("amqp://host:70000", "no host:port"),
        ("amqp://:5672", "no host:port"),
        ("amqp://user@host", "needs a password"),
        ("amqp://host/a/b", "%2F"),
        ("amqp://host?sink=1", "known are"),
        ("amqp://host?sink", "host?sink"),
        ("amqp://host?heartbeat=0", "1 to 3600"),
        ("amqp://host?heartbeat=soon", "1 to 3600"),
        ("amqp://host?shards=0", "shards"),
        ("amqp://host?consumer_timeout=soon", "consumer_timeout"),
        ("amqp://host?ca=ca.pem", "amqps://"),
        ("amqps://host?cert=c.pem", "go together"),
        ("amqp://[::1", "no host:port"),
    ],
)
def test_a_url_that_names_no_broker_is_refused_with_what_to_write(url: str, said: str) -> None:
    with pytest.raises(BadBackend) as caught:
        locate(url)

    assert said in str(caught.value)


def test_a_location_is_a_value() -> None:
    assert locate("amqp://host") == Location("amqp://host", (("host", 5672),))
