"""The laboratory: what proves HeirFlow and shows it on real Airflow. Never part of the wheel; nothing in the product imports it."""
