"""Foreign methods: a program in any language, run as a child process and driven from outside.

    program ──HTTP on loopback──> /v1    chat completions, responses, embeddings   (the run's model)
                                  /run   task, evaluate, submit and poll, records  (the run itself)

Both addresses bear one token of the run. Behind them are the same metered, logged and budgeted
objects that every other method uses: the adapter of a foreign method is a generator like any other,

    from harness.foreign.drive import ForeignProgram, drive

    def search(problem):
        yield from drive(problem, ForeignProgram(["/path/to/my-search"]))

so charges, budgets, the run log, kill and resume, and the machine lock hold without further work.

| question | file |
|---|---|
| what does the program see? | `endpoint.py`; docs/foreign-methods.md is its manual |
| how is it served, ended, held to its budget? | `drive.py` |
| how is it started, stopped, cleaned away? | `child.py`; `keeper.py`, a process of its own |
| why does it not disturb what is being timed? | `giving_way.py` |
| how does a Python package get an environment of its own? | `environments.py` |
| what does a driver in Python use? | `bridge.py`, copied beside it |

Not covered: confinement. A foreign program is trusted as an installed package is: it gets a
scrubbed environment and folders of its own, no key and no sandbox. The candidates that it submits
are judged like anybody's.

Nothing is imported here: the keeper must start quickly, in a Python without packages.
"""
