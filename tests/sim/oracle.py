from __future__ import annotations
from typing import Any
def judge(schedule: Any) -> None: pass
