"""Python packages of a machine with GPUs, as far as the model server calls them.

This folder goes first on a server's PYTHONPATH. What is there, what starts and what fails is JSON in GPU_MACHINE; what
was asked of the packages is written to the file that GPU_JOURNAL names, one JSON list a line.
"""
