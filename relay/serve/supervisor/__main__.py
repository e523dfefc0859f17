"""Start of the supervisor process: `python -m relay.serve.supervisor`."""

from relay.serve import import_stubs

import_stubs.leave_out_tls()

from relay.serve.supervisor.process import main  # noqa: E402 - modules are left out before they are imported

main()
