"""Answers each line, the last seq that was read, with the audit rows after it as one line of JSON: rows.py STATE."""

import json
import sys
from pathlib import Path

from relay.store.reader import AuditReader
from relay.store.writer import FILE

for line in sys.stdin:
    found, seq = [], int(line)
    with AuditReader(Path(sys.argv[1]) / FILE) as reader:
        while rows := reader.after(seq, 1000):
            found += [{**row.event.fields, "name": row.event.name, "id": row.event.id, "seq": row.seq} for row in rows]
            seq = rows[-1].seq
    sys.stdout.write(json.dumps(found, default=str) + "\n")
    sys.stdout.flush()
