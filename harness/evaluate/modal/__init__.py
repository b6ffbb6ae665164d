"""Evaluation in containers of Modal: the same judge and worker code, on somebody else's GPUs.

    harness (this machine: keys, methods, run logs; imports no torch)
    └── client.py   cache → admission (containers, dollars) → call → verdict
         ├── ledger.py   RUNS/modal/calls.jsonl: what was called, before it is waited for
         └── calls.py    one call until it has an answer: waits, tries again, re-attaches
              ⇅ JSON in bytes (requests.py)
    the app (app.py; `harness modal deploy`)
    └── remote.py   in the container: LocalEvaluator, as on any machine

Covered: searches and confirmations of suites that ship with the harness, on a GPU and on a CPU;
kernels built ahead on CPU containers; caps on containers and dollars; failures of the service.
Not covered: suites of a user's own package (the image holds this repository's); locking clocks,
which Modal does not allow (`requests.normalised` has the second column).

`import modal` is in app.py, calls.py and client.py alone, which are loaded when they are needed.
"""
