"""The bench: kernels, training and inference beside the peers and the limits of the machine.

``python -m bench`` in the repository and ``dlcore bench`` in an installation run it;
bench/README.md says what is measured and how. `contest` is what other benches build on, too.
"""
