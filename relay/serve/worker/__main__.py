"""Start of the worker process: `python -m relay.serve.worker`."""

from relay.serve import import_stubs

import_stubs.leave_out()

from relay.serve.worker.process import main  # noqa: E402 - modules are left out before they are imported

main()
