"""The page: every election at a glance, live, by itself (`heirflow serve`) or inside Airflow.

It reads a `Snapshot` and the history, and nothing here is ever in a member's way: all viewers together share one reading a second,
and where nobody looks, nothing is read.

    desk       the readings, the history and the orders, for any server
    views      what a page shows, as plain values
    timeline   who led when
    pages      the templates
    routes     the same for Starlette and FastAPI; `flask_view` for Airflow 2
    server     `heirflow serve`

It needs the extra ``web``: Starlette, uvicorn, Jinja2 and prometheus-client. An API server of Airflow has all of them but the last.
"""
