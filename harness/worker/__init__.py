"""A process that has imported everything and forks one process per job, so that a small cell does not pay for imports.

Most cells of a grid take seconds, and importing PyTorch takes one of them. Where Snakemake runs jobs on this machine it
starts one worker. A job is still ``python -m harness run ...`` in a process that Snakemake's shell waits for; that
process is only a client, which hands arguments, folder, environment and standard streams to the worker and ends as the
process does that the worker has forked for it. Each job keeps its own process, and with it its own memory, seeds and
failure; a job whose worker is gone is done by the client itself.
"""
