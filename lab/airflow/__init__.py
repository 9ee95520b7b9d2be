"""Real Airflow in line: the demonstration, the cluster, chaos, and native schedulers beside them."""
