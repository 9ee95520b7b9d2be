"""Celery's settings for Airflow with quorum queues of RabbitMQ: tasks outlive the loss of any one broker of three.

Put this file into $AIRFLOW_HOME/config (it is on Airflow's path) of every scheduler and every worker, and say to Airflow:

    [celery]
    celery_config_options = celery_quorum.CELERY_CONFIG
    broker_url = amqp://airflow:PASSWORD@broker-1:5672//;amqp://airflow:PASSWORD@broker-2:5672//;amqp://…
    operation_timeout = 15
    task_publish_max_retries = 20

A queue that exists as a classic one stays one, and then Celery may not declare it: delete it while nothing is in it
(`rabbitmqctl delete_queue default`), or use another name ([operators] default_queue).
"""

from __future__ import annotations

from typing import Any

import kombu.transport
from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.worker.consumer import Consumer
from kombu.transport import pyamqp

ANSWER_LIMIT_S = 4.0
"""A broker that owes an answer for longer hangs, or is cut off."""


class Transport(pyamqp.Transport):
    """Python's AMQP, in which no wait for a broker is without end.

    Where a broker is frozen or cut off, Celery leaves it with a polite close, and waits for the answer for ever: a scheduler that
    was about to send a task then starts none any more, anywhere. Airflow's own limit has passed by then.
    """

    class Connection(pyamqp.Connection):
        """Its waits end, and after one that was too long, or was broken off, nothing is waited for any more.

        The answer to a wait that Airflow's time limit broke off can come later, and would be taken for that to the next task.
        """

        given_up = False

        def drain_events(self, timeout: float | None = None) -> Any:
            """Raises TimeoutError, which Celery takes for a lost connection."""
            if timeout is not None:
                return super().drain_events(timeout=timeout)
            if self.given_up:
                raise TimeoutError(f"{self.host} owed an answer, and was given up")
            try:
                return super().drain_events(timeout=ANSWER_LIMIT_S)
            except Exception as error:
                self.given_up = isinstance(error, TimeoutError)
                raise
            except BaseException:  # Airflow's time limit is no Exception
                self.given_up = True
                raise


class SSLTransport(pyamqp.SSLTransport):
    """The same with TLS."""

    Connection = Transport.Connection


# What a URL's scheme stands for; no setting says it.
kombu.transport.TRANSPORT_ALIASES.update(
    amqp="celery_quorum:Transport", pyamqp="celery_quorum:Transport", amqps="celery_quorum:SSLTransport"
)


class WithoutDelays(Consumer):
    """A worker's consumer that makes no queues for delayed tasks.

    With quorum queues Celery makes 28 of them, at every broker and again after each lost connection, and tries a broker that
    is down for seconds before it takes the next task. Airflow never delays a Celery task.
    """

    class Blueprint(Consumer.Blueprint):
        """The steps of a worker's connection."""

        default_steps = tuple(step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step)


CELERY_CONFIG = {
    **DEFAULT_CELERY_CONFIG,
    # The queue lives on three brokers: the default one, and those that a task names with queue=…
    "task_default_queue_type": "quorum",
    "task_create_missing_queue_type": "quorum",
    # Quorum queues know no limit that several consumers share; Celery sees that by itself when this is on.
    "worker_detect_quorum_queues": True,
    "worker_consumer": "celery_quorum:WithoutDelays",
    # A task is sent when most brokers have it. Without this, RabbitMQ sends on without looking: in our measurements, all that was
    # sent after the loss of the queue's leader was gone, over a connection to a live broker, and nobody was told.
    "broker_transport_options": {
        **DEFAULT_CELERY_CONFIG["broker_transport_options"],
        "confirm_publish": True,
        "write_timeout": ANSWER_LIMIT_S,
        # Of all tries to connect together. Celery's default is one try's: when the first broker hangs, no other is tried, and
        # Airflow fails the task.
        "connect_retries_timeout": 12.0,
        "interval_start": 0.0,
        "interval_step": 0.2,
        "interval_max": 1.0,
    },
    "broker_connection_timeout": 2.0,
    # Celery goes on until [celery] operation_timeout ends it: Airflow tries again after its own timeout, and fails a task
    # at once after any other error.
    "task_publish_retry": True,
    "task_publish_retry_policy": {
        "max_retries": None,
        "interval_start": 0.1,
        "interval_step": 0.2,
        "interval_max": 1.0,
    },
    # Worker and broker notice each other's silence in twice this; Celery's default of 120 s means four minutes.
    "broker_heartbeat": 4,
    "broker_connection_retry": True,
    "broker_connection_max_retries": None,
    # What runs goes on while the connection is made anew. Its message comes again, and Airflow ignores it: a task that runs
    # or has ended does not start a second time.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # With a limit per consumer, a number that was reduced after a lost connection is never raised again: the worker would
    # run a task or two at a time until its next restart.
    "worker_enable_prefetch_count_reduction": False,
}
