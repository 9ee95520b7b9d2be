"""What HeirFlow knows of Airflow. Airflow is never imported into a member: it is asked in processes of its own."""
