"""Start of the supervisor process: `python -m relay.serve.supervisor`."""

from relay.serve.supervisor.process import main

main()
