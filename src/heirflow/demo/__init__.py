"""A demonstration that anybody can run: a line of three, a leader that dies, and how long nobody worked.

story ──── what happens, in which order, and the summary
  ├─ airflow_play, plain_play   what is run in the line: components of real Airflow, or a plain program
  ├─ site                       one installation of Airflow: database, broker, API server, workers, settings
  ├─ environment                Airflow in a virtual environment of its own, pinned
  ├─ watch, screen              what is seen, and how it is shown
  └─ stage ── warden            every process started here, and the promise that none is left
"""
