"""The page inside Airflow's own user interface, behind Airflow's own login and rights.

Airflow imports every plugin into every process of its own, tasks included. So `plugin` imports nothing of ours and names the rest:
it is built when somebody opens the page, in the process that serves it.

    plugin     what Airflow finds by the entry point ``airflow.plugins``
    asgi       the page in the API server (3.1 and later)
    flask_view the same in the webserver (2.11), with `sheet`
    rights     who may look, and who may give orders
    behind     what stands behind both: which database, and the desk of this process
    jobs       which row of Airflow's `job` table belongs to which member

In the API server a page is a stream of at most a minute, so that who has logged out sees no more than that. Where it cannot be
known that the server wants to end, and in the webserver with its threads, a page asks again every few seconds: a stream would hold
up the end for as long as the server waits for open answers (120 s), and a thread for as long as somebody looks.
"""
