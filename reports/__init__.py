"""Reports: from a comparison folder alone to one HTML page, and CSV, Markdown, LaTeX and SVG.

    comparison folder → manifest, frames → results → statistics → tables, figures → page

Covered: everything that can be derived from `comparison.json`, each run's `manifest.json` and
`events.jsonl`, and `confirm/*.json`. Not covered: timing or checking (the evaluator's), prompts,
replies and programs (in blobs; `harness show` reads those). The blobs that are opened are what a
method recorded (world models, populations) where it was too large for its event, and a figure is
drawn of it. Whoever calls this on a machine that is also timing candidates holds the machine lock
shared meanwhile.
"""
