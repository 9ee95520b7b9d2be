"""A demonstration that anybody can run: a line of three, a leader that dies, and how long nobody worked.

story ──── what happens, in which order, and the summary
  ├─ watch, screen              what is seen, and how it is shown
  └─ stage ── warden            every process started here, and the promise that none is left

plain_play ── what is run in the line: a plain program (ticker) on a database of its own (database ── serve)

The plays with real Airflow need a checkout (lab.airflow): they are given to `story.perform` in the same way.
"""
