"""The parts of examples/demo: stage, processes, site, client and checks."""
