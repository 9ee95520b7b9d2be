"""The same line of succession inside a Python program: a callable that runs in one process at a time.

    from heirflow import Election

    def work(lead):
        while not lead.stopping.wait(1.0):
            ...

    Election("reports", db_url="postgresql://…").run(work)

What this cannot promise: a thread cannot be killed. `heirflow run` kills a program's whole process tree in time; here the
callable is only *told* to stop, through `Lead.stopping`. A callable that has not returned when it must would be a second
leader, or would keep the line waiting for ever. So by default the whole process then ends itself at once, with exit code 75 and
without cleaning up (``overrun="exit"``): at the end of its lease, and `stop_timeout_s` after an orderly stop was asked for. With
``overrun="warn"`` it goes on, and two may run at the same time. A callable that holds the interpreter (a long call in C that
does not let go of the GIL), or a process that is frozen, is stopped later than that.

`election` has what a program calls, `keeper` what keeps a callable as a guard keeps a command, `lead` what the callable gets.
docs/python.md has signals, exceptions and exit codes.
"""
