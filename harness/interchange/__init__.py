"""Programs from and for other systems.

    solution.py          the record of FlashInfer-Bench's Solution JSON, read and written
    importing.py         a Solution as a candidate for the task of its definition's name
    solution_program.py  several Python files as one program (what importing writes for Python)
    exporting.py         any candidate as a Solution
    ksearch_results.py   the folder in which K-Search published its kernels

Not covered: definitions, workloads and traces of FlashInfer-Bench (a suite has its own).
"""
