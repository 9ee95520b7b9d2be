"""A whole highly available Airflow on hosts of its own, of which any one part may be lost, and what loses them."""
