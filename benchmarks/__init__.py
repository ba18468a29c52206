"""Client CPU of nimclient beside a hand-written floor and beside openai-python, against one canned server.

`python -m benchmarks` measures, prints a table and writes JSON. The server has a process of its own, and so has every
run, so only the client's CPU is counted. Benchmarks inform, they never fail a build.
"""
