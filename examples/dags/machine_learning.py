"""A small machine-learning workflow on generated data, every minute: extract → features → two models → evaluate → publish.

It is a small version of what people run on their schedulers: real numerical work, files that pass from task to task, two
tasks in parallel, and a decision at the end. It works with Airflow 2.11 and 3, and needs numpy. Its files go to the folder
`MACHINE_LEARNING_STORE`.
"""

from __future__ import annotations

import json
import os
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

try:
    from airflow.sdk import dag, get_current_context, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.operators.python import get_current_context

STORE = Path(os.environ.get("MACHINE_LEARNING_STORE") or Path(tempfile.gettempdir()) / "machine-learning")
ROWS, TEST_SHARE = 4_000, 0.25


def place(name: str) -> Path:
    """The path of a file of this run. A task that is run again writes the same file again."""
    run = "".join(letter if letter.isalnum() else "-" for letter in get_current_context()["run_id"])
    folder = STORE / run
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


@dag(
    schedule=timedelta(minutes=1),
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=2,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=2)},
    tags=["example"],
)
def machine_learning():
    @task
    def extract() -> str:
        """A noisy function of eight measurements, like a table of house prices, loads or clicks."""
        import numpy as np

        random = np.random.default_rng(seed=int(datetime.now(timezone.utc).timestamp()))
        measured = random.normal(size=(ROWS, 8))
        wanted = np.sin(2 * measured[:, 0]) + measured[:, 1] * measured[:, 2] + 0.5 * measured[:, 3] ** 2
        file = place("raw.npz")
        np.savez(file, measured=measured, wanted=wanted + random.normal(scale=0.2, size=ROWS))
        return str(file)

    @task
    def features(raw: str) -> str:
        """The measurements with their squares and products, each with mean 0 and spread 1; a quarter is kept for the test."""
        import numpy as np

        data = np.load(raw)
        measured = data["measured"]
        first, second = np.triu_indices(measured.shape[1])
        table = np.hstack([measured, measured[:, first] * measured[:, second]])
        table = (table - table.mean(axis=0)) / table.std(axis=0)
        cut = int(len(table) * (1 - TEST_SHARE))
        file = place("features.npz")
        np.savez(
            file,
            train_x=table[:cut], train_y=data["wanted"][:cut], test_x=table[cut:], test_y=data["wanted"][cut:],
        )  # fmt: skip
        return str(file)

    @task
    def train_ridge(table: str) -> dict:
        """A linear model, solved in one step."""
        import numpy as np

        data = np.load(table)
        x = data["train_x"]
        weights = np.linalg.solve(x.T @ x + 1.0 * np.eye(x.shape[1]), x.T @ (data["train_y"] - data["train_y"].mean()))
        guess = data["test_x"] @ weights + data["train_y"].mean()
        return {"model": "ridge", "error": float(np.sqrt(np.mean((guess - data["test_y"]) ** 2)))}

    @task
    def train_network(table: str) -> dict:
        """A network with one hidden layer, trained by gradient descent."""
        import numpy as np

        data = np.load(table)
        x, y = data["train_x"], data["train_y"][:, None]
        random = np.random.default_rng(seed=1)
        inner, outer = random.normal(scale=0.2, size=(x.shape[1], 32)), random.normal(scale=0.2, size=(32, 1))
        for _ in range(200):
            hidden = np.tanh(x @ inner)
            off = (hidden @ outer - y) / len(x)
            outer, inner = (
                outer - 0.5 * hidden.T @ off,
                inner - 0.5 * x.T @ ((off @ outer.T) * (1 - hidden**2)),
            )
        guess = np.tanh(data["test_x"] @ inner) @ outer
        return {"model": "network", "error": float(np.sqrt(np.mean((guess[:, 0] - data["test_y"]) ** 2)))}

    @task
    def evaluate(results: list) -> dict:
        return min(results, key=lambda result: result["error"])

    @task
    def publish(best: dict) -> None:
        """Publish the model for others. The file is replaced as a whole, so that a repeated run does no harm."""
        draft = place("published.json")
        draft.write_text(json.dumps(best))
        draft.replace(STORE / "published.json")
        print(f"published {best['model']}, error {best['error']:.3f}")

    table = features(extract())
    publish(evaluate([train_ridge(table), train_network(table)]))


machine_learning()
