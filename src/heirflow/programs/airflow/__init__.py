"""Airflow: what it is told by, never imported into a member."""
