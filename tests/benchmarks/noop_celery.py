"""The same app for Celery, with the settings that give the same promises as far as Celery has them."""

from __future__ import annotations

from celery import Celery

from .servers import REDIS, REDIS_RESULTS

app = Celery("benchmark", broker=REDIS, backend=REDIS_RESULTS)
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_default_queue="benchmark",
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task
def nothing(number: int) -> int:
    return number
