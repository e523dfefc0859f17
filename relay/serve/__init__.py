"""The serving processes: supervisor and workers. No decision is made here that core does not define.

Read in this order: `supervisor` (the door), `worker`, `connection` (SSH, stricter), `adapter` (who and what),
`forward` (the path of one forward), `dial`, `pipe` and `channel` (its two ends), `frame` and `intake` (the hot path,
see docs/performance.md); beside it `protocol` and `reports` (worker to supervisor), `law` and `applied` (what is
allowed, in a worker and in the supervisor), `recorder` (the audit rows).
Before log-in: `entrance`, `line` (whose turn it is), `lobby` (how much of a worker's turn).
"""
