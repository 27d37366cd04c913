"""Keys and signed claims, as a server with an operator wants them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys

__all__ = ["credentials", "name_of", "new_key"]


def new_key(prefix: int) -> Any:
    """Make a pair of keys for a user, an account, or an operator."""
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))


def name_of(key: Any) -> str:
    return str(key.public_key.decode())


def credentials(folder: Path) -> tuple[str, list[str]]:
    """Make an operator, an account and a user; return the user's file, and what a server's configuration says."""
    operator, user = new_key(nkeys.PREFIX_BYTE_OPERATOR), new_key(nkeys.PREFIX_BYTE_USER)
    account, system = (new_key(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(2))  # JetStream wants one of the server's own
    all_of_it = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer", "subs", "data", "payload"), -1)
    limits = {**all_of_it, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "wildcards": True}
    signed_account = claims(account, operator, {"type": "account", "version": 2, "limits": limits})
    no_streams = {**limits, "mem_storage": 0, "disk_storage": 0, "streams": 0, "consumer": 0}
    signed_system = claims(system, operator, {"type": "account", "version": 2, "limits": no_streams})
    signed_user = claims(user, account, {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1})
    file = folder / "user.creds"
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{signed_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n",
        encoding="utf-8",
    )
    return str(file), [
        f"operator: {claims(operator, operator, {'type': 'operator', 'version': 2})}",
        "resolver: MEMORY",
        f"system_account: {name_of(system)}",
        f"resolver_preload: {{ {name_of(account)}: {signed_account}, {name_of(system)}: {signed_system} }}",
    ]


def claims(of: Any, by: Any, what: dict[str, Any]) -> str:
    """Sign what somebody may do."""
    body: dict[str, Any] = {"iat": int(time.time()), "iss": name_of(by), "name": "motet", "sub": name_of(of)}
    body |= {"nats": what, "jti": hashlib.sha256(name_of(of).encode()).hexdigest()}
    text = ".".join(quoted(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body))
    return f"{text}.{quoted(by.sign(text.encode()))}"


def quoted(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
