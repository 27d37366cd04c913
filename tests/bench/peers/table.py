"""The peers: which versions, how each is run, and why so. This table goes to docs/benchmarks.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

DRIVER = ("redis==8.1.0", "hiredis==3.5.0")  # for those that say nothing narrower; hiredis is what ours has too
LOOP = ("uvloop==0.23.0",)


@dataclass(frozen=True)
class Peer:
    """One library, as it is measured."""

    name: str
    requires: tuple[str, ...]  # the library itself first; a venv holds these and what they need
    worker: tuple[str, ...]  # what its python is given to run a worker; `{slots}` stands for tasks at a time
    choice: str
    tasks: int  # a drain: enough for some seconds
    slots: int = 100
    wide: int = 1000  # tasks at a time when all that tasks do is wait
    once: bool = False  # at most once: a killed worker loses what it had taken
    variables: Mapping[str, str] = field(default_factory=dict)
    module: str = ""  # its program in this folder; by default that of its name
    wide_worker: tuple[str, ...] = ()  # another worker when all that tasks do is wait
    skips: tuple[str, ...] = ()  # rows that would take minutes

    @property
    def title(self) -> str:
        """What tables call it, with a star if it runs tasks at most once."""
        return f"{self.name}{'*' if self.once else ''}"

    @property
    def version(self) -> str:
        return re.sub(r"\[.*]", "", self.requires[0]).replace("==", " ") if self.requires else "this commit"

    @property
    def program(self) -> str:
        return f"{self.module or self.name}_peer"


CELERY = (
    *("-m", "celery", "-A", "peers.celery_peer", "worker", "--concurrency={slots}", "--loglevel=ERROR"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
)
TASKIQ = ("taskiq==0.13.0", "taskiq-redis==1.2.4", "taskiq-pipelines==0.1.4", *DRIVER, *LOOP)
TASKIQ_WORKER = (
    *("-m", "taskiq", "worker", "peers.taskiq_peer:broker", "--workers=1", "--max-async-tasks={slots}"),
    "--log-level=ERROR",
)
RQ = ("-m", "rq.cli", "worker", "--quiet", "--url={url}")

MOTET = Peer(
    name="motet",
    requires=(),
    worker=("-m", "motet", "worker", "peers.motet_peer:app", "-c", "{slots}", "-l", "error"),
    choice="`motet worker`, its defaults: at least once, 100 tasks at a time",
    tasks=100_000,
)
ON_REDIS = (
    Peer(
        name="celery",
        requires=("celery[redis]==5.7.0", "gevent==26.9.0", "redis==8.1.0", "hiredis==3.5.0"),
        worker=(*CELERY, "--pool=threads"),
        wide_worker=(*CELERY, "--pool=gevent"),
        choice="`acks_late`, prefetch 50 (the manual's advice for short tasks), threads; gevent to wait",
        tasks=3_000,
        slots=8,
    ),
    Peer(
        name="dramatiq",
        requires=("dramatiq==2.2.1", *DRIVER),
        worker=("-m", "dramatiq", "peers.dramatiq_peer", "--processes=1", "--threads={slots}", "--skip-logging"),
        choice="8 threads, acknowledged when done, its defaults; `dramatiq_queue_prefetch=100`, not 16",
        tasks=5_000,
        slots=8,
        wide=200,
        variables={"dramatiq_queue_prefetch": "100"},
    ),
    Peer(
        name="taskiq-stream",
        module="taskiq",
        requires=TASKIQ,
        worker=TASKIQ_WORKER,
        choice="`RedisStreamBroker`, acknowledged when the result is saved (its default), uvloop",
        tasks=5_000,
    ),
    Peer(
        name="taskiq-list",
        module="taskiq",
        requires=TASKIQ,
        worker=TASKIQ_WORKER,
        choice="`ListQueueBroker`, which has no acknowledgement, uvloop",
        tasks=8_000,
        once=True,
        variables={"BENCH_BROKER": "list"},
    ),
    Peer(
        name="arq",
        requires=("arq==0.28.0", *DRIVER[1:], *LOOP),
        worker=("-m", "arq", "peers.arq_peer.WorkerSettings", "--custom-log-dict", "peers.arq_peer.LOGGING"),
        choice="its only mode; the queue polled every 10 ms, not every 500; uvloop",
        tasks=4_000,
    ),
    Peer(
        name="saq",
        requires=("saq[redis]==0.26.4", "typing-extensions==4.16.0", "hiredis==3.5.0", *LOOP),
        worker=("-m", "saq", "peers.saq_peer.settings", "--quiet"),
        choice="`retries=3`, without which a swept job is given up; uvloop",
        tasks=4_000,
    ),
    Peer(
        name="streaq",
        requires=("streaq==7.2.0", *LOOP),
        worker=("-m", "streaq", "run", "peers.streaq_peer:worker"),
        choice="its defaults, `silent` (no line of log for each task), uvloop",
        tasks=3_000,
        slots=16,
    ),
    Peer(
        name="rq",
        requires=("rq==3.0.0", *DRIVER),
        worker=RQ,
        choice="`Retry(max=3)`; its default worker, which forks for each job; results kept, for that is cheaper",
        skips=("chord", "chords", "chain"),
        tasks=100,
        slots=1,
        wide=1,
    ),
    Peer(
        name="rq-simple",
        module="rq",
        requires=("rq==3.0.0", *DRIVER),
        worker=(*RQ, "--worker-class=rq.SimpleWorker"),
        choice="the same with `SimpleWorker`: no fork, so a job's crash is the worker's",
        tasks=1_000,
        slots=1,
        wide=1,
        variables={"BENCH_SIMPLE": "1"},
    ),
    Peer(
        name="huey",
        requires=("huey==3.5.4", *DRIVER),
        worker=("-m", "huey.bin.huey_consumer", "peers.huey_peer.huey", "--workers={slots}", "--quiet"),
        choice="its defaults: one thread, and 200 to wait; a task is popped before it runs",
        tasks=12_000,
        slots=1,
        wide=200,
        once=True,
    ),
    Peer(
        name="pydocket",
        module="docket",
        requires=("pydocket==0.27.0", *DRIVER, *LOOP),
        worker=("-m", "peers.docket_peer"),
        choice="`Worker.run_forever`, its defaults, uvloop; without results `execution_ttl=0`",
        tasks=4_000,
    ),
)
ON_NATS = (
    Peer(
        name="taskiq-nats",
        module="taskiq_nats",
        requires=("taskiq-nats==0.7.0", "taskiq==0.13.0", "nats-py==2.16.0", *LOOP),
        worker=(
            *("-m", "taskiq", "worker", "peers.taskiq_nats_peer:broker", "--workers=1"),
            *("--max-async-tasks={slots}", "--log-level=ERROR"),
        ),
        choice="`PullBasedJetStreamBroker`, 100 messages a pull, not 1; acknowledged when the result is saved; uvloop",
        tasks=5_000,
    ),
)
ON_RABBITMQ = (
    Peer(
        name="celery",
        module="celery_rabbitmq",
        requires=("celery==5.7.0", "gevent==26.9.0"),
        worker=tuple(part.replace("celery_peer", "celery_rabbitmq_peer") for part in (*CELERY, "--pool=threads")),
        choice="`acks_late`, prefetch 50 (the manual's advice for short tasks), threads, quorum queues, confirms",
        tasks=3_000,
        slots=8,
    ),
    Peer(
        name="dramatiq",
        module="dramatiq_rabbitmq",
        requires=("dramatiq[rabbitmq]==2.2.1",),
        worker=(
            *("-m", "dramatiq", "peers.dramatiq_rabbitmq_peer"),
            *("--processes=1", "--threads={slots}", "--skip-logging"),
        ),
        choice="8 threads, acknowledged when done, prefetch 100; confirmed publishes; classic queues, its only ones",
        tasks=5_000,
        slots=8,
        wide=200,
        variables={"dramatiq_queue_prefetch": "100"},
    ),
    Peer(
        name="taskiq-aio-pika",
        module="taskiq_rabbitmq",
        requires=("taskiq-aio-pika==0.6.1", "taskiq==0.13.0", "aio-pika==10.2.1", *LOOP),
        worker=(
            *("-m", "taskiq", "worker", "peers.taskiq_rabbitmq_peer:broker", "--workers=1"),
            *("--max-async-tasks={slots}", "--log-level=ERROR"),
        ),
        choice="`AioPikaBroker`, 100 tasks at a time, acknowledged when done (its default); uvloop",
        tasks=5_000,
    ),
)
