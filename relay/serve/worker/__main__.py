"""Start of the worker process: `python -m relay.serve.worker`."""

from relay.serve.worker.process import main

main()
