"""The pure core: values in, values out; no clock, no I/O, no logging. Everything that is decided is decided here."""
