"""The bench: how near each kernel comes to the limit of the machine, beside its peers.

``python -m bench`` in the repository and ``dlcore bench`` in an installation run it;
bench/README.md says what is measured and how. `contest` is what other benches build on, too.
"""
