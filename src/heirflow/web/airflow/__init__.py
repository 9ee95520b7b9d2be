"""The page inside Airflow's own user interface, behind Airflow's own login and rights.

Airflow imports every plugin into every process of its own, tasks included. So `plugin` imports nothing of ours and names the rest:
it is built when somebody opens the page, in the process that serves it.

    plugin     what Airflow finds by the entry point ``airflow.plugins``
    asgi       the page in the API server (3.1 and later)
    flask_view the same in the webserver (2.11), with `sheet`
    rights     who may look, and who may give orders
    behind     what stands behind both: which database, and the desk of this process
    jobs       which row of Airflow's `job` table belongs to which member

A page asks again every few seconds and is never a stream. A stream would hold up the stop of Airflow's server for as long as that
waits for open answers (120 s), and would go on for somebody who has logged out.
"""
