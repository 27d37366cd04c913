"""What Debian's packages have that no wheel has: installed by root, announced, and no service of it left running."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

__all__ = ["install"]

POLICY = Path("/usr/sbin/policy-rc.d")
"""Asked by Debian whether a service may start when its package is installed: 101 is no."""


def install(package: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Install a package, if we may: on Debian, as root, unless MOTET_TEST_INSTALL is 0. Say whether it was."""
    apt = shutil.which("apt-get", path=environment.get("PATH"))
    if apt is None or os.getuid() or environment.get("MOTET_TEST_INSTALL", "1") == "0":
        return False
    print(f"installing {package} with apt-get (MOTET_TEST_INSTALL=0 switches this off)", flush=True)
    asked = {**environment, "DEBIAN_FRONTEND": "noninteractive"}
    command = [apt, "install", "--yes", "--quiet", "--no-install-recommends", package]
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        POLICY.chmod(0o755)
    try:
        done = subprocess.run(command, env=asked, check=False)
        if done.returncode:
            subprocess.run([apt, "update", "--quiet"], env=asked, check=False)
            done = subprocess.run(command, env=asked, check=False)
    finally:
        if ours:
            POLICY.unlink()
    for disable in (["service", package, "stop"], ["update-rc.d", package, "disable"]):
        if shutil.which(disable[0]):
            subprocess.run(disable, check=False, capture_output=True)
    return done.returncode == 0
